"""What has been kept long enough: one pure function per kind of record.

Owns: the rules of retention (`is_over` for each record). Never deletes: `controllers/retention.py` does, in portions.
Each rule is an age after an instant that the record itself holds, a setting of `config.Settings`.
"""

from __future__ import annotations

import functools

from homeport.config import Settings
from homeport.model.ecs import capacity_provider as provider_model
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import daemon_deployment as daemon_deployment_model
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs import task_definition as definition_model
from homeport.model.ecs.capacity_provider import CapacityProvider
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.daemon_deployment import DaemonDeployment
from homeport.model.ecs.daemon_task_definition import DaemonTaskDefinition
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition
from homeport.model.iam.instance_identity import InstanceIdentity
from homeport.model.iam.join_token import JoinToken
from homeport.model.installation import Effect, IdempotencyToken
from homeport.model.record import Instant, Record


@functools.singledispatch
def over_at(record: Record, settings: Settings) -> Instant:
    """The instant from which `record` may be forgotten; 0.0: not while it is as it is. Raises TypeError for a kind that is never forgotten."""
    raise TypeError(f"{type(record).__name__} has no rule of retention")


@over_at.register
def _(task: Task, settings: Settings) -> Instant:
    return task.stopped_at + settings.stopped_task_retention_seconds if task.last_status == task_model.STOPPED else 0.0


@over_at.register
def _(service: Service, settings: Settings) -> Instant:
    return service.drained_at + settings.inactive_service_retention_seconds if service.status == service_model.INACTIVE else 0.0


@over_at.register
def _(instance: ContainerInstance, settings: Settings) -> Instant:
    if instance.status != instance_model.INACTIVE or not instance.left_at:
        return 0.0
    return instance.left_at + settings.inactive_instance_retention_seconds


@over_at.register
def _(provider: CapacityProvider, settings: Settings) -> Instant:
    return provider.deleted_at + settings.inactive_capacity_provider_retention_seconds if provider.status == provider_model.INACTIVE else 0.0


@over_at.register
def _(token: IdempotencyToken, settings: Settings) -> Instant:
    return token.expires_at


@over_at.register
def _(token: JoinToken, settings: Settings) -> Instant:
    # Kept for a while after its end, so that who comes too late is told so.
    return token.expires_at + settings.join_token_retention_seconds


@over_at.register
def _(identity: InstanceIdentity, settings: Settings) -> Instant:
    # An agent that lives proves itself every hour. The controller sees whether its container instance is still registered.
    return identity.proved_at + settings.instance_identity_retention_seconds


@over_at.register
def _(effect: Effect, settings: Settings) -> Instant:
    return effect.made_at + settings.effect_retention_seconds


@over_at.register
def _(definition: TaskDefinition, settings: Settings) -> Instant:
    # Kept only for what refers to it, which the controller sees.
    return definition.delete_requested_at if definition.status == definition_model.DELETE_IN_PROGRESS else 0.0


@over_at.register
def _(definition: DaemonTaskDefinition, settings: Settings) -> Instant:
    return definition.deleted_at + settings.inactive_service_retention_seconds if definition.deleted_at else 0.0


@over_at.register
def _(deployment: DaemonDeployment, settings: Settings) -> Instant:
    return deployment.updated_at + settings.deployment_retention_seconds if deployment.status in daemon_deployment_model.TERMINAL else 0.0


@over_at.register
def _(deployment: Deployment, settings: Settings) -> Instant:
    return deployment.updated_at + settings.deployment_retention_seconds if deployment.status == deployment_model.INACTIVE else 0.0


def is_over(record: Record, settings: Settings, now: Instant) -> bool:
    """Whether `record` may be forgotten at `now`."""
    at = over_at(record, settings)
    return 0.0 < at <= now
