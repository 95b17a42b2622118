"""Every table of the store in one list.

Owns: the declarations of keys, indexes, guards and stored versions. Never holds data, never runs a transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from homeport.errors import InvalidTransitionError
from homeport.model.account import Account
from homeport.model.data_key import SEALING, DataKey, Sealing
from homeport.model.ecs import capacity_provider as capacity_provider_model
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import daemon as daemon_model
from homeport.model.ecs import daemon_deployment as daemon_deployment_model
from homeport.model.ecs import daemon_task_definition as daemon_definition_model
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import gateway as gateway_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs import task_set as task_set_model
from homeport.model.ecs.account_setting import AccountSetting
from homeport.model.ecs.capacity_provider import CapacityProvider
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.daemon_deployment import DaemonDeployment
from homeport.model.ecs.daemon_revision import DaemonRevision
from homeport.model.ecs.daemon_task_definition import DaemonTaskDefinition
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.express_gateway_service import ExpressGatewayService
from homeport.model.ecs.gateway import Gateway, GatewayAssociation
from homeport.model.ecs.service import Service, ServiceEvent
from homeport.model.ecs.service_revision import ServiceRevision
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition, TaskDefinitionFamily
from homeport.model.ecs.task_set import TaskSet
from homeport.model.homeport.rule import Rule
from homeport.model.iam.access_key import AccessKey
from homeport.model.iam.group import Group
from homeport.model.iam.instance_identity import InstanceIdentity
from homeport.model.iam.join_token import JoinToken
from homeport.model.iam.last_use import LastUse
from homeport.model.iam.oidc_provider import OidcProvider
from homeport.model.iam.policy import ManagedPolicy
from homeport.model.iam.role import InstanceProfile, Role
from homeport.model.iam.session_key import SessionKey
from homeport.model.iam.user import User
from homeport.model.installation import Effect, IdempotencyToken, Installation
from homeport.store.table import Table

Guard = Callable[[Any, Any], None]


def guard_task(before: Task | None, after: Task | None) -> None:
    """A task's states only move forward: `last_status` along `task_model.ORDER`, `desired_status` from RUNNING to STOPPED."""
    if before is None or after is None:
        return
    if task_model.RANK[after.last_status] < task_model.RANK[before.last_status]:
        raise InvalidTransitionError(f"task {after.id}: lastStatus may not go back from {before.last_status} to {after.last_status}")
    if before.desired_status == task_model.STOPPED and after.desired_status != task_model.STOPPED:
        raise InvalidTransitionError(f"task {after.id}: desiredStatus may not leave STOPPED")


def moves_along(transitions: Mapping[str, Collection[str]], name: Callable[[Any], str], *, field: str = "status") -> Guard:
    """A guard of records whose `field` moves along `transitions`. `name` says which record it is, for the error."""

    def guard(before: Any, after: Any) -> None:
        if before is None or after is None:
            return
        old, new = getattr(before, field), getattr(after, field)
        if new != old and new not in transitions[old]:
            raise InvalidTransitionError(f"{name(after)}: {field} may not go from {old or 'none'} to {new or 'none'}")

    return guard


_guard_lifecycle_stage: Final = moves_along(deployment_model.LIFECYCLE, lambda r: f"deployment {r.id}", field="lifecycle_stage")
_guard_deployment_status: Final = moves_along(deployment_model.TRANSITIONS, lambda r: f"deployment {r.id}", field="service_deployment_status")


def guard_deployment(before: Deployment | None, after: Deployment | None) -> None:
    """A service deployment's status and its lifecycle stage move along their transition tables; records of older versions have no status."""
    _guard_lifecycle_stage(before, after)
    if before is not None and after is not None and before.service_deployment_status and after.service_deployment_status:
        _guard_deployment_status(before, after)


def guard_capacity_provider(before: CapacityProvider | None, after: CapacityProvider | None) -> None:
    """A deleted capacity provider stays deleted: a new one of its name has a later `created_at`."""
    if before is None or after is None or before.status != capacity_provider_model.INACTIVE:
        return
    if after.status != before.status and after.created_at <= before.created_at:
        raise InvalidTransitionError(f"capacity provider {after.name}: status may not leave {before.status}")


INSTALLATION: Final = Table("installation", Installation, lambda r: "installation")
ACCOUNTS: Final = Table(
    "accounts",
    Account,
    lambda r: r.id,
    indexes={"name": lambda r: (r.name.lower(),), "all": lambda r: ("",), "alias": lambda r: (r.alias,) if r.alias else ()},
)
DATA_KEYS: Final = Table("data_keys", DataKey, lambda r: r.id)
SEALINGS: Final = Table("sealings", Sealing, lambda r: SEALING)


def _seals_its_secret(fields: list[Any]) -> list[Any]:
    """From version 1, whose secret is in clear, to 2, where it is sealed. It stays in clear until the server's start has sealed it; the version keeps
    programs away that would take what is sealed for the secret."""
    return fields


ACCESS_KEYS: Final = Table(
    "access_keys",
    AccessKey,
    lambda r: r.id,
    indexes={"principal": lambda r: (r.principal_arn,)},
    upgrades=(_seals_its_secret,),
)
SESSION_KEYS: Final = Table("session_keys", SessionKey, lambda r: r.id, upgrades=(_seals_its_secret,))
USERS: Final = Table(
    "users",
    User,
    lambda r: r.key,
    indexes={
        "account": lambda r: (r.account,),
        "group": lambda r: tuple(f"{r.account}/{name.lower()}" for name in r.groups),
        "policy": lambda r: r.attached,
        "boundary": lambda r: (r.boundary,) if r.boundary else (),
    },
)
GROUPS: Final = Table("groups", Group, lambda r: r.key, indexes={"account": lambda r: (r.account,), "policy": lambda r: r.attached})
ROLES: Final = Table(
    "roles",
    Role,
    lambda r: r.key,
    indexes={
        "account": lambda r: (r.account,),
        "policy": lambda r: r.attached,
        "boundary": lambda r: (r.boundary,) if r.boundary else (),
    },
)
INSTANCE_PROFILES: Final = Table(
    "instance_profiles",
    InstanceProfile,
    lambda r: r.key,
    indexes={"account": lambda r: (r.account,), "role": lambda r: (f"{r.account}/{r.role.lower()}",) if r.role else ()},
)
MANAGED_POLICIES: Final = Table("managed_policies", ManagedPolicy, lambda r: r.key, indexes={"account": lambda r: (r.account,)})
JOIN_TOKENS: Final = Table("join_tokens", JoinToken, lambda r: r.id, indexes={"account": lambda r: (r.account,)})
INSTANCE_IDENTITIES: Final = Table(
    "instance_identities",
    InstanceIdentity,
    lambda r: r.id,
    indexes={
        "account": lambda r: (r.account,),
        "instance": lambda r: (r.instance,) if r.instance else (),
        "token": lambda r: (r.token_id,),
    },
)
OIDC_PROVIDERS: Final = Table("oidc_providers", OidcProvider, lambda r: r.key, indexes={"account": lambda r: (r.account,)})
LAST_USES: Final = Table("last_uses", LastUse, lambda r: r.id)
IDEMPOTENCY_TOKENS: Final = Table("idempotency_tokens", IdempotencyToken, lambda r: r.key)
EFFECT_MINUTES: Final = 240
"""Values of the index `minute`: minutes of four hours."""
EFFECTS: Final = Table("effects", Effect, lambda r: r.key, indexes={"minute": lambda r: (str(int(r.made_at // 60) % EFFECT_MINUTES),)})
CLUSTERS: Final = Table(
    "clusters",
    Cluster,
    lambda r: r.key,
    indexes={
        "active": lambda r: (r.account,) if r.status != "INACTIVE" else (),
        "capacity_provider": lambda r: tuple(f"{r.account}/{name}" for name in r.capacity_providers),
    },
)
ACCOUNT_SETTINGS: Final = Table("account_settings", AccountSetting, lambda r: r.key)
CAPACITY_PROVIDERS: Final = Table(
    "capacity_providers",
    CapacityProvider,
    lambda r: r.key,
    indexes={"cluster": lambda r: (f"{r.account}/{r.cluster}",) if r.cluster and r.status != capacity_provider_model.INACTIVE else ()},
    guard=guard_capacity_provider,
)
GATEWAYS: Final = Table("gateways", Gateway, lambda r: r.key, guard=moves_along(gateway_model.TRANSITIONS, lambda r: f"gateway {r.name}"))
GATEWAY_ASSOCIATIONS: Final = Table(
    "gateway_associations",
    GatewayAssociation,
    lambda r: r.key,
    indexes={"cluster": lambda r: (f"{r.account}/{r.cluster}",), "gateway": lambda r: (f"{r.account}/{r.gateway}",)},
)
TASK_DEFINITION_FAMILIES: Final = Table(
    "task_definition_families", TaskDefinitionFamily, lambda r: r.key, indexes={"account": lambda r: (r.account,)}
)
TASK_DEFINITIONS: Final = Table(
    "task_definitions",
    TaskDefinition,
    lambda r: r.key,
    indexes={
        "account_status": lambda r: (f"{r.account}/{r.status}",),
        "family_status": lambda r: (f"{r.account}/{r.family}/{r.status}",),
    },
)
DAEMON_TASK_DEFINITION_FAMILIES: Final = Table(
    "daemon_task_definition_families", TaskDefinitionFamily, lambda r: r.key, indexes={"account": lambda r: (r.account,)}
)
DAEMON_TASK_DEFINITIONS: Final = Table(
    "daemon_task_definitions",
    DaemonTaskDefinition,
    lambda r: r.key,
    indexes={"status": lambda r: (r.status,), "family_status": lambda r: (f"{r.account}/{r.family}/{r.status}",)},
    guard=moves_along(daemon_definition_model.TRANSITIONS, lambda r: f"daemon task definition {r.key}"),
)
CONTAINER_INSTANCES: Final = Table(
    "container_instances",
    ContainerInstance,
    lambda r: r.key,
    indexes={
        "cluster_status": lambda r: (f"{r.account}/{r.cluster}/{r.status}",),
        "server": lambda r: (r.session.server,) if r.session else (),
        "capacity_provider": lambda r: (
            (f"{r.cluster_key}/{r.capacity_provider}",) if r.status != instance_model.INACTIVE and r.capacity_provider else ()
        ),
    },
    guard=moves_along(instance_model.TRANSITIONS, lambda r: f"container instance {r.id}"),
)
TASKS: Final = Table(
    "tasks",
    Task,
    lambda r: r.key,
    indexes={
        "cluster_desired": lambda r: (f"{r.account}/{r.cluster}/{r.desired_status}",),
        "cluster_last": lambda r: (f"{r.account}/{r.cluster}/{r.last_status}",),
        "service_desired": lambda r: (f"{r.account}/{r.cluster}/{r.service}/{r.desired_status}",) if r.service else (),
        "service_live": lambda r: (f"{r.account}/{r.cluster}/{r.service}",) if r.service and r.last_status != task_model.STOPPED else (),
        "service_unhealthy": lambda r: (r.service_key,) if r.health_status == task_model.UNHEALTHY and r.last_status != task_model.STOPPED else (),
        "instance_live": lambda r: (r.instance_key,) if r.container_instance_id and r.last_status != task_model.STOPPED else (),
        "instance_desired": lambda r: (f"{r.instance_key}/{r.desired_status}",) if r.container_instance_id else (),
        "instance_last": lambda r: (f"{r.instance_key}/{r.last_status}",) if r.container_instance_id else (),
        "started_by": lambda r: (f"{r.account}/{r.cluster}/{r.started_by}/{r.desired_status}",) if r.started_by else (),
        "family_desired": lambda r: (f"{r.account}/{r.cluster}/{r.family}/{r.desired_status}",),
        "definition_live": lambda r: (f"{r.account}/{r.family}:{r.revision}",) if r.last_status != task_model.STOPPED and not r.daemon else (),
        "daemon_definition_live": lambda r: (f"{r.account}/{r.family}:{r.revision}",) if r.daemon and r.last_status != task_model.STOPPED else (),
        "daemon_live": lambda r: (r.daemon_key,) if r.daemon and r.last_status != task_model.STOPPED else (),
        "daemon_desired": lambda r: (f"{r.daemon_key}/{r.desired_status}",) if r.daemon else (),
        "provider_live": lambda r: (f"{r.cluster_key}/{r.capacity_provider}",) if r.capacity_provider and r.last_status != task_model.STOPPED else (),
        "stopped": lambda r: ("stopped",) if r.last_status == task_model.STOPPED else (),
    },
    guard=guard_task,
)
SERVICES: Final = Table(
    "services",
    Service,
    lambda r: r.key,
    indexes={
        "cluster_status": lambda r: (f"{r.account}/{r.cluster}/{r.status}",),
        "capacity_provider": lambda r: tuple(f"{r.cluster_key}/{name}" for name in r.capacity_providers) if r.status != "INACTIVE" else (),
    },
)
DEPLOYMENTS: Final = Table(
    "deployments",
    Deployment,
    lambda r: r.key,
    indexes={
        "service": lambda r: (r.service_key,),
        "definition": lambda r: (f"{r.account}/{r.family}:{r.revision}",) if r.status != "INACTIVE" else (),
        "alarms": lambda r: (r.alarms.status,) if r.alarms.status == deployment_model.MONITORING else (),
        "hooks": lambda r: ("hooks",) if r.hooks else (),
    },
    guard=guard_deployment,
)
EXPRESS_GATEWAY_SERVICES: Final = Table(
    "express_gateway_services", ExpressGatewayService, lambda r: r.key, indexes={"cluster": lambda r: (f"{r.account}/{r.cluster}",)}
)
SERVICE_REVISIONS: Final = Table("service_revisions", ServiceRevision, lambda r: r.key, indexes={"service": lambda r: (r.service_key,)})
SERVICE_EVENTS: Final = Table("service_events", ServiceEvent, lambda r: r.key, indexes={"service": lambda r: (r.service_key,)})
TASK_SETS: Final = Table(
    "task_sets",
    TaskSet,
    lambda r: r.key,
    indexes={
        "service": lambda r: (r.service_key,),
        "definition": lambda r: (f"{r.account}/{r.family}:{r.revision}",),
        "capacity_provider": lambda r: tuple(f"{r.cluster_key}/{name}" for name in r.capacity_providers),
    },
    guard=moves_along(task_set_model.TRANSITIONS, lambda r: f"task set {r.id}"),
)

DAEMONS: Final = Table(
    "daemons",
    Daemon,
    lambda r: r.key,
    indexes={
        "capacity_provider": lambda r: tuple(f"{r.cluster_key}/{name}" for name in r.capacity_providers),
        "definition": lambda r: r.definitions,
    },
    guard=moves_along(daemon_model.TRANSITIONS, lambda r: f"daemon {r.name}"),
)
DAEMON_DEPLOYMENTS: Final = Table(
    "daemon_deployments",
    DaemonDeployment,
    lambda r: r.key,
    indexes={
        "daemon": lambda r: (r.daemon_key,),
        "alarms": lambda r: (r.alarms.status,) if r.alarms.status == deployment_model.MONITORING else (),
    },
    guard=moves_along(daemon_deployment_model.TRANSITIONS, lambda r: f"daemon deployment {r.id}"),
)
DAEMON_REVISIONS: Final = Table("daemon_revisions", DaemonRevision, lambda r: r.key, indexes={"daemon": lambda r: (r.daemon_key,)})

RULES: Final = Table("rules", Rule, lambda r: r.key)

TABLES: Final[tuple[Table[Any], ...]] = (
    INSTALLATION,
    ACCOUNTS,
    DATA_KEYS,
    SEALINGS,
    ACCESS_KEYS,
    SESSION_KEYS,
    USERS,
    GROUPS,
    ROLES,
    INSTANCE_PROFILES,
    MANAGED_POLICIES,
    OIDC_PROVIDERS,
    LAST_USES,
    IDEMPOTENCY_TOKENS,
    ACCOUNT_SETTINGS,
    CLUSTERS,
    CAPACITY_PROVIDERS,
    TASK_DEFINITION_FAMILIES,
    TASK_DEFINITIONS,
    DAEMON_TASK_DEFINITION_FAMILIES,
    DAEMON_TASK_DEFINITIONS,
    CONTAINER_INSTANCES,
    TASKS,
    SERVICES,
    DEPLOYMENTS,
    SERVICE_REVISIONS,
    SERVICE_EVENTS,
    DAEMONS,
    DAEMON_DEPLOYMENTS,
    DAEMON_REVISIONS,
    TASK_SETS,
    EFFECTS,
    GATEWAYS,
    GATEWAY_ASSOCIATIONS,
    EXPRESS_GATEWAY_SERVICES,
    RULES,
    JOIN_TOKENS,
    INSTANCE_IDENTITIES,
)
