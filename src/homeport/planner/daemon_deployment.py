"""How a daemon gets to every instance of its capacity providers, in batches, and back again when that fails.

Owns: `plan` (daemon, its newest deployment, tasks, the instances it is for → stops, starts, what is written of both), `share_of`. Never checks
whether an instance has room (placement does) and never counts a failure itself (`planner/failures.py`).
Source: the service model's documentation of daemons and the developer guide's page on daemon deployments; docs/decisions/0009 says what is ours,
since instances are not replaced here.

    batch = floor(instances * drainPercent / 100), at least 1     instances that may be without the daemon for the sake of an update
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from homeport.config import Settings
from homeport.model.change import StopTask
from homeport.model.ecs import daemon as daemon_model
from homeport.model.ecs import daemon_deployment as model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.container_instance import CAPACITY_PROVIDER_ATTRIBUTE
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.daemon_deployment import DaemonDeployment, configuration_of
from homeport.model.ecs.daemon_revision import DaemonRevision
from homeport.model.ecs.service import DaemonShare, PlacementConstraint
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition
from homeport.model.record import Instant
from homeport.planner import daemon_monitors as monitors
from homeport.planner.health import healthy_at, is_healthy, is_unhealthy
from homeport.planner.version_consistency import pinned

STOPS_MAX: Final = 30
STARTS_MAX: Final = 30
HEALTH_WRITES_MAX: Final = 20
"""With three records beside them under a transaction's 100. The rest follows at once."""
SICK: Final = "Task failed container health checks"


def share_of(daemon: Daemon, definition: TaskDefinition) -> DaemonShare:
    """What every instance of the daemon's capacity providers keeps free for a task of `definition`."""
    providers = ", ".join(daemon.capacity_providers)
    return DaemonShare(
        cpu=definition.cpu,
        memory_mib=definition.memory_mib,
        host_ports=tuple((use.port, use.protocol) for use in definition.host_ports),
        gpus=definition.gpus,
        required_attributes=definition.requires_attributes,
        constraints=(PlacementConstraint(type="memberOf", expression=f"attribute:{CAPACITY_PROVIDER_ATTRIBUTE} in [{providers}]"),),
    )


class DaemonView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one moment that the planner reads."""

    daemon: Daemon
    deployment: DaemonDeployment
    """The newest one."""
    revision: DaemonRevision
    """The one that instances are to have."""
    tasks: Sequence[Task] = ()
    """Those of the daemon that are not STOPPED."""
    targets: Mapping[str, bool] = {}
    """Key of every ACTIVE instance that it is for → whether its agent is connected."""
    draining: frozenset[str] = frozenset()
    """Keys of instances with tasks of it that are DRAINING or on their way out."""
    away: frozenset[str] = frozenset()
    """Keys of instances with tasks of it whose agent is not connected."""
    busy: frozenset[str] = frozenset()
    """Those of them on which other tasks still are: the daemon stops after them."""
    refused: Mapping[str, str] = {}
    """Key of an instance without a task of it that cannot take one at this moment → why not."""
    bereft: Sequence[Task] = ()
    """Other tasks on instances that lost a task of this critical daemon and have none now."""
    completed: DaemonRevision | None = None
    """What a rollback goes to."""


class DaemonPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done."""

    daemon: Daemon
    deployment: DaemonDeployment
    revision: DaemonRevision
    stops: tuple[StopTask, ...] = ()
    starts: tuple[str, ...] = ()
    """Keys of the instances that are to get a task."""
    healthy: tuple[Task, ...] = ()
    """Tasks that count as healthy from now on."""
    wake_at: Instant = 0.0
    over: bool = False
    """Whether a deleted daemon has nothing left that is to stop: its record goes."""

    @property
    def more(self) -> bool:
        """Whether there may be more to do at once."""
        return (
            self.deployment.step_left > 0 or len(self.stops) >= STOPS_MAX or len(self.starts) >= STARTS_MAX or len(self.healthy) >= HEALTH_WRITES_MAX
        )


def plan(view: DaemonView, ended: Iterable[Task], *, settings: Settings, now: Instant) -> DaemonPlan:
    """What `view`'s daemon should do now. `ended`: its STOPPED tasks that the deployment may not have counted yet."""
    if view.daemon.status == daemon_model.DELETE_IN_PROGRESS:
        return _retire(view, now)
    after = settings.healthy_after_seconds
    healthy = tuple(task for task in view.tasks if not task.healthy_since and is_healthy(task, after, now))[:HEALTH_WRITES_MAX]
    marked = tuple(msgspec.structs.replace(task, healthy_since=now) for task in healthy)
    revision = pinned(view.revision, view.tasks, now) or view.revision
    counted = monitors.counted(view.deployment, _at_a_time(view), monitors.Moments(view.tasks, ended), settings=settings, now=now)
    failure = monitors.failure_of(view.deployment, counted)
    if failure:
        daemon, deployment = monitors.failed(view.daemon, counted, failure, completed=view.completed, now=now)
        return DaemonPlan(daemon=daemon, deployment=deployment, revision=revision, healthy=marked)
    choice = _Choice(view, counted, after=after, now=now)
    choice.stop()
    starts = choice.starts()
    deployment = choice.deployment()
    daemon = view.daemon
    if deployment.status == model.SUCCESSFUL != view.deployment.status:
        daemon = msgspec.structs.replace(daemon, completed_revision_id=revision.id, definitions=(revision.definition,))
    return DaemonPlan(
        daemon=daemon,
        deployment=deployment,
        revision=revision,
        stops=tuple(choice.stops),
        starts=tuple(starts),
        healthy=marked,
        wake_at=choice.wake_at(),
    )


def launches(deployment: DaemonDeployment) -> bool:
    """Whether tasks are started at all: not after a deployment that failed and had nothing to go back to."""
    return deployment.status != model.STOPPED


def was_lost(task: Task) -> bool:
    """Whether a daemon's task that is STOPPED had run and ended other than by the scheduler's wish; an unhealthy one counts as lost."""
    if not task.started_at:
        return False
    return task.stop_code != task_model.SERVICE_SCHEDULER_INITIATED or task.stopped_reason.startswith(SICK)


def batch(view: DaemonView) -> int:
    """How many instances an update takes at a time."""
    share = len(view.targets) * configuration_of(view.deployment.configuration).drain_percent / 100
    return max(1, int(share))


def _at_a_time(view: DaemonView) -> int:
    """How many instances can fail together: what the circuit breaker's threshold is worked out of."""
    return batch(view) if view.deployment.source_revision_ids else len(view.targets)


def _retire(view: DaemonView, now: Instant) -> DaemonPlan:
    """Stop what is left of a deleted daemon; over when nothing is left but what an agent that is away will stop when it is back."""
    deployment, wanted = view.deployment, [task for task in view.tasks if task.desired_status == task_model.RUNNING]
    stops = tuple(StopTask(task, task_model.SERVICE_SCHEDULER_INITIATED, _scaling(deployment)) for task in wanted[:STOPS_MAX])
    gone = all(task.desired_status == task_model.STOPPED and task.instance_key in view.away for task in view.tasks)
    over = gone and deployment.status == model.IN_PROGRESS
    if deployment.status == model.PENDING:
        deployment = msgspec.structs.replace(deployment, status=model.IN_PROGRESS, started_at=now, updated_at=now)
    elif over:
        deployment = msgspec.structs.replace(deployment, status=model.SUCCESSFUL, finished_at=now, updated_at=now)
    daemon = msgspec.structs.replace(view.daemon, share=None)
    return DaemonPlan(daemon=daemon, deployment=deployment, revision=view.revision, stops=stops, over=over)


def _scaling(deployment: DaemonDeployment) -> str:
    return f"Scaling activity initiated by (daemon deployment {deployment.id})"


class _Choice:
    """The stops and starts of one plan, and how far the deployment is with them."""

    def __init__(self, view: DaemonView, deployment: DaemonDeployment, *, after: float, now: Instant) -> None:
        self._view, self._deployment = view, deployment
        self._after, self._now = after, now
        self._may_launch = launches(deployment) and deployment.throttled_until <= now
        self._kept: dict[str, list[Task]] = defaultdict(list)
        for task in view.tasks:
            if task.desired_status == task_model.RUNNING:
                self._kept[task.instance_key].append(task)
        self._live = {task.instance_key for task in view.tasks}
        self._serving: dict[str, list[Task]] = {}
        """Connected instances → the older tasks that serve there."""
        self.stops: list[StopTask] = []

    def stop(self) -> None:
        """Choose what stops: strays, tasks that fail their check, what a lost critical daemon leaves behind, and the older tasks of the next
        batch."""
        for key in sorted(self._kept):
            current = [task for task in self._kept[key] if task.deployment_id == self._view.daemon.revision_id]
            older = [task for task in self._kept[key] if task.deployment_id != self._view.daemon.revision_id]
            if key in self._view.draining:
                # On an instance that drains the daemon goes when the others are gone; one that does not run yet at once.
                self._stop(task for task in self._kept[key] if task.last_status != task_model.RUNNING or key not in self._view.busy)
            elif key not in self._view.targets:
                self._stop(self._kept[key])
            elif current:
                self._stop((*current[1:], *older))
                self._stop((task for task in current[:1] if is_unhealthy(task)), SICK)
            elif self._may_launch and self._view.targets[key]:
                self._serving[key] = older
        self.stops += [StopTask(task, task_model.SERVICE_SCHEDULER_INITIATED, self._bereft_reason()) for task in self._view.bereft]
        self._roll()
        del self.stops[STOPS_MAX:]

    def _stop(self, tasks: Iterable[Task], reason: str = "") -> None:
        self.stops += [StopTask(task, task_model.SERVICE_SCHEDULER_INITIATED, reason or _scaling(self._deployment)) for task in tasks]

    def _bereft_reason(self) -> str:
        return f"The critical daemon {self._view.daemon.name} is not running on the container instance any more"

    def _roll(self) -> None:
        """Older tasks: those that do not serve go at once, the others by batches. None while nothing may be launched."""
        broken = [key for key, tasks in self._serving.items() if any(task.last_status != task_model.RUNNING or is_unhealthy(task) for task in tasks)]
        for key in broken:
            self._stop(self._serving.pop(key))
        left = self._deployment.step_left if self._serving else 0
        if not left and self._serving and not self._unsettled() and not self.stops and self._baked():
            left = batch(self._view)
            self._deployment = msgspec.structs.replace(self._deployment, steps=self._deployment.steps + 1, bake_started_at=0.0, updated_at=self._now)
        taken = list(self._serving)[: max(0, min(left, STOPS_MAX - len(self.stops)))]
        for key in taken:
            self._stop(self._serving[key])
        left = min(left, len(self._serving)) - len(taken)
        if left != self._deployment.step_left:
            self._deployment = msgspec.structs.replace(self._deployment, step_left=left)

    def _unsettled(self) -> list[str]:
        """Connected instances that are to have the task and have no healthy one of this revision, nor an older one that serves."""
        stopped = {stop.task.id for stop in self.stops}
        return [
            key
            for key, connected in self._view.targets.items()
            if connected
            and key not in self._serving
            and not any(is_healthy(task, self._after, self._now) and task.id not in stopped for task in self._kept.get(key, ()))
            and not self._does_without(key)
        ]

    def _does_without(self, key: str) -> bool:
        """Whether the instance goes on without the daemon, which is not critical: it has no room for it, and nothing of it that is about to leave."""
        return not self._view.daemon.critical and key in self._view.refused and key not in self._live

    def _baked(self) -> bool:
        """Whether the last step has had its bake time. It begins here."""
        deployment = self._deployment
        minutes = configuration_of(deployment.configuration).bake_time_in_minutes
        if deployment.status != model.IN_PROGRESS or not minutes or not deployment.steps:
            return True
        if not deployment.bake_started_at:
            self._deployment = msgspec.structs.replace(deployment, bake_started_at=self._now, updated_at=self._now)
            return False
        return self._now >= deployment.bake_started_at + 60.0 * minutes

    def starts(self) -> list[str]:
        """The instances that are to get a task: those that want one and have none, not even one that is on its way out. None while nothing may be
        launched."""
        if not self._may_launch:
            return []
        found = [key for key, connected in self._view.targets.items() if connected and key not in self._live]
        if found and not self._deployment.steps and self._deployment.status == model.IN_PROGRESS:
            self._deployment = msgspec.structs.replace(self._deployment, steps=1, updated_at=self._now)
        return found[:STARTS_MAX]

    def deployment(self) -> DaemonDeployment:
        """The deployment with what this plan makes of it."""
        under_way = self._view.deployment.status in (model.IN_PROGRESS, model.ROLLBACK_IN_PROGRESS)
        if not under_way:
            return self._deployment
        unsettled = self._unsettled()
        if self._serving or unsettled or self.stops or not self._alarms_known() or not self._baked():
            waiting = sorted({reason for key, reason in self._view.refused.items() if key in unsettled and key not in self._live})
            return self._waiting(waiting)
        return monitors.completed(self._deployment, self._now)

    def _waiting(self, reasons: Sequence[str]) -> DaemonDeployment:
        if self._deployment.rollback is not None:
            return self._deployment
        text = f"Container instances cannot take a task of the daemon: {', '.join(reasons)}" if reasons else ""
        return self._deployment if text == self._deployment.status_reason else msgspec.structs.replace(self._deployment, status_reason=text)

    def _alarms_known(self) -> bool:
        alarms = self._deployment.alarms
        return alarms.status != monitors.MONITORING or bool(alarms.seen_at)

    def wake_at(self) -> Instant:
        """When the answer changes without a report: a task comes of age, the throttle or the bake time ends."""
        deployment = self._deployment
        baked_at = (
            deployment.bake_started_at + 60.0 * configuration_of(deployment.configuration).bake_time_in_minutes if deployment.bake_started_at else 0
        )
        kept = [task for tasks in self._kept.values() for task in tasks]
        instants = [healthy_at(task, self._after) for task in kept]
        if any(task.last_status != task_model.RUNNING for task in kept):  # that one begins to run brings no activation (`health.concerns`)
            instants.append(self._now + self._after)
        return min((at for at in (*instants, deployment.throttled_until, baked_at) if at > self._now), default=0.0)
