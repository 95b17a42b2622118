"""The part of the service controller that is about DAEMON services: what their planner reads, and what wakes them.

Owns: `plan_daemon` (the plan, and the share that instances keep free), `DaemonHints` (which services a change of an instance concerns).
Never commits: `controllers/service.py` does, as for any service.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from homeport.model.change import Plan
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import task_definition_key
from homeport.placement.daemons import daemon_request
from homeport.placement.index import PlacementIndex
from homeport.planner import daemon as planner
from homeport.planner.service import ServiceView
from homeport.store.table import Change, Reader, Transaction
from homeport.store.tables import CONTAINER_INSTANCES, SERVICES, TASK_DEFINITIONS, TASKS


def plan_daemon(tx: Transaction, view: ServiceView, placement: PlacementIndex, *, healthy_after_seconds: float) -> tuple[ServiceView, Plan]:
    """The plan of the DAEMON service of `view`, and the view with the share and the desired count that it has now; the share is stored."""
    service = view.service
    definition = tx.get(TASK_DEFINITIONS, task_definition_key(service.account, service.family, service.revision))
    if definition is not None and service.status == service_model.ACTIVE and service.daemon_share != planner.share_of(service, definition):
        service = msgspec.structs.replace(service, daemon_share=planner.share_of(service, definition))
        tx.put(SERVICES, service)
    view = msgspec.structs.replace(view, service=service)
    targets = placement.targets(daemon_request(service, service.daemon_share)) if service.daemon_share else {}
    busy = frozenset(key for key in view.draining if _has_replicas(tx, key))
    daemon_view = planner.DaemonView(service_view=view, targets=targets, busy=busy)
    plan = planner.plan(daemon_view, healthy_after_seconds=healthy_after_seconds, now=tx.now)
    if service.status == service_model.ACTIVE:
        counted = len(planner.desired_instances(targets, view.tasks))
        view = msgspec.structs.replace(view, service=msgspec.structs.replace(service, desired_count=counted))
    return view, plan


def _has_replicas(reader: Reader, instance_key: str) -> bool:
    """Whether tasks of services other than daemons are still on the instance."""
    services = {task.service_key for task in reader.find(TASKS, "instance_live", instance_key) if task.service}
    found = (reader.get(SERVICES, key) for key in services)
    return any(service is not None and service.scheduling_strategy != service_model.DAEMON for service in found)


def makes_room(change: Change) -> bool:
    """Whether a change of a task may let another one be placed: it stopped, or it is a daemon's and what waited for it to run need wait no more."""
    after = change.after
    if not isinstance(after, Task) or after.last_status == task_model.STOPPED:
        return True
    return bool(after.daemon) and after.last_status == task_model.RUNNING


class DaemonHints:
    """Which DAEMON services a change concerns. Rebuilt by the sweep."""

    def __init__(self) -> None:
        self._daemons: dict[str, set[str]] = defaultdict(set)
        self._draining: set[str] = set()

    def note(self, service: Service, *, gone: bool) -> None:
        """Remember or forget a service."""
        daemons = self._daemons[service.cluster_key]
        if service.scheduling_strategy == service_model.DAEMON and service.status == service_model.ACTIVE and not gone:
            daemons.add(service.key)
        else:
            daemons.discard(service.key)

    def rebuild(self, reader: Reader) -> None:
        """Look at which instances drain."""
        if any(self._daemons.values()):
            self._draining = {item.key for item in reader.scan(CONTAINER_INSTANCES) if item.status == instance_model.DRAINING}

    def of_instance(self, change: Change) -> Iterable[str]:
        """The daemons of the cluster of an instance that came, went, or is not for the same tasks as before."""
        before, after = change.before, change.after
        record = after or before
        if not isinstance(record, ContainerInstance):
            return ()
        if isinstance(after, ContainerInstance) and after.status == instance_model.DRAINING:
            self._draining.add(record.key)
        else:
            self._draining.discard(record.key)
        daemons = self._daemons.get(record.cluster_key, ())
        if daemons and isinstance(before, ContainerInstance) and isinstance(after, ContainerInstance) and suits_as_before(before, after):
            return ()
        return tuple(daemons)

    def of_task(self, task: Task, *, stopped: bool) -> Iterable[str]:
        """The daemons of the cluster when a task on an instance that drains stopped: it may have been the last replica there."""
        if not stopped or not self._draining or task.instance_key not in self._draining:
            return ()
        return tuple(self._daemons.get(task.cluster_key, ()))


def suits_as_before(before: ContainerInstance, after: ContainerInstance) -> bool:
    """Whether an instance that changed is for the same tasks as before."""
    return (before.status, before.agent_connected, before.attributes, before.cpu, before.memory_mib, before.gpu_ids) == (
        after.status,
        after.agent_connected,
        after.attributes,
        after.cpu,
        after.memory_mib,
        after.gpu_ids,
    )
