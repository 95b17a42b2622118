"""Ends the deletion of daemon task definitions: DELETE_IN_PROGRESS → DELETED when no daemon and no task has one any more.

Owns: the status DELETED and its instant. Never forgets a record (`controllers/retention.py` does, some time after).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from homeport.controllers.loop import Activation
from homeport.model.ecs import daemon_task_definition as model
from homeport.model.ecs.daemon_task_definition import DaemonTaskDefinition
from homeport.store.table import Change, Reader, Transaction
from homeport.store.tables import DAEMON_TASK_DEFINITIONS, DAEMONS, TASKS

NAME: Final = "daemon_task_definition"


class DaemonTaskDefinitionController:
    """The controller of daemon task definitions that are being deleted; its keys are theirs."""

    name = NAME

    def keys_of(self, change: Change) -> Iterable[str]:
        """The definition that changed. That its last daemon goes is seen at the sweep: nobody waits for a record to be forgotten."""
        after = change.after
        return (after.key,) if isinstance(after, DaemonTaskDefinition) and after.status == model.DELETE_IN_PROGRESS else ()

    def keys(self, reader: Reader) -> Iterable[str]:
        """Every one that is DELETE_IN_PROGRESS."""
        return [item.key for item in reader.find(DAEMON_TASK_DEFINITIONS, "status", model.DELETE_IN_PROGRESS)]

    def activate(self, tx: Transaction, key: str) -> Activation:
        """DELETED, if nothing has it."""
        definition = tx.get(DAEMON_TASK_DEFINITIONS, key)
        if definition is not None and definition.status == model.DELETE_IN_PROGRESS and not is_used(tx, definition):
            tx.put(DAEMON_TASK_DEFINITIONS, msgspec.structs.replace(definition, status=model.DELETED, deleted_at=tx.now))
        return Activation()


def is_used(reader: Reader, definition: DaemonTaskDefinition) -> bool:
    """Whether a task of `definition` is not STOPPED yet, or a daemon may still start one."""
    return bool(reader.count(TASKS, "daemon_definition_live", definition.reference) or reader.count(DAEMONS, "definition", definition.reference))
