"""Telemetry: frames of both agents, container health and instance status in the store, writes only on change."""

from __future__ import annotations

import json

import pytest
from unit.dispatcher.cell import INSTANCE_ARN, instance

from homeport.acs.messages import ContainerHealth, TaskHealth
from homeport.dispatcher.health import with_health, worst
from homeport.dispatcher.telemetry import body_of
from homeport.model.ecs.task import Container
from homeport.testing import records
from homeport.testing.agent import RefusedError, Socket

SIGNED = "Authorization: AWS4-HMAC-SHA256 Credential=a\r\nHost: h\r\nX-Amz-Date: d\r\n\r\n"


def checked(name: str, health: str = "UNKNOWN", *, essential: bool = True, check: bool = True) -> Container:
    return Container(name=name, id=name, image="i", health_status=health, essential=essential, has_health_check=check)


async def connected(cell, arn: str = INSTANCE_ARN) -> Socket:
    socket = Socket(cell.dispatcher.tcs, "/tcs/ws", f"cluster=default&containerInstance={arn}")
    await socket.open()
    return socket


async def say(cell, socket: Socket, kind: str, message: dict, *, head: str = "") -> str:
    """Send one publication; return the type of the answer."""
    socket.send(head + json.dumps({"type": kind, "message": message}))
    await cell.clock.settle()
    return json.loads(await socket.receive())["type"]


def health_of(number: int, **statuses: str) -> dict:
    containers = [{"containerName": name, "healthStatus": status, "statusSince": 1.5} for name, status in statuses.items()]
    return {"taskArn": f"arn:aws:ecs:us-east-1:{records.ACCOUNT}:task/default/{number:032x}", "containers": containers}


@pytest.mark.parametrize("head", ["", SIGNED])
async def test_health_of_containers_becomes_health_of_the_task(cell, head):
    await cell.put(records.task(1, containers=(checked("a"), checked("b"))))
    socket = await connected(cell)
    for statuses, expected in [
        ({"a": "HEALTHY"}, "UNKNOWN"),
        ({"b": "HEALTHY"}, "HEALTHY"),
        ({"a": "UNHEALTHY", "b": "HEALTHY"}, "UNHEALTHY"),
    ]:
        answer = await say(cell, socket, "PublishHealthRequest", {"tasks": [health_of(1, **statuses)], "timestamp": 1.0}, head=head)
        assert answer == "AckPublishHealth"
        assert (await cell.stored_task(1)).health_status == expected
    assert [container.health_status for container in (await cell.stored_task(1)).containers] == ["UNHEALTHY", "HEALTHY"]
    assert (await cell.stored_task(1)).version == 4


async def test_what_is_known_is_not_written_again(cell):
    await cell.put(records.task(1, containers=(checked("a"),)))
    socket = await connected(cell)
    await say(cell, socket, "PublishHealthRequest", {"tasks": [health_of(1, a="HEALTHY")]})
    revision = cell.store.revision
    await say(cell, socket, "PublishHealthRequest", {"tasks": [health_of(1, a="HEALTHY"), health_of(2, a="HEALTHY")]})
    assert cell.store.revision == revision


async def test_many_tasks_are_several_transactions(cell):
    tasks = [records.task(number, containers=(checked("a"),)) for number in range(150)]
    await cell.put(*tasks[:75])
    await cell.put(*tasks[75:])
    socket = await connected(cell)
    await say(cell, socket, "PublishHealthRequest", {"tasks": [health_of(number, a="HEALTHY") for number in range(150)]})
    assert {(await cell.stored_task(number)).health_status for number in range(150)} == {"HEALTHY"}


async def test_status_of_the_container_runtime_is_kept_when_it_changes(cell):
    socket = await connected(cell)
    for status, version in (("OK", 2), ("OK", 2), ("IMPAIRED", 3)):
        statuses = [{"type": "ContainerRuntime", "status": status, "lastUpdated": 5.0, "lastStatusChange": 4.0}]
        assert await say(cell, socket, "PublishInstanceStatusRequest", {"statuses": statuses}) == "AckPublishInstanceStatus"
        stored = await cell.stored_instance()
        assert (stored.health, stored.version) == (status, version)
    assert (stored.health_updated_at, stored.health_changed_at) == (5.0, 4.0)


async def test_metrics_are_acknowledged_and_dropped(cell):
    socket = await connected(cell)
    revision = cell.store.revision
    assert await say(cell, socket, "PublishMetricsRequest", {"metadata": {"idle": True}, "taskMetrics": []}, head=SIGNED) == "AckPublishMetric"
    assert cell.store.revision == revision


async def test_frames_that_are_no_messages_are_passed_over(cell):
    socket = await connected(cell)
    for frame in ("", "no header", SIGNED + "{", '{"type":"PublishHealthRequest","message":{"tasks":5}}'):
        socket.send(frame)
    assert await say(cell, socket, "PublishMetricsRequest", {}) == "AckPublishMetric"


async def test_an_inactive_or_unknown_instance_has_no_telemetry(cell):
    with pytest.raises(RefusedError) as unknown:
        await connected(cell, INSTANCE_ARN[:-1] + "2")
    assert unknown.value.name == "InvalidInstanceException"
    socket = await connected(cell)
    await cell.change(instance(), status="INACTIVE")
    assert await socket.receive() is None
    assert socket.close_code == 1001
    with pytest.raises(RefusedError) as inactive:
        await connected(cell)
    assert inactive.value.name == "InactiveInstanceException"


async def test_the_newest_connection_wins(cell):
    older, newer = await connected(cell), await connected(cell)
    assert await older.receive() is None
    assert await say(cell, newer, "PublishMetricsRequest", {}) == "AckPublishMetric"


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ((), "UNKNOWN"),
        ((checked("a", "HEALTHY", check=False),), "UNKNOWN"),
        ((checked("a", "HEALTHY"),), "HEALTHY"),
        ((checked("a", "HEALTHY"), checked("b", "UNHEALTHY", essential=False)), "HEALTHY"),
        ((checked("a", "HEALTHY"), checked("b", "UNKNOWN")), "UNKNOWN"),
        ((checked("a", "UNKNOWN"), checked("b", "UNHEALTHY")), "UNHEALTHY"),
    ],
)
def test_the_worst_of_the_essential_containers(containers, expected):
    assert worst(containers) == expected


def test_only_the_agent_of_the_tasks_instance_may_say():
    task = records.task(1, containers=(checked("a"),))
    report = TaskHealth(containers=[ContainerHealth(containerName="a", healthStatus="HEALTHY")])
    nonsense = TaskHealth(containers=[ContainerHealth(containerName="a", healthStatus="SPLENDID")])
    assert with_health(task, report, task.instance_key).health_status == "HEALTHY"
    assert with_health(task, report, "another") is task
    assert with_health(task, nonsense, task.instance_key) is task
    stopped = records.task(1, containers=(checked("a"),), last_status="STOPPED")
    assert with_health(stopped, report, task.instance_key) is stopped


def test_the_body_of_a_frame():
    assert body_of(SIGNED + "{}") == "{}"
    assert body_of((SIGNED + "{}").encode()) == b"{}"
    assert body_of('{"a":"\r\n\r\n"}') == '{"a":"\r\n\r\n"}'
