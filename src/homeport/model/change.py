"""The vocabulary in which planners say what should change.

Owns: the changes (`StartTask`, `StopTask`, `EndTask`, `UpdateTask`, `RollBack` and so on), `Event` and `Plan`.
Never applies anything: controllers do, in one transaction.
"""

from __future__ import annotations

import msgspec

from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import Service
from homeport.model.ecs.service_revision import ServiceRevision
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_set import TaskSet
from homeport.model.record import Instant


class StartTask(msgspec.Struct, frozen=True):
    """Make one task of `deployment`; where it runs is for placement to say."""

    deployment: Deployment
    reason: str
    instance_key: str = ""
    """On this instance and on no other, if it can take it; "": on any."""
    zone: str = ""
    """In this availability zone and in no other; "": in any."""


class StopTask(msgspec.Struct, frozen=True):
    """Want `task` STOPPED, with the words that the user reads."""

    task: Task
    stop_code: str
    reason: str
    zone: str = ""
    """The zone that it is stopped in for the sake of balance; "": for another reason."""


class EndTask(msgspec.Struct, frozen=True):
    """Call `task` STOPPED without its agent's word: its instance has left, nobody will report it any more."""

    task: Task
    stop_code: str
    reason: str


class UpdateTask(msgspec.Struct, frozen=True):
    """Put `task` in place of the stored one."""

    task: Task
    reason: str


class UpdateInstance(msgspec.Struct, frozen=True):
    """Put `instance` in place of the stored one."""

    instance: ContainerInstance
    reason: str


class UpdateService(msgspec.Struct, frozen=True):
    """Put `service` in place of the stored one."""

    service: Service
    reason: str


class UpdateDeployment(msgspec.Struct, frozen=True):
    """Put `deployment` in place of the stored one."""

    deployment: Deployment
    reason: str


class UpdateRevision(msgspec.Struct, frozen=True):
    """Put `revision` in place of the stored one."""

    revision: ServiceRevision
    reason: str


class UpdateTaskSet(msgspec.Struct, frozen=True):
    """Put `task_set` in place of the stored one."""

    task_set: TaskSet
    reason: str


class ForgetTaskSet(msgspec.Struct, frozen=True):
    """Delete the record of `task_set`: it was deleted, and its tasks are on their way down."""

    task_set: TaskSet
    reason: str


class RollBack(msgspec.Struct, frozen=True):
    """Put `deployment`, which failed, in place of the stored one and start a deployment of `revision` in front of it."""

    deployment: Deployment
    revision: ServiceRevision
    reason: str
    """rolloutStateReason of the new one."""


class Event(msgspec.Struct, frozen=True):
    """A sentence for the service's events. The same `cause` is not written twice within the repeat time; "" is always written."""

    message: str
    cause: str = ""


Change = (
    StartTask
    | StopTask
    | EndTask
    | UpdateTask
    | UpdateInstance
    | UpdateService
    | UpdateDeployment
    | UpdateRevision
    | UpdateTaskSet
    | ForgetTaskSet
    | RollBack
    | Event
)


class Plan(msgspec.Struct, frozen=True):
    """What a planner answers: changes in order, when to look again (0.0: when something changes), and why nothing more was done."""

    changes: tuple[Change, ...] = ()
    wake_at: Instant = 0.0
    waiting_on: tuple[str, ...] = ()
