"""A rule says the same of a thing when it is about to be made and when it is there: random things and rules, admission against report."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from homeport.api.call import Call
from homeport.api.ecs.operations import OPERATIONS as ECS
from homeport.api.homeport.operations import OPERATIONS
from homeport.api.protocol import json, model
from homeport.errors import RuleViolatedError
from homeport.model.arn import root_arn
from homeport.model.ecs.container_instance import CAPACITY_PROVIDER_ATTRIBUTE, Attribute
from homeport.testing.cell import MemoryCell
from homeport.testing.records import ACCOUNT, container_instance

CAPABLE = ("privileged-container", "docker-remote-api.1.18", "docker-remote-api.1.19", "docker-remote-api.1.25")
DEMANDS = (
    {"violations": "taskDefinition.containerDefinitions[?privileged].name"},
    {"violations": "taskDefinition.containerDefinitions[?!starts_with(image, 'registry.example/')].image"},
    {"violations": "taskDefinition.containerDefinitions[?readonlyRootFilesystem != `true`].name"},
    {"violations": "[taskDefinition.containerDefinitions, overrides.containerOverrides][][].environment[?contains(name, 'SECRET')].name[]"},
    {"violations": "tags[?key != 'team'].key"},
    {"violations": "overrides.containerOverrides[].command"},
    {"require": "taskDefinition.networkMode != 'host'"},
    {"require": "service == 'a' || daemon == 'a'"},
    {"require": "launchType == 'EC2'"},
    {"require": "contains(capacityProviders, 'pool')"},
    {"require": "desiredCount > `1`"},
    {"require": "desiredCount == `null` || desiredCount > `1`"},
    {"require": "schedulingStrategy != 'DAEMON'"},
    {"require": "length(to_string(@)) > `0`"},
    {"require": "createdBy != `null`"},
    {"require": "createdBy == 'arn:aws:iam::123456789012:root' && resourceType != 'task'"},
    {"require": "group == 'family:a'"},
    {"require": "taskDefinition.containerDefinitions[0].memory >= `64`"},
    {"require": "starts_with(service, 'a')"},
    {"require": "nowhere"},
    {"violations": "[@,@][]" + "|[@,@][]" * 40},
)


def rule(chance: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {"name": "r", "mode": "REPORT", "message": "M", **chance.choice(DEMANDS)}
    kinds = ["task-definition", "daemon-task-definition", "service", "task-set", "daemon", "task"]
    if chance.random() < 0.3:
        found["resourceTypes"] = chance.sample(kinds, chance.randint(2, 5))
    for member in ("clusters", "families", "services"):
        if chance.random() < 0.15:
            found[member] = chance.choice([["a"], ["a*"], ["b", "*c"], ["*"]])
    return found


def container(chance: random.Random, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "image": chance.choice(["registry.example/app:1", "busybox", "other.example/x@sha256:" + "0" * 64]),
        "memory": chance.choice([32, 64, 128]),
        "environment": [{"name": text, "value": "v"} for text in chance.sample(["PORT", "DB_SECRET", "SECRET"], chance.randint(0, 2))],
    }
    for member in ("privileged", "readonlyRootFilesystem"):
        if chance.random() < 0.5:
            found[member] = chance.random() < 0.5
    return found


def tags(chance: random.Random) -> list[dict[str, str]]:
    return [{"key": key, "value": "v"} for key in chance.sample(["team", "Team", "stage"], chance.randint(0, 2))]


async def ecs(cell: MemoryCell, operation: str, **request: Any) -> Any:
    return await cell.call(operation, ECS[operation], {name: value for name, value in request.items() if value is not None})


async def own(cell: MemoryCell, name: str, /, **request: Any) -> Any:
    decoded = json.decode(model.load("homeport").operations[name], msgspec.json.encode(request))
    call = Call(context=cell.context, operation=name, request_id="r", account=ACCOUNT, principal_arn=root_arn(ACCOUNT))
    return msgspec.json.decode(json.encode(await OPERATIONS[name](call, decoded)))


async def installation(chance: random.Random) -> MemoryCell:
    """Two clusters with an instance each, a pool, a family of each kind, a service with task sets and a daemon."""
    cell = await MemoryCell.open(seed=str(chance.random()))
    attributes = [Attribute(name=f"com.amazonaws.ecs.capability.{name}") for name in CAPABLE]
    attributes.append(Attribute(name=CAPACITY_PROVIDER_ATTRIBUTE, value="pool"))
    await ecs(cell, "CreateCapacityProvider", name="pool", autoScalingGroupProvider={"autoScalingGroupArn": "group"})
    for cluster in ("ab", "c"):
        await ecs(cell, "CreateCluster", clusterName=cluster)
        await ecs(cell, "PutClusterCapacityProviders", cluster=cluster, capacityProviders=["pool"], defaultCapacityProviderStrategy=[])
        await cell.put(container_instance(cluster=cluster, id=cluster.rjust(32, "0"), attributes=tuple(attributes)))
    for family in ("a", "bc"):
        containers = [container(chance, name) for name in ("one", "two")[: chance.randint(1, 2)]]
        mode = chance.choice([None, "bridge", "host"])
        await ecs(cell, "RegisterTaskDefinition", family=family, containerDefinitions=containers, networkMode=mode, tags=tags(chance))
        await ecs(cell, "RegisterDaemonTaskDefinition", family=family, containerDefinitions=containers, tags=tags(chance))
    await ecs(cell, "CreateService", cluster="ab", serviceName="sets", deploymentController={"type": "EXTERNAL"}, desiredCount=1)
    await ecs(cell, "CreateDaemon", clusterArn="ab", daemonName="d", daemonTaskDefinitionArn="a:1", capacityProviderArns=["pool"], tags=tags(chance))
    await ecs(cell, "CreateService", cluster="ab", serviceName="old", taskDefinition="a", desiredCount=1)
    return cell


async def make(cell: MemoryCell, chance: random.Random) -> str:
    """One thing more; its ARN."""
    kind = chance.choice(["definition", "daemon definition", "task", "start", "service", "update", "set", "daemon", "update daemon"])
    cluster, family = chance.choice(["ab", "c"]), chance.choice(["a", "bc"])
    capacity = chance.choice([{}, {"launchType": "EC2"}, {"capacityProviderStrategy": [{"capacityProvider": "pool", "weight": 1}]}])
    override = {"name": "one", "environment": [{"name": chance.choice(["A", "MY_SECRET"]), "value": "v"}], "command": ["x"]}
    overrides = chance.choice([None, {"containerOverrides": [override]}])
    if kind == "definition":
        made = await ecs(cell, "RegisterTaskDefinition", family=family, containerDefinitions=[container(chance, "one")], tags=tags(chance))
        return made["taskDefinition"]["taskDefinitionArn"]
    if kind == "daemon definition":
        made = await ecs(cell, "RegisterDaemonTaskDefinition", family=family, containerDefinitions=[container(chance, "one")], tags=tags(chance))
        return made["daemonTaskDefinitionArn"]
    if kind in ("task", "start"):
        where = capacity if kind == "task" else {"containerInstances": [cluster.rjust(32, "0")]}
        operation = "RunTask" if kind == "task" else "StartTask"
        made = await ecs(cell, operation, cluster=cluster, taskDefinition=family, overrides=overrides, tags=tags(chance), **where)
        assert made["failures"] == []
        return made["tasks"][0]["taskArn"]
    if kind == "service":
        scheduling = chance.choice([{"desiredCount": chance.randint(0, 3)}, {"schedulingStrategy": "DAEMON"}])
        capacity = capacity if "desiredCount" in scheduling else {}
        made = await ecs(cell, "CreateService", cluster=cluster, serviceName="a", taskDefinition=family, tags=tags(chance), **scheduling, **capacity)
        return made["service"]["serviceArn"]
    if kind == "update":
        made = await ecs(
            cell, "UpdateService", cluster="ab", service="old", taskDefinition=family, desiredCount=chance.randint(0, 3), forceNewDeployment=True
        )
        return made["service"]["serviceArn"]
    if kind == "set":
        return (await ecs(cell, "CreateTaskSet", cluster="ab", service="sets", taskDefinition=family, tags=tags(chance), **capacity))["taskSet"][
            "taskSetArn"
        ]
    reference = f"{family}:1"
    if kind == "daemon":
        request = {"daemonName": "a", "clusterArn": cluster, "tags": tags(chance)}
        return (await ecs(cell, "CreateDaemon", daemonTaskDefinitionArn=reference, capacityProviderArns=["pool"], **request))["daemonArn"]
    daemon = f"arn:aws:ecs:us-east-1:{ACCOUNT}:daemon/ab/d"
    return (await ecs(cell, "UpdateDaemon", daemonArn=daemon, daemonTaskDefinitionArn=reference, capacityProviderArns=["pool"]))["daemonArn"]


async def attempt(seed: int, mode: str) -> tuple[MemoryCell, str]:
    """A cell in which the thing of `seed` is made under its rule, and its ARN. Raises what refuses it; the cell is closed then."""
    chance = random.Random(seed)
    cell = await installation(chance)
    try:
        await own(cell, "PutRule", **{**rule(chance), "mode": mode})
        return cell, await make(cell, chance)
    except BaseException:
        await cell.close()
        raise


@pytest.mark.parametrize("first", range(0, 400, 20))
async def test_admission_refuses_exactly_what_the_report_names(first):
    verdicts = []
    for seed in range(first, first + 20):
        cell, made = await attempt(seed, "REPORT")
        told = [item["message"] for item in (await own(cell, "TestRules", maxResults=1000))["violations"] if item["resourceArn"] == made]
        await cell.close()
        verdicts.append(bool(told))
        if told:
            with pytest.raises(RuleViolatedError) as refusal:
                await attempt(seed, "ENFORCE")
            assert told[0].rstrip(".") in str(refusal.value), seed
        else:
            cell, again = await attempt(seed, "ENFORCE")
            assert again == made, seed
            await cell.close()
    assert 0 < sum(verdicts) < len(verdicts)
