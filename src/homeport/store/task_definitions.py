"""The task definition that a task runs, whichever table has it.

Owns: `definition_of`. Never writes.
"""

from __future__ import annotations

from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition, task_definition_key
from homeport.store.table import Reader
from homeport.store.tables import DAEMON_TASK_DEFINITIONS, TASK_DEFINITIONS


def definition_of(reader: Reader, task: Task) -> TaskDefinition | None:
    """What `task` runs; of a daemon's task its daemon task definition in the form of a task definition. None when it is gone."""
    key = task_definition_key(task.account, task.family, task.revision)
    if not task.daemon:
        return reader.get(TASK_DEFINITIONS, key)
    found = reader.get(DAEMON_TASK_DEFINITIONS, key)
    return found.definition if found is not None else None
