"""Sizes the pools of capacity providers: once a minute it samples each, has instances drain, and asks the instance provider for more or fewer.

Owns: `scaling` of a `CapacityProvider`, and the status of an instance that leaves its pool (DRAINING, then INACTIVE). Never decides (`planner/
managed_scaling.py` does), never makes a machine (`instance_provider.py`). It is no controller of the loop, since it asks something outside of the
store; it keeps nothing, so a sample that was interrupted is taken again by whoever leads then.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from homeport import log
from homeport.clock import Clock
from homeport.config import Settings
from homeport.controllers.instance_provider import InstanceProvider, InstanceProviderError, Pool
from homeport.controllers.scheduler import waits
from homeport.errors import HomeportError
from homeport.model import arn
from homeport.model.ecs import capacity_provider as model
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.capacity_provider import CapacityProvider, Leaving, ScalingState
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.planner import managed_scaling as planner
from homeport.planner.managed_scaling import Fleet, Member, View
from homeport.store.store import Store
from homeport.store.table import Reader, Transaction
from homeport.store.tables import CAPACITY_PROVIDERS, CLUSTERS, CONTAINER_INSTANCES, SERVICES, TASKS

INSTANCES_A_TRANSACTION: Final = 90
"""Under a transaction's 100 records."""
OTHERS: Final = "*"
"""Name of the instance provider of every capacity provider that has none of its own."""
NOBODY: Final = "No instance provider is set for it, so nobody is asked: see the setting instance_providers."

_log: Final = log.logger("controllers.capacity")


async def keep_capacity(store: Store, clock: Clock, settings: Settings, *, region: str, providers: Providers) -> None:
    """Run until cancelled: a sample of every pool each `settings.managed_scaling_seconds`."""
    pools = Pools(store, clock, settings, region=region, providers=providers)
    under_way: set[str] = set()
    async with asyncio.TaskGroup() as group:
        while True:
            await clock.sleep(settings.managed_scaling_seconds)
            try:
                keys = await store.view(pools.keys)
            except HomeportError as error:
                _log.warning("no pool can be looked at now: %s", error)
                continue
            for key in keys:
                if key not in under_way:  # whoever makes one pool's machines may take long to answer, and holds up no other pool
                    group.create_task(_sampled(pools, key, under_way))
                    under_way.add(key)


async def _sampled(pools: Pools, key: str, under_way: set[str]) -> None:
    """A sample of one pool, whose failure is nobody else's; then it is not `under_way` any more."""
    try:
        await pools.sample(key)
    except HomeportError as error:
        _log.warning("the pool of %s is looked at again with the next sample: %s", key, error)
    except Exception:
        _log.exception("the pool of %s could not be sampled", key)
    finally:
        under_way.discard(key)


class Providers:
    """Who makes and ends the instances of each capacity provider."""

    def __init__(self, providers: Mapping[str, InstanceProvider], *, management: str = "") -> None:
        """By capacity provider's name or `*` for all others: those of the account `management`, or of every account when that is "".

        ACCOUNT/NAME and ACCOUNT/* are another account's: nobody gets machines by giving a capacity provider somebody else's name.
        """
        self._providers = providers
        self._management = management

    def of(self, account: str, name: str) -> InstanceProvider | None:
        """Who is asked for the capacity provider `name` of `account`; None: nobody."""
        wanted = [f"{account}/{name}", f"{account}/{OTHERS}"]
        if self._management in ("", account):
            wanted += [name, OTHERS]
        return next((self._providers[each] for each in wanted if each in self._providers), None)


class Pools:
    """One sample after the other."""

    def __init__(self, store: Store, clock: Clock, settings: Settings, *, region: str, providers: Providers) -> None:
        self._store = store
        self._clock = clock
        self._settings = settings
        self._region = region
        self._providers = providers

    def keys(self, reader: Reader) -> list[str]:
        """The capacity providers to look at: with managed scaling, or with an instance provider, which may take machines away."""
        found = (item for item in reader.scan(CAPACITY_PROVIDERS) if item.status == model.ACTIVE and item.type == model.EC2_AUTOSCALING)
        return [item.key for item in found if item.managed_scaling.enabled or self._providers.of(item.account, item.name) is not None]

    async def sample(self, key: str) -> None:
        """One sample of the pool of the capacity provider `key`, and what follows from it."""
        pool = await self._store.view(lambda reader: self._pool(reader, key))
        if pool is None:
            return
        asked = self._providers.of(key.partition("/")[0], pool.name)
        try:
            fleet = await asked.fleet(pool) if asked else Fleet()
        except InstanceProviderError as error:
            await self._trouble(key, str(error))
            return
        found = await self._store.update(lambda tx: self._sampled(tx, key, fleet, served=asked is not None), cause=_cause(key))
        if found is None:
            return
        while await self._store.update(lambda tx: _drain(tx, key), cause=_cause(key)):
            pass
        if asked is not None:
            await self._carry_out(key, pool, asked, found)

    async def _carry_out(self, key: str, pool: Pool, asked: InstanceProvider, found: planner.Sample) -> None:
        ended = await self._end(key, pool, asked, gone=found.gone)
        if found.ask is None:
            return
        desired = found.ask - ended  # those that leave are among the machines that were to be asked for
        _log.info("capacity provider %s: CapacityProviderReservation %g %%, asks for %d", pool.name, found.state.reservation, desired)
        try:
            await asked.set_desired(pool, desired)
        except InstanceProviderError as error:
            await self._trouble(key, str(error), unasked=True)

    async def _end(self, key: str, pool: Pool, asked: InstanceProvider, *, gone: frozenset[str]) -> int:
        """End the machines that may end now, and say how many did: none when that fails, which keeps nobody from asking for more.

        Those that are `gone` have ended without being asked, whatever was still on them, and are not wanted fewer for that.
        """
        ready = await self._store.view(lambda reader: self._ready(reader, key, self._clock.now(), gone=gone))
        await self._terminated(key, [item for item in ready if item.machine_id in gone], fewer=False)
        ending = [item for item in ready if item.machine_id not in gone]
        if not ending:
            return 0
        try:
            await asked.terminate(pool, [item.machine_id for item in ending])
        except InstanceProviderError as error:
            await self._trouble(key, str(error))
            return 0
        await self._terminated(key, ending, fewer=True)
        return len(ending)

    # -- what is seen ----------------------------------------------------------------------------------------------------

    def _pool(self, reader: Reader, key: str) -> Pool | None:
        provider = reader.get(CAPACITY_PROVIDERS, key)
        if provider is None or provider.status != model.ACTIVE:
            return None
        clusters = tuple(cluster.name for cluster in reader.find(CLUSTERS, "capacity_provider", key))
        its_arn = arn.capacity_provider_arn(self._region, provider.account, provider.name)
        return Pool(name=provider.name, arn=its_arn, auto_scaling_group=provider.auto_scaling_group, clusters=clusters)

    @staticmethod
    def _sampled(tx: Transaction, key: str, fleet: Fleet, *, served: bool) -> planner.Sample | None:
        provider = tx.get(CAPACITY_PROVIDERS, key)
        if provider is None:
            return None
        clusters = [cluster.key for cluster in tx.find(CLUSTERS, "capacity_provider", key)]
        waiting = tuple(
            task
            for cluster in clusters
            for task in tx.find(TASKS, "cluster_last", f"{cluster}/{task_model.PROVISIONING}")
            if task.capacity_provider == provider.name and waits(task)
        )
        members = tuple(_members(tx, provider.name, clusters))
        view = View(provider=provider, members=members, waiting=waiting, fleet=fleet, served=served)
        found = planner.sample(view, now=tx.now)
        _put(tx, provider, msgspec.structs.replace(found.state, trouble=planner.unlisted(view) if served else NOBODY))
        _drain(tx, key)  # in the same transaction, so that no task comes to an instance that was chosen for having none
        return found

    # -- what is done ----------------------------------------------------------------------------------------------------

    def _ready(self, reader: Reader, key: str, now: float, *, gone: frozenset[str]) -> list[Leaving]:
        """Those that leave and may end now, or are `gone`."""
        provider = reader.get(CAPACITY_PROVIDERS, key)
        if provider is None:
            return []
        tasks = {item: reader.count(TASKS, "instance_live", item.instance_key) if item.instance_key else 0 for item in provider.scaling.leaving}
        longest = self._settings.managed_draining_seconds_max
        return [
            item
            for item, count in tasks.items()
            if item.machine_id in gone or planner.ready(provider, item, tasks=count, seconds_max=longest, now=now)
        ]

    async def _terminated(self, key: str, ended: Sequence[Leaving], *, fewer: bool) -> None:
        """Write down that these machines have ended: their instances are INACTIVE, which ends what was left on them. `fewer`: they were asked to."""
        for start in range(0, len(ended), INSTANCES_A_TRANSACTION):
            forget = functools.partial(_forget, key=key, ended=ended[start : start + INSTANCES_A_TRANSACTION], fewer=fewer)
            await self._store.update(forget, cause=_cause(key))

    async def _trouble(self, key: str, trouble: str, *, unasked: bool = False) -> None:
        """Keep why nobody could be asked. `unasked`: it was to be asked for more, so the next sample is to ask again."""
        _log.warning("capacity provider %s: %s", key, trouble)

        def note(tx: Transaction) -> None:
            provider = tx.get(CAPACITY_PROVIDERS, key)
            if provider is not None:
                asked_at = 0.0 if unasked else provider.scaling.asked_at
                _put(tx, provider, msgspec.structs.replace(provider.scaling, trouble=trouble, asked_at=asked_at))

        await self._store.update(note, cause=_cause(key))


def _drain(tx: Transaction, key: str) -> bool:
    """Set instances that leave DRAINING; whether some are left for another transaction."""
    provider = tx.get(CAPACITY_PROVIDERS, key)
    if provider is None:
        return False
    leaving = ((item, tx.get(CONTAINER_INSTANCES, item.instance_key)) for item in provider.scaling.leaving)
    wanted = [instance for item, instance in leaving if instance is not None and planner.drains(provider, item, instance)]
    for instance in wanted[:INSTANCES_A_TRANSACTION]:
        tx.put(CONTAINER_INSTANCES, msgspec.structs.replace(instance, status=instance_model.DRAINING, version=instance.version + 1))
    return len(wanted) > INSTANCES_A_TRANSACTION


def _cause(key: str) -> str:
    return f"controller/capacity {key}"


def _put(tx: Transaction, provider: CapacityProvider, state: ScalingState) -> None:
    if state != provider.scaling:
        tx.put(CAPACITY_PROVIDERS, msgspec.structs.replace(provider, scaling=state))


def _members(reader: Reader, name: str, clusters: Sequence[str]) -> Iterator[Member]:
    daemons: dict[str, bool] = {}
    for cluster in clusters:
        for instance in reader.find(CONTAINER_INSTANCES, "capacity_provider", f"{cluster}/{name}"):
            yield Member(instance=instance, tasks=_tasks(reader, instance, daemons))


def _tasks(reader: Reader, instance: ContainerInstance, daemons: dict[str, bool]) -> int:
    """Live tasks on `instance`, 0 when all of them are daemons'. `daemons` remembers which services are."""
    for task in reader.find(TASKS, "instance_live", instance.key):
        if task.daemon:
            continue
        if task.service_key not in daemons:
            service = reader.get(SERVICES, task.service_key) if task.service else None
            daemons[task.service_key] = service is not None and service.scheduling_strategy == service_model.DAEMON
        if not daemons[task.service_key]:
            return reader.count(TASKS, "instance_live", instance.key)
    return 0


def _forget(tx: Transaction, key: str, ended: Sequence[Leaving], *, fewer: bool) -> None:
    for item in ended:
        instance = tx.get(CONTAINER_INSTANCES, item.instance_key) if item.instance_key else None
        if instance is not None and instance.status != instance_model.INACTIVE:
            gone = msgspec.structs.replace(instance, status=instance_model.INACTIVE, version=instance.version + 1, agent_connected=False)
            tx.put(CONTAINER_INSTANCES, gone)
    provider = tx.get(CAPACITY_PROVIDERS, key)
    if provider is not None:
        left = tuple(item for item in provider.scaling.leaving if item not in ended)
        desired = max(0, provider.scaling.desired - len(ended)) if fewer else provider.scaling.desired
        _put(tx, provider, msgspec.structs.replace(provider.scaling, leaving=left, desired=desired))
