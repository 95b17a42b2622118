"""Operations on daemon deployments and daemon revisions: describe, list.

Owns: the three handlers. Never writes: deployments are made with their daemon (`daemon.py`) and brought on by `controllers/daemon_deployment.py`.
Source: the service model's documentation of the three operations.
"""

from __future__ import annotations

from typing import Any, Final

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import by_arn, page
from homeport.api.ecs.daemon import daemon_of
from homeport.api.ecs.daemon_json import deployment_brief, deployment_json, revision_json
from homeport.errors import ClientError, DaemonNotFoundError
from homeport.model import arn
from homeport.model.ecs.daemon_deployment import DaemonDeployment
from homeport.store.table import Reader
from homeport.store.tables import DAEMON_DEPLOYMENTS, DAEMON_REVISIONS

LIST_DEFAULT: Final = 20


async def describe_daemon_deployments(call: Call, request: Any) -> dict[str, Any]:
    """DescribeDaemonDeployments: up to 20; one that is not there is in `failures` with reason MISSING."""

    def found(reader: Reader, key: str) -> dict[str, Any] | None:
        deployment = reader.get(DAEMON_DEPLOYMENTS, key)
        return deployment_json(reader, call.region, deployment) if deployment else None

    shown, failures = await by_arn.described(call, request.daemonDeploymentArns, "daemon-deployment", found)
    return {"daemonDeployments": shown, "failures": failures}


async def describe_daemon_revisions(call: Call, request: Any) -> dict[str, Any]:
    """DescribeDaemonRevisions: up to 20; one that is not there is in `failures` with reason MISSING."""

    def found(reader: Reader, key: str) -> dict[str, Any] | None:
        revision = reader.get(DAEMON_REVISIONS, key)
        return revision_json(call.region, revision) if revision else None

    shown, failures = await by_arn.described(call, request.daemonRevisionArns, "daemon-revision", found)
    return {"daemonRevisions": shown, "failures": failures}


async def list_daemon_deployments(call: Call, request: Any) -> dict[str, Any]:
    """ListDaemonDeployments: newest first, in pages of 20 unless told otherwise; by status and by when they were made.

    Raises ClientError for a daemon that is not there: the operation models no better error.
    """
    limit = page.limit_of(request.maxResults, default=LIST_DEFAULT)
    created = request.createdAt
    before = None if created is None else created.before
    since = None if created is None else created.after

    def wanted(deployment: DaemonDeployment) -> bool:
        if request.status and deployment.status not in request.status:
            return False
        return (before is None or deployment.created_at < before) and (since is None or deployment.created_at > since)

    def look(reader: Reader) -> dict[str, Any]:
        try:
            daemon = daemon_of(reader, call, request.daemonArn)
        except DaemonNotFoundError as error:
            raise ClientError(error.message) from None
        filters = (daemon.key, request.status, before, since)
        last_given = pagination.open_token(call, request.nextToken, filters)
        # Those of an earlier daemon of the same name are not this one's.
        known = [item for item in reader.find(DAEMON_DEPLOYMENTS, "daemon", daemon.key) if item.created_at >= daemon.created_at and wanted(item)]
        following = (item for item in sorted(known, key=_place, reverse=True) if not last_given or _place(item) < last_given)
        items, last = pagination.paginate(following, limit=limit, key=_place)
        return {"daemonDeployments": [_summary(call, item) for item in items], **page.next_page(call, last, filters)}

    return await call.view(look)


def _summary(call: Call, deployment: DaemonDeployment) -> dict[str, Any]:
    shown = {**deployment_brief(call.region, deployment), "daemonArn": arn.daemon_arn(call.region, deployment.daemon_key)}
    if not deployment.revision_id:
        return shown
    return {**shown, "targetDaemonRevisionArn": arn.daemon_revision_arn(call.region, f"{deployment.daemon_key}/{deployment.revision_id}")}


def _place(deployment: DaemonDeployment) -> str:
    """Where `deployment` stands in the order of creation, as a string that sorts."""
    return f"{deployment.created_at:020.6f}/{deployment.id}"
