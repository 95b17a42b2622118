"""One installation in memory with an agent whose every word the test chooses: API handlers, controllers and dispatcher are the real ones.

Owns: `World`, and the steps of which `test_task_lifecycle.py` makes its table. Ten seconds pass before each step: instants tell which step set them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from unit.api.ecs.caller import Ecs

from homeport.acs.messages import (
    ContainerHealth,
    InstanceStatus,
    Message,
    PayloadMessage,
    PublishHealthRequest,
    PublishInstanceStatusRequest,
    TaskHealth,
    encode,
)
from homeport.api.ecs.reports import StateReports
from homeport.config import Settings
from homeport.dispatcher.hub import Dispatcher
from homeport.ids import Ids
from homeport.model.arn import root_arn
from homeport.testing.agent import SimulatedAgent, Socket
from homeport.testing.cell import MemoryCell
from homeport.testing.records import ACCOUNT, REGION

STEP_SECONDS: Final = 10.0
NEVER: Final = 1e9
CONTAINERS: Final = [
    {"name": "main", "image": "app:1", "memory": 64, "healthCheck": {"command": ["CMD", "true"]}},
    {"name": "side", "image": "log:1", "memory": 64, "essential": False, "dependsOn": [{"containerName": "main", "condition": "START"}]},
]
CAPABILITIES: Final = dict.fromkeys(
    (
        *(f"com.amazonaws.ecs.capability.docker-remote-api.1.{number}" for number in range(17, 45)),
        "ecs.capability.container-health-check",
        "ecs.capability.container-ordering",
    ),
    "",
)

Step = Callable[["World"], Awaitable[object]]


class World:
    """Cluster `default` with one instance; task definition `web` of an essential container `main` and another, `side`."""

    def __init__(self, cell: MemoryCell, dispatcher: Dispatcher) -> None:
        self.cell = cell
        self.ecs = Ecs(cell.context)
        self.dispatcher = dispatcher
        self.agent = SimulatedAgent(dispatcher.acs, self._call, clock=cell.clock)
        self.agent.start_seconds = self.agent.stop_seconds = NEVER  # only the test speaks for it
        self.task = ""
        """ARN of the task that is looked at."""
        self.created_at = 0.0

    async def _call(self, operation: str, request: Mapping[str, Any]) -> Any:
        return await self.ecs(operation, **request)

    async def passes(self, seconds: float) -> None:
        """Let time go by."""
        await self.cell.clock.advance(seconds)

    async def shown(self) -> dict[str, Any]:
        """The task as DescribeTasks shows it; {} when it is MISSING."""
        answer = await self.ecs("DescribeTasks", tasks=[self.task], include=["TAGS"])
        return dict(answer["tasks"][0]) if answer["tasks"] else {}

    async def instance(self) -> dict[str, Any]:
        """The instance as DescribeContainerInstances shows it."""
        request = {"containerInstances": [self.agent.arn], "include": ["CONTAINER_INSTANCE_HEALTH"]}
        found: dict[str, Any] = (await self.ecs("DescribeContainerInstances", **request))["containerInstances"][0]
        return found

    async def run(self, **members: Any) -> None:
        """RunTask."""
        answer = await self.ecs("RunTask", taskDefinition="web", **members)
        self.follow(answer["tasks"][0])

    def follow(self, task: Mapping[str, Any]) -> None:
        """Look at this task from now on."""
        self.task, self.created_at = task["taskArn"], task["createdAt"]

    def told(self) -> list[str]:
        """What the agent was told of the task, in order: RUNNING, STOPPED."""
        return [task.desiredStatus for message in self.agent.messages(PayloadMessage) for task in message.tasks if task.arn == self.task]


@contextlib.asynccontextmanager
async def world(**settings: Any) -> AsyncIterator[World]:
    """A world whose agent has connected. `settings`: of the control plane."""
    cell = await MemoryCell.open(settings=Settings(**settings))
    identity = (ACCOUNT, root_arn(ACCOUNT))
    dispatcher = Dispatcher(store=cell.store, clock=cell.clock, ids=Ids(1), settings=cell.context.settings, region=REGION, verify=lambda *_: identity)
    dispatcher.offer_reports(StateReports(cell.context).take)
    await dispatcher.start()
    cell.start(agents=False)
    made = World(cell, dispatcher)
    try:
        await made.agent.register(attributes=CAPABILITIES)
        await made.agent.connect()
        await made.ecs("RegisterTaskDefinition", family="web", containerDefinitions=CONTAINERS)
        await cell.clock.settle()
        yield made
    finally:
        await made.agent.close()
        await dispatcher.close()
        await cell.close()


def step(act: Callable[..., Awaitable[object]]) -> Callable[..., Step]:
    """`act(world, …)` as something that a table holds: called with its further arguments alone."""

    @functools.wraps(act)
    def chosen(*positional: Any, **named: Any) -> Step:
        async def perform(where: World) -> None:
            await where.passes(STEP_SECONDS)
            await act(where, *positional, **named)
            await where.cell.clock.settle()

        return perform

    return chosen


@step
async def reports(where: World, status: str, *containers: dict[str, Any], **members: Any) -> None:
    """SubmitTaskStateChange; instants are seconds since the task was created."""
    for name in ("pullStartedAt", "pullStoppedAt", "executionStoppedAt"):
        if name in members:
            members[name] += where.created_at
    await where.ecs("SubmitTaskStateChange", cluster="default", task=where.task, status=status, containers=list(containers), **members)


@step
async def container_reports(where: World, **members: Any) -> None:
    """SubmitContainerStateChange."""
    await where.ecs("SubmitContainerStateChange", cluster="default", task=where.task, **members)


@step
async def publishes_health(where: World, **statuses: str) -> None:
    """The agent's telemetry says the health of containers."""
    health = TaskHealth(taskArn=where.task, containers=[ContainerHealth(containerName=name, healthStatus=said) for name, said in statuses.items()])
    await _publish(where, PublishHealthRequest(tasks=[health]))


@step
async def publishes_status(where: World, status: str) -> None:
    """The agent's telemetry says how its container runtime is."""
    await _publish(where, PublishInstanceStatusRequest(statuses=[InstanceStatus(type="ContainerRuntime", status=status)]))


async def _publish(where: World, message: Message) -> None:
    socket = Socket(where.dispatcher.tcs, "/tcs/ws", f"cluster=default&containerInstance={where.agent.arn}")
    await socket.open()
    socket.send(encode(message).decode())
    await socket.receive()
    socket.close(1000)


@step
async def call(where: World, operation: str, **members: Any) -> None:
    """An operation of the API; TASK and INSTANCE stand for the ARNs."""
    text = (
        msgspec.json.encode(members).replace(b'"TASK"', msgspec.json.encode(where.task)).replace(b'"INSTANCE"', msgspec.json.encode(where.agent.arn))
    )
    await where.ecs(operation, **msgspec.json.decode(text))


@step
async def goes(where: World) -> None:
    """The agent's connection breaks."""
    await where.agent.disconnect()


@step
async def comes(where: World) -> None:
    """The agent connects again."""
    await where.agent.connect()


@step
async def waits(where: World, seconds: float) -> None:
    """More time passes."""
    await where.passes(seconds)


def main(status: str, **members: Any) -> dict[str, Any]:
    """What a report says of the essential container."""
    return {"containerName": "main", "status": status, **members}


def side(status: str, **members: Any) -> dict[str, Any]:
    """What a report says of the other one."""
    return {"containerName": "side", "status": status, **members}
