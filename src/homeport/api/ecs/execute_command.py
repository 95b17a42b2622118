"""ExecuteCommand: all checks of a call, and the refusal to open a session.

Owns: which error each wrong call gets. Never opens a session: exec is not built, and whatever starts tasks refuses `enableExecuteCommand`, so that no
task has it; the answer to a call in order is the one that ECS gives for a task without it.
Source: ecs-reference 3.20 (always interactive; an ambiguous container is an InvalidParameterException).
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from homeport.api.call import Call
from homeport.api.ecs import lookup
from homeport.errors import InvalidParameterError
from homeport.model.ecs import task as model
from homeport.model.ecs.task import Task
from homeport.store.table import Reader
from homeport.store.tables import TASKS

NOT_ENABLED: Final = (
    "The execute command failed because execute command was not enabled when the task was run or the execute command agent isn't running. Wait and "
    "try again or run a new task with execute command enabled and try again. (Here no task can be run with it: exec is not built yet.)"
)


async def execute_command(call: Call, request: Any) -> dict[str, Any]:
    """ExecuteCommand: raises ClusterNotFoundError, or InvalidParameterError for a wrong task, container or mode, and for every task without exec."""
    if not request.interactive:
        raise InvalidParameterError("Interactive is the only mode supported currently.")
    if not request.command.strip():
        raise InvalidParameterError("The command can not be blank.")

    def look(reader: Reader) -> NoReturn:
        cluster = lookup.cluster_of(reader, call, request.cluster)
        task = reader.get(TASKS, lookup.task_key(call, cluster, request.task))
        if task is None:
            raise InvalidParameterError("The referenced task was not found.")
        if task.last_status != model.RUNNING or task.desired_status != model.RUNNING:
            raise InvalidParameterError(f"The execute command failed because the task is not running; its status is {task.last_status}.")
        _check_container(task, request.container)
        raise InvalidParameterError(NOT_ENABLED)

    return await call.view(look)


def _check_container(task: Task, name: str | None) -> None:
    names = [container.name for container in task.containers]
    if name:
        if name not in names:
            raise InvalidParameterError(f"The task has no container {name}; it has {', '.join(names)}.")
    elif len(names) > 1:
        raise InvalidParameterError(f"The task has several containers, so that one must be named: {', '.join(names)}.")
