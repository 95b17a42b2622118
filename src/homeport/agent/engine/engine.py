"""The agent's engine: takes tasks, makes them real through the runtime, and reports what becomes of them.

Owns: the table of tasks, its storage, the runtime's event stream, and the cleanup after acknowledged ends.
Never decides (machine.py does), never calls the runtime for a step (executor.py does) and never talks to the control plane.
Reads and writes: State kinds "task" (by ARN), "engine" and "image"; the runtime's events of this installation.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from homeport.acs.messages import ContainerHealth, TaskHealth, TaskPayload
from homeport.agent.attachments import cgroup
from homeport.agent.engine import config, machine
from homeport.agent.engine.config import InvalidTaskError
from homeport.agent.engine.executor import Executor, needs_preparation
from homeport.agent.engine.recovery import reconcile
from homeport.agent.engine.report import TaskReport
from homeport.agent.engine.task import (
    Acknowledged,
    Continue,
    Discard,
    Event,
    Gone,
    Seen,
    StopWanted,
    TaskState,
    Tell,
    decode,
    encode,
)
from homeport.agent.images import Images
from homeport.agent.runtime.contract import (
    CONNECTED,
    DISCONNECTED,
    NoSuchObjectError,
    Runtime,
    RuntimeEvent,
    RuntimeFailureError,
    RuntimeUnavailableError,
)
from homeport.agent.settings import AgentSettings
from homeport.clock import Clock
from homeport.ids import Ids

KIND_TASK = "task"
KIND_ENGINE = "engine"
KIND_IMAGE = "image"
CLEANUP_RETRY_SECONDS = 60.0
RECONCILE_RETRY_SECONDS = 1.0
INSPECT_RETRY_SECONDS = 0.2
SWEEP_STOP_SECONDS = 30
LOOKED_AT = frozenset({"start", "die", "health_status", "pause", "unpause"})
"""Events after which a container is inspected; `destroy` says everything by itself."""

_log = logging.getLogger(__name__)


class State(Protocol):
    """What the engine needs of the agent's local journal (`agent/state.py`)."""

    def load(self, kind: str) -> dict[str, bytes]:
        """Every record of `kind`, by key."""
        ...

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Create or replace a record; it survives the death of this process once this returns."""
        ...

    def delete(self, kind: str, key: str) -> None:
        """Remove a record, if it is there."""
        ...


class Engine:
    """See the module. Made, then started, then used until `close`; containers outlive it."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        state: State,
        clock: Clock,
        ids: Ids,
        settings: AgentSettings,
        report: Callable[[TaskReport], None],
        on_health: Callable[[str], None] | None = None,
        on_event: Callable[[TaskState, Event | None], None] | None = None,
    ) -> None:
        """`report` takes every report and keeps it safe before it returns; a report may come twice, after a crash.

        `on_health` is told the ARN of a task whose health changed; `on_event` every task as it is after each event, and None for what was stored.
        """
        self._runtime = runtime
        self._state = state
        self._clock = clock
        self._settings = settings
        self._report = report
        self.on_health = on_health
        self.on_event = on_event
        self._tasks: dict[str, TaskState] = {}
        self._connected = asyncio.Event()
        self._attempted = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self._looks: dict[str, bool] = {}
        self._cleanups: deque[tuple[float, str]] = deque()
        self._cleanup_added = asyncio.Event()
        self._closed = False
        identity = self._identity = config.Identity(
            installation=settings.installation_id,
            agent=self._agent_id(ids),
            cluster=settings.cluster,
            region=settings.region,
            api_port=settings.container_api_port,
        )
        images = Images(
            runtime=runtime,
            clock=clock,
            behavior=settings.image_pull_behavior,
            pulled=lambda image: image in state.load(KIND_IMAGE),
            note_pulled=lambda image: state.put(KIND_IMAGE, image, b"1"),
        )
        self._executor = Executor(book=self, runtime=runtime, images=images, clock=clock, settings=settings, identity=identity)

    @property
    def agent_id(self) -> str:
        """What this agent's containers are known by, among those of others on the same runtime."""
        return self._identity.agent

    # -- life -----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the tasks, find their containers again, tell unacknowledged ends, and follow the runtime's events.

        Returns after the first look at the runtime, or after the first failure to reach it; it is then tried on in the background.
        """
        for arn, value in self._state.load(KIND_TASK).items():
            self._tasks[arn] = decode(value)
            self._tell_event(self._tasks[arn], None)
        for task in sorted(self._tasks.values(), key=lambda item: item.acknowledged_at or 0.0):
            if task.told is not None and task.known == "STOPPED" and task.acknowledged != "STOPPED":
                self._report(task.told)  # the acknowledgement may have been lost in the crash; without it nothing is cleaned up
            if task.acknowledged == "STOPPED":
                self._add_cleanup(task)
            for watch in machine.watches(None, task, self._clock.now()):
                self._executor.run(task.arn, watch)
        self._begin(self._follow())
        self._begin(self._clean())
        await self._attempted.wait()

    async def close(self) -> None:
        """Stop following and give up every step. Containers run on; the next engine on the same state takes them over."""
        self._closed = True
        for work in self._background:
            work.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._executor.close()

    # -- what the control plane asks ------------------------------------------------------------------------------------

    def submit(self, task: TaskPayload) -> None:
        """Run the task, or stop it; again does nothing more. The task is stored when this returns. Raises InvalidTaskError."""
        config.check_task(task)
        known = self._tasks.get(task.arn)
        if known is None:
            self._accept(task)
        elif task.desiredStatus == "STOPPED" and known.desired != "STOPPED":
            self.feed(task.arn, StopWanted())
        elif known.known == "STOPPED" and known.acknowledged == "STOPPED" and known.told is not None:
            self._report(known.told)  # it was acknowledged, and still the control plane asks: tell again

    def acknowledged(self, arn: str, status: str = "STOPPED") -> None:
        """The control plane has a report of this status about the task. After STOPPED its containers are removed in time."""
        if arn in self._tasks:
            self.feed(arn, Acknowledged(status))

    def tasks(self) -> list[tuple[str, str, str]]:
        """(ARN, desired, known) of every task that is held."""
        return [(task.arn, task.desired, task.known) for task in self._tasks.values()]

    def health(self) -> list[TaskHealth]:
        """Health of each running task that has a container with a health check."""
        found = []
        for task in self._tasks.values():
            checked = [item for item in task.containers if item.known == "RUNNING" and task.definition(item.name).healthCheckType == "docker"]
            if checked and task.known != "STOPPED":
                found.append(
                    TaskHealth(
                        taskArn=task.arn,
                        taskDefinitionFamily=task.payload.family,
                        taskDefinitionVersion=task.payload.version,
                        containers=[
                            ContainerHealth(
                                containerName=item.name,
                                healthStatus=item.health,
                                statusSince=item.health_since,
                                statusMessage=item.health_output,
                            )
                            for item in checked
                        ],
                    )
                )
        return found

    @property
    def connected(self) -> bool:
        """Whether the runtime answers (for the instance's own health)."""
        return self._connected.is_set()

    def _accept(self, payload: TaskPayload) -> None:
        task = machine.new_task(payload, needs_preparation=needs_preparation(payload))
        self._tasks[task.arn] = task
        self._state.put(KIND_TASK, task.arn, encode(task))
        if task.desired == "STOPPED":
            self._begin(self._sweep(task.arn))
        else:
            self.feed(task.arn, Continue())

    # -- the executor's book --------------------------------------------------------------------------------------------

    def task(self, arn: str) -> TaskState | None:
        """The task as it is now."""
        return self._tasks.get(arn)

    def feed(self, arn: str, event: Event) -> None:
        """One step of the machine: decide, tell, store, then act. A crash before the storing repeats the telling, never loses it."""
        before = self._tasks.get(arn)
        if before is None or self._closed:
            return
        now = self._clock.now()
        after, actions = machine.step(before, event, now)
        self._tasks[arn] = after
        for action in actions:
            if isinstance(action, Tell):
                self._report(action.report)
        self._state.put(KIND_TASK, arn, encode(after))
        self._tell_event(after, event)
        for action in (*actions, *machine.watches(before, after, now)):
            if isinstance(action, Discard):
                self._add_cleanup(after)
            elif not isinstance(action, Tell):
                self._executor.run(arn, action)
        if self.on_health is not None and _health_of(before) != _health_of(after):
            self.on_health(arn)

    def _tell_event(self, task: TaskState, event: Event | None) -> None:
        if self.on_event is not None:
            self.on_event(task, event)

    async def reachable(self) -> None:
        """Return once the runtime was reached and looked through."""
        await self._connected.wait()

    # -- the runtime's events -------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        async for event in self._runtime.events({config.LABEL_INSTALLATION: self._identity.installation}):
            if event.action == CONNECTED:
                await self._reconnected()
            elif event.action == DISCONNECTED:
                self._connected.clear()
            else:
                self._happened(event)
            self._attempted.set()

    async def _reconnected(self) -> None:
        """Look through everything, then let the steps go on.

        A look that fails is made again here, even when the connection broke: one call may fail while the event stream lives on, and
        then nothing else would ask for another look.
        """
        while True:
            try:
                self._executor.cgroups = cgroup.for_runtime(await self._runtime.describe())
                await reconcile(runtime=self._runtime, tasks=self._tasks, identity=self._identity, feed=self.feed)
                break
            except RuntimeFailureError as error:
                _log.warning("the runtime cannot be looked through yet: %s", error)
                self._attempted.set()
                await self._clock.sleep(RECONCILE_RETRY_SECONDS)
        self._connected.set()
        for task in list(self._tasks.values()):
            if task.desired == "STOPPED" and task.known == "NONE" and not task.containers:
                self._begin(self._sweep(task.arn))
            elif task.known != "STOPPED":
                self.feed(task.arn, Continue())

    def _happened(self, event: RuntimeEvent) -> None:
        arn, name = event.labels.get(config.LABEL_TASK, ""), event.labels.get(config.LABEL_CONTAINER, "")
        task = self._tasks.get(arn)
        container = next((item for item in task.containers if item.name == name), None) if task is not None else None
        if container is None or (event.action == "start" and container.step == "LAUNCH"):
            return  # our own start is inspected by the step that made it
        if event.action == "destroy":
            if container.runtime_id == event.container_id:
                self.feed(arn, Gone(name))
        elif event.action in LOOKED_AT:
            self._look(arn, name, event.container_id)

    def _look(self, arn: str, name: str, container_id: str) -> None:
        """Inspect in the background; one inspection of a container at a time, and another when something happened meanwhile."""
        if container_id in self._looks:
            self._looks[container_id] = True
            return
        self._looks[container_id] = False
        self._begin(self._inspect(arn, name, container_id))

    async def _inspect(self, arn: str, name: str, container_id: str) -> None:
        """Inspect until an answer comes: the event that asked for it is told only once."""
        again = True
        try:
            while again:
                self._looks[container_id] = False
                try:
                    self.feed(arn, Seen(name, await self._runtime.inspect(container_id)))
                    again = self._looks[container_id]
                except NoSuchObjectError:
                    self.feed(arn, Gone(name))
                    return
                except RuntimeFailureError as error:
                    _log.warning("container %s of task %s is inspected again: %s", name, arn, error)
                    await self._clock.sleep(INSPECT_RETRY_SECONDS)
                    await self.reachable()
        finally:
            del self._looks[container_id]

    # -- ends -----------------------------------------------------------------------------------------------------------

    async def _sweep(self, arn: str) -> None:
        """A stop for a task that this state does not have: end what an earlier state's agent may have left of it, then tell."""
        await self.reachable()
        try:
            await self._executor.remove_containers(arn, stop_seconds=SWEEP_STOP_SECONDS)
        except RuntimeUnavailableError:
            return  # the look after the reconnection sweeps again
        self.feed(arn, Continue())

    def _add_cleanup(self, task: TaskState) -> None:
        self._cleanups.append(((task.acknowledged_at or 0.0) + self._settings.container_cleanup_seconds, task.arn))
        self._cleanup_added.set()

    async def _clean(self) -> None:
        """Discard each ended task when its time has come: containers first, the record last, so that a crash between loses nothing."""
        while True:
            if not self._cleanups:
                self._cleanup_added.clear()
                await self._cleanup_added.wait()
            due, arn = self._cleanups[0]
            await self._clock.sleep(due - self._clock.now())
            await self.reachable()
            self._cleanups.popleft()
            task = self._tasks.get(arn)
            if task is None:
                continue
            try:
                await self._executor.discard(task)
            except (RuntimeFailureError, cgroup.CgroupError) as error:
                _log.warning("task %s cannot be cleaned up yet: %s", arn, error)
                self._cleanups.append((self._clock.now() + CLEANUP_RETRY_SECONDS, arn))
                continue
            del self._tasks[arn]
            self._state.delete(KIND_TASK, arn)

    # -- small things ---------------------------------------------------------------------------------------------------

    def _agent_id(self, ids: Ids) -> str:
        """This state's own id, made when the state is new."""
        stored = self._state.load(KIND_ENGINE).get("agent")
        if stored is None:
            stored = ids.uuid().encode()
            self._state.put(KIND_ENGINE, "agent", stored)
        return stored.decode()

    def _begin(self, work: object) -> None:
        running: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]  # always one of this class's coroutines
        self._background.add(running)
        running.add_done_callback(self._ended)

    def _ended(self, work: asyncio.Task[None]) -> None:
        self._background.discard(work)
        if not work.cancelled() and work.exception() is not None:
            _log.error("a part of the engine broke", exc_info=work.exception())


def _health_of(task: TaskState) -> tuple[str, ...]:
    return tuple(container.health for container in task.containers)


__all__ = ["Engine", "InvalidTaskError", "State"]
