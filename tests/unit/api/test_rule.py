"""Rules over a control plane in memory: kept, enforced by every operation that makes something run, reported over what runs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from homeport.api.call import Call
from homeport.api.ecs.operations import OPERATIONS as ECS
from homeport.api.ecs.rule_object import task_object
from homeport.api.homeport import rule_report
from homeport.api.homeport.operations import OPERATIONS
from homeport.api.homeport.rule import RULES_MAX
from homeport.api.protocol import json, model
from homeport.errors import ApiError, InvalidParameterError, LimitExceededError, ResourceNotFoundError, RuleViolatedError
from homeport.model.arn import root_arn
from homeport.model.ecs.container_instance import CAPACITY_PROVIDER_ATTRIBUTE, Attribute
from homeport.store.tables import DAEMON_REVISIONS, DAEMON_TASK_DEFINITIONS, DAEMONS, RULES, SERVICES, TASK_DEFINITIONS, TASK_SETS, TASKS
from homeport.testing.cell import MemoryCell
from homeport.testing.records import ACCOUNT, container_instance

NO_PRIVILEGED = {"name": "no-privileged", "mode": "ENFORCE", "message": "No.", "violations": "taskDefinition.containerDefinitions[?privileged].name"}
ANN = f"arn:aws:iam::{ACCOUNT}:user/ann"


def container(**members: Any) -> dict[str, Any]:
    return {"name": "app", "image": "registry.example/app:1", "memory": 64, "cpu": 64, **members}


async def ecs(cell: MemoryCell, operation: str, **request: Any) -> Any:
    return await cell.call(operation, ECS[operation], request)


async def own(cell: MemoryCell, name: str, /, *, account: str = ACCOUNT, who: str = root_arn(ACCOUNT), **request: Any) -> Any:
    decoded = json.decode(model.load("homeport").operations[name], msgspec.json.encode(request))
    call = Call(context=cell.context, operation=name, request_id=cell.context.ids.uuid(), account=account, principal_arn=who)
    return msgspec.json.decode(json.encode(await OPERATIONS[name](call, decoded)))


async def put(cell: MemoryCell, **members: Any) -> Any:
    return (await own(cell, "PutRule", **{"name": "r", "mode": "ENFORCE", **members}))["rule"]


async def violated(cell: MemoryCell, **request: Any) -> list[tuple[str, str]]:
    """(rule, last part of the ARN) of everything that the report tells, over all its pages."""
    found, token = [], None
    while True:
        answer = await own(cell, "TestRules", **request, **({"nextToken": token} if token else {}))
        found += [(item["ruleName"], item["resourceArn"].split(":", 5)[5]) for item in answer["violations"]]
        token = answer.get("nextToken")
        if not token:
            return found


async def state(cell: MemoryCell) -> list[Any]:
    tables = (TASK_DEFINITIONS, DAEMON_TASK_DEFINITIONS, SERVICES, TASK_SETS, DAEMONS, DAEMON_REVISIONS, TASKS)
    return [record for table in tables for record in await cell.all(table)]


@pytest.fixture
async def cell():
    cell = await MemoryCell.open()
    await ecs(cell, "CreateCluster", clusterName="prod")
    await ecs(cell, "CreateCluster", clusterName="test")
    for cluster in ("prod", "test"):
        attributes = [Attribute(name="com.amazonaws.ecs.capability.privileged-container")]
        if cluster == "prod":
            attributes.append(Attribute(name=CAPACITY_PROVIDER_ATTRIBUTE, value="pool"))
        await cell.put(container_instance(cluster=cluster, id="1" * 32, attributes=tuple(attributes)))
    await ecs(cell, "RegisterTaskDefinition", family="good", containerDefinitions=[container()])
    await ecs(cell, "RegisterTaskDefinition", family="bad", containerDefinitions=[container(privileged=True)])
    yield cell
    await cell.close()


# ------------------------------------------------------------------------------------------------------------ keeping


async def test_a_rule_is_kept_with_its_versions_and_their_history(cell):
    made = await put(cell, **NO_PRIVILEGED, resourceTypes=["task", "task"], clusters=["prod*"])
    assert made["ruleArn"] == f"arn:aws:homeport:us-east-1:{ACCOUNT}:rule/no-privileged"
    assert (made["version"], made["resourceTypes"], made["clusters"]) == (1, ["task"], ["prod*"])
    assert made["createdAt"] == made["updatedAt"] > 0
    assert await put(cell, **NO_PRIVILEGED, resourceTypes=["task"], clusters=["prod*"]) == made
    changed = (await own(cell, "PutRule", who=ANN, **{**NO_PRIVILEGED, "mode": "REPORT"}))["rule"]
    assert (changed["version"], changed["mode"], changed["updatedBy"], changed["createdAt"]) == (2, "REPORT", ANN, made["createdAt"])
    assert "clusters" not in changed
    assert (await own(cell, "ListRules"))["rules"] == [changed]
    assert (await own(cell, "DeleteRule", name="no-privileged"))["rule"] == changed
    assert (await own(cell, "ListRules"))["rules"] == []
    told = await own(cell, "DescribeHistory", resource="rule/no-privileged")
    assert [entry["kind"] for entry in told["entries"]] == ["create", "update", "delete"]
    assert told["entries"][1]["cause"]["principalArn"] == ANN
    assert {"field": "mode", "old": "ENFORCE", "new": "REPORT"} in told["entries"][1]["changes"]
    assert (await own(cell, "DescribeHistory", resource=made["ruleArn"]))["entries"] == told["entries"]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "either require"),
        ({"require": "a", "violations": "b"}, "either require"),
        ({"require": "a ||"}, "require is no JMESPath"),
        ({"violations": "nothing(@)"}, "no function nothing"),
        ({"require": "x" * 5_000}, "4096"),
        ({"require": "(" * 2_000}, "nested deeper"),
        ({"require": "a", "mode": "SOMETIMES"}, "ENFORCE"),
        ({"require": "a", "name": "a b"}, "name"),
        ({"require": "a", "name": ""}, "name"),
        ({"require": "a", "resourceTypes": ["cluster"]}, "resourceTypes"),
        ({"require": "a", "clusters": [""]}, "clusters"),
        ({"require": "a", "clusters": ["x"] * 51}, "clusters"),
        ({"require": "a", "message": "x" * 1_025}, "message"),
    ],
)
async def test_a_rule_that_is_none_is_refused_and_not_kept(cell, members, words):
    with pytest.raises(InvalidParameterError, match=words):
        await put(cell, **members)
    with pytest.raises(ApiError):
        await own(cell, "TestRules", rule={"name": "r", "mode": "ENFORCE", **members})
    assert await cell.all(RULES) == []


async def test_there_are_only_so_many_and_lists_page(cell):
    for number in range(RULES_MAX):
        await put(cell, name=f"r{number:03d}", require="`true`")
    with pytest.raises(LimitExceededError):
        await put(cell, name="more", require="`true`")
    assert (await put(cell, name="r000", require="`false`"))["version"] == 2
    first = await own(cell, "ListRules", maxResults=60)
    second = await own(cell, "ListRules", maxResults=60, nextToken=first["nextToken"])
    assert [rule["name"] for rule in first["rules"] + second["rules"]] == [f"r{number:03d}" for number in range(RULES_MAX)]
    assert "nextToken" not in second
    with pytest.raises(ResourceNotFoundError):
        await own(cell, "DeleteRule", name="none")
    with pytest.raises(ResourceNotFoundError):
        await own(cell, "TestRules", ruleNames=["none"])


async def test_rules_are_the_accounts_own(cell):
    await own(cell, "PutRule", account="2" * 12, **NO_PRIVILEGED)
    assert (await own(cell, "ListRules"))["rules"] == []
    await ecs(cell, "RunTask", cluster="prod", taskDefinition="bad")
    assert await violated(cell) == []
    assert (await own(cell, "TestRules", account="2" * 12))["examined"] == 0


# ---------------------------------------------------------------------------------------------------------- enforcing


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("RegisterTaskDefinition", {"family": "new", "containerDefinitions": [container(privileged=True)]}),
    ("RegisterDaemonTaskDefinition", {"family": "new", "containerDefinitions": [container(privileged=True)]}),
    ("RunTask", {"cluster": "prod", "taskDefinition": "bad", "count": 3}),
    ("RunTask", {"cluster": "prod", "taskDefinition": "bad", "capacityProviderStrategy": [{"capacityProvider": "pool", "weight": 1}]}),
    ("StartTask", {"cluster": "prod", "taskDefinition": "bad", "containerInstances": ["1" * 32]}),
    ("CreateService", {"cluster": "prod", "serviceName": "new", "taskDefinition": "bad", "desiredCount": 1}),
    ("CreateService", {"cluster": "prod", "serviceName": "new", "taskDefinition": "bad", "schedulingStrategy": "DAEMON"}),
    ("UpdateService", {"cluster": "prod", "service": "web", "taskDefinition": "bad"}),
    ("CreateTaskSet", {"cluster": "prod", "service": "sets", "taskDefinition": "bad"}),
    ("CreateDaemon", {"daemonName": "new", "daemonTaskDefinitionArn": "bad:1", "capacityProviderArns": ["pool"], "clusterArn": "prod"}),
    ("UpdateDaemon", {"daemonArn": "DAEMON", "daemonTaskDefinitionArn": "bad:1", "capacityProviderArns": ["pool"]}),
]


async def furnish(cell: MemoryCell) -> str:
    """What the requests above name; the daemon's ARN."""
    await ecs(cell, "CreateCapacityProvider", name="pool", autoScalingGroupProvider={"autoScalingGroupArn": "group"})
    await ecs(cell, "PutClusterCapacityProviders", cluster="prod", capacityProviders=["pool"], defaultCapacityProviderStrategy=[])
    await ecs(cell, "RegisterDaemonTaskDefinition", family="good", containerDefinitions=[container()])
    await ecs(cell, "RegisterDaemonTaskDefinition", family="bad", containerDefinitions=[container(privileged=True)])
    await ecs(cell, "CreateService", cluster="prod", serviceName="web", taskDefinition="good", desiredCount=1)
    await ecs(cell, "CreateService", cluster="prod", serviceName="sets", deploymentController={"type": "EXTERNAL"}, desiredCount=1)
    made = await ecs(cell, "CreateDaemon", daemonName="logs", daemonTaskDefinitionArn="good:1", capacityProviderArns=["pool"], clusterArn="prod")
    return made["daemonArn"]


@pytest.mark.parametrize(("operation", "request_"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
async def test_every_operation_that_makes_something_run_refuses_what_a_rule_forbids(cell, operation, request_):
    daemon = await furnish(cell)
    request = {name: daemon if name == "daemonArn" else value for name, value in request_.items()}
    before = await state(cell)
    await put(cell, **NO_PRIVILEGED)
    with pytest.raises(RuleViolatedError) as refusal:
        await ecs(cell, operation, **request)
    assert str(refusal.value).startswith("The rule no-privileged forbids this ")
    assert str(refusal.value).endswith("No. (found: app).")
    assert await state(cell) == before
    await put(cell, **{**NO_PRIVILEGED, "mode": "REPORT"})
    await ecs(cell, operation, **request)
    assert await state(cell) != before


async def test_a_rule_holds_where_it_says_and_nowhere_else(cell):
    await put(cell, **NO_PRIVILEGED, clusters=["pro*"])
    with pytest.raises(RuleViolatedError, match="forbids this task: No"):
        await ecs(cell, "RunTask", cluster="prod", taskDefinition="bad")
    assert len((await ecs(cell, "RunTask", cluster="test", taskDefinition="bad"))["tasks"]) == 1
    await ecs(cell, "RegisterTaskDefinition", family="bad", containerDefinitions=[container(privileged=True)])


async def test_what_a_rule_allows_goes_on_as_before(cell):
    await put(cell, **NO_PRIVILEGED)
    await ecs(cell, "RegisterTaskDefinition", family="good", containerDefinitions=[container()])
    assert len((await ecs(cell, "RunTask", cluster="prod", taskDefinition="good", count=2))["tasks"]) == 2
    await ecs(cell, "CreateService", cluster="prod", serviceName="web", taskDefinition="good", desiredCount=1)
    assert await violated(cell) == [("no-privileged", "task-definition/bad:1")]


async def test_overrides_and_tags_and_the_capacity_provider_are_seen(cell):
    await furnish(cell)
    await put(cell, name="env", violations="overrides.containerOverrides[].environment[?contains(name, 'PASSWORD')].name[]", resourceTypes=["task"])
    await put(cell, name="tag", require="length(tags[?key == 'team']) == `1`", resourceTypes=["task"], clusters=["prod"])
    await put(cell, name="pool", require="!contains(capacityProviders, 'pool')", resourceTypes=["task"])
    ann = [{"key": "team", "value": "ann"}]
    secret = {"containerOverrides": [{"name": "app", "environment": [{"name": "DB_PASSWORD", "value": "x"}]}]}
    for wrong, words in (
        ({"tags": ann, "overrides": secret}, "rule env .*DB_PASSWORD"),
        ({}, "rule tag"),
        ({"tags": ann, "capacityProviderStrategy": [{"capacityProvider": "pool", "weight": 1}]}, "rule pool"),
    ):
        with pytest.raises(RuleViolatedError, match=words):
            await ecs(cell, "RunTask", cluster="prod", taskDefinition="good", **wrong)
    assert (await ecs(cell, "RunTask", cluster="prod", taskDefinition="good", tags=ann))["tasks"]


async def test_who_calls_is_seen(cell):
    await put(cell, name="who", require=f"createdBy == '{ANN}'", clusters=["prod"])
    for operation, request in (("RunTask", {}), ("CreateService", {"serviceName": "web", "desiredCount": 1})):
        with pytest.raises(RuleViolatedError, match="rule who"):
            await ecs(cell, operation, cluster="prod", taskDefinition="good", **request)
    decoded = model.load().operations["RunTask"].decode(msgspec.json.encode({"cluster": "prod", "taskDefinition": "good"}))
    call = Call(context=cell.context, operation="RunTask", request_id="r", account=ACCOUNT, principal_arn=ANN)
    assert (await ECS["RunTask"](call, decoded))["tasks"]
    assert (await cell.all(TASKS))[0].created_by == ANN
    assert await violated(cell) == []


@pytest.mark.parametrize("named", [f"arn:aws:iam::{ACCOUNT}:role/payments", "payments"])
async def test_a_role_may_be_kept_for_one_service(cell, named):
    role = f"arn:aws:iam::{ACCOUNT}:role/payments"
    demand = f"taskRoleArn != '{role}' || service == 'pay'"
    await ecs(cell, "RegisterTaskDefinition", family="pay", containerDefinitions=[container()], taskRoleArn=named)
    await put(cell, name="role", require=demand, resourceTypes=["task", "service", "task-set", "daemon"])
    for operation, request in (
        ("RunTask", {"taskDefinition": "pay"}),
        ("RunTask", {"taskDefinition": "good", "overrides": {"taskRoleArn": named}}),
        ("CreateService", {"serviceName": "other", "taskDefinition": "pay", "desiredCount": 1}),
    ):
        with pytest.raises(RuleViolatedError, match="rule role"):
            await ecs(cell, operation, cluster="prod", **request)
    await ecs(cell, "CreateService", cluster="prod", serviceName="pay", taskDefinition="pay", desiredCount=1)


async def test_a_hook_of_a_service_cannot_run_what_a_task_could_not(cell):
    hook = {"hookTargetArn": f"arn:aws:ecs:us-east-1:{ACCOUNT}:task-definition/bad:1", "roleArn": "", "lifecycleStages": ["PRE_SCALE_UP"]}
    hooks = {"lifecycleHooks": [hook]}
    await ecs(cell, "CreateService", cluster="prod", serviceName="web", taskDefinition="good", desiredCount=1)
    await put(cell, **NO_PRIVILEGED)
    with pytest.raises(RuleViolatedError, match="forbids this task"):
        await ecs(cell, "CreateService", cluster="prod", serviceName="new", taskDefinition="good", desiredCount=1, deploymentConfiguration=hooks)
    with pytest.raises(RuleViolatedError, match="forbids this task"):
        await ecs(cell, "UpdateService", cluster="prod", service="web", deploymentConfiguration=hooks)


async def test_a_hook_that_was_there_before_the_rule_is_no_leave_for_another(cell):
    await ecs(cell, "RegisterTaskDefinition", family="worse", containerDefinitions=[container(privileged=True)])

    def hooks(family: str) -> dict[str, Any]:
        hook = {"hookTargetArn": f"arn:aws:ecs:us-east-1:{ACCOUNT}:task-definition/{family}:1", "roleArn": "", "lifecycleStages": ["PRE_SCALE_UP"]}
        return {"lifecycleHooks": [hook]}

    web = {"cluster": "prod", "serviceName": "web", "taskDefinition": "good", "desiredCount": 1}
    await ecs(cell, "CreateService", **web, deploymentConfiguration=hooks("bad"))
    await put(cell, **NO_PRIVILEGED)
    await ecs(cell, "UpdateService", cluster="prod", service="web", desiredCount=2)
    with pytest.raises(RuleViolatedError, match="forbids this task"):
        await ecs(cell, "UpdateService", cluster="prod", service="web", deploymentConfiguration=hooks("worse"))


async def test_an_override_of_a_role_is_the_role(cell):
    await ecs(cell, "RunTask", cluster="prod", taskDefinition="good")
    task = msgspec.structs.replace((await cell.all(TASKS))[0], overrides=b'{"taskRoleArn":"r","executionRoleArn":"arn:e"}')
    seen = await cell.view(lambda reader: task_object(reader, "us-east-1", task))
    assert (seen["taskRoleArn"], seen["executionRoleArn"]) == (f"arn:aws:iam::{ACCOUNT}:role/r", "arn:e")
    assert seen["overrides"]["containerOverrides"] == []


async def test_what_ran_before_the_rule_stays_and_can_be_scaled_but_not_deployed_again(cell):
    await ecs(cell, "CreateService", cluster="prod", serviceName="web", taskDefinition="bad", desiredCount=2)
    await put(cell, **NO_PRIVILEGED)
    assert ("no-privileged", "service/prod/web") in await violated(cell)
    for change in ({"desiredCount": 3}, {"propagateTags": "SERVICE"}, {"desiredCount": 0}):
        await ecs(cell, "UpdateService", cluster="prod", service="web", **change)
    with pytest.raises(RuleViolatedError):
        await ecs(cell, "UpdateService", cluster="prod", service="web", forceNewDeployment=True)
    await put(cell, name="two", require="desiredCount >= `2` || desiredCount == `0`", resourceTypes=["service"])
    with pytest.raises(RuleViolatedError, match="The rule two") as refusal:
        await ecs(cell, "UpdateService", cluster="prod", service="web", desiredCount=1)
    assert "no-privileged" not in str(refusal.value)
    await ecs(cell, "UpdateService", cluster="prod", service="web", taskDefinition="good")
    assert ("no-privileged", "service/prod/web") not in await violated(cell)


async def test_what_cannot_be_evaluated_is_refused_with_the_reason(cell):
    await put(cell, name="typo", require="taskDefinition.containerDefinitons[0].privileged == `null` && nowhere", resourceTypes=["task"])
    with pytest.raises(RuleViolatedError, match="rule typo .*cannot be evaluated: it says null"):
        await ecs(cell, "RunTask", cluster="prod", taskDefinition="good")
    await put(cell, name="typo", violations="[@,@][]" + "|[@,@][]" * 50, resourceTypes=["task"])
    with pytest.raises(RuleViolatedError, match="too many steps"):
        await ecs(cell, "RunTask", cluster="prod", taskDefinition="good")
    assert await cell.all(TASKS) == []


async def test_all_rules_that_are_violated_are_told_up_to_a_number(cell):
    for number in range(7):
        await put(cell, name=f"r{number}", require="`false`", message=f"Reason {number}")
    with pytest.raises(RuleViolatedError, match=r"The rule r0 forbids this task: Reason 0\. The rule r1 .* Reason 4\. 2 more rules are violated\."):
        await ecs(cell, "RunTask", cluster="prod", taskDefinition="good")


async def test_a_repeated_call_that_was_done_before_the_rule_has_its_answer(cell):
    request = {"cluster": "prod", "taskDefinition": "bad", "clientToken": "once"}
    first = await ecs(cell, "RunTask", **request)
    await put(cell, **NO_PRIVILEGED)
    assert (await ecs(cell, "RunTask", **request))["tasks"][0]["taskArn"] == first["tasks"][0]["taskArn"]


async def test_a_plan_of_an_update_is_refused_as_the_update_would_be(cell):
    await ecs(cell, "CreateService", cluster="prod", serviceName="web", taskDefinition="good", desiredCount=1)
    await put(cell, **NO_PRIVILEGED)
    update = {"cluster": "prod", "service": "web", "taskDefinition": "bad"}
    with pytest.raises(RuleViolatedError, match="rule no-privileged"):
        await own(cell, "PredictServiceUpdate", request=update)
    assert (await own(cell, "PredictServiceUpdate", request={**update, "taskDefinition": "good"}))["outcome"]


# ---------------------------------------------------------------------------------------------------------- reporting


async def test_the_report_names_everything_that_is_in_force(cell):
    daemon = await furnish(cell)
    await ecs(cell, "CreateService", cluster="prod", serviceName="new", taskDefinition="bad", desiredCount=1)
    await ecs(cell, "CreateTaskSet", cluster="prod", service="sets", taskDefinition="bad")
    await ecs(cell, "UpdateDaemon", daemonArn=daemon, daemonTaskDefinitionArn="bad:1", capacityProviderArns=["pool"])
    running = (await ecs(cell, "RunTask", cluster="test", taskDefinition="bad"))["tasks"][0]["taskArn"]
    stopped = (await ecs(cell, "RunTask", cluster="test", taskDefinition="bad"))["tasks"][0]["taskArn"]
    await ecs(cell, "StopTask", cluster="test", task=stopped)
    task_set = (await cell.all(TASK_SETS))[0]
    await put(cell, **NO_PRIVILEGED)
    everything = [
        "task-definition/bad:1",
        "daemon-task-definition/bad:1",
        "service/prod/new",
        f"task-set/prod/sets/ecs-svc/{task_set.id}",
        "daemon/prod/logs",
        running.split(":", 5)[5],
    ]
    assert await violated(cell) == [("no-privileged", what) for what in everything]
    assert await violated(cell, maxResults=1) == [("no-privileged", what) for what in everything]
    assert [what for _, what in await violated(cell, cluster="prod")] == everything[2:5]
    assert [what for _, what in await violated(cell, resourceTypes=["daemon", "task"])] == everything[4:]
    jobs = [what for _, what in await violated(cell, resourceTypes=["task"], includeStopped=True)]
    assert sorted(jobs) == sorted([running.split(":", 5)[5], stopped.split(":", 5)[5]])
    await ecs(cell, "DeregisterTaskDefinition", taskDefinition="bad:1")
    assert [what for _, what in await violated(cell, resourceTypes=["task-definition"])] == []


async def test_a_rule_can_be_tested_before_it_is_put(cell):
    await ecs(cell, "CreateService", cluster="prod", serviceName="web", taskDefinition="bad", desiredCount=1)
    told = await own(cell, "TestRules", rule={**NO_PRIVILEGED, "resourceTypes": ["service"]})
    arn = f"arn:aws:ecs:us-east-1:{ACCOUNT}:service/prod/web"
    assert told["violations"] == [
        {
            "ruleName": "no-privileged",
            "mode": "ENFORCE",
            "resourceType": "service",
            "resourceArn": arn,
            "cluster": "prod",
            "service": "web",
            "message": "No. (found: app)",
            "found": ["app"],
        }
    ]
    assert told["examined"] == 3
    assert await cell.all(RULES) == []
    await ecs(cell, "RegisterTaskDefinition", family="bad", containerDefinitions=[container(privileged=True)])


async def test_the_report_tells_of_those_rules_that_are_asked_for(cell):
    await put(cell, **NO_PRIVILEGED)
    await put(cell, name="mode", mode="REPORT", require="`false`", families=["bad"])
    assert await violated(cell) == [("mode", "task-definition/bad:1"), ("no-privileged", "task-definition/bad:1")]
    assert await violated(cell, ruleNames=["mode"]) == [("mode", "task-definition/bad:1")]
    with pytest.raises(InvalidParameterError, match="Only one"):
        await own(cell, "TestRules", ruleNames=["mode"], rule=NO_PRIVILEGED)
    broken = (await own(cell, "TestRules", rule={"name": "x", "mode": "REPORT", "require": "nowhere"}))["violations"]
    assert {item["evaluationError"] for item in broken} == {"it says null, neither true nor false"}


async def test_a_page_ends_when_it_has_cost_enough(cell, monkeypatch):
    for number in range(12):
        await ecs(cell, "RegisterTaskDefinition", family=f"f{number:02d}", containerDefinitions=[container(privileged=True)])
    monkeypatch.setattr(rule_report, "PAGE_STEPS_MAX", 60)
    first = await own(cell, "TestRules", rule=NO_PRIVILEGED)
    assert 0 < first["examined"] < 14
    assert len(await violated(cell, rule=NO_PRIVILEGED)) == 13
    with pytest.raises(InvalidParameterError, match="nextToken"):
        await own(cell, "TestRules", nextToken=first["nextToken"])
    monkeypatch.undo()
    monkeypatch.setattr(rule_report, "RECORDS_MAX", 3)
    assert len(await violated(cell, rule=NO_PRIVILEGED)) == 13
