"""Operations on daemons: create, update, delete, describe, list.

Owns: what a user wants of a daemon, its revisions, and the making of its deployments. Never starts or stops a task:
`controllers/daemon_deployment.py` does, when it sees what is written here.
Source: the service model's documentation of the five operations. Any capacity provider with container instances will do (docs/decisions/0009).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api import idempotency, pagination
from homeport.api.call import Call
from homeport.api.ecs import daemon_members as members
from homeport.api.ecs import lookup, page
from homeport.api.ecs.admission import admit_daemon
from homeport.api.ecs.capacity_provider import name_in
from homeport.api.ecs.daemon_json import daemon_json
from homeport.api.ecs.daemon_task_definition import daemon_task_definition_of
from homeport.api.ecs.tag_rules import tags_of
from homeport.api.ecs.task_definition_support import missing
from homeport.api.ecs.task_input import not_built
from homeport.errors import ClientError, ConflictError, DaemonNotActiveError, DaemonNotFoundError, InvalidParameterError
from homeport.model import arn
from homeport.model.ecs import daemon as model
from homeport.model.ecs import daemon_deployment as deployment_model
from homeport.model.ecs import daemon_task_definition as definition_model
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.daemon_deployment import DaemonDeployment
from homeport.model.ecs.daemon_revision import DaemonRevision
from homeport.model.ecs.daemon_task_definition import DaemonTaskDefinition
from homeport.model.ecs.service_revision import RevisionContainer
from homeport.planner.daemon_monitors import superseded, with_revision
from homeport.planner.task import definition_document
from homeport.store.table import Reader, Transaction
from homeport.store.tables import DAEMON_DEPLOYMENTS, DAEMON_REVISIONS, DAEMONS, TASKS

CLIENT_TOKEN_CHARACTERS_MAX: Final = 36
NOT_IDEMPOTENT: Final = "Creation of daemon was not idempotent."
BEING_DELETED: Final = "Unable to create a daemon while the daemon of that name is being deleted."
DEFINITION_MISSING: Final = "DaemonTaskDefinition not found."
DEFINITION_INACTIVE: Final = "DaemonTaskDefinition is inactive"


async def create_daemon(call: Call, request: Any) -> dict[str, Any]:
    """CreateDaemon: an ACTIVE daemon with its first deployment. A repeated client token gives the daemon that it made."""
    members.check_name(request.daemonName)
    idempotency.check_token(request.clientToken, length_max=CLIENT_TOKEN_CHARACTERS_MAX)
    tags = tags_of(request.tags, tags_max=call.settings.tags_max)
    configuration = members.configuration_of(request.deploymentConfiguration, call.settings)

    def create(tx: Transaction) -> dict[str, Any]:
        cluster = lookup.cluster_of(tx, call, request.clusterArn)
        once = idempotency.Once(call=call, scope=cluster.key, token=request.clientToken, request=request)
        if (again := _made_before(tx, call, once, cluster)) is not None:
            return again
        revision = _revision(tx, call, request, cluster=cluster)
        daemon = Daemon(
            account=cluster.account,
            cluster=cluster.name,
            name=request.daemonName,
            status=model.ACTIVE,
            created_at=tx.now,
            updated_at=tx.now,
            created_by=call.principal_arn,
            revision_id=revision.id,
            deployment_id="",
            capacity_providers=revision.capacity_providers,
            tags=tags,
        )
        admit_daemon(tx, call, daemon, revision)
        tx.put(DAEMON_REVISIONS, revision)
        daemon = _deploy(tx, call, with_revision(daemon, revision, completed=None), configuration=configuration)
        once.remember(tx, (daemon.key, daemon.deployment_id))
        return _answer(call, daemon, daemon.deployment_id, updated=False)

    return await call.update(create)


def _made_before(tx: Transaction, call: Call, once: idempotency.Once, cluster: Cluster) -> dict[str, Any] | None:
    """The answer of the same call made earlier. Raises InvalidParameterError when the name is taken by another daemon."""
    try:
        remembered = once.recall(tx)
    except ConflictError:
        # CreateDaemon does not model ConflictException.
        raise InvalidParameterError(NOT_IDEMPOTENT) from None
    existing = tx.get(DAEMONS, f"{cluster.key}/{once.request.daemonName}")
    if existing is None:
        return None
    if existing.status != model.ACTIVE:
        raise InvalidParameterError(BEING_DELETED)
    if remembered is not None and remembered.resources[0] == existing.key:
        return _answer(call, existing, remembered.resources[1], updated=False)
    raise InvalidParameterError(NOT_IDEMPOTENT)


def _revision(tx: Transaction, call: Call, request: Any, *, cluster: Cluster, before: DaemonRevision | None = None) -> DaemonRevision:
    """What `request` asks for as a new revision; `before` may have a definition that no new daemon could."""
    definition = daemon_task_definition_of(tx, call, request.daemonTaskDefinitionArn, missing=DEFINITION_MISSING)
    _check_runnable(definition, before)
    if request.enableExecuteCommand:
        raise not_built("enableExecuteCommand")
    return DaemonRevision(
        account=cluster.account,
        cluster=cluster.name,
        daemon=before.daemon if before else request.daemonName,
        id=call.ids.digits(19),
        created_at=tx.now,
        family=definition.family,
        revision=definition.revision,
        capacity_providers=members.capacity_providers_of(tx, call, request.capacityProviderArns, cluster=cluster),
        containers=tuple(
            RevisionContainer(name=item["name"], image=item["image"]) for item in definition_document(definition.definition)["containerDefinitions"]
        ),
        propagate_tags=request.propagateTags or model.NONE,
        enable_ecs_managed_tags=bool(request.enableECSManagedTags),
        critical=request.critical is not False,
    )


def _check_runnable(definition: DaemonTaskDefinition, before: DaemonRevision | None) -> None:
    if definition.status != definition_model.ACTIVE and (before is None or before.definition != definition.reference):
        raise ClientError(DEFINITION_INACTIVE)
    if member := missing(definition.definition):
        raise not_built(f"Daemon task definition {definition.family}:{definition.revision}: {member}")


def _deploy(tx: Transaction, call: Call, daemon: Daemon, *, configuration: bytes) -> Daemon:
    """Put a new deployment of what `daemon` is now in place of the one before; the daemon as it is stored."""
    before = tx.get(DAEMON_DEPLOYMENTS, f"{daemon.key}/{daemon.deployment_id}") if daemon.deployment_id else None
    if before is not None and before.status not in deployment_model.TERMINAL:
        tx.put(DAEMON_DEPLOYMENTS, superseded(before, tx.now))
    deploys = daemon.status == model.ACTIVE
    sources = {task.deployment_id for task in tx.find(TASKS, "daemon_live", daemon.key)} - {daemon.revision_id if deploys else ""}
    deployment = DaemonDeployment(
        account=daemon.account,
        cluster=daemon.cluster,
        daemon=daemon.name,
        id=call.ids.digits(19),
        status=deployment_model.PENDING,
        created_at=tx.now,
        updated_at=tx.now,
        revision_id=daemon.revision_id if deploys else "",
        source_revision_ids=tuple(sorted(sources)),
        configuration=configuration or (before.configuration if before else b""),
    )
    tx.put(DAEMON_DEPLOYMENTS, deployment)
    daemon = msgspec.structs.replace(daemon, deployment_id=deployment.id, updated_at=tx.now)
    tx.put(DAEMONS, daemon)
    return daemon


def _answer(call: Call, daemon: Daemon, deployment_id: str, *, updated: bool = True) -> dict[str, Any]:
    shown = {
        "daemonArn": arn.daemon_arn(call.region, daemon.key),
        "status": daemon.status,
        "createdAt": daemon.created_at,
        "deploymentArn": arn.daemon_deployment_arn(call.region, f"{daemon.key}/{deployment_id}"),
    }
    return {**shown, "updatedAt": daemon.updated_at} if updated else shown


def daemon_of(reader: Reader, call: Call, reference: str) -> Daemon:
    """The daemon with the ARN `reference`. Raises InvalidParameterError for no such ARN, ClusterNotFoundError, DaemonNotFoundError."""
    own = lookup.own_arn(call, reference)
    kind, *parts = own.resource.split("/") if own else [""]
    if kind != "daemon" or len(parts) != 2 or not all(parts):
        raise InvalidParameterError(f"Invalid identifier: {reference} is no ARN of a daemon of this account and region")
    daemon = reader.get(DAEMONS, f"{lookup.cluster_of(reader, call, parts[0]).key}/{parts[1]}")
    if daemon is None:
        raise DaemonNotFoundError
    return daemon


async def update_daemon(call: Call, request: Any) -> dict[str, Any]:
    """UpdateDaemon: a new revision, and the deployment of it. What is left out takes its default, but for the deployment configuration, which
    stays."""
    configuration = members.configuration_of(request.deploymentConfiguration, call.settings) if request.deploymentConfiguration is not None else b""

    def update(tx: Transaction) -> dict[str, Any]:
        daemon = _active(tx, call, request.daemonArn)
        cluster = lookup.cluster_of(tx, call, daemon.cluster)
        before = tx.get(DAEMON_REVISIONS, f"{daemon.key}/{daemon.revision_id}")
        if before is None:
            raise DaemonNotFoundError
        revision = _revision(tx, call, request, cluster=cluster, before=before)
        admit_daemon(tx, call, daemon, revision)
        completed = tx.get(DAEMON_REVISIONS, f"{daemon.key}/{daemon.completed_revision_id}") if daemon.completed_revision_id else None
        tx.put(DAEMON_REVISIONS, revision)
        daemon = _deploy(tx, call, with_revision(daemon, revision, completed=completed), configuration=configuration)
        return _answer(call, daemon, daemon.deployment_id)

    return await call.update(update)


def _active(reader: Reader, call: Call, reference: str) -> Daemon:
    daemon = daemon_of(reader, call, reference)
    if daemon.status != model.ACTIVE:
        raise DaemonNotActiveError
    return daemon


async def delete_daemon(call: Call, request: Any) -> dict[str, Any]:
    """DeleteDaemon: DELETE_IN_PROGRESS, with a deployment that stops its tasks; the daemon is gone when none is left that is wanted."""

    def delete(tx: Transaction) -> dict[str, Any]:
        daemon = _active(tx, call, request.daemonArn)
        daemon = _deploy(tx, call, msgspec.structs.replace(daemon, status=model.DELETE_IN_PROGRESS, share=None), configuration=b"")
        return _answer(call, daemon, daemon.deployment_id)

    return await call.update(delete)


async def describe_daemon(call: Call, request: Any) -> dict[str, Any]:
    """DescribeDaemon: its status, its newest deployment, and where its revisions run."""
    return await call.view(lambda reader: {"daemon": daemon_json(reader, call.region, daemon_of(reader, call, request.daemonArn))})


async def list_daemons(call: Call, request: Any) -> dict[str, Any]:
    """ListDaemons: the daemons of a cluster by name, those of any of the capacity providers that are named."""
    limit = page.limit_of(request.maxResults)

    def look(reader: Reader) -> dict[str, Any]:
        cluster = lookup.cluster_of(reader, call, request.clusterArn)
        providers = {name_in(call, reference) for reference in request.capacityProviderArns or ()}
        filters = (cluster.key, sorted(providers))
        after = pagination.open_token(call, request.nextToken, filters)
        following = (
            daemon for daemon in reader.scan(DAEMONS, f"{cluster.key}/", after) if not providers or providers.intersection(daemon.capacity_providers)
        )
        found, last = pagination.paginate(following, limit=limit, key=lambda daemon: daemon.key)
        summaries = [
            {
                "daemonArn": arn.daemon_arn(call.region, daemon.key),
                "status": daemon.status,
                "createdAt": daemon.created_at,
                "updatedAt": daemon.updated_at,
            }
            for daemon in found
        ]
        return {"daemonSummariesList": summaries, **page.next_page(call, last, filters)}

    return await call.view(look)
