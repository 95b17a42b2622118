"""What goes wrong with servers in a simulation: with one that is alone and its disk, or with several and their etcd.

Owns: `LoneServer` and `SeveralServers`, each with its kinds of faults. Never decides how often (`faults.py` does), never checks anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from homeport.testing.control_plane import ControlPlane
from homeport.testing.replicated import Server, Servers
from homeport.testing.virtual_loop import Chance, ProcessClock

Kinds = dict[str, tuple[float, Callable[[Chance], Awaitable[None]]]]
"""Name → (mean seconds between two, what happens)."""


ELECTION_SECONDS_MAX: Final = 2.5
"""How long etcd may be without a leader of its own; less than a leader's lease, so that none ends meanwhile."""


class ServerFaults(Protocol):
    """The faults of an installation's servers."""

    @property
    def kinds(self) -> Kinds:
        """What may happen."""
        ...

    def a_clock(self, chance: Chance) -> ProcessClock:
        """The clock of a server."""
        ...

    async def mend(self) -> None:
        """Nothing is wrong from now on."""
        ...


class LoneServer:
    """A server that is alone, on a disk."""

    KINDS: Final = ("server-crash", "server-restart", "disk-full", "store-errors", "server-crash-at-commit")

    def __init__(self, plane: ControlPlane, *, chance: Chance, clock: ProcessClock, note: Callable[[str], None]) -> None:
        self._plane = plane
        self._chance = chance
        self._clock = clock
        self._note = note
        self._server = asyncio.Lock()

    @property
    def kinds(self) -> Kinds:
        """See `ServerFaults`."""
        return {
            "server-crash": (35.0, self._crash),
            "server-restart": (60.0, self._restart),
            "disk-full": (80.0, self._disk_full),
            "store-errors": (60.0, self._store_errors),
            "server-crash-at-commit": (60.0, self._crash_at_commit),
        }

    def a_clock(self, chance: Chance) -> ProcessClock:
        """See `ServerFaults`."""
        del chance
        return self._plane.clock

    async def mend(self) -> None:
        """See `ServerFaults`."""
        faults = self._plane.faults
        faults.full = False
        faults.stall = faults.failure = faults.crash_before = faults.crash_after = 0.0
        async with self._server:
            if not self._plane.up:
                await self._plane.kill()
                await self._plane.start()

    async def _crash(self, chance: Chance) -> None:
        async with self._server:
            self._note("the server crashes")
            await self._plane.kill()
            await self._clock.sleep(chance.between(0.0, 6.0))
            await self._plane.start()
            self._note("the server is back")

    async def recover(self) -> None:
        """The server died by itself, at a commit: bring it back."""
        await self._plane.kill()
        async with self._server:
            if not self._plane.up:
                await self._clock.sleep(self._chance.between(0.0, 3.0))
                await self._plane.start()
                self._note("the server is back")

    async def _restart(self, chance: Chance) -> None:
        async with self._server:
            self._note("the server restarts")
            await self._plane.stop()
            await self._clock.sleep(chance.between(0.0, 2.0))
            await self._plane.start()
            self._note("the server is back")

    async def _disk_full(self, chance: Chance) -> None:
        self._note("the disk is full")
        self._plane.faults.full = True
        await self._clock.sleep(chance.between(0.5, 8.0))
        self._plane.faults.full = False
        self._note("the disk has room again")

    async def _store_errors(self, chance: Chance) -> None:
        faults = self._plane.faults
        faults.failure, faults.stall = chance.between(0.0, 0.05), chance.between(0.0, 0.05)
        await self._clock.sleep(chance.between(5.0, 30.0))
        faults.failure = faults.stall = 0.0

    async def _crash_at_commit(self, chance: Chance) -> None:
        faults = self._plane.faults
        if chance.happens(0.5):
            faults.crash_before = 0.1
        else:
            faults.crash_after = 0.1
        await self._clock.sleep(chance.between(1.0, 10.0))
        faults.crash_before = faults.crash_after = 0.0


class SeveralServers:
    """Several servers on etcd."""

    KINDS: Final = (
        "server-crash",
        "server-restart",
        "server-crash-at-commit",
        "server-pause",
        "server-cut",
        "etcd-cut",
        "etcd-errors",
        "etcd-member-silent",
        "etcd-full",
        "watch-lag",
        "watch-break",
        "compaction",
        "etcd-election",
    )

    def __init__(self, servers: Servers, *, chance: Chance, clock: ProcessClock, note: Callable[[str], None]) -> None:
        self._servers = servers
        self._chance = chance
        self._clock = clock
        self._note = note
        self._locks = {server.name: asyncio.Lock() for server in servers.servers}

    @property
    def kinds(self) -> Kinds:
        """See `ServerFaults`."""
        return {
            "server-crash": (60.0, self._crash),
            "server-restart": (90.0, self._restart),
            "server-crash-at-commit": (60.0, self._crash_at_commit),
            "server-pause": (70.0, self._pause),
            "server-cut": (120.0, self._cut),
            "etcd-cut": (80.0, self._cut_from_etcd),
            "etcd-errors": (70.0, self._errors),
            "etcd-member-silent": (80.0, self._silent_member),
            "etcd-full": (120.0, self._full),
            "watch-lag": (60.0, self._lag),
            "watch-break": (40.0, self._break),
            "compaction": (70.0, self._compact),
            "etcd-election": (60.0, self._elect),
        }

    def a_clock(self, chance: Chance) -> ProcessClock:
        """See `ServerFaults`."""
        return chance.pick(self._servers.servers).clock

    async def mend(self) -> None:
        """See `ServerFaults`."""
        for server in self._servers.servers:
            server.faults.calm()
            server.link.cut = False
            server.wake()
        await asyncio.gather(*(self._bring_back(server) for server in self._servers.servers))

    async def _bring_back(self, server: Server) -> None:
        async with self._locks[server.name]:
            if not server.up:
                await server.kill()
                await server.start()

    def _one(self, chance: Chance, *, leader: float = 0.5) -> Server:
        """The leader with that probability, else any server."""
        leads = self._servers.leader
        return leads if leads is not None and chance.happens(leader) else chance.pick(self._servers.servers)

    # -- processes -------------------------------------------------------------------------------------------------------

    async def _crash(self, chance: Chance) -> None:
        server = self._one(chance)
        async with self._locks[server.name]:
            self._note(f"{server.name} crashes")
            await server.kill()
            await self._clock.sleep(chance.between(0.0, 10.0))
            await server.start()
            self._note(f"{server.name} is back")

    async def recover(self, server: Server) -> None:
        """A server died by itself, at a commit: bring it back."""
        await server.kill()
        async with self._locks[server.name]:
            if not server.up:
                await self._clock.sleep(self._chance.between(0.0, 3.0))
                await server.start()
                self._note(f"{server.name} is back")

    async def _restart(self, chance: Chance) -> None:
        server = self._one(chance)
        async with self._locks[server.name]:
            self._note(f"{server.name} restarts")
            await server.stop()
            await self._clock.sleep(chance.between(0.0, 2.0))
            await server.start()
            self._note(f"{server.name} is back")

    async def _crash_at_commit(self, chance: Chance) -> None:
        server, before = self._one(chance, leader=0.7), chance.happens(0.5)
        server.faults.crash_before, server.faults.crash_after = (0.1, 0.0) if before else (0.0, 0.1)
        await self._clock.sleep(chance.between(1.0, 10.0))
        server.faults.crash_before = server.faults.crash_after = 0.0

    async def _pause(self, chance: Chance) -> None:
        server = self._one(chance, leader=0.6)
        async with self._locks[server.name]:
            if server.up:
                self._note(f"{server.name} stands still")
                server.pause()
                await self._clock.sleep(chance.between(0.5, 14.0))
                self._note(f"{server.name} goes on")
                server.wake()

    # -- the ways between them -------------------------------------------------------------------------------------------

    async def _cut(self, chance: Chance) -> None:
        server = self._one(chance)
        self._note(f"{server.name} is cut off from agents, users and the other servers")
        server.link.cut = True
        for socket in server.link.sockets:
            socket.dead = True
        await self._clock.sleep(chance.between(1.0, 20.0))
        server.link.cut = False
        self._note(f"{server.name} can be reached again")

    async def _cut_from_etcd(self, chance: Chance) -> None:
        server = self._one(chance)
        self._note(f"{server.name} is cut off from etcd")
        server.faults.cut = True
        await self._clock.sleep(chance.between(0.5, 20.0))
        server.faults.cut = False
        self._note(f"{server.name} reaches etcd again")

    async def _errors(self, chance: Chance) -> None:
        def rate() -> float:
            return chance.between(0.0, 0.12) if chance.happens(0.5) else 0.0

        for server in self._servers.servers:
            faults = server.faults
            faults.lost, faults.answer_lost, faults.late, faults.broken = rate(), rate(), rate(), rate()
            self._note(f"calls of {server.name} to etcd: lost {faults.lost:.3f}, answers lost {faults.answer_lost:.3f}, late {faults.late:.3f}")
        await self._clock.sleep(chance.between(5.0, 30.0))
        for server in self._servers.servers:
            faults = server.faults
            faults.lost = faults.answer_lost = faults.late = faults.broken = 0.0

    async def _silent_member(self, chance: Chance) -> None:
        member = chance.pick(self._servers.members)
        self._note(f"the etcd at {member} is silent")
        for server in self._servers.servers:
            server.faults.silent = member
        await self._clock.sleep(chance.between(1.0, 20.0))
        for server in self._servers.servers:
            server.faults.silent = ""

    async def _full(self, chance: Chance) -> None:
        self._note("etcd is full")
        for server in self._servers.servers:
            server.faults.full = True
        await self._clock.sleep(chance.between(0.5, 8.0))
        for server in self._servers.servers:
            server.faults.full = False
        self._note("etcd has room again")

    async def _elect(self, chance: Chance) -> None:
        """No call is answered until etcd has another leader. Meanwhile no lease ends."""
        self._note("etcd has no leader")
        self._servers.etcd.elect()
        for server in self._servers.servers:
            server.faults.cut = True
        await self._clock.sleep(chance.between(0.2, ELECTION_SECONDS_MAX))
        for server in self._servers.servers:
            server.faults.cut = False
        self._servers.etcd.elect()
        self._note("etcd has another leader")

    async def _lag(self, chance: Chance) -> None:
        servers = [chance.pick(self._servers.servers) for _ in range(chance.number(1, 3))]
        self._note(f"what etcd tells comes late to {' '.join(server.name for server in servers)}")
        for server in servers:
            server.faults.lag_seconds_max = chance.between(0.05, 2.0)
        await self._clock.sleep(chance.between(2.0, 20.0))
        for server in servers:
            server.faults.lag_seconds_max = 0.0

    async def _break(self, chance: Chance) -> None:
        server = chance.pick(self._servers.servers)
        if server.door is not None:
            self._note(f"the watches of {server.name} break")
            server.door.break_streams()

    async def _compact(self, chance: Chance) -> None:
        """etcd forgets the past, perhaps while a server cannot follow, which has to read everything anew then."""
        server = chance.pick(self._servers.servers)
        away = chance.happens(0.6)
        if away:
            server.faults.cut = True
            if server.door is not None:
                server.door.break_streams()
            await self._clock.sleep(chance.between(0.5, 6.0))
        self._note(f"etcd forgets what was before {self._servers.etcd.revision}{f' and {server.name} is away' if away else ''}")
        self._servers.etcd.forget_past()
        if away:
            await self._clock.sleep(chance.between(0.0, 3.0))
            server.faults.cut = False
