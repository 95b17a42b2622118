"""Who may write which field, as data: architecture section 7 as the invariants check it.

Owns: `OWNERS`, `CREATORS`, `DELETERS`, `actor_of`. Never looks at a value.
"""

from __future__ import annotations

from typing import Final

AGENT_REPORTS: Final = ("SubmitTaskStateChange", "SubmitContainerStateChange")
_ENDERS: Final = ("DeregisterContainerInstance", "controller/instance")
_STOPPERS: Final = (
    "StopTask",
    "controller/service",
    "controller/task_set",
    "controller/scheduler",
    "controller/hook",
    "controller/daemon_deployment",
    "dispatcher",  # of a task whose role cannot be assumed
    *_ENDERS,
    *AGENT_REPORTS,
)
_MOVERS: Final = ("UpdateContainerInstancesState", "DeregisterContainerInstance")
_REGISTRATION: Final = ("RegisterContainerInstance",)
_DEPLOYMENT: Final = ("UpdateService", "controller/deployment", "controller/service")
_SERVICE_SPEC: Final = ("UpdateService",)
_UNSETTLERS: Final = ("controller/task_set", "UpdateTaskSet", "UpdateService", "DeleteTaskSet", "DeleteService")
_DAEMON_SPEC: Final = ("UpdateDaemon", "DeleteDaemon")
_DAEMONS: Final = "controller/daemon_deployment"

OWNERS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "tasks": {
        "container_instance_id": ("controller/scheduler",),
        "placement_constraints": ("controller/scheduler",),
        "placement_strategy": ("controller/scheduler",),
        "desired_status": _STOPPERS,
        "stop_code": _STOPPERS,
        "stopped_reason": _STOPPERS,
        "stopping_at": _STOPPERS,
        "last_status": _STOPPERS,
        "stopped_at": _STOPPERS,
        "started_at": AGENT_REPORTS,
        "observed_status": (*AGENT_REPORTS, *_ENDERS),
        "observed_reason": AGENT_REPORTS,
        "pull_started_at": AGENT_REPORTS,
        "pull_stopped_at": AGENT_REPORTS,
        "execution_stopped_at": (*AGENT_REPORTS, *_ENDERS),
        "connectivity": AGENT_REPORTS,
        "connectivity_at": AGENT_REPORTS,
        # Who stops a task that has no instance yet ends its containers with it; the scheduler gives them their GPUs.
        "containers": (*AGENT_REPORTS, *_ENDERS, "dispatcher", *_STOPPERS),
        "health_status": ("dispatcher",),
        "healthy_since": ("controller/deployment", "controller/task_set", "controller/daemon_deployment"),
        "version": (*_STOPPERS, "dispatcher", "controller/deployment"),
        "credentials_until": ("dispatcher",),
        "protected_until": ("UpdateTaskProtection",),
        "tags": ("TagResource", "UntagResource", "StopTask"),
    },
    "services": {
        "status": ("DeleteService", "controller/service", "controller/task_set"),
        "desired_count": ("UpdateService", "DeleteService", "controller/service"),
        "availability_zone_rebalancing": ("UpdateService",),
        "rebalancing": ("controller/service",),
        "daemon_share": ("UpdateService", "controller/service"),
        "family": (*_SERVICE_SPEC, "controller/deployment", "UpdateServicePrimaryTaskSet"),
        "revision": (*_SERVICE_SPEC, "controller/deployment", "UpdateServicePrimaryTaskSet"),
        "launch_type": ("controller/deployment", "UpdateServicePrimaryTaskSet"),
        "document": (*_SERVICE_SPEC, "controller/deployment", "UpdateServicePrimaryTaskSet"),
        "completed_revision_id": ("controller/deployment", "UpdateService"),
        "maximum_percent": _SERVICE_SPEC,
        "minimum_healthy_percent": _SERVICE_SPEC,
        "deployment_configuration": _SERVICE_SPEC,
        "placement_constraints": _SERVICE_SPEC,
        "placement_strategy": _SERVICE_SPEC,
        "enable_ecs_managed_tags": _SERVICE_SPEC,
        "propagate_tags": _SERVICE_SPEC,
        "placement_failure": ("controller/service", "controller/task_set", "DeleteService"),
        "steady": ("controller/service", "controller/deployment", "controller/task_set", "UpdateService", "DeleteService"),
        "events_written": ("controller/service", "controller/deployment", "controller/task_set"),
        "drained_at": ("controller/service", "controller/task_set"),
        "tags": ("TagResource", "UntagResource"),
    },
    "deployments": {
        "status": ("UpdateService", "controller/deployment", "controller/service"),
        "service_deployment_status": ("UpdateService", "StopServiceDeployment", "controller/deployment", "controller/service"),
        "status_reason": ("UpdateService", "StopServiceDeployment", "controller/deployment", "controller/service"),
        "started_at": ("controller/deployment",),
        "configuration": ("UpdateService",),
        "rollback": ("controller/deployment",),
        "circuit_breaker": ("UpdateService", "controller/deployment", "controller/service"),
        "alarms": ("UpdateService", "controller/deployment", "controller/service", "controller/alarm"),
        "bake_started_at": ("controller/deployment",),
        "lifecycle_stage": ("controller/deployment",),
        "stage_changes": ("controller/deployment",),
        "weights": ("controller/deployment",),
        "step": ("controller/deployment",),
        "blue_revision_id": ("controller/deployment",),
        "hooks": (*_DEPLOYMENT, "controller/hook", "ContinueServiceDeployment"),
        "updated_at": (*_DEPLOYMENT, "controller/hook", "ContinueServiceDeployment", "StopServiceDeployment"),
        "finished_at": ("UpdateService", "controller/deployment", "controller/service"),
        "throttled_until": ("UpdateService", "controller/deployment"),
        "rollout_state": ("controller/deployment",),
        "rollout_state_reason": ("controller/deployment",),
        "failed_tasks": ("controller/deployment",),
        "failures_to_start": ("controller/deployment",),
        "failure_round_at": ("controller/deployment",),
        "crashes": ("controller/deployment",),
        "impaired": ("controller/deployment",),
        "ends_counted_at": ("controller/deployment",),
    },
    "task_sets": {
        "status": ("UpdateServicePrimaryTaskSet", "DeleteTaskSet", "DeleteService"),
        "scale": ("UpdateTaskSet",),
        "updated_at": ("UpdateServicePrimaryTaskSet", "UpdateTaskSet", "DeleteTaskSet", "DeleteService"),
        "stability_status": _UNSETTLERS,
        "stability_status_at": _UNSETTLERS,
        "tags": ("TagResource", "UntagResource"),
        **dict.fromkeys(
            ("failed_tasks", "failures_to_start", "throttled_until", "impaired", "ends_counted_at", "failure_round_at", "crashes"),
            ("controller/task_set",),
        ),
    },
    "daemon_task_definitions": {
        "status": ("DeleteDaemonTaskDefinition", "controller/daemon_task_definition"),
        "delete_requested_at": ("DeleteDaemonTaskDefinition",),
        "deleted_at": ("controller/daemon_task_definition",),
        "tags": ("TagResource", "UntagResource"),
    },
    "daemons": {
        "status": ("DeleteDaemon",),
        "updated_at": _DAEMON_SPEC,
        "deployment_id": _DAEMON_SPEC,
        "revision_id": (*_DAEMON_SPEC, _DAEMONS),
        "capacity_providers": (*_DAEMON_SPEC, _DAEMONS),
        "critical": (*_DAEMON_SPEC, _DAEMONS),
        "definitions": (*_DAEMON_SPEC, _DAEMONS),
        "completed_revision_id": (_DAEMONS,),
        "share": ("DeleteDaemon", _DAEMONS),
        "tags": ("TagResource", "UntagResource"),
    },
    "daemon_deployments": {
        "status": (*_DAEMON_SPEC, _DAEMONS),
        "updated_at": (*_DAEMON_SPEC, _DAEMONS),
        "status_reason": (*_DAEMON_SPEC, _DAEMONS),
        "stopped_at": (*_DAEMON_SPEC, _DAEMONS),
        "finished_at": (*_DAEMON_SPEC, _DAEMONS),
        "circuit_breaker": (*_DAEMON_SPEC, _DAEMONS),
        "alarms": (*_DAEMON_SPEC, _DAEMONS, "controller/alarm"),
        "started_at": (_DAEMONS,),
        "rollback": (_DAEMONS,),
        "steps": (_DAEMONS,),
        "step_left": (_DAEMONS,),
        "bake_started_at": (_DAEMONS,),
        "failed_tasks": (_DAEMONS,),
        "failures_to_start": (_DAEMONS,),
        "throttled_until": (_DAEMONS,),
        "impaired": (_DAEMONS,),
        "ends_counted_at": (_DAEMONS,),
        "failure_round_at": (_DAEMONS,),
        "crashes": (_DAEMONS,),
    },
    "daemon_revisions": {"containers": (_DAEMONS,), "pinned_at": (_DAEMONS,)},
    "service_revisions": {"containers": ("controller/deployment",), "pinned_at": ("controller/deployment",)},
    "capacity_providers": {
        "scaling": ("controller/capacity",),
        "managed_scaling": ("UpdateCapacityProvider",),
        "termination_protection": ("UpdateCapacityProvider",),
        "managed_draining": ("UpdateCapacityProvider",),
        "managed_instances": ("UpdateCapacityProvider",),
        "update_status": ("UpdateCapacityProvider", "DeleteCapacityProvider", "CreateCapacityProvider"),
        "status": ("DeleteCapacityProvider", "CreateCapacityProvider"),
        "deleted_at": ("DeleteCapacityProvider", "CreateCapacityProvider"),
        "tags": ("TagResource", "UntagResource", "CreateCapacityProvider"),
    },
    "container_instances": {
        "status": (*_MOVERS, "controller/capacity"),
        "version": (*_MOVERS, *_REGISTRATION, "dispatcher", "PutAttributes", "DeleteAttributes", "controller/instance", "controller/capacity"),
        "session": ("dispatcher", "DeregisterContainerInstance"),
        "agent_connected": ("dispatcher", "DeregisterContainerInstance", "controller/capacity"),
        "connected_at": ("dispatcher",),
        "disconnected_at": ("dispatcher", "DeregisterContainerInstance"),
        "health": ("dispatcher",),
        "health_updated_at": ("dispatcher",),
        "health_changed_at": ("dispatcher",),
        "left_at": ("controller/instance",),
        "cpu": _REGISTRATION,
        "memory_mib": _REGISTRATION,
        "attributes": (*_REGISTRATION, "PutAttributes", "DeleteAttributes"),
        "reserved_tcp_ports": _REGISTRATION,
        "reserved_udp_ports": _REGISTRATION,
        "agent_version": _REGISTRATION,
        "agent_hash": _REGISTRATION,
        "docker_version": _REGISTRATION,
        "client_token": _REGISTRATION,
        "tags": (*_REGISTRATION, "TagResource", "UntagResource"),
    },
}
"""Table → field → who may change it after the record was made. A field that is not here never changes."""

CREATORS: Final[dict[str, tuple[str, ...]]] = {
    "tasks": ("RunTask", "StartTask", "controller/service", "controller/task_set", "controller/hook", _DAEMONS),
    "daemon_task_definitions": ("RegisterDaemonTaskDefinition",),
    "daemons": ("CreateDaemon",),
    "daemon_deployments": ("CreateDaemon", *_DAEMON_SPEC),
    "daemon_revisions": ("CreateDaemon", "UpdateDaemon"),
    "services": ("CreateService",),
    "deployments": ("CreateService", "UpdateService", "controller/deployment"),
    "service_revisions": ("CreateService", "UpdateService"),
    "service_events": ("controller/service", "controller/deployment", "controller/task_set"),
    "task_sets": ("CreateTaskSet", "CreateService"),
    "container_instances": ("RegisterContainerInstance",),
    "clusters": ("CreateCluster", "RegisterContainerInstance"),
    "task_definitions": ("RegisterTaskDefinition",),
}
DELETERS: Final[dict[str, tuple[str, ...]]] = {
    "tasks": ("controller/retention",),
    "daemon_task_definitions": ("controller/retention",),
    "daemons": (_DAEMONS,),
    "daemon_deployments": ("controller/retention",),
    "daemon_revisions": ("controller/retention",),
    "services": ("controller/retention",),
    "deployments": ("controller/retention",),
    "service_revisions": ("controller/retention",),
    "service_events": ("controller/retention", "controller/service", "controller/deployment", "controller/task_set"),
    "task_sets": ("controller/task_set",),
    "container_instances": ("controller/retention",),
}


def actor_of(cause: str) -> str:
    """Who wrote: the operation's name, `controller/NAME`, or `dispatcher`."""
    return cause.split(" ", 1)[0].rstrip(":")
