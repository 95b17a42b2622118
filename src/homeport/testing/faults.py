"""What goes wrong in a simulation, and when: a seeded choice of kinds for each run, and a loop for each kind.

Owns: `Trouble` and its kinds. Never checks anything: whatever happens here, the invariants must hold.
A run has only some of the kinds, each as often as it likes, so that rare ones are not drowned by the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from homeport.agent.engine.config import LABEL_CONTAINER
from homeport.testing.hosts import Host
from homeport.testing.network import Network, NetworkFaults
from homeport.testing.server_faults import LoneServer, ServerFaults, SeveralServers
from homeport.testing.virtual_loop import Chance, ProcessClock

QUIET_SHARE: Final = 0.1
"""Of all runs, those without any fault."""


class Operator(Protocol):
    """What trouble needs of the workload: somebody who takes a lost host's instance out."""

    busy_hosts: set[str]

    async def deregister(self, arn: str) -> None:
        """Take an instance out, whatever runs on it."""
        ...


class Trouble:
    """Everything that goes wrong in one run. `run` makes it happen until cancelled; `mend` ends it all."""

    HOST_KINDS: Final = (
        "agent-crash",
        "agent-crash-at-step",
        "agent-amnesia",
        "power-cut",
        "host-loss",
        "partition",
        "zone-loss",
        "weather",
        "clock-jump",
        "slow-runtime",
        "runtime-away",
        "container-death",
    )
    KINDS: Final = tuple(dict.fromkeys((*HOST_KINDS, *LoneServer.KINDS, *SeveralServers.KINDS)))
    """Every kind there is; those of one server and of several differ."""

    def __init__(
        self,
        *,
        chance: Chance,
        clock: ProcessClock,
        servers: ServerFaults,
        network: Network,
        hosts: list[Host],
        operator: Operator,
        note: Callable[[str], None],
        only: tuple[str, ...] | None = None,
    ) -> None:
        """`only`: these kinds, as far as these servers have them, instead of a choice."""
        self._chance = chance
        self._clock = clock
        self._servers = servers
        self._network = network
        self._hosts = hosts
        self._operator = operator
        self._note = note
        self._loops: list[asyncio.Task[None]] = []
        kinds: dict[str, tuple[float, Callable[[Chance], Awaitable[None]]]] = {
            "agent-crash": (15.0, self._agent_crash),
            "agent-crash-at-step": (20.0, self._crash_at_step),
            "agent-amnesia": (100.0, self._amnesia),
            "power-cut": (50.0, self._power_cut),
            "host-loss": (90.0, self._host_loss),
            "partition": (30.0, self._partition),
            "zone-loss": (150.0, self._zone_loss),
            "weather": (25.0, self._weather),
            "clock-jump": (40.0, self._clock_jump),
            "slow-runtime": (40.0, self._slow_runtime),
            "runtime-away": (40.0, self._runtime_away),
            "container-death": (6.0, self._container_death),
            **servers.kinds,
        }
        dice = chance.child("kinds")
        share = dice.between(0.2, 0.9)
        quiet = dice.happens(QUIET_SHARE)
        chosen = [name for name in kinds if dice.happens(share) and not quiet] if only is None else [name for name in only if name in kinds]
        self.kinds = {name: kinds[name] for name in chosen}

    async def run(self) -> None:
        """All kinds of this run, until cancelled."""
        for name, (mean, happen) in self.kinds.items():
            self._loops.append(asyncio.get_running_loop().create_task(self._repeat(name, mean, happen)))
        await asyncio.gather(*self._loops, asyncio.get_running_loop().create_future())

    async def _repeat(self, name: str, mean: float, happen: Callable[[Chance], Awaitable[None]]) -> None:
        chance = self._chance.child(name)
        while True:
            await self._clock.sleep(chance.wait(mean))
            await happen(chance)

    async def mend(self) -> None:
        """Nothing is wrong from now on: the network is calm, the disk works, everything that can run does."""
        self._note("faults end")
        self._network.faults = NetworkFaults()
        await self._servers.mend()
        for host in self._hosts:
            host.link.cut = False
            host.fragile = 0.0
            host.runtime.slowness = 1.0
            await host.remove_strangers()  # in case that was still to be done after an amnesia
            if host.lost:
                await self._replace(host)
            elif not host.on:
                host.power_on()
            else:
                if not host.runtime.available:
                    host.runtime.restore_connection()
                host.start_agent()

    # -- kinds -----------------------------------------------------------------------------------------------------------

    async def _agent_crash(self, chance: Chance) -> None:
        host = chance.pick(self._hosts)
        if host.on:
            self._note(f"agent of {host.name} crashes")
            await host.kill_agent()
            await self._clock.sleep(chance.between(0.0, 8.0))
            host.start_agent()

    async def _crash_at_step(self, chance: Chance) -> None:
        hosts = [chance.pick(self._hosts) for _ in range(chance.number(1, 8))]
        for host in hosts:
            host.fragile = 0.05
        await self._clock.sleep(chance.between(2.0, 20.0))
        for host in hosts:
            host.fragile = 0.0

    async def revive(self, host: Host) -> None:
        """The agent died at a step of its own: start it again."""
        await host.kill_agent()
        await self._clock.sleep(self._chance.between(0.0, 3.0))
        host.start_agent()

    async def _amnesia(self, chance: Chance) -> None:
        host = chance.pick(self._hosts)
        if not host.on or not host.instance_arn or host.name in self._operator.busy_hosts:
            return
        self._note(f"the agent of {host.name} loses its memory")
        self._operator.busy_hosts.add(host.name)
        try:
            former = host.instance_arn
            await host.forget()
            await self._clock.sleep(chance.between(0.0, 30.0))
            await host.remove_strangers()
            await self._operator.deregister(former)
        finally:
            self._operator.busy_hosts.discard(host.name)

    async def _power_cut(self, chance: Chance) -> None:
        host = chance.pick(self._hosts)
        if host.on:
            self._note(f"{host.name} loses power")
            await host.power_off()
            await self._clock.sleep(chance.between(1.0, 40.0))
            host.power_on()

    async def _host_loss(self, chance: Chance) -> None:
        host = chance.pick(self._hosts)
        if host.on and host.name not in self._operator.busy_hosts:
            self._note(f"{host.name} is lost")
            await host.lose()
            await self._clock.sleep(chance.between(10.0, 60.0))
            await self._replace(host)

    async def _replace(self, host: Host) -> None:
        if host.lost:
            self._operator.busy_hosts.add(host.name)
            try:
                if host.instance_arn:
                    await self._operator.deregister(host.instance_arn)
                await host.reinstall()
                self._note(f"{host.name} is replaced")
            finally:
                self._operator.busy_hosts.discard(host.name)

    async def _partition(self, chance: Chance) -> None:
        hosts = [chance.pick(self._hosts) for _ in range(chance.number(1, 4))]
        await self._cut(hosts, chance.between(1.0, 50.0))

    async def _cut(self, hosts: list[Host], seconds: float) -> None:
        self._note(f"cut off: {' '.join(host.name for host in hosts)}")
        for host in hosts:
            host.link.cut = True
            for socket in host.link.sockets:
                socket.dead = True
        await self._clock.sleep(seconds)
        for host in hosts:
            host.link.cut = False
        self._note(f"reachable again: {' '.join(host.name for host in hosts)}")

    async def _zone_loss(self, chance: Chance) -> None:
        zone = chance.pick(sorted({host.zone for host in self._hosts}))
        hosts = [host for host in self._hosts if host.zone == zone and host.on]
        seconds = chance.between(10.0, 60.0)
        if chance.happens(0.5):
            await self._cut(hosts, seconds)
            return
        self._note(f"zone {zone} loses power")
        for host in hosts:
            await host.power_off()
        await self._clock.sleep(seconds)
        for host in hosts:
            host.power_on()

    async def _weather(self, chance: Chance) -> None:
        def rate(low: float, high: float) -> float:
            return chance.between(low, high) if chance.happens(0.4) else 0.0

        self._network.faults = NetworkFaults(
            call_lost=rate(0.0, 0.1),
            answer_lost=rate(0.0, 0.1),
            call_repeated=rate(0.0, 0.2),
            late=rate(0.0, 0.2),
            late_seconds_max=chance.between(0.5, 8.0),
            frame_repeated=rate(0.0, 0.2),
            frame_reordered=rate(0.0, 0.2),
            connection_broken=rate(0.0, 0.05),
            connection_dead=rate(0.0, 0.02),
        )
        self._note(f"the network: {self._network.faults}")

    async def _clock_jump(self, chance: Chance) -> None:
        clock = self._servers.a_clock(chance) if chance.happens(0.5) else chance.pick(self._hosts).clock
        seconds = chance.between(-120.0, 120.0) if chance.happens(0.3) else chance.between(-10.0, 20.0)
        self._note(f"a clock jumps by {seconds:.3f} s")
        clock.offset += seconds

    async def _slow_runtime(self, chance: Chance) -> None:
        host = chance.pick(self._hosts)
        host.runtime.slowness = chance.between(2.0, 60.0)
        await self._clock.sleep(chance.between(10.0, 60.0))
        host.runtime.slowness = 1.0

    async def _runtime_away(self, chance: Chance) -> None:
        host = chance.pick(self._hosts)
        if not host.on:
            return
        if chance.happens(0.5):
            self._note(f"the runtime of {host.name} restarts")
            host.runtime.restart()
            return
        self._note(f"the runtime of {host.name} goes away")
        runtime = host.runtime
        runtime.break_connection()
        await self._clock.sleep(chance.between(0.5, 20.0))
        if host.on and host.runtime is runtime:
            runtime.restore_connection()

    async def _container_death(self, chance: Chance) -> None:
        host = chance.pick(self._hosts)
        running = [container for container in host.runtime.containers.values() if container.status == "running"]
        if host.on and running:
            container = chance.pick(running)
            self._note(f"container {container.labels.get(LABEL_CONTAINER)} on {host.name} dies")
            host.runtime.end(container.name, chance.pick((0, 1, 137)))
