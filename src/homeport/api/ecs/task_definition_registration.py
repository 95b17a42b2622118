"""What the registration of a task definition and of a daemon task definition have in common: the record without its number, and the number.

Owns: the making of `TaskDefinition` records and the revision counters of families. Never checks a document (`task_definition_rules.py`) and never
stores the definition: each operation has its own table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from homeport.api.call import Call
from homeport.api.ecs.task_definition_json import document
from homeport.api.ecs.task_definition_requirements import requires_attributes
from homeport.api.ecs.task_definition_rules import Checked
from homeport.api.ecs.task_definition_support import unsupported
from homeport.errors import ClientError, LimitExceededError
from homeport.model.ecs import task_definition as model
from homeport.model.ecs.task_definition import TaskDefinition, TaskDefinitionFamily
from homeport.store.table import Table, Transaction


def unnumbered(call: Call, request: Any, good: Checked, *, compatibilities: list[str]) -> TaskDefinition:
    """The ACTIVE definition that RegisterTaskDefinition's `request` asks for, still without revision, instant and tags."""
    requires = requires_attributes(request, good)
    return TaskDefinition(
        account=call.account,
        family=good.family,
        revision=0,
        status=model.ACTIVE,
        registered_at=0.0,
        registered_by=call.principal_arn,
        document=document(request, good, requires=requires, compatibilities=compatibilities),
        network_mode=good.network_mode,
        cpu=good.cpu,
        memory_mib=good.memory_mib,
        host_ports=good.host_ports,
        requires_attributes=tuple(requires),
        placement_constraints=good.constraints,
        unsupported=unsupported(request, good),
        gpus=_gpus(good.containers),
    )


def _gpus(containers: Sequence[Any]) -> int:
    """GPUs that the containers name by number; ALL counts as one, because at least one must be there."""
    needed = (requirement.value for container in containers for requirement in container.resourceRequirements or () if requirement.type == "GPU")
    return sum(int(value) if (value or "").isdigit() else 1 for value in needed)


def check_size(call: Call, text: bytes) -> None:
    """Raise ClientError when the document `text` is larger than a definition may be."""
    if len(text) > call.settings.task_definition_bytes_max:
        raise ClientError(f"Actual length: '{len(text)}'. Max allowed length is '{call.settings.task_definition_bytes_max}' bytes.")


def numbered(tx: Transaction, call: Call, families: Table[TaskDefinitionFamily], definition: TaskDefinition) -> TaskDefinition:
    """`definition` as the next revision of its family, which is counted in `families`. Raises LimitExceededError."""
    counter = tx.get(families, definition.family_key)
    revision = counter.last_revision + 1 if counter is not None else 1
    if revision > (most := min(call.settings.task_definition_revisions_max, model.REVISION_MAX)):
        raise LimitExceededError(f"The family {definition.family} has reached the limit of {most} revisions.")
    tx.put(families, TaskDefinitionFamily(account=definition.account, family=definition.family, last_revision=revision))
    return msgspec.structs.replace(definition, revision=revision, registered_at=tx.now)
