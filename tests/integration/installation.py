"""A whole installation in one process: control plane on a real port, agent on a fake container runtime, real sockets between them.

The parts are the shipped ones; only the containers are not real. A test can stop and start either side.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from homeport.agent.client import CallFailedError, EcsClient
from homeport.agent.main import Agent
from homeport.agent.settings import AgentSettings
from homeport.clock import SystemClock
from homeport.ids import Ids
from homeport.server import ControlPlane, ServerOptions, build
from homeport.testing.runtime import FakeRuntime

ACCOUNT = "123456789012"
SECONDS_MAX = 15.0
TASK_DEFINITION = {
    "family": "app",
    "containerDefinitions": [{"name": "app", "image": "homeport-test:latest", "memory": 32, "command": ["trap", "sleep 600"]}],
}


class Installation:
    """See the module. Use `async with`."""

    def __init__(self, directory: Path, *, settings: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.clock = SystemClock()
        self.runtime = FakeRuntime(self.clock)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._settings = settings
        self._server: tuple[contextlib.AsyncExitStack, uvicorn.Server, asyncio.Task[None]] | None = None
        self._agent: tuple[asyncio.Event, asyncio.Task[None]] | None = None
        self.plane: ControlPlane | None = None
        self.agent_settings = AgentSettings(
            endpoint=f"http://127.0.0.1:{self.port}",
            region="us-east-1",
            access_key_id="AKIDEXAMPLE",
            secret_access_key="secret",
            data_dir=str(directory / "agent"),
            installation_id="test",
            instance_attributes=(("rack", "7"),),
            container_stop_timeout_seconds=1.0,
            backoff_max_seconds=0.5,
        )
        self.client: EcsClient | None = None

    async def __aenter__(self) -> Installation:
        self.client = EcsClient(self.agent_settings, self.clock)
        await self.start_server()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._agent is not None:
            await self.stop_agent()
        if self._server is not None:
            await self.stop_server()
        assert self.client is not None
        await self.client.close()

    # -- both sides ------------------------------------------------------------------------------------------------------

    async def start_server(self, name: str = "server") -> None:
        """Start the control plane on the state of `name`; another name is an installation that lost everything."""
        options = ServerOptions(
            data_dir=self.directory / name,
            port=self.port,
            account_id=ACCOUNT,
            region="us-east-1",
            settings=self._settings,
            root_access_key_id="AKIDEXAMPLE",
            root_secret_access_key="secret",
        )
        stack = contextlib.AsyncExitStack()
        self.plane = await stack.enter_async_context(build(options))
        config = uvicorn.Config(
            self.plane.application,
            host="127.0.0.1",
            port=self.port,
            ws="websockets-sansio",
            lifespan="off",
            log_config=None,
            ws_ping_interval=None,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve())
        self._server = (stack, server, serving)
        await self.eventually(lambda: _true(server.started))

    async def stop_server(self) -> None:
        """End the control plane as SIGTERM does."""
        assert self._server is not None
        stack, server, serving = self._server
        server.should_exit = True
        await serving
        await stack.aclose()
        self._server = self.plane = None

    async def start_agent(self, **settings: Any) -> None:
        """Start the agent; return when its instance is connected."""
        agent = Agent(msgspec.structs.replace(self.agent_settings, **settings), runtime=self.runtime, clock=self.clock, ids=Ids())
        stop = asyncio.Event()
        self._agent = (stop, asyncio.create_task(agent.run(stop)))
        await self.eventually(self.connected)

    async def stop_agent(self) -> None:
        """End the agent as SIGTERM does."""
        assert self._agent is not None
        stop, running = self._agent
        self._agent = None
        stop.set()
        await running

    # -- what a user sees ------------------------------------------------------------------------------------------------

    async def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """A signed call of the API."""
        assert self.client is not None
        return await self.client.call(operation, request)

    async def instances(self) -> list[dict[str, Any]]:
        """Every container instance of the cluster `default`, which the first registration makes."""
        try:
            arns = (await self.call("ListContainerInstances"))["containerInstanceArns"]
        except CallFailedError as error:
            if error.code != "ClusterNotFoundException":
                raise
            return []
        return (await self.call("DescribeContainerInstances", containerInstances=arns))["containerInstances"] if arns else []

    def reported_over_http(self) -> int:
        """How many reports came as calls of the API, in all lives of the server."""
        assert self.plane is not None and self.plane.application._request_log is not None
        self.plane.application._request_log.flush()
        return (self.directory / "server" / "log" / "requests.log").read_text().count("SubmitTaskStateChange")

    async def connected(self) -> bool:
        """Whether there is an instance whose agent is connected."""
        if self._agent is not None and self._agent[1].done():
            self._agent[1].result()
        return any(instance["agentConnected"] for instance in await self.instances())

    async def run_task(self, **container: Any) -> str:
        """Register a definition of one container and run a task of it; return its ARN."""
        definition = {**TASK_DEFINITION, "containerDefinitions": [{**TASK_DEFINITION["containerDefinitions"][0], **container}]}
        registered = await self.call("RegisterTaskDefinition", **definition)
        answer = await self.call("RunTask", taskDefinition=registered["taskDefinition"]["taskDefinitionArn"])
        assert answer["failures"] == []
        return answer["tasks"][0]["taskArn"]

    async def task(self, arn: str) -> dict[str, Any]:
        """One task, described."""
        return (await self.call("DescribeTasks", tasks=[arn]))["tasks"][0]

    async def reaches(self, arn: str, status: str) -> dict[str, Any]:
        """Wait until the task shows `status`; return it."""

        async def reached() -> bool:
            return (await self.task(arn))["lastStatus"] == status

        await self.eventually(reached)
        return await self.task(arn)

    async def eventually(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Return once `condition` holds; fail after a while."""
        deadline = self.clock.monotonic() + SECONDS_MAX
        while not await condition():
            assert self.clock.monotonic() < deadline, f"not within {SECONDS_MAX:.0f} s"
            await self.clock.sleep(0.01)


async def _true(value: bool) -> bool:
    return value
