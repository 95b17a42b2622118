"""Three servers of a simulation on one simulated etcd: each with every part that `server.py` builds for one among several, life after life.

Owns: `Server` (start, stop in order, pause, kill), `Servers`. Never decides when something fails: `server_faults.py` does. Left out are the front
door's signatures, and each server's own file of the journal, which needs a disk and a thread (`tests/integration/test_journal_copies.py` has it).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, Protocol

import msgspec

from homeport.api.call import Context
from homeport.api.ecs.operations import OPERATIONS as ECS_OPERATIONS
from homeport.api.ecs.reports import REPORTS_PATH, StateReports
from homeport.api.homeport.operations import OPERATIONS as HOMEPORT_OPERATIONS
from homeport.api.server import Application
from homeport.config import Settings
from homeport.controllers.instance_provider import InstanceProvider
from homeport.controllers.leading import while_leading
from homeport.dispatcher.hub import Dispatcher
from homeport.errors import HomeportError, LeadershipLostError, NotLeaderError
from homeport.iam.sigv4 import Credentials
from homeport.ids import Ids
from homeport.model.installation import Installation
from homeport.placement.index import PlacementIndex
from homeport.server import leader_work
from homeport.servers import Fellowship
from homeport.store.etcd.backend import EtcdBackend, EtcdSettings
from homeport.store.journal import verify
from homeport.store.replica import Replica
from homeport.store.store import Store
from homeport.store.table import Commit
from homeport.store.tables import INSTALLATION, TABLES
from homeport.testing.between_servers import VirtualHttp
from homeport.testing.control_plane import INSTALLATION_ID, OpenDoor
from homeport.testing.copies import CopyWatch
from homeport.testing.etcd_door import MEMBERS, DoorFaults, EtcdDoor
from homeport.testing.etcd_state import EtcdState
from homeport.testing.network import Link, Network
from homeport.testing.records import ACCOUNT, REGION
from homeport.testing.shifts import UnreliableTargets
from homeport.testing.truth import Truth
from homeport.testing.virtual_loop import Chance, Process, ProcessClock, VirtualLoop

COUNT: Final = 3
RESTART_SECONDS: Final = 1.0
"""Before a server that could not start is started again."""
LAST_CALLS_SECONDS: Final = 0.5
"""What a server that stops gives to the calls under way."""
_KEYS: Final = Credentials("AKIA", "simulated", REGION)


class Overseer(Protocol):
    """Who is told what happens to servers."""

    def server_died(self, server: Server) -> None:
        """A server died by itself, at a commit."""
        ...

    def violated(self, message: str) -> None:
        """An invariant does not hold."""
        ...

    def note(self, text: str) -> None:
        """A line of the trace."""
        ...


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What all servers of a simulation share."""

    loop: VirtualLoop
    network: Network
    settings: Settings
    overseer: Overseer


class Server:
    """One server through all its lives. `store`, `context` and so on are those of the life that runs now; None when none serves."""

    def __init__(self, number: int, site: Site, *, etcd: EtcdState, truth: Truth, chance: Chance) -> None:
        self.name = f"server{number}"
        self.address = f"http://{self.name}:8470"
        self.link = Link(self.name)
        self.clock = ProcessClock(site.loop)
        self.faults = DoorFaults()
        self.lives = 0
        self.process: Process | None = None
        self.door: EtcdDoor | None = None
        self.store: Replica | None = None
        self.context: Context | None = None
        self.instance_providers: dict[str, InstanceProvider] = {}
        self.leaderships = 0
        """How often it began to lead."""
        self.at_work = 0
        """How many times the work of a leader runs here."""
        self._loop = site.loop
        self._network = site.network
        self._etcd = etcd
        self._truth = truth
        self._chance = chance
        self._settings = site.settings
        self._overseer = site.overseer
        self._end: Callable[[], Coroutine[Any, Any, None]] | None = None

    @property
    def up(self) -> bool:
        """Whether a life runs and serves."""
        return self.process is not None and not self.process.dead and self.store is not None

    @property
    def paused(self) -> bool:
        """Whether the process stands still."""
        return self.process is not None and self.process.paused

    @property
    def life(self) -> str:
        """Name of the life that runs now, as etcd's truth has it."""
        return self.door.name if self.door is not None else ""

    @property
    def leads(self) -> bool:
        """Whether it believes that it leads."""
        return self.store is not None and self.store.role.leading

    # -- life ------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin a life, and another one as long as it ends before it serves."""
        while True:
            self.lives += 1
            process = self.process = Process(f"{self.name} {self.lives}")
            chance = self._chance.child(f"life{self.lives}")
            door = self.door = EtcdDoor(self._etcd, process.name, faults=self.faults, chance=chance.child("door"), crash=self._died)
            started = process.spawn(self._start(process, door, chance.ids))
            try:
                await started
                return
            except asyncio.CancelledError:
                if not process.dead:
                    raise
                return
            except HomeportError as error:
                self._overseer.note(f"{self.name} cannot start: {error}")
            await self.kill()
            await self.clock.sleep(RESTART_SECONDS)

    def _died(self) -> None:
        self._overseer.server_died(self)

    async def _start(self, process: Process, door: EtcdDoor, ids: Ids) -> None:
        placement = PlacementIndex()
        backend = EtcdBackend(door.members, clock=self.clock, settings=EtcdSettings(name=self.name, address=self.address))
        store = await Replica.join(backend, tables=TABLES, clock=self.clock, derived=(placement,))
        CopyWatch(store, self._truth, name=process.name, violated=self._overseer.violated)
        await self._found(store)
        context = Context(
            store=store,
            placement=placement,
            clock=self.clock,
            ids=ids,
            settings=self._settings,
            region=REGION,
            installation_id=INSTALLATION_ID,
            endpoint=f"{self.address}/",
            management=ACCOUNT,
        )
        fellowship = Fellowship(store, backend, keys=_KEYS, own_etcd=False, http=self._http())
        dispatcher = self._dispatcher(context, fellowship)
        await dispatcher.start()
        fellowship.start()
        leading = asyncio.create_task(while_leading(fellowship.leading(), lambda: self._leaders_work(context, fellowship)))

        async def end() -> None:
            await fellowship.resign()
            self._network.refuse(self.address)
            await self.clock.sleep(LAST_CALLS_SECONDS)
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)
            await dispatcher.close()
            await fellowship.close()
            await store.close()

        self._end = end
        self.store, self.context = store, context
        self._network.attach(self.address, process, self._application(context, fellowship, dispatcher), link=self.link)

    async def _found(self, store: Store) -> None:
        """Whoever leads first makes the installation; the others wait for it."""
        while await store.view(lambda reader: reader.get(INSTALLATION, "installation")) is None:
            made = Installation(id=INSTALLATION_ID, account=ACCOUNT, region=REGION, created_at=self.clock.now())
            try:
                await store.update(lambda tx, made=made: tx.put(INSTALLATION, made), cause="server start")  # type: ignore[misc]
            except (NotLeaderError, LeadershipLostError):
                await self.clock.sleep(0.1)

    def _http(self) -> Any:
        return VirtualHttp(self._network, self.link)  # as much of a ClientSession as is used

    def _dispatcher(self, context: Context, fellowship: Fellowship) -> Dispatcher:
        dispatcher = Dispatcher(
            store=context.store,
            clock=self.clock,
            ids=context.ids.child("dispatcher"),
            settings=self._settings,
            region=REGION,
            verify=OpenDoor().verify,
            server=self.name,
            commit=fellowship.commit,
        )
        reports = StateReports(context, on_leader=fellowship.on_leader)
        fellowship.internal[REPORTS_PATH] = reports.carry_out
        dispatcher.offer_reports(reports.take)
        return dispatcher

    @staticmethod
    def _application(context: Context, fellowship: Fellowship, dispatcher: Dispatcher) -> Application:
        return Application(
            context,
            {"ecs": ECS_OPERATIONS, "homeport": HOMEPORT_OPERATIONS},
            verifier=OpenDoor(),
            websockets={"/acs/ws": dispatcher.acs, "/tcs/ws": dispatcher.tcs},
            elsewhere=fellowship.forwarder,
            internal=fellowship.internal,
            health=fellowship.health,
        )

    def _leaders_work(self, context: Context, fellowship: Fellowship) -> list[Coroutine[Any, Any, None]]:
        async def counted(work: Coroutine[Any, Any, None]) -> None:
            self.at_work += 1
            try:
                await work
            finally:
                self.at_work -= 1

        self.leaderships += 1  # a seeded child says the same again each time
        own = dataclasses.replace(context, ids=context.ids.child(f"leadership{self.leaderships}"))
        targets = UnreliableTargets(Chance(own.ids.child("hooks")), self.clock)
        controllers, *others = leader_work(own, fellowship, caller=targets, providers=self.instance_providers)
        return [counted(controllers), *others]

    async def stop(self) -> None:
        """End this life in order, as on SIGTERM: resign, let the last calls end, close."""
        process, end = self.process, self._end
        if process is not None and end is not None and not process.dead:
            ending = process.spawn(end())
            try:
                await ending
            except asyncio.CancelledError:
                if not process.dead:
                    raise
        await self.kill()

    async def kill(self) -> None:
        """End this life where it stands."""
        process, door = self.process, self.door
        self.process = self.door = self.store = self.context = self._end = None
        self._network.detach(self.address)
        if door is not None:
            door.fenced = True
            door.break_streams()
        if process is not None:
            self._loop.wake(process)
            await process.kill()
        self.at_work = 0

    def pause(self) -> None:
        """SIGSTOP."""
        if self.process is not None:
            self._loop.pause(self.process)

    def wake(self) -> None:
        """SIGCONT."""
        if self.process is not None:
            self._loop.wake(self.process)


class Servers:
    """The servers of one installation, and their etcd."""

    def __init__(self, site: Site, *, chance: Chance, committed: Callable[[Sequence[Commit]], None], count: int = COUNT) -> None:
        """`committed` is told every commit in order when etcd has it, before any server learns so."""
        layout = EtcdBackend(("nowhere:1",)).layout
        self.truth = Truth(layout, committed=committed, violated=site.overseer.violated, note=site.overseer.note)
        self.etcd = EtcdState(site.loop, self.truth.applied)
        self._chance = chance
        self.servers = [
            Server(number, site, etcd=self.etcd, truth=self.truth, chance=chance.child(f"server{number}")) for number in range(1, count + 1)
        ]

    @property
    def instance_providers(self) -> dict[str, InstanceProvider]:
        """By name; set it before `start`."""
        return self.servers[0].instance_providers

    @instance_providers.setter
    def instance_providers(self, providers: dict[str, InstanceProvider]) -> None:
        """For every server."""
        for server in self.servers:
            server.instance_providers = providers

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the servers' APIs are."""
        return tuple(server.address for server in self.servers)

    @property
    def members(self) -> tuple[str, ...]:
        """The addresses of etcd's members."""
        return MEMBERS

    @property
    def leader(self) -> Server | None:
        """The server that leads and knows it; None while there is none."""
        return next((server for server in self.servers if server.up and server.leads and server.life == self.truth.leader), None)

    @property
    def up(self) -> bool:
        """Whether a server leads."""
        return self.leader is not None

    @property
    def context(self) -> Context | None:
        """The leader's."""
        leader = self.leader
        return leader.context if leader is not None else None

    @property
    def lives(self) -> int:
        """Lives of servers so far."""
        return sum(server.lives for server in self.servers)

    @property
    def troubled(self) -> bool:
        """Whether something holds up the leader's commits just now."""
        leader = self.leader
        return leader is None or leader.paused or leader.link.cut or leader.faults.trouble

    def now(self) -> float:
        """The leader's wall clock."""
        leader = self.leader
        return (leader or self.servers[0]).clock.now()

    def situation(self) -> tuple[Any, ...]:
        """What begins anew whatever the scheduler was waiting for, when it changes."""
        return self.truth.leaderships, self.lives, self.up, tuple(server.clock.offset for server in self.servers)

    def copies(self) -> Iterator[tuple[Store, PlacementIndex]]:
        """Each server's store with its placement index."""
        for server in self.servers:
            if server.up and server.store is not None and server.context is not None:
                yield server.store, server.context.placement

    async def start(self) -> None:
        """Start every server that does not run."""
        await asyncio.gather(*(server.start() for server in self.servers if not server.up))

    async def journal_problem(self) -> str:
        """What is wrong with the journal's chain; "" when nothing."""
        door = EtcdDoor(self.etcd, "verify", faults=DoorFaults(), chance=self._chance.child("verify"), crash=lambda: None)
        return (await verify(EtcdBackend(door.members, clock=self.servers[0].clock))).problem

    def idlers(self) -> Iterator[str]:
        """Servers that run a leader's work and do not lead, or lead and do not run it, in words."""
        for server in self.servers:
            if server.up and not server.paused and server.at_work != int(server.leads):
                yield f"{server.name}, which {'leads' if server.leads else 'does not lead'}, runs the leader's work {server.at_work} times"

    def apart(self) -> Iterator[str]:
        """What differs between the servers' copies and what etcd has, in words."""
        yield from self.truth.apart_from(self.etcd)
        for server in self.servers:
            if server.store is None:
                yield f"{server.name} is down"
            else:
                yield from self.truth.differences(server.name, server.store)
