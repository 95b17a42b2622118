"""Reports over agents' connections meet what they meet over HTTP, and do not meet each other."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.api.ecs.caller import ACCOUNT, Ecs
from tests.unit.api.ecs.test_task import connected, define

from homeport.api.ecs import state_change
from homeport.api.ecs.reports import StateReports
from homeport.errors import ApiError, CommitFailedError, NotLeaderError
from homeport.model.arn import root_arn
from homeport.model.cause import parse_cause
from homeport.store.tables import TASKS


@pytest.fixture
def ecs(context):
    return Ecs(context)


@pytest.fixture
def reports(context):
    return StateReports(context)


async def take(reports, *requests, operation="SubmitTaskStateChange", account=ACCOUNT, instance=""):
    """(code, or "") of each request."""
    bodies = [request if isinstance(request, bytes) else msgspec.json.encode(request) for request in requests]
    answers = await reports.take(account, root_arn(account), operation, [(instance, body) for body in bodies])
    return [answer.code if answer else "" for answer in answers]


async def running(ecs, count):
    """ARNs of new tasks."""
    await connected(ecs)
    await define(ecs, memory=6)
    return [task["taskArn"] for task in (await ecs("RunTask", taskDefinition="web", count=count))["tasks"]]


async def test_many_become_durable_in_one_transaction_and_what_is_refused_hurts_no_other(ecs, reports, context):
    arns = await running(ecs, 3)
    before = context.store.revision
    bad = [{"task": "0" * 32, "status": "RUNNING"}, {"status": "RUNNING"}, {"task": arns[0], "status": "FLYING"}, b"{", {"task": 7}]
    codes = await take(reports, *({"task": arn, "status": "RUNNING"} for arn in arns), *bad)
    assert codes == ["", "", "", *["InvalidParameterException"] * 3, *["SerializationException"] * 2]
    assert context.store.revision == before + 1
    tasks = (await ecs("DescribeTasks", tasks=arns))["tasks"]
    assert [task["lastStatus"] for task in tasks] == ["RUNNING"] * 3
    story = await context.store.journal.story(TASKS, f"{ACCOUNT}/default/{arns[0].rpartition('/')[2]}")
    cause = parse_cause(story[-1].cause)
    assert (cause.operation, cause.principal_arn) == ("SubmitTaskStateChange", root_arn(ACCOUNT))


async def test_a_report_that_comes_twice_changes_nothing_the_second_time(ecs, reports, context):
    (arn,) = await running(ecs, 1)
    assert await take(reports, {"task": arn, "status": "RUNNING"}, {"task": arn, "status": "RUNNING"}) == ["", ""]
    before = context.store.revision
    assert await take(reports, {"task": arn, "status": "RUNNING"}) == [""]
    assert context.store.revision == before


@pytest.mark.parametrize(
    ("operation", "request_"),
    [
        ("SubmitTaskStateChange", {"task": "0" * 32, "status": "RUNNING"}),
        ("SubmitTaskStateChange", {"task": "", "status": "RUNNING"}),
        ("SubmitTaskStateChange", {"task": "0" * 32, "cluster": "nowhere", "status": "RUNNING"}),
        ("SubmitTaskStateChange", {"task": "arn:aws:ecs:us-east-1:999999999999:task/default/" + "0" * 32, "status": "RUNNING"}),
        ("SubmitTaskStateChange", {"task": "0" * 32, "status": "RUNNING", "pullStartedAt": -1}),
        ("SubmitTaskStateChange", {"task": "0" * 32, "status": "RUNNING", "containers": [{"status": "UP"}]}),
        ("SubmitContainerStateChange", {"task": "0" * 32, "containerName": "x"}),
    ],
)
async def test_both_ways_have_the_same_errors(ecs, reports, operation, request_):
    await connected(ecs)
    with pytest.raises(ApiError) as error:
        await ecs(operation, **request_)
    (answer,) = await reports.take(ACCOUNT, root_arn(ACCOUNT), operation, [("", msgspec.json.encode(request_))])
    assert (answer.code, answer.message) == (error.value.code, error.value.message)


async def test_another_account_and_another_operation_get_nowhere(ecs, reports):
    (arn,) = await running(ecs, 1)
    assert await take(reports, {"task": arn, "status": "STOPPED"}, account="999999999999") == ["ClusterNotFoundException"]
    assert await take(reports, {"task": arn}, operation="StopTask") == ["UnknownOperationException"]
    assert (await ecs("DescribeTasks", tasks=[arn]))["tasks"][0]["lastStatus"] == "PENDING"


async def test_a_connection_reports_the_tasks_of_its_instance_only(ecs, reports):
    (arn,) = await running(ecs, 1)
    task = (await ecs("DescribeTasks", tasks=[arn]))["tasks"][0]
    own = f"{ACCOUNT}/{task['containerInstanceArn'].partition('/')[2]}"
    report = {"task": arn, "status": "RUNNING"}
    assert await take(reports, report, report, instance=f"{ACCOUNT}/default/{'f' * 32}") == ["InvalidParameterException"] * 2
    assert (await ecs("DescribeTasks", tasks=[arn]))["tasks"][0]["lastStatus"] == "PENDING"
    assert await take(reports, report, instance=own) == [""]


async def test_an_agent_that_registered_anew_may_tell_the_end_of_what_its_former_instance_had(ecs, reports):
    (arn,) = await running(ecs, 1)
    instance = (await ecs("DescribeTasks", tasks=[arn]))["tasks"][0]["containerInstanceArn"]
    await ecs("DeregisterContainerInstance", containerInstance=instance, force=True)
    before = (await ecs("DescribeTasks", tasks=[arn]))["tasks"]
    report = {"task": arn, "status": "STOPPED", "reason": "another"}
    assert await take(reports, report, instance=f"{ACCOUNT}/default/{'f' * 32}") == [""]
    assert (await ecs("DescribeTasks", tasks=[arn]))["tasks"] == before


async def test_a_fault_in_one_report_is_its_own(ecs, reports, monkeypatch):
    arns = await running(ecs, 3)
    sound = state_change.keep

    def keep(tx, call, report, *, instance):
        if report.task == arns[1]:
            raise RuntimeError("a fault of ours")
        sound(tx, call, report, instance=instance)

    monkeypatch.setattr(state_change, "keep", keep)
    assert await take(reports, *({"task": arn, "status": "RUNNING"} for arn in arns)) == ["", "ServerException", ""]
    assert [task["lastStatus"] for task in (await ecs("DescribeTasks", tasks=arns))["tasks"]] == ["RUNNING", "PENDING", "RUNNING"]


async def test_what_cannot_be_written_now_is_refused_with_an_error_that_is_tried_again(ecs, reports, monkeypatch):
    arns = await running(ecs, 2)

    async def update(function, *, cause):
        raise CommitFailedError("database or disk is full")

    monkeypatch.setattr(type(ecs.context.store), "update", lambda self, function, *, cause: update(function, cause=cause))
    assert await take(reports, *({"task": arn, "status": "RUNNING"} for arn in arns)) == ["ServerException", "ServerException"]


async def test_a_server_that_does_not_lead_hands_them_to_the_leader(ecs, context, monkeypatch):
    (arn,) = await running(ecs, 1)
    leader = StateReports(context)

    async def on_leader(attempt, path, body, *, read):
        with pytest.raises(NotLeaderError), monkeypatch.context() as patch:
            patch.setattr(type(context.store), "update", _refuse)
            await attempt()
        return read(await leader.carry_out(body))

    follower = StateReports(context, on_leader=on_leader)
    assert await take(follower, {"task": arn, "status": "RUNNING"}, {"task": "0" * 32, "status": "RUNNING"}) == ["", "InvalidParameterException"]
    assert (await ecs("DescribeTasks", tasks=[arn]))["tasks"][0]["lastStatus"] == "RUNNING"


async def _refuse(self, function, *, cause):
    raise NotLeaderError("http://leader")
