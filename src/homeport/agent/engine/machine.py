"""The task machine: (task, event, now) → (task, actions), one step at a time.

Owns: every decision about a task on this host: what starts, what stops, what is reported, when it is over.
Pure. Never performs an action, reads a clock or keeps a record: the engine stores what comes out and the executor carries it out.

    container   NONE ──Pulled──► PULLED ──Created──► CREATED ──Launched/Seen──► RUNNING ──Seen exited──► STOPPED
                any ──PullFailed, LaunchFailed, Gone, or the task stops before the container ran──► STOPPED
    task        NONE ──every container ran──► RUNNING ──every container STOPPED──► STOPPED
    desired     RUNNING ──StopWanted, an essential container stopped, a dependency is lost──► STOPPED
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeport.acs.messages import TaskPayload
from homeport.agent.engine import ordering
from homeport.agent.engine.report import ContainerReport, NetworkBinding, TaskReport, clipped
from homeport.agent.engine.task import (
    KNOWN,
    LABEL_NOTES,
    Acknowledged,
    Action,
    ContainerState,
    Continue,
    Created,
    Discard,
    Event,
    Gone,
    Launch,
    Launched,
    LaunchFailed,
    Overdue,
    Prepare,
    Prepared,
    PrepareFailed,
    Pull,
    Pulled,
    PullFailed,
    Seen,
    Stop,
    StopEnded,
    StopWanted,
    TaskState,
    Tell,
    Watch,
)
from homeport.agent.runtime.contract import ContainerObservation

RESTART_SECONDS_DEFAULT = 300
"""restartAttemptPeriod when the policy does not say (ecs-reference 3.4)."""

OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
CONTAINER_GONE = "DockerStateError: the container does not exist any more"

_HEALTH = {"healthy": "HEALTHY", "unhealthy": "UNHEALTHY"}

Decision = tuple[TaskState, tuple[Action, ...]]


def new_task(payload: TaskPayload, *, needs_preparation: bool) -> TaskState:
    """A task as it is accepted. One that is already to be STOPPED (and so was never seen here) has no containers to make."""
    wanted = payload.desiredStatus != "STOPPED"
    containers = tuple(ContainerState(name=container.name) for container in payload.containers) if wanted else ()
    return TaskState(payload=payload, desired="RUNNING" if wanted else "STOPPED", containers=containers, prepared=not needs_preparation)


def step(task: TaskState, event: Event, now: float) -> Decision:
    """The task after `event`, and what is to be done. `now` is wall-clock seconds."""
    actions: list[Action] = []
    task = _apply(task, event, now, actions)
    if task.told is not None and task.told.status == "STOPPED":
        return task, tuple(actions)  # the end was told, and is told once
    task = _settle(task, now, actions)
    task = _advance(task, actions)
    return task, tuple(actions)


# -- what the event says --------------------------------------------------------------------------------------------------


def _apply(task: TaskState, event: Event, now: float, actions: list[Action]) -> TaskState:
    match event:
        case StopWanted():
            return msgspec.structs.replace(task, desired="STOPPED")
        case Prepared():
            return msgspec.structs.replace(task, prepared=True, preparing=False)
        case PrepareFailed(reason=reason):
            task = msgspec.structs.replace(task, preparing=False)
            return task if task.desired == "STOPPED" else msgspec.structs.replace(task, desired="STOPPED", reason=clipped(reason))
        case Pulled() | PullFailed():
            return _pull_ended(task, event, actions)
        case Created(name=name, runtime_id=runtime_id):
            return _change(task, name, known=_forward(task.container(name), "CREATED"), runtime_id=runtime_id)
        case LaunchFailed(name=name, reason=reason):
            return _launch_failed(task, name, reason, now, actions)
        case Launched(name=name, observation=observation):
            return _observe(_change(task, name, step=""), name, observation, now, actions)
        case Seen(name=name, observation=observation):
            return _observe(task, name, observation, now, actions)
        case Gone(name=name):
            return _gone(task, name, now)
        case StopEnded(name=name):
            return _change(task, name, step="")
        case Overdue(name=name):
            return _change(task, name, overdue=True)
        case Acknowledged(status=status):
            return _acknowledged(task, status, now, actions)
        case Continue():
            return task
    raise TypeError(f"unknown event {event!r}")


def _pull_ended(task: TaskState, event: Pulled | PullFailed, actions: list[Action]) -> TaskState:
    container = task.container(event.name)
    if container.known == "STOPPED":
        return _change(task, event.name, step="")
    started = event.started_at if task.pull_started_at is None else min(task.pull_started_at, event.started_at)
    stopped = event.stopped_at if task.pull_stopped_at is None else max(task.pull_stopped_at, event.stopped_at)
    task = msgspec.structs.replace(task, pull_started_at=started, pull_stopped_at=stopped)
    if isinstance(event, PullFailed):
        return _change(task, event.name, step="", known="STOPPED", reason=clipped(event.reason))
    task = _change(task, event.name, step="", known=_forward(container, "PULLED"), image_digest=event.digest)
    if event.fresh and event.digest and task.desired == "RUNNING" and task.known == "NONE":
        entry = ContainerReport(name=event.name, status="PENDING", image_digest=event.digest)
        actions.append(Tell(TaskReport(arn=task.arn, status="PENDING", containers=(entry,))))
    return task


def _launch_failed(task: TaskState, name: str, reason: str, now: float, actions: list[Action]) -> TaskState:
    container = task.container(name)
    if container.known == "STOPPED" or not reason:
        return _change(task, name, step="")
    task = _essential_end(_change(task, name, step="", known="STOPPED", reason=clipped(reason)), name, now)
    if container.runtime_id is None:
        return task
    actions.append(Stop(name))  # its start may yet happen, when it was the answer that failed
    return _change(task, name, step="STOP")


def _gone(task: TaskState, name: str, now: float) -> TaskState:
    container = task.container(name)
    if container.known == "STOPPED" or container.runtime_id is None:
        return _change(task, name, step="" if container.step == "STOP" else container.step)
    reason = container.reason or ("" if task.desired == "STOPPED" else CONTAINER_GONE)
    return _essential_end(_change(task, name, step="", known="STOPPED", reason=reason), name, now)


def _acknowledged(task: TaskState, status: str, now: float, actions: list[Action]) -> TaskState:
    if status != task.known:
        return task
    if status == "STOPPED" and task.acknowledged != "STOPPED":
        actions.append(Discard())
        return msgspec.structs.replace(task, acknowledged=status, acknowledged_at=now)
    return msgspec.structs.replace(task, acknowledged=status)


def _observe(task: TaskState, name: str, seen: ContainerObservation, now: float, actions: list[Action]) -> TaskState:
    container = task.container(name)
    task = _change(task, name, runtime_id=seen.id, note=clipped(seen.labels.get(LABEL_NOTES, "")))
    if seen.status == "created":
        return _change(task, name, known=_forward(container, "CREATED"))
    if seen.running:
        return _observe_running(task, container, seen, now, actions)
    if seen.status in ("exited", "dead"):
        return _observe_exit(task, container, seen, now, actions)
    return task


def _observe_running(task: TaskState, container: ContainerState, seen: ContainerObservation, now: float, actions: list[Action]) -> TaskState:
    if container.ended_at and (seen.started_at or 0.0) <= container.ended_at:
        return task  # an old picture, from before an exit that was dealt with
    if container.known == "STOPPED":
        if container.step:
            return task
        actions.append(Stop(container.name))  # a start that was under way when its task was given up
        return _change(task, container.name, step="STOP")
    health, output = "UNKNOWN", ""
    if seen.health is not None and task.definition(container.name).healthCheckType == "docker":
        health, output = _HEALTH.get(seen.health.status, "UNKNOWN"), clipped(seen.health.output)
    since = container.health_since if health == container.health and container.health_since else now
    return _change(
        task,
        container.name,
        known="RUNNING",
        started_at=seen.started_at or now,
        bindings=_bindings(task, container.name, seen),
        health=health,
        health_since=since,
        health_output=output,
    )


def _observe_exit(task: TaskState, container: ContainerState, seen: ContainerObservation, now: float, actions: list[Action]) -> TaskState:
    name, ended = container.name, seen.finished_at or now
    if seen.started_at is None or container.known == "STOPPED" or ended <= container.ended_at:
        return task
    if container.known != "RUNNING":
        # It ran, however briefly: whoever watches sees it RUNNING first, so that a quick exit is not taken for a failed start.
        task = _settle(_change(task, name, known="RUNNING", started_at=seen.started_at), now, actions)
    if task.desired == "RUNNING" and _restarts(task, name, seen):
        actions.append(Launch(name))
        return _change(task, name, step="LAUNCH", ended_at=ended, restarts=container.restarts + 1, health="UNKNOWN", health_since=now)
    reason = OUT_OF_MEMORY if seen.oom_killed else clipped(seen.error)
    task = _change(task, name, known="STOPPED", started_at=seen.started_at, ended_at=ended, exit_code=seen.exit_code, reason=reason)
    return _essential_end(task, name, ended)


def _restarts(task: TaskState, name: str, seen: ContainerObservation) -> bool:
    policy = task.definition(name).restartPolicy
    if policy is None or not policy.enabled or seen.exit_code in policy.ignoredExitCodes:
        return False
    ran = (seen.finished_at or 0.0) - (seen.started_at or 0.0)
    return ran >= (policy.restartAttemptPeriod or RESTART_SECONDS_DEFAULT)


def _bindings(task: TaskState, name: str, seen: ContainerObservation) -> tuple[NetworkBinding, ...]:
    if task.payload.networkMode == "host":
        ports = task.definition(name).portMappings
        return tuple(NetworkBinding("0.0.0.0", port.containerPort, port.containerPort, port.protocol or "tcp") for port in ports)  # noqa: S104
    return tuple(NetworkBinding(port.host_ip, port.container_port, port.host_port, port.protocol) for port in seen.ports)


# -- what follows for the task --------------------------------------------------------------------------------------------


def _essential_end(task: TaskState, name: str, ended: float) -> TaskState:
    if not task.definition(name).essential:
        return task
    at = task.execution_stopped_at if task.execution_stopped_at is not None else ended
    return msgspec.structs.replace(task, execution_stopped_at=at)


def _settle(task: TaskState, now: float, actions: list[Action]) -> TaskState:
    """Bring the task's own status up to its containers', and tell it when it differs from what was told.

    The end of an essential container is told at once, also while others take their time to stop: whoever counts on the task must not wait for them.
    """
    ends = task.desired == "RUNNING" and any(
        container.known == "STOPPED" and task.definition(container.name).essential for container in task.containers
    )
    if ends:
        task = msgspec.structs.replace(task, desired="STOPPED")
    task = _give_up(task, now)
    if task.desired == "STOPPED":
        task = _stop_unborn(task)
    if task.known != "STOPPED" and task.desired == "STOPPED" and all(container.known == "STOPPED" for container in task.containers):
        at = task.execution_stopped_at
        if at is None and any(container.started_at is not None for container in task.containers):
            at = now
        task = msgspec.structs.replace(task, known="STOPPED", execution_stopped_at=at)
    elif task.known == "NONE" and task.desired == "RUNNING" and all(container.rank >= KNOWN.index("RUNNING") for container in task.containers):
        task = msgspec.structs.replace(task, known="RUNNING")
    if task.known == "STOPPED" or (task.known == "RUNNING" and (task.desired == "RUNNING" or ends)):
        report = report_of(task)
        if report != task.told:
            actions.append(Tell(report))
            task = msgspec.structs.replace(task, told=report, acknowledged="")
    return task


def _give_up(task: TaskState, now: float) -> TaskState:
    """Stop the task when a container waits for something that can no longer happen."""
    if task.desired == "STOPPED":
        return task
    for container in task.containers:
        if container.rank > KNOWN.index("PULLED") or container.step == "LAUNCH":
            continue
        for need in ordering.needs(task.definition(container.name)):
            if ordering.verdict(need, task.container(need.container)) == "NEVER":
                reason = (
                    f"Task dependencies cannot be resolved: container {container.name} waits for container {need.container} "
                    f"to reach {need.condition}, which {'took too long' if task.container(need.container).overdue else 'cannot happen any more'}"
                )
                task = _change(task, container.name, known="STOPPED", reason=reason)
                return msgspec.structs.replace(task, desired="STOPPED", reason=task.reason or reason, execution_stopped_at=now)
    return task


def _stop_unborn(task: TaskState) -> TaskState:
    """Containers that never ran, and that no step is about to run, are STOPPED as they are."""
    for container in task.containers:
        if container.rank < KNOWN.index("RUNNING") and container.step in ("", "PULL"):
            task = _change(task, container.name, known="STOPPED")
    return task


def report_of(task: TaskState) -> TaskReport:
    """The report about the task as it is now."""
    entries = []
    for container in task.containers:
        status = "STOPPED" if container.known == "STOPPED" else "RUNNING"
        entries.append(
            ContainerReport(
                name=container.name,
                status=status,
                runtime_id=container.runtime_id,
                exit_code=container.exit_code,
                reason=container.reason or container.note or None,
                image_digest=container.image_digest,
                network_bindings=container.bindings,
            )
        )
    return TaskReport(
        arn=task.arn,
        status=task.known,
        reason=task.reason,
        pull_started_at=task.pull_started_at,
        pull_stopped_at=task.pull_stopped_at,
        execution_stopped_at=task.execution_stopped_at,
        containers=tuple(entries),
    )


# -- what is to be done ---------------------------------------------------------------------------------------------------


def _advance(task: TaskState, actions: list[Action]) -> TaskState:
    """Begin every step that can begin."""
    if task.desired == "STOPPED":
        return _advance_stops(task, actions)
    if not task.prepared and not task.preparing:
        actions.append(Prepare())
        task = msgspec.structs.replace(task, preparing=True)
    for container in task.containers:
        if container.step:
            continue
        if container.known == "NONE":
            actions.append(Pull(container.name))
            task = _change(task, container.name, step="PULL")
        elif (container.known == "PULLED" and task.prepared and _ready(task, container.name)) or container.known == "CREATED":
            actions.append(Launch(container.name))
            task = _change(task, container.name, step="LAUNCH")
    return task


def watches(before: TaskState | None, after: TaskState, now: float) -> tuple[Watch, ...]:
    """A Watch for each container that began to run between the two and whose startTimeout counts; `before` is None after a restart."""
    found = []
    for container in after.containers:
        if container.known != "RUNNING" or container.started_at is None:
            continue
        if before is not None and before.container(container.name).known == "RUNNING":
            continue
        seconds = after.definition(container.name).startTimeout
        if seconds and ordering.is_timed(container.name, after.payload.containers):
            found.append(Watch(container.name, max(0.0, container.started_at + seconds - now)))
    return tuple(found)


def _ready(task: TaskState, name: str) -> bool:
    return all(ordering.verdict(need, task.container(need.container)) == "READY" for need in ordering.needs(task.definition(name)))


def _advance_stops(task: TaskState, actions: list[Action]) -> TaskState:
    """Stop each running container whose dependents have all stopped."""
    for container in task.containers:
        if container.known != "RUNNING" or container.step:
            continue
        waiting = ordering.dependents(container.name, task.payload.containers)
        if all(task.container(name).known == "STOPPED" for name in waiting):
            actions.append(Stop(container.name))
            task = _change(task, container.name, step="STOP")
    return task


def _forward(container: ContainerState, known: str) -> str:
    return known if KNOWN.index(known) > container.rank else container.known


def _change(task: TaskState, name: str, **values: Any) -> TaskState:
    containers = tuple(msgspec.structs.replace(item, **values) if item.name == name else item for item in task.containers)
    return msgspec.structs.replace(task, containers=containers)
