"""One simulated installation: control plane, hosts, network, users and trouble on one virtual clock and one seed.

Owns: `World`, `Options`, `Outcome`, `simulate`, and the trace. Never decides what is right (`invariants.py` and `settled.py` do).
The same seed and options give the same trace, line by line, provided that PYTHONHASHSEED is the same (`simulation.py` sees to that).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import hashlib
import logging
import traceback
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final

import msgspec

from homeport.api.call import Context
from homeport.config import Settings
from homeport.errors import CommitFailedError, HomeportError, StoreClosedError
from homeport.ids import Ids
from homeport.model.ecs.task import Task
from homeport.store.store import Store
from homeport.store.table import Commit
from homeport.testing.control_plane import ControlPlane
from homeport.testing.faults import Trouble
from homeport.testing.hosts import Host, host_settings
from homeport.testing.invariants import Invariants
from homeport.testing.network import Network, NetworkFaults
from homeport.testing.pool import NAME as POOL
from homeport.testing.pool import HostPool, PoolUsers
from homeport.testing.replicated import COUNT, Server, Servers, Site
from homeport.testing.server_faults import LoneServer, SeveralServers
from homeport.testing.settled import Patience, steps_taken, unsettled
from homeport.testing.virtual_loop import Chance, LivelockError, NothingLeftToDoError, ProcessClock, VirtualLoop, current_process
from homeport.testing.workload import CLUSTER, Workload

SEVERAL_EVERY: Final = 16
"""Every which seed has several servers."""
TRACE_LINES: Final = 60
"""Lines of the trace that a failure shows."""
ZONES: Final = ("us-east-1a", "us-east-1b", "us-east-1c")
LOOK_SECONDS: Final = 5.0
"""Between two looks at what need not hold after every commit."""
INDEX_LOOKS: Final = 12
"""Every how many looks the tables' indexes are rebuilt and compared."""
POOL_EVERY: Final = 3
"""Every which seed, beginning with the first, has a capacity provider with managed scaling."""
POOL_HOSTS: Final = 5
IDLE_LOOKS: Final = 3
"""How many looks one after another a server may do a leader's work without leading, or lead without doing it."""
STUCK_SECONDS: Final = 900.0
"""Virtual time in which everything must be where it is wanted when faults and users have stopped; each step of a deployment begins it anew."""
SETTLE_SECONDS_MAX: Final = 4500.0
"""The same in all, however many steps are taken: a linear deployment or a daemon with small batches takes most of an hour."""
END_ROUNDS_MAX: Final = 20
"""Rounds of cancellation at the end of a run."""
SETTINGS: Final = Settings(
    stopped_task_retention_seconds=180.0,
    inactive_service_retention_seconds=120.0,
    inactive_instance_retention_seconds=150.0,
    deployment_retention_seconds=200.0,
    managed_scaling_seconds=5.0,
    managed_draining_seconds_max=200.0,
)
"""The product's defaults, but for retention and managed scaling, which would never come in ten minutes."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The size of a simulation."""

    minutes: float = 10.0
    """Virtual minutes with users and faults; settling comes on top."""
    agents: int = 30
    services: int = 6
    faults: tuple[str, ...] | None = None
    """Kinds of faults; None: as the seed chooses."""
    pool: int | None = None
    """Hosts of a capacity provider with managed scaling; 0: there is none; None: as the seed has it, in every third."""
    servers: int | None = None
    """1, or several on a simulated etcd; None: as the seed has it, several in every sixteenth."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one seed."""

    seed: int
    violation: str
    """"" when everything held."""
    digest: str
    """Hash of the whole trace."""
    tail: tuple[str, ...]
    """The trace's last lines."""
    commits: int
    tasks: int
    calls: int
    lives: int
    leaderships: int
    """How many times a server began to lead; 0 for one that is alone."""
    acknowledged: int
    settled_after: float
    """Virtual seconds from the end of the faults until everything was where it was wanted."""
    kinds: tuple[str, ...]
    """The faults of this seed."""


class World:
    """See the module. Made and run inside its own loop by `simulate`."""

    def __init__(self, seed: int, options: Options, loop: VirtualLoop) -> None:
        self.seed = seed
        self.options = options
        self.loop = loop
        self.failed: asyncio.Future[str] = loop.create_future()
        self._digest = hashlib.sha256()
        self._tail: deque[str] = deque(maxlen=TRACE_LINES)
        chance = Chance(Ids(seed))
        self.settings = SETTINGS
        self.invariants = Invariants(settings=self.settings, violated=self.violated)
        self.network = Network(chance=chance.child("network"), faults=NetworkFaults())
        self.plane = self._plane(chance.child("server"))
        self.hosts = [self._host(number, chance) for number in range(options.agents)]
        clock = self.hosts[0].clock
        self.workload = Workload(
            network=self.network,
            chance=chance.child("workload"),
            clock=clock,
            invariants=self.invariants,
            hosts=self.hosts,
            note=self.note,
            services=options.services,
        )
        self._servers = self._server_faults(chance.child("servers"), clock)
        self.trouble = Trouble(
            chance=chance.child("trouble"),
            clock=clock,
            servers=self._servers,
            network=self.network,
            hosts=self.hosts,
            operator=self.workload,
            note=self.note,
            only=options.faults,
        )
        self.patience = Patience(self.plane, self.invariants, self.violated)
        self._idle = Lasting(IDLE_LOOKS)
        self._errands: set[asyncio.Task[Any]] = set()
        self.settled_after = 0.0
        self.pool = HostPool(self._pool_hosts(chance), chance=chance.child("pool"), clock=clock, errand=self._errand)
        self._pool_users = PoolUsers(self.pool, self.workload, chance=chance.child("pool users"), clock=clock, note=self.note)
        if self.has_pool:
            self.plane.instance_providers = {POOL: self.pool}

    @property
    def has_pool(self) -> bool:
        """Whether this run has a capacity provider with managed scaling."""
        return self.seed % POOL_EVERY == 1 if self.options.pool is None else self.options.pool > 0

    def _pool_hosts(self, chance: Chance) -> list[Host]:
        hosts = [self._host(100 + number, chance) for number in range(self.options.pool or POOL_HOSTS)]
        for host in hosts:
            host.settings = msgspec.structs.replace(host.settings, capacity_provider=POOL, cpu=1024, memory_mib=1024)
        return hosts

    @property
    def several(self) -> bool:
        """Whether this run has several servers."""
        return (self.options.servers or (1 if self.seed % SEVERAL_EVERY else COUNT)) > 1

    def _plane(self, chance: Chance) -> ControlPlane | Servers:
        if self.several:
            site = Site(loop=self.loop, network=self.network, settings=self.settings, overseer=self)
            return Servers(site, chance=chance, committed=self._committed)
        return ControlPlane(
            loop=self.loop,
            network=self.network,
            chance=chance,
            settings=self.settings,
            opened=self._opened,
            committed=self._committed,
            crashed=self._crashed,
        )

    def _server_faults(self, chance: Chance, clock: ProcessClock) -> LoneServer | SeveralServers:
        if isinstance(self.plane, Servers):
            return SeveralServers(self.plane, chance=chance, clock=clock, note=self.note)
        return LoneServer(self.plane, chance=chance, clock=clock, note=self.note)

    def _host(self, number: int, chance: Chance) -> Host:
        name = f"host{number:02d}"
        size = chance.child("sizes").number(0, 2) if number == 0 else number % 3
        return Host(
            name,
            loop=self.loop,
            network=self.network,
            chance=chance.child(name),
            settings=host_settings(
                name,
                cluster=CLUSTER,
                zone=ZONES[number % len(ZONES)],
                cpu=(2048, 2048, 4096)[size],
                memory_mib=(2048, 4096, 8192)[size],
                endpoint=",".join(self.plane.addresses),
            ),
            observer=self,
            images=("app:1",),
            pullable={"slow:1": 8.0},
        )

    # -- the trace -------------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """One line of the trace."""
        if not self.failed.done():
            line = f"{self.loop.time():12.6f}  {text}"
            self._digest.update(line.encode())
            self._tail.append(line)

    def violated(self, message: str) -> None:
        """An invariant does not hold: the first ends the simulation."""
        if not self.failed.done():
            self.note(f"VIOLATION: {message}")
            self.failed.set_result(message)

    def _committed(self, commits: Sequence[Commit]) -> None:
        for commit in commits:
            self.note(f"commit {commit.revision} {commit.cause}: {_told(commit)}")
        self.invariants.committed(commits)

    def _opened(self, store: Store, context: Context) -> None:
        self.note(f"a server opens the store at revision {store.revision}")

        def look(reader: Any) -> None:
            self.invariants.opened(reader, store.revision)

        look(_reader_of(store))
        self.invariants.derived(store, context.placement)

    def _crashed(self) -> None:
        self.note("the server crashes at a commit")
        if isinstance(self._servers, LoneServer):
            self._errand(self._servers.recover())

    def server_died(self, server: Server) -> None:
        """One of several servers dies at a commit."""
        self.note(f"{server.name} crashes at a commit")
        if isinstance(self._servers, SeveralServers):
            self._errand(self._servers.recover(server))

    def _errand(self, work: Coroutine[Any, Any, Any]) -> None:
        # In an empty context: whoever causes an errand may be a process that dies of it.
        task = self.loop.create_task(work, context=contextvars.Context())
        self._errands.add(task)
        task.add_done_callback(self._errand_done)

    def _errand_done(self, task: asyncio.Task[Any]) -> None:
        self._errands.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._broke(task.exception())

    def _broke(self, error: BaseException | None) -> None:
        text = "".join(traceback.format_exception(error)) if error is not None else ""
        self.violated(f"the simulation itself broke: {error!r}\n{text}")

    # -- what hosts tell -------------------------------------------------------------------------------------------------

    def container_started(self, host: str, task_arn: str, container: str) -> None:
        """A container's program began to run."""
        self.note(f"{host} runs {container} of {task_arn.rpartition('/')[2]}")
        self.invariants.container_started(host, task_arn, container)

    def agent_ended(self, host: str, error: BaseException) -> None:
        """An agent ended by itself: only a refusal may do that."""
        self.note(f"the agent of {host} ended: {error!r}")
        if not isinstance(error, HomeportError):
            self.violated(f"the agent of {host} ended: {error!r}\n{''.join(traceback.format_exception(error))}")

    def agent_died(self, host: Host) -> None:
        """An agent died at a step of its own."""
        self.note(f"the agent of {host.name} dies at a step")
        for socket in tuple(host.link.sockets):
            socket.snap()
        self._errand(self.trouble.revive(host))

    def logged(self, record: logging.LogRecord) -> None:
        """The program logged an error: only what a fault explains is expected."""
        process = current_process()
        error = record.exc_info[1] if record.exc_info else None
        if (process is not None and process.dead) or isinstance(error, CommitFailedError | StoreClosedError):
            return
        if isinstance(record.args, tuple) and record.args and self.invariants.is_forgotten(str(record.args[0])):
            return  # a jump of the server's clock made it forget the task before its agent could say again that it has ended
        text = "".join(traceback.format_exception(error)) if error is not None else ""
        self.violated(f"an error was logged: {record.getMessage()}\n{text}")

    def loop_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something in the loop failed and nobody looked."""
        error = context.get("exception")
        if isinstance(error, HomeportError):
            return
        text = "".join(traceback.format_exception(error)) if error is not None else ""
        self.violated(f"{context.get('message')}: {error!r}\n{text}")

    # -- the run ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Users and faults for the options' minutes, then an end of both, then a check that everything settles."""
        await self.plane.start()
        for host in self.hosts:
            host.power_on()
        await self.workload.prepare()
        if self.has_pool:
            await self._pool_users.prepare()
        self.note(f"faults of this seed: {' '.join(self.trouble.kinds) or 'none'}")
        people, trouble, looks = (self.loop.create_task(work) for work in (self._people(), self.trouble.run(), self._look()))
        sleeping = self.loop.create_task(asyncio.sleep(self.options.minutes * 60.0))  # noqa: TID251 - virtual time
        await asyncio.wait({people, trouble, looks, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (people, trouble, looks):
            if task.done():
                task.result()
        trouble.cancel()
        people.cancel()
        await asyncio.gather(trouble, people, return_exceptions=True)
        await self.trouble.mend()
        await self._settle()
        looks.cancel()
        await self._last_look()

    async def _people(self) -> None:
        await asyncio.gather(self.workload.run(), *([self._pool_users.run()] if self.has_pool else []))

    async def _look(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(LOOK_SECONDS)  # noqa: TID251 - virtual time
            looks += 1
            self.patience.look(self.loop.time())
            copies = list(self.plane.copies())
            if copies and looks % 2:  # it costs as much as the rest of a look; of several copies one after another
                self.invariants.derived(*copies[looks // 2 % len(copies)], indexes=looks // 2 % INDEX_LOOKS < len(copies))
            for problem in self._idle.still(self.plane.idlers()):
                self.violated(problem)

    async def _settle(self) -> None:
        began = moved = self.loop.time()
        steps: set[tuple[Any, ...]] = set()
        while True:
            await asyncio.sleep(LOOK_SECONDS)  # noqa: TID251 - virtual time
            for arn in self._ghosts():
                await self.workload.deregister(arn)
            hosts = [*self.hosts, *self.pool.machines.values()]
            problems = [*unsettled(self.plane, self.invariants, hosts), *self.pool.problems()] or list(self.plane.apart())
            now = self.loop.time()
            if not problems:
                self.settled_after = now - began
                self.note(f"settled after {self.settled_after:.1f} s")
                return
            taken = steps_taken(self.invariants.records) - steps
            if taken:
                steps |= taken
                moved = now
            if now - moved >= STUCK_SECONDS or now - began >= SETTLE_SECONDS_MAX:
                break
        since = f"{now - began:.0f} s after the last fault and {now - moved:.0f} s after the last step of a deployment"
        self.violated(f"{since} not everything is where it is wanted:\n  " + "\n  ".join(problems[:12]))

    def _ghosts(self) -> list[str]:
        """Instances that no host speaks for: left by hosts that registered anew."""
        living = {host.instance_arn for host in (*self.hosts, *self.pool.machines.values())}
        if "" in living:
            return []  # a host that registers right now does not know its instance yet
        found = []
        for record in self.invariants.records["container_instances"].values():
            arn = f"arn:aws:ecs:us-east-1:{record.account}:container-instance/{record.cluster}/{record.id}"
            if record.status != "INACTIVE" and not record.agent_connected and arn not in living:
                found.append(arn)
        return found

    async def _last_look(self) -> None:
        problem = await self.plane.journal_problem()
        if problem:
            self.violated(f"the journal's chain does not hold: {problem}")
        made: dict[str, int] = {}
        for started_by in self.invariants.made.values():
            made[started_by] = made.get(started_by, 0) + 1
        for marker, count in self.workload.ran.items():
            if made.get(marker, 0) > count:
                self.violated(f"one RunTask of {count} tasks made {made[marker]}")

    def outcome(self, violation: str) -> Outcome:
        """What became of it."""
        return Outcome(
            seed=self.seed,
            violation=violation,
            digest=self._digest.hexdigest()[:16],
            tail=tuple(self._tail),
            commits=self.invariants.checked,
            tasks=len(self.invariants.made),
            calls=self.network.calls,
            lives=self.plane.lives,
            leaderships=self.plane.truth.leaderships if isinstance(self.plane, Servers) else 0,
            acknowledged=self.workload.acknowledged,
            settled_after=self.settled_after,
            kinds=tuple(self.trouble.kinds),
        )


class Lasting:
    """What is said again and again."""

    def __init__(self, times: int) -> None:
        self._times = times
        self._said: dict[str, int] = {}

    def still(self, said: Iterable[str]) -> list[str]:
        """What was said this many times, one after another."""
        self._said = {text: self._said.get(text, 0) + 1 for text in said}
        return [text for text, times in self._said.items() if times >= self._times]


def _reader_of(store: Store) -> Any:
    from homeport.store.transaction import StoreReader

    return StoreReader(store._contents, store.revision)


def _told(commit: Commit) -> str:
    parts = []
    for change in commit.changes:
        name = f"{change.table[:4]}/{change.key.rpartition('/')[2][:12]}"
        after = change.after
        if after is None:
            parts.append(f"{name} deleted")
        elif isinstance(after, Task):
            parts.append(f"{name} {after.desired_status[:4]}/{after.last_status}")
        else:
            parts.append(f"{name} {getattr(after, 'status', '')}".rstrip())
    return ", ".join(parts)


class _Ears(logging.Handler):
    """Hears what the program logs as an error."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.logged(record)


def simulate(seed: int, options: Options | None = None) -> Outcome:
    """Run one seed in a loop of its own and tell what became of it."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # when garbage is collected depends on what ran before, and may run code
    loop = VirtualLoop()
    world = World(seed, options or Options(), loop)
    loop.set_exception_handler(world.loop_error)
    ears = _Ears(world)
    logger = logging.getLogger("homeport")
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(ears)
    try:
        try:
            violation = loop.run_until_complete(_race(world))
        except (LivelockError, NothingLeftToDoError) as error:
            violation = f"{type(error).__name__}: {error}"
            world.note(violation)
        outcome = world.outcome(violation)
        world.violated("the run is over")  # nothing that unwinds counts any more
        loop.wake_all()
        with contextlib.suppress(LivelockError, NothingLeftToDoError):
            loop.run_until_complete(_end_all())
            loop.close()
    finally:
        logger.removeHandler(ears)
        logger.propagate = propagates
        if collecting:
            gc.enable()
    return outcome


async def _end_all() -> None:
    """Cancel whatever is left, so that nothing unwinds in a loop that is closed."""
    for _ in range(END_ROUNDS_MAX):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=1.0)


async def _race(world: World) -> str:
    running = asyncio.get_running_loop().create_task(world.run())
    ends: set[asyncio.Future[Any]] = {running, world.failed}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if running.done() and not running.cancelled() and running.exception() is not None:
        world._broke(running.exception())
    return world.failed.result() if world.failed.done() else ""
