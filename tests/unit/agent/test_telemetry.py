"""When the agent publishes what over its telemetry connection."""

from __future__ import annotations

import asyncio

import pytest
from unit.agent.conversation import FakeSocket, RememberingEngine

from homeport.acs.messages import ContainerHealth, TaskHealth
from homeport.agent.telemetry import Telemetry
from homeport.errors import HomeportError
from homeport.virtual_clock import VirtualClock


class Publishing:
    """A telemetry with its engine, runtime and socket."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.engine = RememberingEngine()
        self.socket = FakeSocket()
        self.runtime_fails = False
        self.pings = 0
        self.telemetry = Telemetry(engine=self.engine, ping=self._ping, clock=self.clock, cluster="default")

    async def _ping(self) -> None:
        self.pings += 1
        if self.runtime_fails:
            raise HomeportError("no answer")

    def statuses(self) -> list[str]:
        return [status["status"] for message in self.socket.sent_of("PublishInstanceStatusRequest") for status in message["statuses"]]


@pytest.fixture
async def publishing():
    made = Publishing()
    running = asyncio.create_task(made.telemetry.run(made.socket, "arn:i"))
    await made.clock.settle()
    yield made
    made.socket.ends(1000)
    await running


HEALTHY = [TaskHealth(taskArn="t", containers=[ContainerHealth(containerName="app", healthStatus="HEALTHY")])]


async def test_the_state_of_the_runtime_is_published_at_once_and_with_each_heartbeat(publishing):
    assert publishing.statuses() == ["OK"]
    publishing.runtime_fails = True
    publishing.telemetry.heartbeat()
    await publishing.clock.settle()
    assert publishing.statuses() == ["OK", "IMPAIRED"]
    metadata = publishing.socket.sent[0]["message"]["metadata"]
    assert metadata == {"cluster": "default", "containerInstance": "arn:i"}


async def test_a_state_keeps_the_instant_of_its_change(publishing):
    for _ in range(2):
        await publishing.clock.advance(30)
        publishing.telemetry.heartbeat()
        await publishing.clock.settle()
    changes = {status["lastStatusChange"] for m in publishing.socket.sent_of("PublishInstanceStatusRequest") for status in m["statuses"]}
    assert len(changes) == 1


async def test_health_goes_out_when_it_changes_without_asking_the_runtime(publishing):
    publishing.engine.healths = HEALTHY
    publishing.telemetry.publish_soon()
    await publishing.clock.settle()
    (message,) = publishing.socket.sent_of("PublishHealthRequest")
    assert message["tasks"] == [{"taskArn": "t", "containers": [{"containerName": "app", "healthStatus": "HEALTHY"}]}]
    assert publishing.pings == 1


async def test_without_a_checked_container_nothing_is_said_of_health(publishing):
    publishing.telemetry.publish_soon()
    await publishing.clock.settle()
    assert publishing.socket.sent_of("PublishHealthRequest") == []


async def test_what_changed_between_two_connections_goes_out_on_the_next(publishing):
    publishing.socket.ends(1006)
    await publishing.clock.settle()
    publishing.engine.healths = HEALTHY
    publishing.telemetry.publish_soon()
    socket = FakeSocket()
    running = asyncio.create_task(publishing.telemetry.run(socket, "arn:i"))
    await publishing.clock.settle()
    assert len(socket.sent_of("PublishHealthRequest")) == 1
    socket.ends(1000)
    await running


async def test_a_connection_without_acknowledgements_is_given_up():
    made = Publishing()
    running = asyncio.create_task(made.telemetry.run(made.socket, "arn:i"))
    await made.clock.settle()
    made.socket.falls_silent()
    await asyncio.wait_for(running, 5)
