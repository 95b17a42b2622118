"""Carries out the machine's actions against the runtime, and feeds back what came of each.

Owns: the bounded start pool, the retries of a step whose outcome is unknown, and the words of the container errors.
Never decides what is to be done, and never ends a step without an event for the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from homeport.acs.messages import TaskPayload
from homeport.agent.attachments.cgroup import CgroupError, TaskCgroups
from homeport.agent.attachments.volumes import VolumeKeeper, VolumePlan, plan
from homeport.agent.engine import config
from homeport.agent.engine.task import (
    Action,
    Created,
    Event,
    Gone,
    Launch,
    Launched,
    LaunchFailed,
    Overdue,
    Prepare,
    Prepared,
    PrepareFailed,
    Pull,
    Pulled,
    PullFailed,
    Seen,
    Stop,
    StopEnded,
    TaskState,
    Watch,
)
from homeport.agent.images import Images
from homeport.agent.runtime.contract import (
    NameConflictError,
    NoSuchObjectError,
    PortTakenError,
    PullError,
    ResourceLimits,
    Runtime,
    RuntimeDeadlineError,
    RuntimeFailureError,
    RuntimeUnavailableError,
)
from homeport.agent.settings import AgentSettings
from homeport.clock import Clock

PORT_ATTEMPTS_MAX = 10
PORT_RETRY_SECONDS = 0.1
FIXED_PORT_ATTEMPTS_MAX = 5
"""A fixed port may be held for a moment by the task before this one; after that the error is the user's."""
NAME_ATTEMPTS_MAX = 50
NAME_RETRY_SECONDS = 0.1
"""A name that conflicts but cannot be inspected is being made by a call of this agent's earlier life."""
STOP_RETRY_SECONDS = 1.0
DEADLINE_ATTEMPTS_MAX = 3

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Book(Protocol):
    """What the executor sees of the engine."""

    def task(self, arn: str) -> TaskState | None:
        """The task as it is now; None once it is forgotten."""
        ...

    def feed(self, arn: str, event: Event) -> None:
        """Tell the machine what happened."""
        ...

    async def reachable(self) -> None:
        """Return once the runtime can be reached."""
        ...


class Executor:
    """One per engine. `run` begins an action and returns at once."""

    def __init__(self, *, book: Book, runtime: Runtime, images: Images, clock: Clock, settings: AgentSettings, identity: config.Identity) -> None:
        self._book = book
        self._runtime = runtime
        self._images = images
        self._clock = clock
        self._settings = settings
        self._identity = identity
        self._volumes = VolumeKeeper(runtime)
        self._starts = asyncio.Semaphore(settings.start_pool_max)
        self._work: set[asyncio.Task[None]] = set()
        self._limits: ResourceLimits | None = None
        self.cgroups: TaskCgroups | None = None
        """Set by the engine once the runtime has described itself."""

    def run(self, arn: str, action: Action) -> None:
        """Begin `action` for the task `arn`."""
        match action:
            case Prepare():
                self._begin(self._prepare(arn))
            case Pull(name=name):
                self._begin(self._pull(arn, name))
            case Launch(name=name):
                self._begin(self._launch(arn, name))
            case Stop(name=name):
                self._begin(self._stop(arn, name))
            case Watch(name=name, seconds=seconds):
                self._begin(self._watch(arn, name, seconds))
            case _:
                raise TypeError(f"the executor does not know {action!r}")

    async def close(self) -> None:
        """Give up every step; what was begun is found again at the next start."""
        for work in self._work:
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    def _begin(self, work: Any) -> None:
        running = asyncio.create_task(work)
        self._work.add(running)
        running.add_done_callback(self._ended)

    def _ended(self, work: asyncio.Task[None]) -> None:
        self._work.discard(work)
        if not work.cancelled() and work.exception() is not None:
            _log.error("a step of the engine broke", exc_info=work.exception())

    # -- before the containers ------------------------------------------------------------------------------------------

    def volumes_of(self, task: TaskState) -> VolumePlan:
        """The task's volumes, by name."""
        return plan(task.payload, config.labels(task.payload, "", self._identity))

    async def _prepare(self, arn: str) -> None:
        task = self._book.task(arn)
        if task is None:
            return
        try:
            if has_limits(task):
                await self._book.reachable()
                assert self.cgroups is not None  # set before the runtime counts as reachable
                await self.cgroups.create(task.id, cpu=task.payload.cpu, memory_mib=task.payload.memory)
            await self._persistently(lambda: self._volumes.prepare(self.volumes_of(task)))
        except (RuntimeFailureError, CgroupError) as error:
            self._book.feed(arn, PrepareFailed(f"ResourceInitializationError: {error}"))
        else:
            self._book.feed(arn, Prepared())

    async def _pull(self, arn: str, name: str) -> None:
        task = self._book.task(arn)
        if task is None:
            return
        started = self._clock.now()
        image = task.definition(name).image
        try:
            found = await self._persistently(lambda: self._images.ensure(image))
        except PullError as error:
            reason = f"CannotPullContainerError: pull image {image}: {error}"
        except RuntimeDeadlineError as error:
            reason = f"DockerTimeoutError: {error}"
        except RuntimeFailureError as error:
            reason = f"CannotPullContainerError: {error}"
        else:
            self._book.feed(arn, Pulled(name, found.image.digest, found.fresh, started, self._clock.now()))
            return
        self._book.feed(arn, PullFailed(name, reason, started, self._clock.now()))

    async def _watch(self, arn: str, name: str, seconds: float) -> None:
        await self._clock.sleep(seconds)
        if self._book.task(arn) is not None:
            self._book.feed(arn, Overdue(name))

    # -- create and start -----------------------------------------------------------------------------------------------

    async def _launch(self, arn: str, name: str) -> None:
        """Create (unless that is done) and start, in one place of the pool; the inspection that follows needs no place."""
        async with self._starts:
            event = await self._launch_in_pool(arn, name)
        if event is None:
            event = await self._look_after_start(arn, name)
        self._book.feed(arn, event)

    async def _launch_in_pool(self, arn: str, name: str) -> Event | None:
        """None when the container was started."""
        verb = "Create"
        try:
            task = self._book.task(arn)
            if task is None or task.desired == "STOPPED":
                return LaunchFailed(name, "")
            runtime_id = task.container(name).runtime_id or await self._create_persistently(task, name)
            self._book.feed(arn, Created(name, runtime_id))
            task = self._book.task(arn)
            if task is None or task.desired == "STOPPED":
                return LaunchFailed(name, "")
            verb = "Start"
            await self._start_persistently(task, name, runtime_id)
        except RuntimeDeadlineError as error:
            return LaunchFailed(name, f"DockerTimeoutError: {error}")
        except (RuntimeFailureError, config.InvalidTaskError) as error:
            return LaunchFailed(name, f"Cannot{verb}ContainerError: {error}")
        return None

    async def _create_persistently(self, task: TaskState, name: str) -> str:
        return await self._persistently(lambda: self._create(task, name))

    async def _create(self, task: TaskState, name: str) -> str:
        """Create the container, or find the one that an earlier life of this agent created."""
        made = config.create_plan(
            task.payload,
            name,
            identity=self._identity,
            volumes=self.volumes_of(task),
            limits=self._hard_limits(),
            cgroup_parent=self.cgroups.parent(task.id) if self.cgroups is not None and has_limits(task) else "",
            dynamic_ports=self._settings.dynamic_host_port_range,
        )
        for note in made.notes:
            _log.warning("task %s, container %s: %s", task.arn, name, note)
        for _ in range(NAME_ATTEMPTS_MAX):
            try:
                return await self._runtime.create(made.name, made.document)
            except NameConflictError as conflict:
                with contextlib.suppress(NoSuchObjectError):
                    found = await self._runtime.inspect(made.name)
                    wanted = made.document["Labels"]
                    if any(found.labels.get(key) != wanted[key] for key in (config.LABEL_TASK, config.LABEL_INSTALLATION)):
                        raise RuntimeFailureError(str(conflict)) from conflict
                    return found.id
            await self._clock.sleep(NAME_RETRY_SECONDS)
        raise RuntimeDeadlineError(f"the name {made.name} stays taken, but no container has it")

    async def _start_persistently(self, task: TaskState, name: str, runtime_id: str) -> None:
        """Start once: when the outcome of a start is unknown, look before the next one, since the container may have run and ended."""
        tried = False
        ended = task.container(name).ended_at

        async def start() -> None:
            nonlocal tried
            if tried:
                started = (await self._runtime.inspect(runtime_id)).started_at
                if started is not None and started > ended:
                    return
            tried = True
            await self._start(task, name, runtime_id)

        await self._persistently(start)

    async def _start(self, task: TaskState, name: str, runtime_id: str) -> None:
        """Start; a port that is taken is tried again: Docker then takes the next free one."""
        dynamic = config.has_dynamic_ports_only(task.definition(name))
        attempts = PORT_ATTEMPTS_MAX if dynamic else FIXED_PORT_ATTEMPTS_MAX
        for attempt in range(1, attempts + 1):
            try:
                return await self._runtime.start(runtime_id)
            except PortTakenError:
                if attempt == attempts:
                    raise
                await self._clock.sleep(PORT_RETRY_SECONDS * (1 if dynamic else attempt))
        return None

    async def _look_after_start(self, arn: str, name: str) -> Event:
        task = self._book.task(arn)
        runtime_id = task.container(name).runtime_id if task is not None else None
        if runtime_id is None:
            return LaunchFailed(name, "")
        try:
            return Launched(name, await self._persistently(lambda: self._runtime.inspect(runtime_id)))
        except NoSuchObjectError:
            return Gone(name)
        except RuntimeFailureError as error:
            return LaunchFailed(name, f"CannotInspectContainerError: {error}")

    def _hard_limits(self) -> ResourceLimits:
        if self._limits is None:
            self._limits = self._runtime.limits()
        return self._limits

    # -- stop -----------------------------------------------------------------------------------------------------------

    async def _stop(self, arn: str, name: str) -> None:
        """Stop until it is stopped: a stop that fails is tried again, since saying STOPPED of a running container would be a lie."""
        while True:
            task = self._book.task(arn)
            runtime_id = task.container(name).runtime_id if task is not None else None
            if task is None or runtime_id is None:
                return
            seconds = task.definition(name).stopTimeout or round(self._settings.container_stop_timeout_seconds)
            try:
                await self._runtime.stop(runtime_id, seconds)
                self._book.feed(arn, Seen(name, await self._runtime.inspect(runtime_id)))
                break
            except NoSuchObjectError:
                self._book.feed(arn, Gone(name))
                break
            except RuntimeUnavailableError:
                await self._book.reachable()
            except RuntimeFailureError as error:
                _log.warning("task %s, container %s cannot be stopped: %s", arn, name, error)
            await self._clock.sleep(STOP_RETRY_SECONDS)
        if self._book.task(arn) is not None:
            self._book.feed(arn, StopEnded(name))

    # -- after the task -------------------------------------------------------------------------------------------------

    async def discard(self, task: TaskState) -> None:
        """Remove the task's containers, volumes and cgroup. Raises RuntimeUnavailableError."""
        await self.remove_containers(task.arn)
        for reason in await self._volumes.discard(self.volumes_of(task)) if task.payload.containers else ():
            _log.warning("task %s: %s", task.arn, reason)
        if self.cgroups is not None and has_limits(task):
            await self.cgroups.remove(task.id)

    async def remove_containers(self, arn: str, *, stop_seconds: int | None = None) -> None:
        """Remove every container of ours that carries the task's label; stop it first when `stop_seconds` is given."""
        mine = {config.LABEL_INSTALLATION: self._identity.installation, config.LABEL_TASK: arn}
        for listing in await self._runtime.list_containers(mine):
            if stop_seconds is not None and listing.status == "running":
                with contextlib.suppress(NoSuchObjectError):
                    await self._runtime.stop(listing.id, stop_seconds)
            await self._runtime.remove(listing.id)

    # -- outcome unknown ------------------------------------------------------------------------------------------------

    async def _persistently(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call's result; a call that the runtime was not there for, or was too slow for, is made again: each is safe twice."""
        deadlines = 0
        while True:
            await self._book.reachable()
            try:
                return await call()
            except RuntimeUnavailableError as error:
                _log.warning("a call to the runtime is made again: %s", error)
                await self._clock.sleep(PORT_RETRY_SECONDS)
            except RuntimeDeadlineError:
                deadlines += 1
                if deadlines == DEADLINE_ATTEMPTS_MAX:
                    raise


def has_limits(task: TaskState) -> bool:
    """Whether the task needs a control group of its own."""
    return bool(task.payload.cpu or task.payload.memory)


def needs_preparation(payload: TaskPayload) -> bool:
    """Whether anything must be made before the task's containers."""
    bare = all(volume.type != "docker" and volume.host is not None and volume.host.sourcePath for volume in payload.volumes)
    return bool(payload.cpu or payload.memory) or not bare
