"""Making service revisions, and putting one back.

Owns: `new_revision`, `derived_revision`, `put_back`, `starts_deployment`, and which members of a service belong to its revisions. Never makes one by
itself: the operations that start a deployment do (ecs-reference 3.8), and a rollback puts an older one back (3.9).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import Service
from homeport.model.ecs.service_revision import RevisionContainer, ServiceRevision
from homeport.model.ecs.task_definition import TaskDefinition
from homeport.model.record import Instant
from homeport.planner.task import definition_document

REVISION_MEMBERS: Final = (
    "capacityProviderStrategy",
    "gatewayConnectors",
    "loadBalancers",
    "monitoring",
    "networkConfiguration",
    "platformFamily",
    "platformVersion",
    "serviceConnectConfiguration",
    "serviceRegistries",
    "volumeConfigurations",
    "vpcLatticeConfigurations",
)
"""Members of `Service.document` that a revision keeps and a rollback puts back; the others change without a deployment."""


STARTING_MEMBERS: Final = frozenset(REVISION_MEMBERS) - {"capacityProviderStrategy", "monitoring"}
"""Those of which another value starts a deployment (ecs-reference 3.8)."""


def starts_deployment(before: Service, after: Service) -> bool:
    """Whether an update from `before` to `after` needs new tasks. An empty list is as good as none: clearing what is not there changes nothing."""
    if (before.family, before.revision) != (after.family, after.revision):
        return True
    if before.document == after.document:
        return False
    old, new = service_document(before), service_document(after)
    return any((old.get(name) or None) != (new.get(name) or None) for name in STARTING_MEMBERS)


def service_document(service: Service) -> dict[str, Any]:
    """The members of `service` that are kept as they came."""
    document: dict[str, Any] = msgspec.json.decode(service.document) if service.document else {}
    return document


def new_revision(service: Service, definition: TaskDefinition | None, *, revision_id: str, now: Instant) -> ServiceRevision:
    """What `service` consists of at `now`, with the digits `revision_id`. `definition`: that of the service; None if it is gone."""
    document = service_document(service)
    kept = {name: document[name] for name in REVISION_MEMBERS if name in document}
    containers = definition_document(definition)["containerDefinitions"] if definition else ()
    return ServiceRevision(
        account=service.account,
        cluster=service.cluster,
        service=service.name,
        id=revision_id,
        created_at=now,
        family=service.family,
        revision=service.revision,
        launch_type=service.launch_type,
        containers=tuple(
            RevisionContainer(name=item["name"], image=item["image"], consistent=item.get("versionConsistency") != "disabled") for item in containers
        ),
        document=msgspec.json.encode(kept) if kept else b"",
    )


def derived_revision(deployment: Deployment, definition: TaskDefinition | None) -> ServiceRevision:
    """The revision of a deployment that was made by a version without revisions: all that such a version could vary is in the deployment."""
    containers = definition_document(definition)["containerDefinitions"] if definition else ()
    return ServiceRevision(
        account=deployment.account,
        cluster=deployment.cluster,
        service=deployment.service,
        id=deployment.target_id,
        created_at=deployment.created_at,
        family=deployment.family,
        revision=deployment.revision,
        launch_type=deployment.launch_type,
        containers=tuple(RevisionContainer(name=item["name"], image=item["image"], consistent=False) for item in containers),
    )


def put_back(service: Service, revision: ServiceRevision) -> Service:
    """`service` consisting of `revision` again; what is no part of a revision stays as it is."""
    document = {name: value for name, value in service_document(service).items() if name not in REVISION_MEMBERS}
    if revision.document:
        document |= msgspec.json.decode(revision.document)
    return msgspec.structs.replace(
        service,
        family=revision.family,
        revision=revision.revision,
        launch_type=revision.launch_type,
        document=msgspec.json.encode(document) if document else b"",
    )
