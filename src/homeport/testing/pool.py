"""A capacity provider in a simulation: hosts that boot when managed scaling asks for them and are gone when it ends them, and somebody who uses them.

Owns: `HostPool` (the instance provider, with its delays and failures) and `PoolUsers`. Never decides how many hosts there are: the product does.
What the pool knows outlives the servers, as a cloud's API does.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

import msgspec

from homeport.agent.client import CallFailedError, UnreachableError
from homeport.controllers.instance_provider import InstanceProviderError, Pool
from homeport.planner.managed_scaling import Fleet, Machine
from homeport.testing.hosts import Host
from homeport.testing.virtual_loop import Chance, ProcessClock
from homeport.testing.workload import CLUSTER, Workload

NAME: Final = "pool"
SERVICE: Final = "pooled"
STRATEGY: Final = [{"capacityProvider": NAME, "weight": 1}]
FAILURE: Final = 0.1
"""How often the provider's API fails, sometimes after it did what it was asked."""
DESIRED_MAX: Final = 24


class HostPool:
    """An `InstanceProvider` of hosts that are off until it is asked for them."""

    def __init__(self, hosts: Sequence[Host], *, chance: Chance, clock: ProcessClock, errand: Callable[[Coroutine[Any, Any, Any]], None]) -> None:
        """`errand` starts a coroutine that belongs to nobody who may die."""
        self._off = list(hosts)
        self._chance = chance
        self._clock = clock
        self._errand = errand
        self._made = 0
        self.machines: dict[str, Host] = {}
        """Those that there are, by the id of the machine."""
        self.leaving: set[str] = set()
        self.desired = 0
        self.failure = FAILURE

    async def fleet(self, pool: Pool) -> Fleet:
        """See `InstanceProvider`."""
        del pool
        await self._works()
        return Fleet(desired=self.desired, machines=tuple(Machine(id=name, leaving=name in self.leaving) for name in self.machines))

    async def set_desired(self, pool: Pool, desired: int) -> None:
        """See `InstanceProvider`. It never has more hosts than there are."""
        del pool
        await self._works()
        self.desired = max(self.desired, desired)
        while self._off and len(self.machines) < self.desired:
            self._boot(self._off.pop(0))
        self._may_fail()

    def _boot(self, host: Host) -> None:
        self._made += 1
        name = f"i-{host.name}-{self._made}"
        host.settings = msgspec.structs.replace(host.settings, instance_id=name)
        self.machines[name] = host
        # In an empty context: who asks is a server, and the host is no part of it.
        contextvars.Context().run(self._errand, host.reinstall())

    async def terminate(self, pool: Pool, machine_ids: Sequence[str]) -> None:
        """See `InstanceProvider`."""
        del pool
        await self._works()
        for name in machine_ids:
            host = self.machines.pop(name, None)
            self.leaving.discard(name)
            if host is not None:
                self.desired = max(0, self.desired - 1)
                contextvars.Context().run(self._errand, self._end(host))
        self._may_fail()

    async def _end(self, host: Host) -> None:
        await host.lose()
        self._off.append(host)

    async def _works(self) -> None:
        await self._clock.sleep(self._chance.between(0.05, 2.0))
        self._may_fail()

    def _may_fail(self) -> None:
        if self._chance.happens(self.failure):
            raise InstanceProviderError("the provider of machines is out of order (simulated)")

    def take_one(self) -> str:
        """One of its machines is to be taken away, as a spot market does; its id, or "" when there is none."""
        if not self.machines:
            return ""
        name = self._chance.pick(sorted(self.machines))
        self.leaving.add(name)
        return name

    def problems(self) -> Iterable[str]:
        """What is not settled."""
        if self.leaving:
            yield f"machines {sorted(self.leaving)} are still not given up"


class PoolUsers:
    """Somebody with a service and tasks of the pool, and the market that takes machines away."""

    def __init__(self, pool: HostPool, workload: Workload, *, chance: Chance, clock: ProcessClock, note: Callable[[str], None]) -> None:
        self._pool = pool
        self._workload = workload
        self._chance = chance
        self._clock = clock
        self._note = note

    async def prepare(self) -> None:
        """The capacity provider, in the cluster of the workload, and a service that it carries."""
        protection = "ENABLED" if self._chance.happens(0.3) else "DISABLED"
        group = {
            "autoScalingGroupArn": NAME,
            "managedScaling": {"status": "ENABLED", "instanceWarmupPeriod": 20, "targetCapacity": self._chance.pick((100, 100, 80))},
            "managedTerminationProtection": protection,
            "managedDraining": "DISABLED" if self._chance.happens(0.25) else "ENABLED",
        }
        call = self._workload.call
        await call("CreateCapacityProvider", {"name": NAME, "autoScalingGroupProvider": group})
        providers = {"cluster": CLUSTER, "capacityProviders": [NAME], "defaultCapacityProviderStrategy": []}
        await call("PutClusterCapacityProviders", providers)
        service = {"cluster": CLUSTER, "serviceName": SERVICE, "taskDefinition": "web:1", "desiredCount": 2, "capacityProviderStrategy": STRATEGY}
        await call("CreateService", service, repeated=True)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(self._chance.wait(40.0))
            try:
                await self._do_something()
            except UnreachableError:
                continue
            except CallFailedError as error:
                if "was not found" not in error.message:
                    raise

    async def _do_something(self) -> None:
        kind = self._chance.pick(("scale", "scale", "scale", "deploy", "run", "take"))
        if kind == "take":
            self._note(f"the market takes {self._pool.take_one() or 'nothing'} away")
        elif kind == "run":
            marker = self._chance.ids.hex(24)
            self._workload.ran[marker] = 2
            request = {"cluster": CLUSTER, "taskDefinition": "job", "count": 2, "startedBy": marker, "capacityProviderStrategy": STRATEGY}
            await self._workload.call("RunTask", {**request, "clientToken": marker}, repeated=True)
        else:
            change = {"desiredCount": self._chance.number(0, DESIRED_MAX)} if kind == "scale" else {"forceNewDeployment": True}
            await self._workload.call("UpdateService", {"cluster": CLUSTER, "service": SERVICE, **change})
