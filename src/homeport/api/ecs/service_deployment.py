"""Service deployments and service revisions, as the newer operations show them.

Owns: the form of `serviceDeployments[]` and `serviceRevisions[]`. Never stores anything: one record is a deployment and its service deployment, and
the digits of its service revision are those of `deployments[].id`, which is what Terraform's wait for the steady state goes by (ecs-reference 1, id
linkage). A rollback is told by the service deployment that it undoes and is none by itself.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import by_arn, lookup, page
from homeport.api.ecs.service_counts import Counts
from homeport.api.ecs.service_json import deployments_of, weights_json
from homeport.errors import ConflictError, InvalidParameterError, ServiceDeploymentNotFoundError, ServiceNotFoundError
from homeport.model import arn
from homeport.model.ecs import deployment as model
from homeport.model.ecs.deployment import Deployment, LifecycleHook
from homeport.model.ecs.service import Service
from homeport.model.ecs.service_revision import RevisionContainer, ServiceRevision
from homeport.model.ecs.task_definition import task_definition_key
from homeport.planner.lifecycle_hook import continued
from homeport.planner.service_revision import derived_revision
from homeport.planner.traffic_shift import requested_count, shown_stage
from homeport.store.table import Reader, Transaction
from homeport.store.tables import DEPLOYMENTS, SERVICE_REVISIONS, SERVICES, TASK_DEFINITIONS

LIST_DEFAULT: Final = 20

Scope = tuple[str, str, str, str]
"""Region, account, cluster, service: what the makers of ARNs take."""


def _scope(call: Call, deployment: Deployment) -> Scope:
    return call.region, deployment.account, deployment.cluster, deployment.service


def _brief(call: Call, deployment: Deployment) -> dict[str, Any]:
    scope = _scope(call, deployment)
    brief: dict[str, Any] = {
        "serviceDeploymentArn": arn.service_deployment_arn(*scope, deployment.id),
        "serviceArn": arn.service_arn(*scope),
        "clusterArn": arn.cluster_arn(*scope[:3]),
        "createdAt": deployment.created_at,
        "targetServiceRevisionArn": arn.service_revision_arn(*scope, deployment.target_id),
        "status": deployment.progress,
        "statusReason": deployment.status_reason or deployment.rollout_state_reason,
    }
    if deployment.progress != model.PENDING:
        brief["startedAt"] = deployment.started_at or deployment.created_at
    if deployment.progress in model.TERMINAL:
        brief["finishedAt"] = deployment.finished_at or deployment.updated_at
    return brief


async def list_service_deployments(call: Call, request: Any) -> dict[str, Any]:
    """ListServiceDeployments: newest first, in pages of 20 unless told otherwise; by status and by when they were made."""
    limit = page.limit_of(request.maxResults, default=LIST_DEFAULT)
    created = request.createdAt
    before = None if created is None else created.before
    since = None if created is None else created.after

    def wanted(deployment: Deployment) -> bool:
        if deployment.rollback_of or (request.status and deployment.progress not in request.status):
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

    def found(reader: Reader, key: str) -> dict[str, Any] | None:
        deployment = reader.get(DEPLOYMENTS, key)
        service = reader.get(SERVICES, deployment.service_key) if deployment else None
        if deployment is None or service is None or deployment.rollback_of:
            return None
        return _service_deployment_json(reader, call, deployment, service)

    shown, failures = await by_arn.described(call, request.serviceDeploymentArns, "service-deployment", found)
    return {"serviceDeployments": shown, "failures": failures}


async def describe_service_revisions(call: Call, request: Any) -> dict[str, Any]:
    """DescribeServiceRevisions: up to 20; one that is not there is in `failures` with reason MISSING."""

    def found(reader: Reader, key: str) -> dict[str, Any] | None:
        revision = revision_of(reader, key)
        return _revision_json(call, revision) if revision and reader.get(SERVICES, revision.service_key) else None

    shown, failures = await by_arn.described(call, request.serviceRevisionArns, "service-revision", found)
    return {"serviceRevisions": shown, "failures": failures}


def revision_of(reader: Reader, key: str) -> ServiceRevision | None:
    """The service revision `key`; worked out from its deployment where a version without revisions made that."""
    revision = reader.get(SERVICE_REVISIONS, key)
    if revision is not None:
        return revision
    deployment = reader.get(DEPLOYMENTS, key)
    if deployment is None or deployment.rollback_of:
        return None
    definition = reader.get(TASK_DEFINITIONS, task_definition_key(deployment.account, deployment.family, deployment.revision))
    return derived_revision(deployment, definition)


def _service_deployment_json(reader: Reader, call: Call, deployment: Deployment, service: Service) -> dict[str, Any]:
    scope, counts = _scope(call, deployment), Counts(reader, service)
    brief = _brief(call, deployment)
    answer = {name: brief[name] for name in brief if name != "targetServiceRevisionArn"}
    sources = deployment.source_revision_ids or ((deployment.source_id,) if deployment.source_id else ())
    acting = _acting(reader, deployment)
    shown = [_counted(scope, item, counts, acting, service.desired_count) for item in (deployment.target_id, *sources)]
    answer |= {
        "updatedAt": max(deployment.updated_at, acting.updated_at),
        "targetServiceRevision": shown[0],
        "sourceServiceRevisions": shown[1:],
        **({"lifecycleStage": shown_stage(acting)} if acting.lifecycle_stage else {}),
        "lifecycleHookDetails": [_hook_json(run) for run in (*deployment.hooks, *(acting.hooks if acting is not deployment else ()))],
        "deploymentConfiguration": msgspec.json.decode(deployment.configuration or service.deployment_configuration or b"{}"),
        "deploymentCircuitBreaker": {
            "status": deployment.circuit_breaker.status,
            "failureCount": deployment.circuit_breaker.failure_count,
            "threshold": deployment.circuit_breaker.threshold,
        },
        **_alarms_json(deployment),
        **_rollback_json(scope, deployment),
    }
    if deployment.progress == model.STOPPED:
        answer["stoppedAt"] = brief["finishedAt"]
    return answer


def _alarms_json(deployment: Deployment) -> dict[str, Any]:
    """`alarms`, where the configuration names some."""
    configured = msgspec.json.decode(deployment.configuration or b"{}").get("alarms") or {}
    if not configured.get("alarmNames"):
        return {}
    alarms = deployment.alarms
    shown = {"status": alarms.status, "alarmNames": configured["alarmNames"]}
    return {"alarms": {**shown, **({"triggeredAlarmNames": list(alarms.triggered)} if alarms.triggered else {})}}


def _rollback_json(scope: Scope, deployment: Deployment) -> dict[str, Any]:
    rollback = deployment.rollback
    if rollback is None:
        return {}
    revision_arn = arn.service_revision_arn(*scope, rollback.service_revision_id)
    return {"rollback": {"reason": rollback.reason, "startedAt": rollback.started_at, "serviceRevisionArn": revision_arn}}


def _acting(reader: Reader, deployment: Deployment) -> Deployment:
    """What moves tasks and traffic for a service deployment: itself, or the deployment that rolls it back."""
    rollback = deployment.rollback
    back = reader.get(DEPLOYMENTS, f"{deployment.service_key}/{rollback.deployment_id}") if rollback and rollback.deployment_id else None
    return back or deployment


def _hook_json(run: LifecycleHook) -> dict[str, Any]:
    shown: dict[str, Any] = {"hookId": run.id, "targetType": run.target_type, "status": run.status}
    shown |= {"expiresAt": run.expires_at, "timeoutAction": run.timeout_action}
    return shown | ({"targetArn": run.target} if run.target else {})


def _counted(scope: Scope, revision_id: str, counts: Counts, acting: Deployment, desired_count: int) -> dict[str, Any]:
    return {
        "arn": arn.service_revision_arn(*scope, revision_id),
        "requestedTaskCount": requested_count(acting, revision_id, desired_count),
        "runningTaskCount": counts.running(revision_id),
        "pendingTaskCount": counts.pending(revision_id),
        **weights_json(acting, revision_id),
    }


def _revision_json(call: Call, revision: ServiceRevision) -> dict[str, Any]:
    scope = (call.region, revision.account, revision.cluster, revision.service)
    answer: dict[str, Any] = {
        "serviceRevisionArn": arn.service_revision_arn(*scope, revision.id),
        "serviceArn": arn.service_arn(*scope),
        "clusterArn": arn.cluster_arn(*scope[:3]),
        "taskDefinition": arn.task_definition_arn(call.region, revision.account, revision.family, revision.revision),
        "loadBalancers": [],
        "serviceRegistries": [],
        "containerImages": [_image_json(item) for item in revision.containers],
        "guardDutyEnabled": False,
        "createdAt": revision.created_at,
        **msgspec.json.decode(revision.document or b"{}"),
    }
    return {**answer, "launchType": revision.launch_type} if revision.launch_type else answer


def _image_json(container: RevisionContainer) -> dict[str, str]:
    shown = {"containerName": container.name, "image": container.image}
    return {**shown, "imageDigest": container.digest} if container.digest else shown


async def stop_service_deployment(call: Call, request: Any) -> dict[str, Any]:
    """StopServiceDeployment: roll a deployment back that is on its way, whether or not a monitor is configured to.

    With no service revision to go back to it is stopped where it is. Asking again changes nothing. Raises ConflictError for one that is over,
    InvalidParameterError for the stop type ABORT, which the model lists and its text rules out.
    """
    if request.stopType not in (None, "ROLLBACK"):
        raise InvalidParameterError(f"stopType {request.stopType} is not valid. The valid values are ROLLBACK.")
    key = lookup.part_key(call, request.serviceDeploymentArn, "service-deployment")

    def stop(tx: Transaction) -> dict[str, Any]:
        deployment = tx.get(DEPLOYMENTS, key)
        service = tx.get(SERVICES, deployment.service_key) if deployment else None
        if deployment is None or service is None or deployment.rollback_of:
            raise ServiceDeploymentNotFoundError
        if deployment.progress in model.TERMINAL:
            raise ConflictError(f"The service deployment is in the terminal status {deployment.progress} and cannot be stopped.")
        if deployment.lifecycle_stage == model.CLEAN_UP and deployment.progress == model.IN_PROGRESS:
            raise ConflictError("The service deployment is in its CLEAN_UP stage and cannot be stopped: the revision before it is being removed.")
        if deployment.progress in (model.PENDING, model.IN_PROGRESS):
            status = model.ROLLBACK_REQUESTED if service.completed_revision_id else model.STOP_REQUESTED
            reason = "A stop with rollback was requested."
            tx.put(DEPLOYMENTS, msgspec.structs.replace(deployment, service_deployment_status=status, status_reason=reason, updated_at=tx.now))
        return {"serviceDeploymentArn": request.serviceDeploymentArn}

    return await call.update(stop)


async def continue_service_deployment(call: Call, request: Any) -> dict[str, Any]:
    """ContinueServiceDeployment: let a deployment that a PAUSE hook holds go on, or roll it back.

    Raises ServiceDeploymentNotFoundError, and InvalidParameterError when the deployment is not IN_PROGRESS, has no such hook, or the hook waits for
    nobody (any more).
    """
    key = lookup.part_key(call, request.serviceDeploymentArn, "service-deployment")

    def go_on(tx: Transaction) -> dict[str, Any]:
        deployment = tx.get(DEPLOYMENTS, key)
        if deployment is None or deployment.rollback_of or tx.get(SERVICES, deployment.service_key) is None:
            raise ServiceDeploymentNotFoundError
        run = next((item for item in deployment.hooks if item.id == request.hookId), None)
        if run is None:
            raise InvalidParameterError(f"The service deployment has no lifecycle hook {request.hookId}.")
        if run.target_type != model.PAUSE:
            raise InvalidParameterError(f"The lifecycle hook {request.hookId} is not of the target type PAUSE.")
        if deployment.progress != model.IN_PROGRESS:
            raise InvalidParameterError(f"The service deployment is {deployment.progress}, so it cannot be continued.")
        if run.status != model.AWAITING_ACTION:
            raise InvalidParameterError(f"The lifecycle hook {request.hookId} is {run.status} and does not await an action.")
        after = continued(run, request.action or model.CONTINUE)
        hooks = tuple(after if item.id == run.id else item for item in deployment.hooks)
        tx.put(DEPLOYMENTS, msgspec.structs.replace(deployment, hooks=hooks, updated_at=tx.now))
        return {"serviceDeploymentArn": request.serviceDeploymentArn}

    return await call.update(go_on)
