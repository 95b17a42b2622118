"""Keeps every daemon on its instances and brings its deployments on: asks `planner/daemon_deployment.py` what to do, placement where there is room.

Owns: the records of daemons' tasks at creation and their `healthy_since`, the stops of surplus ones, a daemon's share and what a rollback changes of
it, its deployments' progress, the digests of its revisions, and the deletion of a daemon that is gone. Never talks to an agent.

A task that its instance cannot take is not created. It is tried again when an instance of the cluster changes, when a task of the cluster stops, and
at the sweep.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from homeport.config import Settings
from homeport.controllers.daemon import suits_as_before
from homeport.controllers.loop import Activation
from homeport.controllers.service import MANY_TASKS, TOGETHER_SECONDS, TOGETHER_SECONDS_MAX
from homeport.ids import Ids
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import daemon as model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.daemon_deployment import DaemonDeployment
from homeport.model.ecs.daemon_revision import DaemonRevision
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition, task_definition_key
from homeport.model.record import Tags
from homeport.placement.daemons import managed_request
from homeport.placement.index import PlacementIndex
from homeport.placement.reasons import Refusal
from homeport.planner import daemon_deployment as planner
from homeport.planner import health
from homeport.planner.daemon_deployment import DaemonPlan, DaemonView
from homeport.planner.task import Placed, new_task, stop
from homeport.planner.version_consistency import digests_of, needs_digests
from homeport.store.table import Change, Reader, Transaction
from homeport.store.tables import CONTAINER_INSTANCES, DAEMON_DEPLOYMENTS, DAEMON_REVISIONS, DAEMON_TASK_DEFINITIONS, DAEMONS, TASKS

NAME: Final = "daemon_deployment"

_STAYING = (instance_model.REGISTERING, instance_model.ACTIVE)


class DaemonDeploymentController:
    """The controller of daemons; its keys are those of `Daemon`."""

    name = NAME

    def __init__(self, *, placement: PlacementIndex, ids: Ids, settings: Settings) -> None:
        self._placement = placement
        self._ids = ids
        self._settings = settings
        # Hints for `keys_of`, rebuilt by the sweep: the daemons of a cluster, and those that wait for other tasks to go.
        self._daemons: dict[str, set[str]] = defaultdict(set)
        self._waiting: dict[str, set[str]] = defaultdict(set)
        # Daemons that look at the first task that runs: its images' digests are wanted, or it ends the launch throttle.
        self._attentive: set[str] = set()

    def keys_of(self, change: Change) -> Iterable[str]:
        """The daemon that changed or whose task or deployment did; the cluster's daemons when an instance changed; those that wait when a task
        stopped."""
        record, before, after = change.after or change.before, change.before, change.after
        if isinstance(record, Daemon):
            self._note(record, gone=after is None)
            return (record.key,)
        if isinstance(record, Task):
            stopped = not isinstance(after, Task) or after.last_status == task_model.STOPPED
            waiting = self._waiting.get(record.cluster_key, ()) if stopped else ()
            return (record.daemon_key, *waiting) if record.daemon and self._concerned(record, change) else tuple(waiting)
        if isinstance(record, DaemonDeployment):
            return (record.daemon_key,)
        if isinstance(record, ContainerInstance):
            if isinstance(before, ContainerInstance) and isinstance(after, ContainerInstance) and suits_as_before(before, after):
                return ()
            return tuple(self._daemons.get(record.cluster_key, ()))
        return ()

    def _concerned(self, task: Task, change: Change) -> bool:
        before, after = (item if isinstance(item, Task) else None for item in (change.before, change.after))
        return task.daemon_key in self._attentive or health.concerns(before, after, self._settings.healthy_after_seconds)

    def keys(self, reader: Reader) -> Iterable[str]:
        """Every daemon."""
        for daemon in reader.scan(DAEMONS):
            self._note(daemon, gone=False)
            yield daemon.key

    def _note(self, daemon: Daemon, *, gone: bool) -> None:
        if gone:
            self._daemons[daemon.cluster_key].discard(daemon.key)
            self._waiting[daemon.cluster_key].discard(daemon.key)
        else:
            self._daemons[daemon.cluster_key].add(daemon.key)

    def activate(self, tx: Transaction, key: str) -> Activation:
        """Do what the planner says of the daemon `key`."""
        stored = tx.get(DAEMONS, key)
        deployment = tx.get(DAEMON_DEPLOYMENTS, f"{key}/{stored.deployment_id}") if stored else None
        revision = tx.get(DAEMON_REVISIONS, f"{key}/{stored.revision_id}") if stored else None
        if stored is None or deployment is None or revision is None:
            return Activation()
        definition = _definition(tx, revision)
        daemon = self._with_share(tx, stored, deployment, definition)
        view = self._view(tx, daemon, deployment, revision)
        plan = planner.plan(view, _ended(tx, deployment), settings=self._settings, now=tx.now)
        self._record(tx, view, plan)
        if definition is not None and not plan.over:
            self._start(tx, plan, definition)
        if view.refused or view.busy:
            self._waiting[daemon.cluster_key].add(key)
        else:
            self._waiting[daemon.cluster_key].discard(key)
        if needs_digests(plan.revision) or plan.deployment.failures_to_start:
            self._attentive.add(key)
        else:
            self._attentive.discard(key)
        count = len(view.tasks)
        together = min(TOGETHER_SECONDS_MAX, count * TOGETHER_SECONDS) if count >= MANY_TASKS else 0.0
        return Activation(wake_at=plan.wake_at + together if plan.wake_at else 0.0, mark=((NAME, key),) if plan.more else ())

    @staticmethod
    def _with_share(tx: Transaction, daemon: Daemon, deployment: DaemonDeployment, definition: TaskDefinition | None) -> Daemon:
        """`daemon` with the share that instances are to keep now; it is stored, so that placement knows it from here on."""
        wanted = daemon.status == model.ACTIVE and planner.launches(deployment) and definition is not None
        share = planner.share_of(daemon, definition) if wanted and definition is not None else None
        if share != daemon.share:
            daemon = msgspec.structs.replace(daemon, share=share)
            tx.put(DAEMONS, daemon)
        return daemon

    def _view(self, tx: Transaction, daemon: Daemon, deployment: DaemonDeployment, revision: DaemonRevision) -> DaemonView:
        tasks = tuple(tx.find(TASKS, "daemon_live", daemon.key))
        request = managed_request(daemon, daemon.share) if daemon.share else None
        # An instance that lacks what the task needs is one of them: it is told of, not passed over.
        targets = self._placement.targets(msgspec.structs.replace(request, required_attributes=())) if request else {}
        occupied = {task.instance_key for task in tasks if task.desired_status == task_model.RUNNING}
        free = [key for key, connected in targets.items() if connected and key not in occupied] if request else []
        tried = {key: self._placement.place_on(request, key) for key in free} if request else {}
        hosts = {task.instance_key: tx.get(CONTAINER_INSTANCES, task.instance_key) for task in tasks}
        draining = frozenset(key for key in occupied if _drains(hosts[key]))
        completed = tx.get(DAEMON_REVISIONS, f"{daemon.key}/{daemon.completed_revision_id}") if daemon.completed_revision_id else None
        return DaemonView(
            daemon=daemon,
            deployment=deployment,
            revision=revision,
            tasks=tasks,
            targets=targets,
            draining=draining,
            away=frozenset(key for key, host in hosts.items() if host is None or not host.agent_connected),
            busy=frozenset(key for key in draining if any(_others(tx, key))),
            refused={key: found.closest.reason for key, found in tried.items() if isinstance(found, Refusal)},
            bereft=tuple(self._bereft(tx, daemon, [key for key in free if daemon.critical])),
            completed=completed if completed is not None and _definition(tx, completed) is not None else None,
        )

    @staticmethod
    def _bereft(tx: Reader, daemon: Daemon, keys: Iterable[str]) -> Iterator[Task]:
        """The other tasks on instances whose last task of the critical daemon ran and was lost, and that were there at that time."""
        for key in keys:
            ended = (task for task in tx.find(TASKS, "instance_last", f"{key}/{task_model.STOPPED}") if task.daemon_key == daemon.key)
            last = max(ended, key=lambda task: task.stopped_at, default=None)
            if last is not None and planner.was_lost(last):
                yield from (task for task in _others(tx, key) if task.desired_status == task_model.RUNNING and task.created_at <= last.stopped_at)

    @staticmethod
    def _record(tx: Transaction, view: DaemonView, plan: DaemonPlan) -> None:
        for task in plan.healthy:
            tx.put(TASKS, task)
        for item in plan.stops:
            current = tx.get(TASKS, item.task.key) or item.task
            tx.put(TASKS, stop(current, stop_code=item.stop_code, reason=item.reason, now=tx.now))
        if plan.revision != view.revision:
            tx.put(DAEMON_REVISIONS, plan.revision)
        if plan.deployment != view.deployment:
            tx.put(DAEMON_DEPLOYMENTS, plan.deployment)
        if plan.over:
            tx.delete(DAEMONS, view.daemon.key)
        elif plan.daemon != view.daemon:
            tx.put(DAEMONS, plan.daemon)

    def _start(self, tx: Transaction, plan: DaemonPlan, definition: TaskDefinition) -> None:
        """Create the tasks that their instances can take."""
        daemon, revision = plan.daemon, plan.revision
        request = managed_request(daemon, daemon.share) if daemon.share else None
        for key in plan.starts if request else ():
            instance = tx.get(CONTAINER_INSTANCES, key)
            if request is None or instance is None or isinstance(self._placement.place_on(request, key), Refusal):
                continue
            placed = Placed(
                cluster=daemon.cluster,
                instance_id=instance.id,
                launch_type=instance.launch_type,
                group=daemon.group,
                started_by=plan.deployment.started_by,
                deployment_id=revision.id,
                tags=task_tags(daemon, revision),
                enable_execute_command=revision.enable_execute_command,
                capacity_provider=instance.capacity_provider,
                digests=digests_of(revision),
                daemon=daemon.name,
            )
            tx.put(TASKS, new_task(definition, placed, task_id=self._ids.hex(32), mint=self._ids.uuid, now=tx.now))


def task_tags(daemon: Daemon, revision: DaemonRevision) -> Tags:
    """The tags of a daemon's task: the daemon's where they are propagated and, when asked for, the managed ones."""
    propagated = daemon.tags if revision.propagate_tags == model.DAEMON else ()
    if not revision.enable_ecs_managed_tags:
        return propagated
    return (*propagated, ("aws:ecs:clusterName", daemon.cluster), ("aws:ecs:daemonName", daemon.name))


def _definition(reader: Reader, revision: DaemonRevision) -> TaskDefinition | None:
    found = reader.get(DAEMON_TASK_DEFINITIONS, task_definition_key(revision.account, revision.family, revision.revision))
    return found.definition if found else None


def _ended(reader: Reader, deployment: DaemonDeployment) -> list[Task]:
    """The STOPPED tasks that `deployment` started and has not counted yet."""
    place = f"{deployment.account}/{deployment.cluster}/{deployment.started_by}/{task_model.STOPPED}"
    return [
        task
        for task in reader.find(TASKS, "started_by", place)
        if task.stopped_at > deployment.ends_counted_at and task.deployment_id == deployment.target_id and task.daemon_key == deployment.daemon_key
    ]


def _drains(instance: ContainerInstance | None) -> bool:
    return instance is None or instance.status not in _STAYING


def _others(reader: Reader, instance_key: str) -> Iterator[Task]:
    """The tasks on an instance that are of no daemon and not STOPPED."""
    return (task for task in reader.find(TASKS, "instance_live", instance_key) if not task.daemon)
