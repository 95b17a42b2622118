"""Service deployments and service revisions: two views of the `Deployment` records, as the newer operations show them.

Owns: the form of `serviceDeployments[]` and `serviceRevisions[]`. Never stores anything: one record is a deployment, its service deployment and its
service revision, and one id links the three, which is what Terraform's wait for the steady state goes by (ecs-reference 1, id linkage).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import lookup, page
from homeport.api.ecs.service_json import Counts, deployments_of
from homeport.errors import InvalidParameterError, ServiceNotFoundError
from homeport.model import arn
from homeport.model.ecs import deployment as model
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import Service
from homeport.model.ecs.task_definition import task_definition_key
from homeport.planner.task import definition_document
from homeport.store.table import Reader
from homeport.store.tables import DEPLOYMENTS, SERVICES, TASK_DEFINITIONS

DESCRIBE_MAX: Final = 20
LIST_DEFAULT: Final = 20

SUPERSEDED: Final = "A newer deployment of the service took its place."

Scope = tuple[str, str, str, str]
"""Region, account, cluster, service: what the makers of ARNs take."""


def status_of(deployment: Deployment) -> str:
    """Status of the service deployment: SUCCESSFUL, IN_PROGRESS, or STOPPED when it failed or a newer one came first."""
    if deployment.rollout_state == model.COMPLETED:
        return "SUCCESSFUL"
    if deployment.rollout_state == model.IN_PROGRESS and deployment.status == model.PRIMARY:
        return "IN_PROGRESS"
    return "STOPPED"


def _scope(call: Call, deployment: Deployment) -> Scope:
    return call.region, deployment.account, deployment.cluster, deployment.service


def _brief(call: Call, deployment: Deployment) -> dict[str, Any]:
    scope, status = _scope(call, deployment), status_of(deployment)
    superseded = status == "STOPPED" and deployment.rollout_state != model.FAILED
    brief: dict[str, Any] = {
        "serviceDeploymentArn": arn.service_deployment_arn(*scope, deployment.id),
        "serviceArn": arn.service_arn(*scope),
        "clusterArn": arn.cluster_arn(*scope[:3]),
        "createdAt": deployment.created_at,
        "startedAt": deployment.created_at,
        "targetServiceRevisionArn": arn.service_revision_arn(*scope, deployment.id),
        "status": status,
        "statusReason": SUPERSEDED if superseded else deployment.rollout_state_reason,
    }
    if status != "IN_PROGRESS":
        brief["finishedAt"] = deployment.finished_at or deployment.updated_at
    return brief


async def list_service_deployments(call: Call, request: Any) -> dict[str, Any]:
    """ListServiceDeployments: newest first, in pages of 20 unless told otherwise; by status and by when they were made."""
    limit = page.limit_of(request.maxResults, default=LIST_DEFAULT)
    created = request.createdAt
    before = None if created is None else created.before
    since = None if created is None else created.after

    def wanted(deployment: Deployment) -> bool:
        if request.status and status_of(deployment) not in request.status:
            return False
        return (before is None or deployment.created_at < before) and (since is None or deployment.created_at > since)

    def look(reader: Reader) -> dict[str, Any]:
        cluster = lookup.cluster_of(reader, call, request.cluster)
        service = reader.get(SERVICES, lookup.service_key(call, cluster, request.service))
        if service is None:
            raise ServiceNotFoundError
        filters = (service.key, request.status, before, since)
        last_given = pagination.open_token(call, request.nextToken, filters)
        # Deployments are few, so a page is cut out of all of them; the place in the order is in the token, since a deployment may be gone by then.
        following = (item for item in deployments_of(reader, service) if wanted(item) and (not last_given or _place(item) < last_given))
        items, last = pagination.paginate(following, limit=limit, key=_place)
        return {"serviceDeployments": [_brief(call, item) for item in items], **page.next_page(call, last, filters)}

    return await call.view(look)


def _place(deployment: Deployment) -> str:
    """Where `deployment` stands in the order of creation, as a string that sorts."""
    return f"{deployment.created_at:020.6f}/{deployment.id}"


async def describe_service_deployments(call: Call, request: Any) -> dict[str, Any]:
    """DescribeServiceDeployments: up to 20; one that is not there is in `failures` with reason MISSING."""

    def shown(reader: Reader, deployment: Deployment, service: Service) -> dict[str, Any]:
        return _service_deployment_json(reader, call, deployment, service)

    found, failures = await _described(call, request.serviceDeploymentArns, "service-deployment", shown)
    return {"serviceDeployments": found, "failures": failures}


async def describe_service_revisions(call: Call, request: Any) -> dict[str, Any]:
    """DescribeServiceRevisions: up to 20; one that is not there is in `failures` with reason MISSING."""

    def shown(reader: Reader, deployment: Deployment, service: Service) -> dict[str, Any]:
        return _revision_json(reader, call, deployment)

    found, failures = await _described(call, request.serviceRevisionArns, "service-revision", shown)
    return {"serviceRevisions": found, "failures": failures}


Shown = Callable[[Reader, Deployment, Service], dict[str, Any]]


async def _described(call: Call, arns: Sequence[str], kind: str, shown: Shown) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    if not 1 <= len(arns) <= DESCRIBE_MAX:
        raise InvalidParameterError(f"Between 1 and {DESCRIBE_MAX} ARNs must be given.")
    keys = {text: _key(call, text, kind) for text in arns}

    def look(reader: Reader) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        found, failures = [], []
        for text, key in keys.items():
            deployment = reader.get(DEPLOYMENTS, key)
            service = reader.get(SERVICES, deployment.service_key) if deployment else None
            if deployment is None or service is None:
                failures.append({"arn": text, "reason": "MISSING"})
            else:
                found.append(shown(reader, deployment, service))
        return found, failures

    return await call.view(look)


def _key(call: Call, text: str, kind: str) -> str:
    parsed = arn.parse_arn(text)
    parts = parsed.resource.split("/") if parsed else []
    if parsed is None or len(parts) != 4 or parts[0] != kind or (parsed.service, parsed.region, parsed.account) != ("ecs", call.region, call.account):
        raise InvalidParameterError(f"Invalid identifier: {text} is no ARN of a {kind.replace('-', ' ')} of this account and region")
    return f"{call.account}/{'/'.join(parts[1:])}"


def _service_deployment_json(reader: Reader, call: Call, deployment: Deployment, service: Service) -> dict[str, Any]:
    scope, counts = _scope(call, deployment), Counts(reader, service)
    brief = _brief(call, deployment)
    answer = {name: brief[name] for name in brief if name != "targetServiceRevisionArn"}
    answer |= {
        "updatedAt": deployment.updated_at,
        "targetServiceRevision": _counted(scope, deployment.id, counts, service.desired_count),
        "sourceServiceRevisions": [_counted(scope, deployment.source_id, counts, 0)] if deployment.source_id else [],
        "deploymentConfiguration": msgspec.json.decode(service.deployment_configuration or b"{}"),
        "deploymentCircuitBreaker": {"status": "DISABLED", "failureCount": deployment.failed_tasks, "threshold": 0},
    }
    if brief["status"] == "STOPPED":
        answer["stoppedAt"] = brief["finishedAt"]
    return answer


def _counted(scope: Scope, deployment_id: str, counts: Counts, requested: int) -> dict[str, Any]:
    return {
        "arn": arn.service_revision_arn(*scope, deployment_id),
        "requestedTaskCount": requested,
        "runningTaskCount": counts.running(deployment_id),
        "pendingTaskCount": counts.pending(deployment_id),
    }


def _revision_json(reader: Reader, call: Call, deployment: Deployment) -> dict[str, Any]:
    scope = _scope(call, deployment)
    definition = reader.get(TASK_DEFINITIONS, task_definition_key(deployment.account, deployment.family, deployment.revision))
    containers = definition_document(definition)["containerDefinitions"] if definition else ()
    return {
        "serviceRevisionArn": arn.service_revision_arn(*scope, deployment.id),
        "serviceArn": arn.service_arn(*scope),
        "clusterArn": arn.cluster_arn(*scope[:3]),
        "taskDefinition": arn.task_definition_arn(call.region, deployment.account, deployment.family, deployment.revision),
        "launchType": deployment.launch_type,
        "loadBalancers": [],
        "serviceRegistries": [],
        "containerImages": [{"containerName": item["name"], "image": item["image"]} for item in containers],
        "guardDutyEnabled": False,
        "createdAt": deployment.created_at,
    }
