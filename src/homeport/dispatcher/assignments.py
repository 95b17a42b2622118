"""What one agent must be told next: the stored tasks of its instance against what this session has already sent.

Owns: `Assignments` and `assign`. Pure. Never decides what a task should do: it repeats what the store says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from homeport.model.ecs.task import PROVISIONING, RUNNING, STOPPED, Task


class Assignments(msgspec.Struct, frozen=True):
    """What to send, and what to forget."""

    run: tuple[Task, ...] = ()
    """Tasks that the agent must hold and was not sent in this session: in full."""
    stop: tuple[Task, ...] = ()
    """Tasks wanted STOPPED."""
    gone: tuple[str, ...] = ()
    """Keys of tasks that need no more messages."""


def assign(tasks: Mapping[str, Task | None], sent: Mapping[str, str], *, instance_key: str) -> Assignments:
    """Compare `tasks` (key → record, or None when there is none) with `sent` (key → desired status last sent in this session).

    A task counts while it is on `instance_key` and not yet STOPPED. One still PROVISIONING waits: not everything it needs is there yet.
    """
    run: list[Task] = []
    stop: list[Task] = []
    gone: list[str] = []
    for key, task in tasks.items():
        if task is None or task.instance_key != instance_key or task.last_status == STOPPED:
            if key in sent:
                gone.append(key)
        elif task.desired_status == STOPPED:
            if sent.get(key) != STOPPED:
                stop.append(task)
        elif task.last_status != PROVISIONING and key not in sent:
            run.append(task)
    return Assignments(tuple(run), tuple(stop), tuple(gone))


def held(tasks: Iterable[Task]) -> tuple[Task, ...]:
    """Of an instance's live tasks those that a manifest lists: wanted RUNNING, or on their way to STOPPED with the agent's help."""
    return tuple(task for task in tasks if task.last_status not in (STOPPED, PROVISIONING))


def to_stop(candidates: Mapping[str, Task | None], *, instance_key: str) -> tuple[str, ...]:
    """Of the tasks that an agent holds and its manifest lacked (key → record as it is now), the keys of those that nobody wants there."""
    return tuple(
        key
        for key, task in candidates.items()
        if task is None or task.instance_key != instance_key or task.desired_status != RUNNING or task.last_status == STOPPED
    )


def concerns(before: Task | None, after: Task | None) -> bool:
    """Whether a change of a task can change what its agent must be told. Most changes are the agent's own reports and cannot."""
    if before is None or after is None:
        return True
    return (
        before.desired_status != after.desired_status
        or before.container_instance_id != after.container_instance_id
        or (before.last_status == PROVISIONING) != (after.last_status == PROVISIONING)
        or (before.last_status == STOPPED) != (after.last_status == STOPPED)
    )
