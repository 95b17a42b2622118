"""An instance provider of simulated machines: they boot in their time, join as container instances in turn over zones, and end when told.

Owns: `SimulatedMachines`. Never decides anything: `controllers/capacity.py` asks it, as it would ask whoever makes real ones.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import msgspec

from homeport.clock import Clock
from homeport.controllers.instance_provider import InstanceProviderError, Pool
from homeport.model.ecs.capacity_provider import InstanceSize
from homeport.model.ecs.container_instance import CAPACITY_PROVIDER_ATTRIBUTE, INACTIVE, Attribute
from homeport.planner.managed_scaling import Fleet, Machine
from homeport.store.store import Store
from homeport.store.table import Transaction
from homeport.store.tables import CONTAINER_INSTANCES
from homeport.testing import records


class SimulatedMachines:
    """An `InstanceProvider` for one pool. Change its attributes while it runs."""

    def __init__(self, store: Store, clock: Clock, *, boot_seconds: float = 30.0, zones: str = "abc", size: InstanceSize | None = None) -> None:
        """`zones`: a letter for each, taken in turn. `size`: 4 cores and 8 GiB unless given."""
        self._store = store
        self._clock = clock
        self._zones = itertools.cycle(zones)
        self._numbers = itertools.count(1)
        self._booting: set[asyncio.Task[None]] = set()
        self.boot_seconds = boot_seconds
        self.size = size or InstanceSize(cpu=4096, memory_mib=8192)
        self.desired = 0
        self.machines: dict[str, bool] = {}
        """Id → whether it is to be taken away, as a spot market does."""
        self.ended: list[str] = []
        self.tells = True
        """Whether `fleet` says anything."""
        self.trouble = ""
        """Why every call fails, or ""."""
        self.calls: list[str] = []

    async def fleet(self, pool: Pool) -> Fleet:
        """See `InstanceProvider`."""
        self._called("fleet")
        if not self.tells:
            return Fleet()
        return Fleet(desired=self.desired, machines=tuple(Machine(id=name, leaving=leaving) for name, leaving in self.machines.items()))

    async def set_desired(self, pool: Pool, desired: int) -> None:
        """See `InstanceProvider`."""
        self._called(f"set-desired {desired}")
        self.desired = desired
        while len(self.machines) < desired:
            number = next(self._numbers)
            name = f"i-{number:017x}"
            self.machines[name] = False
            boot = asyncio.create_task(self._boot(pool, name, number))
            self._booting.add(boot)
            boot.add_done_callback(self._booting.discard)

    async def terminate(self, pool: Pool, machine_ids: Sequence[str]) -> None:
        """See `InstanceProvider`."""
        del pool
        self._called(f"terminate {len(machine_ids)}")
        for name in machine_ids:
            if self.machines.pop(name, None) is not None:
                self.desired -= 1
                self.ended.append(name)

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if self.trouble:
            raise InstanceProviderError(self.trouble)

    async def _boot(self, pool: Pool, name: str, number: int) -> None:
        await self._clock.sleep(self.boot_seconds)
        if name not in self.machines:
            return
        zone = next(self._zones)

        def join(tx: Transaction) -> None:
            attributes = (Attribute(name="ecs.availability-zone", value=zone), Attribute(name=CAPACITY_PROVIDER_ATTRIBUTE, value=pool.name))
            instance = records.container_instance(
                id=f"{number:032x}",
                ec2_instance_id=name,
                cluster=pool.clusters[0],
                cpu=self.size.cpu,
                memory_mib=self.size.memory_mib,
                gpu_ids=tuple(f"GPU-{index}" for index in range(self.size.gpus)),
                attributes=attributes,
                registered_at=tx.now,
            )
            tx.put(CONTAINER_INSTANCES, instance)

        await self._store.update(join, cause="agent")

    async def lose(self, name: str) -> None:
        """The machine `name` is gone by itself; its agent is silent from now on."""
        self.machines.pop(name, None)

        def cut(tx: Transaction) -> None:
            for instance in tx.scan(CONTAINER_INSTANCES):
                if instance.ec2_instance_id == name and instance.status != INACTIVE:
                    tx.put(CONTAINER_INSTANCES, msgspec.structs.replace(instance, agent_connected=False))

        await self._store.update(cut, cause="dispatcher")

    def close(self) -> None:
        """End what boots."""
        for task in self._booting:
            task.cancel()
