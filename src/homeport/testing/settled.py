"""What must come true in time: while a simulation runs, and once its faults have ended.

Owns: `Patience` (a service below its desired count must say why within 45 seconds), `unsettled` (what is not yet where it is wanted) and
`steps_taken` (whether what takes its time moves on).
Never changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from homeport.api.call import Context
from homeport.model.arn import task_arn
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import RANK, Task
from homeport.model.ecs.task_definition import task_definition_key
from homeport.placement.reasons import Refusal
from homeport.placement.request import placement_request
from homeport.testing import task_set_rules
from homeport.testing.births import expressions_of, suits
from homeport.testing.daemon_rules import daemons_at_rest
from homeport.testing.hosts import Host
from homeport.testing.invariants import Invariants
from homeport.testing.shifts import holds_back

PATIENCE_SECONDS: Final = 45.0
"""How long a service may be below its desired count without a reason: two sweeps and some work."""


class Plane(Protocol):
    """What is asked of the control plane, whether it is one server or several."""

    @property
    def up(self) -> bool:
        """Whether changes are taken."""
        ...

    @property
    def troubled(self) -> bool:
        """Whether something holds up commits."""
        ...

    @property
    def context(self) -> Context | None:
        """Of the server that leads."""
        ...

    def now(self) -> float:
        """Its wall clock."""
        ...

    def situation(self) -> tuple[Any, ...]:
        """What begins anew whatever the scheduler was waiting for, when it changes."""
        ...


class Patience:
    """Watches services that have fewer tasks than desired and give no reason."""

    def __init__(self, plane: Plane, invariants: Invariants, violated: Callable[[str], None]) -> None:
        self._plane = plane
        self._invariants = invariants
        self._violated = violated
        self._since: dict[str, tuple[float, tuple[Any, ...]]] = {}

    def look(self, now: float) -> None:
        """Look at every service; complain of one that has been short and silent for too long."""
        records = self._invariants.records
        for key, service in records["services"].items():
            tasks = self._invariants.tasks_of(key)
            short = _shortage(service, records, tasks, self._plane.now()) if service.status == "ACTIVE" else ""
            # A new life, a jump of the clock, a full disk or another wish starts the wait anew.
            situation = (*self._plane.situation(), service.desired_count, service.family, service.revision)
            situation += task_set_rules.situation(records, service) if service.has_task_sets else ()
            if not short or self._plane.troubled:
                self._since.pop(key, None)
                continue
            since, before = self._since.setdefault(key, (now, situation))
            if before != situation:
                self._since[key] = (now, situation)
            elif now - since > PATIENCE_SECONDS:
                self._violated(f"service {service.name} {short} for {now - since:.0f} s and nothing says why")


def _primary(records: dict[str, dict[str, Any]], service: Service) -> Any:
    return next((item for item in records["deployments"].values() if item.service_key == service.key and item.status == "PRIMARY"), None)


def _shortage(service: Service, records: dict[str, dict[str, Any]], tasks: list[Task], now: float) -> str:
    """What the service lacks without a reason; "" when nothing."""
    if service.has_task_sets:
        return task_set_rules.shortage(records, service, tasks, now)
    primary = _primary(records, service)
    if primary is None:
        return "has no PRIMARY deployment"
    if holds_back(primary):
        return ""
    wanted = sum(1 for task in tasks if task.desired_status == "RUNNING" and task.deployment_id == primary.target_id)
    occupied = sum(1 for task in tasks if RANK[task.last_status] <= RANK["RUNNING"])
    if wanted >= service.desired_count or service.placement_failure or primary.throttled_until > now - 1.0 or primary.rollout_state == "FAILED":
        return ""
    if occupied >= service.desired_count * service.maximum_percent // 100:
        return ""
    if any(task.desired_status == "STOPPED" for task in tasks):
        return ""  # what they hold may be what is missing; their ends bring the next try
    return f"has {wanted} of {service.desired_count} tasks"


def unsettled(plane: Plane, invariants: Invariants, hosts: Iterable[Host]) -> list[str]:
    """Everything that is not where it is wanted, in words; empty when the installation is at rest."""
    if not plane.up or plane.context is None:
        return ["the server is down"]
    records = invariants.records
    by_arn = {host.instance_arn: host for host in hosts}
    problems = [problem for service in records["services"].values() for problem in _service_problems(plane, invariants, service)]
    for task in records["tasks"].values():
        if task.desired_status == "STOPPED" and task.last_status != "STOPPED":
            problems.append(f"task {task.id} is wanted STOPPED and is {task.last_status}")
        elif task.last_status in ("PENDING", "PROVISIONING"):
            problems.append(f"task {task.id} of {task.family} is still {task.last_status}")
    live = [task for task in records["tasks"].values() if task.last_status != "STOPPED"]
    problems.extend(daemons_at_rest(records, live, plane.context.placement))
    for arn, host in sorted(by_arn.items()):
        problems.extend(_host_problems(records, arn, host))
    return problems


def steps_taken(records: dict[str, dict[str, Any]]) -> set[tuple[Any, ...]]:
    """How far each deployment of a service and of a daemon has come. While there is something here that never was before, they move on."""
    services = {(item.key, item.status, item.rollout_state, item.step, len(item.stage_changes)) for item in records["deployments"].values()}
    return services | {(item.key, item.status, item.steps) for item in records["daemon_deployments"].values()}


def _service_problems(plane: Plane, invariants: Invariants, service: Service) -> Iterable[str]:
    records = invariants.records
    primary = _primary(records, service)
    if service.status == "DRAINING":
        yield f"service {service.name} is still DRAINING"
    if service.status != "ACTIVE":
        return
    if service.has_task_sets:
        wanted = [task for task in invariants.tasks_of(service.key) if task.desired_status == "RUNNING"]
        yield from task_set_rules.at_rest(records, service, wanted)
        return
    if primary is None:
        yield f"service {service.name} has no PRIMARY deployment"
        return
    if primary.rollout_state == "FAILED" or service.family in ("sick", "failing", "crashing", "unstartable", "missing"):
        return
    if service.scheduling_strategy == "DAEMON":
        yield from _daemon_problems(plane, invariants, service)
        return
    tasks = [task for task in invariants.tasks_of(service.key) if task.desired_status == "RUNNING"]
    placed = [task for task in tasks if task.container_instance_id]
    draining = [task for task in placed if records["container_instances"][task.instance_key].status == "DRAINING"]
    if draining and not service.placement_failure and not _cannot_roll(records, service, primary):
        yield f"service {service.name}: {len(draining)} tasks are still on draining instances"
    running = [task for task in tasks if task.last_status == "RUNNING" and task.deployment_id == primary.target_id]
    if len(running) == service.desired_count:
        old = [task for task in tasks if task.deployment_id != primary.target_id]
        if old:
            yield f"service {service.name}: {len(old)} tasks of older deployments still run"
        return
    if not service.placement_failure:
        if _cannot_roll(records, service, primary):
            return
        yield (
            f"service {service.name} ({service.family}) runs {len(running)} of {service.desired_count} with {len(tasks)} wanted tasks; "
            f"throttled until {primary.throttled_until:.0f}, now {plane.now():.0f}, {primary.rollout_state}"
        )
    elif plane.context is not None:
        definition = records["task_definitions"].get(task_definition_key(service.account, service.family, service.revision))
        if not isinstance(plane.context.placement.place(placement_request(service, definition)), Refusal) and len(tasks) < service.desired_count:
            yield f"service {service.name} could place a task and says: {service.placement_failure}"


def _daemon_problems(plane: Plane, invariants: Invariants, service: Service) -> Iterable[str]:
    """A daemon runs once on every ACTIVE instance that it is for, unless placement refuses it there; and nowhere else."""
    records, context = invariants.records, plane.context
    primary = _primary(records, service)
    wanted = {task.instance_key: task for task in invariants.tasks_of(service.key) if task.desired_status == "RUNNING"}
    definition = records["task_definitions"].get(task_definition_key(service.account, service.family, service.revision))
    request = placement_request(service, definition)
    for key, instance in records["container_instances"].items():
        task = wanted.get(key)
        suitable = instance.status == "ACTIVE" and suits(instance, expressions_of(records, service, service.placement_constraints))
        if task is not None and not suitable:
            if instance.status == "DRAINING" and _has_replicas(records, key):
                continue  # it stops after the last of them, and that one may find no other place
            yield f"daemon {service.name} still has a task on instance {instance.id}"
        elif (
            task is not None
            and task.deployment_id != primary.target_id
            and not (service.placement_failure or _cannot_roll(records, service, primary))
        ):
            # With an instance that has no room for it, its lower bound may forbid the next step.
            yield f"daemon {service.name} still has an older task on instance {instance.id}"
        elif task is None and suitable and instance.agent_connected and context is not None:
            found = context.placement.place_on(request, key)
            if not isinstance(found, Refusal):
                yield f"daemon {service.name} has no task on instance {instance.id}, which could take one"


def _has_replicas(records: dict[str, dict[str, Any]], instance_key: str) -> bool:
    """Whether a live task of a service that is no daemon is on the instance."""
    live = (task for task in records["tasks"].values() if task.service and task.instance_key == instance_key and task.last_status != "STOPPED")
    return any(records["services"][task.service_key].scheduling_strategy != "DAEMON" for task in live)


def _cannot_roll(records: dict[str, dict[str, Any]], service: Service, primary: Any) -> bool:
    """Whether the service's own percentages forbid the next step, and its events say so."""
    upper = service.desired_count * service.maximum_percent // 100
    lower = -(-service.desired_count * service.minimum_healthy_percent // 100)
    said = any(event.service_key == service.key and event.cause == f"configuration {primary.id}" for event in records["service_events"].values())
    return said and upper <= service.desired_count and lower >= service.desired_count


def _host_problems(records: dict[str, dict[str, Any]], arn: str, host: Host) -> Iterable[str]:
    instance = next((item for item in records["container_instances"].values() if arn and item.id == arn.rpartition("/")[2]), None)
    if not arn or not host.on:
        yield f"{host.name} is no instance"
        return
    if instance is None:
        return  # deregistered, and forgotten by now: deployments may bake for longer than such an instance is remembered
    if instance.status == "INACTIVE":
        return  # deregistered, with an agent that waits for the operator
    if not instance.agent_connected:
        yield f"{host.name} is not connected"
        return
    wanted = {
        task_arn("us-east-1", task.account, task.cluster, task.id)
        for task in records["tasks"].values()
        if task.container_instance_id == instance.id and task.last_status == "RUNNING"
    }
    held = set(host.own_running())
    for name in sorted(wanted - held):
        yield f"{host.name} does not run {name}, which is RUNNING in the books"
    for name in sorted(held - wanted):
        yield f"{host.name} runs {name}, which is not RUNNING in the books"
