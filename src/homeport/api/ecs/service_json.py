"""A service and its deployments as the API shows them.

Owns: the form of `service` and `deployments[]`. Never stores a count: running and pending are counted from the tasks at each call.
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeport.api.call import Call
from homeport.api.ecs.service_counts import Counts
from homeport.api.ecs.service_event import events_json
from homeport.api.ecs.tag_rules import tags_json
from homeport.api.ecs.task_set_json import task_set_json, task_sets_of
from homeport.model import arn
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import service as model
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import Service
from homeport.planner.traffic_shift import requested_count
from homeport.store.table import Reader
from homeport.store.tables import DEPLOYMENTS


def deployments_of(reader: Reader, service: Service) -> list[Deployment]:
    """Every deployment of `service`, newest first. Those of a deleted service that had the same name are left out."""
    found = [item for item in reader.find(DEPLOYMENTS, "service", service.key) if item.created_at >= service.created_at]
    return sorted(found, key=lambda item: item.created_at, reverse=True)


def service_json(reader: Reader, call: Call, service: Service, *, with_tags: bool) -> dict[str, Any]:
    """The API's `service`."""
    counts = Counts(reader, service)
    shown = [item for item in deployments_of(reader, service) if item.status != deployment_model.INACTIVE]
    answer: dict[str, Any] = {
        "serviceArn": arn.service_arn(call.region, service.account, service.cluster, service.name),
        "serviceName": service.name,
        "clusterArn": arn.cluster_arn(call.region, service.account, service.cluster),
        "loadBalancers": [],
        "serviceRegistries": [],
        "status": service.status,
        "desiredCount": service.desired_count,
        "runningCount": counts.running(),
        "pendingCount": counts.pending(),
        **capacity_json(service),
        "deploymentConfiguration": msgspec.json.decode(service.deployment_configuration or b"{}"),
        "deployments": [deployment_json(call, item, service=service, counts=counts) for item in shown],
        "events": events_json(reader, service),
        "createdAt": service.created_at,
        "placementConstraints": [_constraint_json(item) for item in service.placement_constraints],
        "placementStrategy": [{"type": item.type, **({"field": item.field} if item.field else {})} for item in service.placement_strategy],
        "schedulingStrategy": service.scheduling_strategy,
        "deploymentController": {"type": service.deployment_controller},
        "createdBy": service.created_by,
        "enableECSManagedTags": service.enable_ecs_managed_tags,
        "propagateTags": service.propagate_tags,
        "enableExecuteCommand": service.enable_execute_command,
        "availabilityZoneRebalancing": service.availability_zone_rebalancing,
        **_current(call, service, shown, counts),
    }
    if service.family:  # with task sets there is none before one of them is PRIMARY
        answer["taskDefinition"] = arn.task_definition_arn(call.region, service.account, service.family, service.revision)
    if service.has_task_sets:
        shown_sets = task_sets_of(reader, service)
        answer["taskSets"] = [task_set_json(call, item, service=service, counts=counts, with_tags=with_tags) for item in shown_sets]
    if with_tags and service.tags:
        answer["tags"] = tags_json(service.tags)
    return answer


def capacity_json(service: Service) -> dict[str, Any]:
    """The strategy of a service that has one, else its launch type: never both (the API's words)."""
    strategy = service.capacity_provider_strategy
    return {"capacityProviderStrategy": strategy} if strategy else {"launchType": service.launch_type}


def _constraint_json(constraint: model.PlacementConstraint) -> dict[str, str]:
    return {"type": constraint.type, **({"expression": constraint.expression} if constraint.expression else {})}


def deployment_json(call: Call, deployment: Deployment, *, service: Service, counts: Counts) -> dict[str, Any]:
    """One of `deployments[]`. Its desired count is the service's: the newest that was asked for (as the API words it)."""
    return {
        "id": deployment.shown_id,
        "status": deployment.status,
        "taskDefinition": arn.task_definition_arn(call.region, deployment.account, deployment.family, deployment.revision),
        "desiredCount": service.desired_count,
        "pendingCount": counts.pending(deployment.target_id),
        "runningCount": counts.running(deployment.target_id),
        "failedTasks": deployment.failed_tasks,
        "createdAt": deployment.created_at,
        "updatedAt": deployment.updated_at,
        **({"launchType": deployment.launch_type} if deployment.launch_type else capacity_json(service)),
        "rolloutState": deployment.rollout_state,
        "rolloutStateReason": deployment.rollout_state_reason,
    }


def _current(call: Call, service: Service, shown: list[Deployment], counts: Counts) -> dict[str, Any]:
    """The service deployment that is under way, and the service revisions that have tasks or are to have some."""
    if not shown:
        return {}
    scope = (call.region, service.account, service.cluster, service.name)
    primary = next((item for item in shown if item.status == deployment_model.PRIMARY), None)
    revisions = [
        {
            "arn": arn.service_revision_arn(*scope, item.target_id),
            "requestedTaskCount": requested_count(primary, item.target_id, service.desired_count) if primary else 0,
            "runningTaskCount": counts.running(item.target_id),
            "pendingTaskCount": counts.pending(item.target_id),
            **(weights_json(primary, item.target_id) if primary else {}),
        }
        for item in shown
    ]
    current = _under_way(primary, shown)
    if current is None:
        return {"currentServiceRevisions": revisions}
    return {"currentServiceDeployment": arn.service_deployment_arn(*scope, current.id), "currentServiceRevisions": revisions}


def weights_json(deployment: Deployment, revision_id: str) -> dict[str, float]:
    """What part of the traffic the revision is to get by `deployment`; nothing for strategies that shift none."""
    weight = next((item for item in deployment.weights if item.service_revision_id == revision_id), None)
    return {"requestedTestTrafficWeight": weight.test, "requestedProductionTrafficWeight": weight.production} if weight else {}


def _under_way(primary: Deployment | None, shown: list[Deployment]) -> Deployment | None:
    """The service deployment that is not over: of the PRIMARY deployment, or the one that it rolls back."""
    if primary is not None and primary.rollback_of:
        primary = next((item for item in shown if item.id == primary.rollback_of), None)
    return None if primary is None or primary.progress in deployment_model.TERMINAL else primary
