"""PredictChanges and PredictServiceUpdate against what the controllers then really do, over control planes in memory."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import msgspec
import pytest

from homeport.api.call import Call
from homeport.api.ecs.operations import OPERATIONS as ECS
from homeport.api.homeport.operations import OPERATIONS
from homeport.api.protocol import json, model
from homeport.cli.prediction import plan_screen, what_if_screen
from homeport.config import Settings
from homeport.errors import ApiError, InvalidParameterError
from homeport.model.arn import root_arn
from homeport.model.ecs.container_instance import CAPACITY_PROVIDER_ATTRIBUTE, Attribute
from homeport.store.tables import CONTAINER_INSTANCES, TASKS
from homeport.testing.cell import MemoryCell
from homeport.testing.records import ACCOUNT, container_instance

START, STOP = 1, 2
"""Seconds, as the simulated agents take."""


def definition(family: str, cpu: int, memory: int) -> dict[str, Any]:
    return {"family": family, "containerDefinitions": [{"name": "app", "image": "busybox", "memory": memory, "cpu": cpu}]}


async def ecs(cell: MemoryCell, operation: str, **request: Any) -> Any:
    return await cell.call(operation, ECS[operation], request)


async def own(cell: MemoryCell, name: str, /, **request: Any) -> Any:
    decoded = json.decode(model.load("homeport").operations[name], msgspec.json.encode(request))
    call = Call(context=cell.context, operation=name, request_id=cell.context.ids.uuid(), account=ACCOUNT, principal_arn=root_arn(ACCOUNT))
    return msgspec.json.decode(json.encode(await OPERATIONS[name](call, decoded)))


async def settle(cell: MemoryCell, seconds: float) -> None:
    until = cell.clock.now() + seconds
    await cell.clock.settle()
    while (deadline := cell.clock.next_deadline) is not None and deadline <= until:
        await cell.clock.jump()


async def cluster(chance: random.Random, *, instances: int, services: int, settings: Settings | None = None) -> MemoryCell:
    """A settled cluster in three zones."""
    cell = await MemoryCell.open(seed=str(chance.random()), settings=settings)
    await ecs(cell, "CreateCluster")
    for number in range(1, instances + 1):
        zone = Attribute(name="ecs.availability-zone", value="abc"[number % 3])
        await cell.put(container_instance(id=f"{number:032x}", cpu=chance.choice([1024, 2048]), memory_mib=4096, attributes=(zone,)))
    for number in range(services):
        cpu, memory = chance.choice([128, 256, 512]), chance.choice([128, 256, 512])
        await ecs(cell, "RegisterTaskDefinition", **definition(f"s{number}", cpu, memory))
        await ecs(cell, "CreateService", serviceName=f"s{number}", taskDefinition=f"s{number}", desiredCount=chance.randint(1, 4))
    cell.start()
    await settle(cell, 120)
    return cell


async def where(cell: MemoryCell) -> Counter[tuple[str, str]]:
    """(group, instance) of every task that is wanted RUNNING."""
    tasks = await cell.all(TASKS)
    return Counter((task.group, task.container_instance_id) for task in tasks if task.desired_status == "RUNNING")


def predicted(told: Any) -> Counter[tuple[str, str]]:
    return Counter((item["group"], item["containerInstanceArn"].rsplit("/", 1)[1]) for item in told["placements"])


async def make_real(cell: MemoryCell, change: dict[str, Any]) -> None:
    """The hypothesis as somebody would make it come true."""
    kind = change["kind"]
    if kind == "SET_DESIRED_COUNT":
        await ecs(cell, "UpdateService", service=change["service"], desiredCount=change["desiredCount"])
    elif kind == "DRAIN_INSTANCES":
        await ecs(cell, "UpdateContainerInstancesState", containerInstances=change["containerInstances"], status="DRAINING")
    elif kind == "LOSE_INSTANCES":
        for reference in change["containerInstances"]:
            await ecs(cell, "DeregisterContainerInstance", containerInstance=reference, force=True)
    elif kind == "LOSE_AVAILABILITY_ZONE":
        for instance in await cell.all(CONTAINER_INSTANCES):
            if instance.attribute("ecs.availability-zone") == change["availabilityZone"] and instance.status != "INACTIVE":
                await ecs(cell, "DeregisterContainerInstance", containerInstance=instance.id, force=True)


def question(chance: random.Random, instances: int, services: int) -> dict[str, Any]:
    one = f"{chance.randint(1, instances):032x}"
    return chance.choice(
        [
            {"kind": "SET_DESIRED_COUNT", "service": f"s{chance.randrange(services)}", "desiredCount": chance.randint(0, 9)},
            {"kind": "DRAIN_INSTANCES", "containerInstances": [one]},
            {"kind": "LOSE_INSTANCES", "containerInstances": [one]},
            {"kind": "LOSE_AVAILABILITY_ZONE", "availabilityZone": chance.choice("abc")},
        ]
    )


@pytest.mark.parametrize("seed", range(40))
async def test_the_change_made_real_gives_the_predicted_placements(seed):
    chance = random.Random(seed)
    services = 1 if seed % 2 else 3
    cell = await cluster(chance, instances=6, services=services)
    try:
        change = question(chance, 6, services)
        before = await where(cell)
        told = await own(cell, "PredictChanges", changes=[change], startSeconds=START, stopSeconds=STOP)
        assert await where(cell) == before
        await make_real(cell, change)
        await settle(cell, 600)
        assert predicted(told) == await where(cell), change
        assert list(what_if_screen(told))
    finally:
        await cell.close()


async def test_daemons_are_on_the_copy_too():
    """They move and keep what they keep: a task goes to no instance of theirs before they run there."""
    cell = await cluster(random.Random(7), instances=4, services=2)
    try:
        await ecs(cell, "CreateCapacityProvider", name="edge", autoScalingGroupProvider={"autoScalingGroupArn": "group"})
        await ecs(cell, "PutClusterCapacityProviders", cluster="default", capacityProviders=["edge"], defaultCapacityProviderStrategy=[])
        for number in (1, 2, 3):
            attribute = {"name": CAPACITY_PROVIDER_ATTRIBUTE, "value": "edge", "targetId": f"{number:032x}", "targetType": "container-instance"}
            await ecs(cell, "PutAttributes", attributes=[attribute])
        await ecs(cell, "RegisterDaemonTaskDefinition", **definition("logs", 128, 128))
        await ecs(cell, "CreateDaemon", daemonName="logs", daemonTaskDefinitionArn="logs:1", capacityProviderArns=["edge"])
        await settle(cell, 120)
        change = {"kind": "LOSE_INSTANCES", "containerInstances": [f"{1:032x}"]}
        told = await own(cell, "PredictChanges", changes=[change], startSeconds=START, stopSeconds=STOP)
        assert Counter(group for group, _ in predicted(told))["daemon:logs"] == 2
        await make_real(cell, change)
        await settle(cell, 600)
        assert predicted(told) == await where(cell)
        assert list(what_if_screen(told))
    finally:
        await cell.close()


Step = tuple[float, tuple[str, str, int]]
"""When, in seconds, and what: (kind, group, revision of the task definition)."""


def kind_of(before: Any, after: Any) -> str:
    if before is None:
        return "START"
    if after.last_status == "STOPPED" != before.last_status:
        return "GONE"
    if after.desired_status == "STOPPED" != before.desired_status:
        return "STOP"
    return "RUNNING" if after.last_status == "RUNNING" != before.last_status else ""


async def steps_of(cell: MemoryCell, since: int) -> list[Step]:
    """What happened after a revision, in the words of a plan."""
    steps = []
    for task in await cell.all(TASKS):
        for change in await cell.store.journal.story(TASKS, task.key):
            kind = kind_of(change.before, change.record) if change.revision > since and change.record is not None else ""
            if kind:
                steps.append((change.instant, (kind, change.record.group, change.record.revision)))
    return sorted(steps)


def order_of(steps: list[Step]) -> list[Counter[tuple[str, str, int]]]:
    """Steps by the moments at which they were made: of one moment the order says nothing."""
    moments: list[Counter[tuple[str, str, int]]] = []
    last = float("-inf")
    for at, step in steps:
        if at - last > 0.1:
            moments.append(Counter())
        moments[-1][step] += 1
        last = at
    return moments


async def made_as_planned(cell: MemoryCell, update: dict[str, Any], *, seconds: float) -> Any:
    """The plan of an update of s0, which was then made, with those steps in that order and to that outcome."""
    told = await own(cell, "PredictServiceUpdate", request=update, startSeconds=START, stopSeconds=STOP)
    since = cell.store.revision
    await ecs(cell, "UpdateService", **update)
    await settle(cell, seconds)
    planned = [
        (step["atSeconds"], (step["kind"], step["group"], int(step["taskDefinitionArn"].rsplit(":", 1)[1])))
        for step in told["steps"]
        if step["kind"] != "EVENT"
    ]
    assert order_of(planned) == order_of(await steps_of(cell, since)), update
    service = (await ecs(cell, "DescribeServices", services=["s0"]))["services"][0]
    done = service["deployments"][0]["rolloutState"] == "COMPLETED" and len(service["deployments"]) == 1
    assert (told["outcome"] == "COMPLETED") == done, (update, told["outcome"], told["message"])
    return told


@pytest.mark.parametrize("first_seed", range(0, 200, 20))
async def test_a_plan_s_steps_are_those_that_are_made_in_that_order(first_seed):
    for seed in range(first_seed, first_seed + 20):
        chance = random.Random(1000 + seed)
        cell = await cluster(chance, instances=4, services=1)
        try:
            await ecs(cell, "RegisterTaskDefinition", **definition("s0", chance.choice([128, 512]), 256))
            percents = {"minimumHealthyPercent": chance.choice([0, 50, 100]), "maximumPercent": chance.choice([100, 150, 200])}
            update: dict[str, Any] = {"service": "s0", "taskDefinition": "s0", "deploymentConfiguration": percents}
            if chance.random() < 0.5:
                update["desiredCount"] = chance.randint(1, 5)
            assert list(plan_screen(await made_as_planned(cell, update, seconds=900)))
        finally:
            await cell.close()


async def test_no_id_is_told_that_nothing_real_has():
    cell = await cluster(random.Random(5), instances=2, services=1)
    try:
        real = [task.id for task in await cell.all(TASKS)]
        told = await own(cell, "PredictServiceUpdate", request={"service": "s0", "forceNewDeployment": True})
        text = " ".join([told["message"], *(step.get("message", "") for step in told["steps"])])
        assert "(task new)" in text
        assert "ecs-svc/new" in text
        assert any(task_id in text for task_id in real)
        assert set(re.findall("[0-9a-f]{32}", text)) <= set(real)
    finally:
        await cell.close()


async def test_percentages_that_forbid_every_step_are_told():
    cell = await cluster(random.Random(1), instances=3, services=1)
    try:
        await ecs(cell, "UpdateService", service="s0", desiredCount=2)
        await settle(cell, 120)
        stuck = {"minimumHealthyPercent": 100, "maximumPercent": 100}
        request = {"service": "s0", "forceNewDeployment": True, "deploymentConfiguration": stuck}
        told = await own(cell, "PredictServiceUpdate", request=request)
        assert told["outcome"] == "STUCK"
        assert "unable to stop or start tasks" in told["message"]
        assert (told["tasksMost"], told["cpuPeak"], told["runningLeast"]) == (2, 0, 2)
    finally:
        await cell.close()


async def test_added_instances_take_what_found_no_place():
    cell = await cluster(random.Random(2), instances=1, services=1)
    try:
        changes = [
            {"kind": "SET_DESIRED_COUNT", "service": "s0", "desiredCount": 30},
            {"kind": "ADD_INSTANCES", "containerInstances": [f"{1:032x}"], "count": 12, "availabilityZone": "c"},
        ]
        short = await own(cell, "PredictChanges", changes=changes[:1])
        assert short["services"][0]["runningAfter"] < 30
        assert "was unable to place a task" in short["services"][0]["refusal"]
        told = await own(cell, "PredictChanges", changes=changes)
        assert told["settled"]
        assert told["services"][0]["runningAfter"] == 30
        assert "refusal" not in told["services"][0]
        assert len([item for item in told["containerInstances"] if "tasksBefore" not in item]) == 12
        assert len(await cell.all(CONTAINER_INSTANCES)) == 1
    finally:
        await cell.close()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "LOSE_INSTANCES"},
        {"kind": "LOSE_INSTANCES", "containerInstances": ["f" * 32]},
        {"kind": "LOSE_AVAILABILITY_ZONE", "availabilityZone": "z"},
        {"kind": "SET_DESIRED_COUNT", "service": "nobody", "desiredCount": 1},
        {"kind": "SET_DESIRED_COUNT", "service": "s0", "desiredCount": -1},
        {"kind": "ADD_INSTANCES", "containerInstances": ["1".zfill(32)], "count": 0},
    ],
)
async def test_what_makes_no_sense_is_refused(change):
    cell = await cluster(random.Random(3), instances=1, services=1)
    try:
        with pytest.raises(ApiError):
            await own(cell, "PredictChanges", changes=[change])
        with pytest.raises(InvalidParameterError):
            await own(cell, "PredictServiceUpdate", request={"service": "s0", "desiredCount": -1})
    finally:
        await cell.close()


async def test_a_service_of_two_capacity_providers_keeps_to_its_strategy_in_the_prediction():
    cell = await MemoryCell.open()
    try:
        await ecs(cell, "CreateCluster")
        for number, name in enumerate(("one", "two"), 1):
            group = f"arn:aws:autoscaling:us-east-1:{ACCOUNT}:autoScalingGroup:0:autoScalingGroupName/{name}"
            await ecs(cell, "CreateCapacityProvider", name=name, autoScalingGroupProvider={"autoScalingGroupArn": group})
            of_provider = Attribute(name="homeport.capacity-provider", value=name)
            await cell.put(container_instance(id=f"{number:032x}", cpu=4096, memory_mib=4096, attributes=(of_provider,)))
        await ecs(cell, "PutClusterCapacityProviders", cluster="default", capacityProviders=["one", "two"], defaultCapacityProviderStrategy=[])
        await ecs(cell, "RegisterTaskDefinition", **definition("s0", 128, 128))
        strategy = [{"capacityProvider": "one", "weight": 1}, {"capacityProvider": "two", "weight": 3}]
        await ecs(cell, "CreateService", serviceName="s0", taskDefinition="s0", desiredCount=1, capacityProviderStrategy=strategy)
        cell.start()
        await settle(cell, 120)
        change = {"kind": "SET_DESIRED_COUNT", "service": "s0", "desiredCount": 8}
        told = await own(cell, "PredictChanges", changes=[change], startSeconds=START, stopSeconds=STOP)
        assert predicted(told) == {("service:s0", f"{1:032x}"): 2, ("service:s0", f"{2:032x}"): 6}
        await make_real(cell, change)
        await settle(cell, 120)
        assert predicted(told) == await where(cell)
        explained = await own(cell, "ExplainPlacement", resource="s0")
        # Two and six: (6 + 1) / 3 is less than (2 + 1) / 1.
        assert explained["wouldRunOn"].endswith(f"{2:032x}")
        refused = [item["containerInstanceArn"][-1] for item in explained["containerInstances"] if not item["fits"]]
        assert refused == ["1"]
    finally:
        await cell.close()


async def test_a_zone_that_comes_is_rebalanced_into_as_the_sweep_would():
    cell = await cluster(random.Random(4), instances=2, services=1)
    try:
        await ecs(cell, "UpdateService", service="s0", desiredCount=6)
        await settle(cell, 120)
        add = {"kind": "ADD_INSTANCES", "containerInstances": [f"{1:032x}"], "availabilityZone": "z"}
        told = await own(cell, "PredictChanges", changes=[add], startSeconds=START, stopSeconds=STOP)
        assert told["settled"]
        (new,) = [item for item in told["containerInstances"] if "tasksBefore" not in item]
        assert new["tasksAfter"] == 2
        assert max(step["atSeconds"] for step in told["steps"]) == pytest.approx(told["afterSeconds"], abs=1)
    finally:
        await cell.close()


async def test_task_sets_are_predicted_as_they_then_are():
    cell = await cluster(random.Random(3), instances=5, services=1)
    try:
        await ecs(cell, "CreateService", serviceName="sets", desiredCount=2, deploymentController={"type": "EXTERNAL"})
        for scale in (100.0, 50.0):
            await ecs(cell, "CreateTaskSet", cluster="default", service="sets", taskDefinition="s0", scale={"value": scale, "unit": "PERCENT"})
        await settle(cell, 120)
        change = {"kind": "LOSE_INSTANCES", "containerInstances": [f"{2:032x}"]}
        told = await own(cell, "PredictChanges", changes=[change], startSeconds=START, stopSeconds=STOP)
        (shown,) = [item for item in told["services"] if item["serviceArn"].endswith("/sets")]
        assert (shown["runningBefore"], shown["runningAfter"]) == (3, 3)
        await ecs(cell, "DeregisterContainerInstance", containerInstance=f"{2:032x}", force=True)
        await settle(cell, 300)
        assert predicted(told) == await where(cell)
        planned = await own(cell, "PredictServiceUpdate", request={"service": "sets", "desiredCount": 4})
        assert planned["outcome"] == "COMPLETED"
        assert sum(step["kind"] == "START" for step in planned["steps"]) == 3
        with pytest.raises(InvalidParameterError, match="Unable to update task definition"):
            await own(cell, "PredictServiceUpdate", request={"service": "sets", "taskDefinition": "s0"})
    finally:
        await cell.close()
