"""Control plane and agent together over real sockets: what survives the end of either side. Needs nothing but a loopback port."""

from __future__ import annotations

import pytest
from integration.installation import Installation

from homeport.agent.instance import saved_arn
from homeport.agent.state import State, StateLockedError


@pytest.fixture
async def installation(tmp_path):
    async with Installation(tmp_path) as made:
        yield made


async def test_a_task_runs_and_stops(installation):
    await installation.start_agent()
    arn = await installation.run_task(portMappings=[{"containerPort": 80}])
    running = await installation.reaches(arn, "RUNNING")
    (container,) = running["containers"]
    assert container["networkBindings"][0]["containerPort"] == 80
    assert container["runtimeId"] in installation.runtime.containers
    await installation.call("StopTask", task=arn, reason="enough")
    stopped = await installation.reaches(arn, "STOPPED")
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("UserInitiated", "enough")


async def test_registration_shows_this_host(installation):
    await installation.start_agent(zone="us-east-1b", instance_id="i-0123")
    (instance,) = await installation.instances()
    attributes = {attribute["name"]: attribute.get("value") for attribute in instance["attributes"]}
    assert (instance["status"], instance["ec2InstanceId"]) == ("ACTIVE", "i-0123")
    assert (attributes["rack"], attributes["ecs.availability-zone"]) == ("7", "us-east-1b")


async def test_reports_come_over_the_control_connection(installation):
    await installation.start_agent()
    await installation.reaches(await installation.run_task(command=["exit 0"]), "STOPPED")
    assert installation.reported_over_http() == 0
    await installation.stop_server()
    await installation.start_server()
    await installation.eventually(installation.connected)
    await installation.reaches(await installation.run_task(command=["exit 0"]), "STOPPED")
    assert installation.reported_over_http() == 0


async def test_an_agent_reports_over_http_where_nothing_else_is_offered(installation, monkeypatch):
    monkeypatch.setattr("homeport.agent.report_line.QUERY", "unknown")
    await installation.start_agent()
    await installation.reaches(await installation.run_task(command=["exit 0"]), "STOPPED")
    assert installation.reported_over_http() > 0


async def test_an_exit_is_told_with_its_code(installation):
    await installation.start_agent()
    stopped = await installation.reaches(await installation.run_task(command=["exit 3"]), "STOPPED")
    assert stopped["stopCode"] == "EssentialContainerExited"
    assert stopped["containers"][0]["exitCode"] == 3


async def test_health_arrives(installation):
    await installation.start_agent()
    arn = await installation.run_task(healthCheck={"command": ["CMD-SHELL", "true"]})
    await installation.reaches(arn, "RUNNING")
    (container,) = installation.runtime.containers.values()
    for said, shown in (("healthy", "HEALTHY"), ("unhealthy", "UNHEALTHY")):
        installation.runtime.report_health(container.name, said)

        async def arrived(shown=shown) -> bool:
            task = await installation.task(arn)
            return task["healthStatus"] == shown == task["containers"][0]["healthStatus"]

        await installation.eventually(arrived)


async def test_the_server_ends_and_comes_back(installation):
    await installation.start_agent()
    stays = await installation.run_task()
    ends = await installation.run_task()
    for arn in (stays, ends):
        await installation.reaches(arn, "RUNNING")
    starts = [call for call in installation.runtime.calls if call[0] == "start"]
    ended = (await installation.task(ends))["containers"][0]["runtimeId"]
    await installation.stop_server()
    installation.runtime.end(installation.runtime.containers[ended].name, 5)
    await installation.clock.sleep(0.3)
    await installation.start_server()
    await installation.eventually(installation.connected)
    assert (await installation.reaches(ends, "STOPPED"))["containers"][0]["exitCode"] == 5
    assert (await installation.task(stays))["lastStatus"] == "RUNNING"
    assert [call for call in installation.runtime.calls if call[0] == "start"] == starts


async def test_what_was_asked_while_the_agent_was_away_is_done_when_it_is_back(installation):
    await installation.start_agent()
    (before,) = await installation.instances()
    arn = await installation.run_task()
    await installation.reaches(arn, "RUNNING")
    await installation.stop_agent()
    await installation.call("StopTask", task=arn)
    assert (await installation.task(arn))["lastStatus"] != "STOPPED"
    await installation.start_agent()
    await installation.reaches(arn, "STOPPED")
    (after,) = await installation.instances()
    assert after["containerInstanceArn"] == before["containerInstanceArn"]


async def test_the_agent_ends_and_comes_back(installation):
    await installation.start_agent()
    stays, ends = await installation.run_task(), await installation.run_task()
    for arn in (stays, ends):
        await installation.reaches(arn, "RUNNING")
    ended = (await installation.task(ends))["containers"][0]["runtimeId"]
    began = installation.clock.monotonic()
    await installation.stop_agent()
    assert installation.clock.monotonic() - began < 1.0
    assert all(container.status == "running" for container in installation.runtime.containers.values())

    async def gone() -> bool:
        return not await installation.connected()

    installation.runtime.end(installation.runtime.containers[ended].name, 6)
    await installation.start_agent()
    assert (await installation.reaches(ends, "STOPPED"))["containers"][0]["exitCode"] == 6
    assert (await installation.task(stays))["lastStatus"] == "RUNNING"
    assert len(installation.runtime.containers) == 2


async def test_a_deregistered_host_leaves_its_tasks_alone_and_waits(installation):
    await installation.start_agent()
    arn = await installation.run_task()
    running = await installation.reaches(arn, "RUNNING")
    (instance,) = await installation.instances()
    await installation.call("DeregisterContainerInstance", containerInstance=instance["containerInstanceArn"], force=True)

    async def alone() -> bool:
        return installation.plane.dispatcher.connected == frozenset()

    await installation.eventually(alone)
    await installation.clock.sleep(0.3)
    assert await alone()
    assert installation.runtime.containers[running["containers"][0]["runtimeId"]].status == "running"
    assert await installation.instances() == []


async def test_a_host_that_the_control_plane_does_not_know_registers_anew_and_stops_its_strays(installation):
    await installation.start_agent()
    arn = await installation.run_task()
    running = await installation.reaches(arn, "RUNNING")
    await installation.stop_server()
    await installation.start_server("forgetful")
    await installation.eventually(installation.connected)
    container = installation.runtime.containers[running["containers"][0]["runtimeId"]]

    async def stopped() -> bool:
        return container.status != "running"

    await installation.eventually(stopped)
    assert len(await installation.instances()) == 1


async def test_one_agent_per_directory(installation):
    await installation.start_agent()
    with pytest.raises(StateLockedError):
        State.open(installation.agent_settings.data_dir)
    await installation.stop_agent()
    state = State.open(installation.agent_settings.data_dir)
    assert saved_arn(state).startswith("arn:aws:ecs:us-east-1:123456789012:container-instance/default/")
    state.close()


async def test_fifty_tasks_at_once_all_run_and_all_stop(installation):
    await installation.start_agent(start_pool_max=16)
    registered = await installation.call(
        "RegisterTaskDefinition",
        family="small",
        containerDefinitions=[{"name": "app", "image": "homeport-test:latest", "memory": 6, "command": ["trap", "sleep 600"]}],
    )
    arns = []
    for _ in range(5):
        answer = await installation.call("RunTask", taskDefinition=registered["taskDefinition"]["taskDefinitionArn"], count=10)
        arns += [task["taskArn"] for task in answer["tasks"]]
    assert len(arns) == 50
    for arn in arns:
        await installation.reaches(arn, "RUNNING")
        await installation.call("StopTask", task=arn)
    for arn in arns:
        await installation.reaches(arn, "STOPPED")
