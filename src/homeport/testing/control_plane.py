"""The control plane of a simulation: every part that `server.py` builds, on a backend that outlives it, and one life after the other.

Owns: `ControlPlane` (start, stop in order, kill), `FaultyBackend` (slow commits, failing commits, crashes before and after them).
Never decides when something fails: `server_faults.py` does. Only the front door's signatures are left out: every caller is the root user.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from homeport.api.call import Context
from homeport.api.ecs.operations import OPERATIONS as ECS_OPERATIONS
from homeport.api.ecs.reports import StateReports
from homeport.api.homeport.operations import OPERATIONS as HOMEPORT_OPERATIONS
from homeport.api.server import Application
from homeport.api.signature import Principal, Verifier
from homeport.config import Settings
from homeport.controllers.instance_provider import InstanceProvider
from homeport.dispatcher.hub import Dispatcher
from homeport.errors import CommitFailedError
from homeport.iam import sigv4
from homeport.ids import Ids
from homeport.model.arn import root_arn
from homeport.model.installation import Installation
from homeport.placement.index import PlacementIndex
from homeport.server import leader_work
from homeport.store.backend import Batch
from homeport.store.journal import verify
from homeport.store.memory import MemoryBackend
from homeport.store.store import Store
from homeport.store.table import Commit
from homeport.store.tables import INSTALLATION, TABLES
from homeport.store.watch import Watch
from homeport.testing.network import SERVER, Link, Network
from homeport.testing.records import ACCOUNT, REGION
from homeport.testing.shifts import UnreliableTargets
from homeport.testing.virtual_loop import Chance, Process, ProcessClock, VirtualLoop

INSTALLATION_ID: Final = "0123456789abcdef"


class BackendFaults:
    """Probabilities per commit, and delays in seconds. Change it while the simulation runs."""

    def __init__(self) -> None:
        self.seconds_min = 0.0002
        self.seconds_max = 0.002
        self.stall = 0.0
        """A commit that takes up to `stall_seconds_max`."""
        self.stall_seconds_max = 3.0
        self.failure = 0.0
        """A commit that fails and leaves nothing."""
        self.full = False
        """While true every commit fails."""
        self.crash_before = 0.0
        """The server dies with the commit under way, which is not there afterwards."""
        self.crash_after = 0.0
        """The server dies with the commit durable, before it learns so."""


class FaultyBackend:
    """One server life's way to the backend. `fenced`: that life is over, and what still unwinds changes nothing."""

    def __init__(self, backend: MemoryBackend, faults: BackendFaults, chance: Chance, crash: Callable[[], None]) -> None:
        """`crash` kills the server at the next turn of the loop."""
        self._backend = backend
        self._faults = faults
        self._chance = chance
        self._crash = crash
        self.fenced = False

    def __getattr__(self, name: str) -> Any:
        """Everything but `commit` is passed on as it is."""
        return getattr(self._backend, name)

    async def commit(self, batch: Batch) -> None:
        """Passed on after its time, unless something happens to it."""
        faults, chance = self._faults, self._chance
        seconds = (
            chance.between(0.1, faults.stall_seconds_max) if chance.happens(faults.stall) else chance.between(faults.seconds_min, faults.seconds_max)
        )
        await asyncio.sleep(seconds)  # noqa: TID251 - virtual time on the simulation's loop
        if faults.full or chance.happens(faults.failure):
            raise CommitFailedError("no space left on device (simulated)")
        if chance.happens(faults.crash_before):
            await self._die()
        if self.fenced:
            await asyncio.get_running_loop().create_future()
        await self._backend.commit(batch)
        if chance.happens(faults.crash_after):
            await self._die()

    async def _die(self) -> None:
        self.fenced = True
        self._crash()
        await asyncio.get_running_loop().create_future()


class OpenDoor(Verifier):
    """A front door that takes every caller for the root user of the account."""

    def __init__(self) -> None:
        # Not the parent's: there are no keys and nothing is checked.
        pass

    def principal(self, request: sigv4.Request, *, service: str = "ecs", is_global: bool = False) -> Principal:
        """The root user."""
        return Principal(ACCOUNT, root_arn(ACCOUNT))

    def verify(
        self, method: str, path: str, query: bytes, headers: Sequence[tuple[bytes, bytes]], origin: tuple[str, bool] = ("", False)
    ) -> tuple[str, str]:
        """The root user."""
        del method, path, query, headers, origin
        return ACCOUNT, root_arn(ACCOUNT)


class _Follower(Watch):
    """A watch whose consumer is called at once, in the store's own step, so that it sees each commit before anybody learns that it is durable."""

    def __init__(self, siblings: set[Watch], seen: Callable[[Sequence[Commit]], None]) -> None:
        super().__init__(siblings)
        self.number = -1  # before every other watch
        self._seen = seen

    def offer(self, commits: Any) -> None:
        """Hand them on."""
        self._seen(commits)


class ControlPlane:
    """The control plane through all its lives. `store`, `context` and so on are those of the life that runs now."""

    def __init__(
        self,
        *,
        loop: VirtualLoop,
        network: Network,
        chance: Chance,
        settings: Settings,
        opened: Callable[[Store, Context], None],
        committed: Callable[[Sequence[Commit]], None],
        crashed: Callable[[], None],
    ) -> None:
        """`opened` is told each new life's store before anything is done with it; `committed` every durable commit in order; `crashed` that
        a commit killed the server."""
        self.backend = MemoryBackend()
        self.faults = BackendFaults()
        self.clock = ProcessClock(loop)
        self.link = Link("server")
        self.process: Process | None = None
        self.lives = 0
        self.store: Store | None = None
        self.context: Context | None = None
        self.instance_providers: dict[str, InstanceProvider] = {}
        """Who makes machines, by capacity provider; they outlive the server."""
        self._network = network
        self._chance = chance
        self._settings = settings
        self._opened = opened
        self._committed = committed
        self._crashed = crashed
        self._way: FaultyBackend | None = None
        self._dispatcher: Dispatcher | None = None
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin a life: load the store, start the parts, open the door."""
        self.lives += 1
        self.process = Process(f"server {self.lives}")
        self._way = FaultyBackend(self.backend, self.faults, self._chance.child(f"backend{self.lives}"), self._crashed)
        started = self.process.spawn(self._start(self.process, self._way, self._chance.ids.child(f"life{self.lives}")))
        with contextlib.suppress(asyncio.CancelledError):
            await started

    async def _start(self, process: Process, way: Any, ids: Ids) -> None:
        placement = PlacementIndex()
        store = await Store.open(way, tables=TABLES, clock=self.clock, derived=(placement,))
        context = Context(
            store=store,
            placement=placement,
            clock=self.clock,
            ids=ids,
            settings=self._settings,
            region=REGION,
            installation_id=INSTALLATION_ID,
            endpoint=f"{SERVER}/",
        )
        self._opened(store, context)
        _Follower(store._watches, self._committed)
        if await store.view(lambda reader: reader.get(INSTALLATION, "installation")) is None:
            made = Installation(id=INSTALLATION_ID, account=ACCOUNT, region=REGION, created_at=self.clock.now())
            await store.update(lambda tx: tx.put(INSTALLATION, made), cause="server start")
        door = OpenDoor()
        dispatcher = Dispatcher(
            store=store, clock=self.clock, ids=ids.child("dispatcher"), settings=self._settings, region=REGION, verify=door.verify
        )
        application = Application(
            context,
            {"ecs": ECS_OPERATIONS, "homeport": HOMEPORT_OPERATIONS},
            verifier=door,
            websockets={"/acs/ws": dispatcher.acs, "/tcs/ws": dispatcher.tcs},
        )
        dispatcher.offer_reports(StateReports(context).take)
        await dispatcher.start()
        targets = UnreliableTargets(self._chance.child(f"hooks{self.lives}"), self.clock)
        work = leader_work(context, None, caller=targets, providers=self.instance_providers)
        self._running = [asyncio.get_running_loop().create_task(part) for part in work]
        self.store, self.context = store, context
        self._dispatcher = dispatcher
        self._network.attach(SERVER, process, application, link=self.link)

    @property
    def up(self) -> bool:
        """Whether a life runs and is ready."""
        return self.process is not None and not self.process.dead and self.store is not None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the API is."""
        return (SERVER,)

    @property
    def troubled(self) -> bool:
        """Whether something holds up commits just now."""
        return not self.up or self.faults.full or self.faults.failure > 0.0

    def now(self) -> float:
        """The server's wall clock."""
        return self.clock.now()

    def situation(self) -> tuple[Any, ...]:
        """What begins anew whatever the scheduler was waiting for, when it changes."""
        return self.lives, self.up, self.clock.offset

    def copies(self) -> Iterator[tuple[Store, PlacementIndex]]:
        """The store with its placement index."""
        if self.store is not None and self.context is not None:
            yield self.store, self.context.placement

    def idlers(self) -> Iterator[str]:
        """A server that is alone leads."""
        yield from ()

    def apart(self) -> Iterator[str]:
        """There is one copy, which `Invariants.opened` compares."""
        yield from ()

    async def journal_problem(self) -> str:
        """What is wrong with the journal's chain; "" when nothing."""
        return (await verify(self.backend)).problem

    async def stop(self) -> None:
        """End this life in order, as on SIGTERM."""
        process, store, dispatcher, running = self.process, self.store, self._dispatcher, self._running
        if process is None or store is None or dispatcher is None:
            await self.kill()
            return
        self.store = None

        async def end() -> None:
            for part in running:
                part.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await dispatcher.close()
            await store.close()

        with contextlib.suppress(asyncio.CancelledError):
            await process.spawn(end())
        await self.kill()

    async def kill(self) -> None:
        """End this life where it stands."""
        process, way = self.process, self._way
        self.process = self._way = self.store = self._dispatcher = None
        self._running = []
        self._network.detach(SERVER)
        if way is not None:
            way.fenced = True
        if process is not None:
            await process.kill()
        await self.backend.close()
