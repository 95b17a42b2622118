from __future__ import annotations

import pytest
from tests.unit.api.ecs.caller import ARN, Ecs

from homeport.api.ecs.execute_command import NOT_ENABLED
from homeport.errors import ClusterNotFoundError, InvalidParameterError
from homeport.model.ecs.task import Container
from homeport.store.tables import TASKS
from homeport.testing import records


@pytest.fixture
def ecs(context):
    return Ecs(context)


async def ask(ecs, task, **members):
    await ecs("ExecuteCommand", **{"command": "sh", "interactive": True, "task": task, **members})


async def running(ecs, *names, **fields):
    containers = tuple(Container(name=name, image=name, id="c" + name) for name in names or ("app",))
    task = records.task(**{"last_status": "RUNNING", "desired_status": "RUNNING", "containers": containers, **fields})
    await ecs("CreateCluster")
    await ecs.put((TASKS, task))
    return task.id


@pytest.mark.parametrize("container", [None, "app"])
async def test_a_running_task_cannot_have_exec(ecs, container):
    task = await running(ecs)
    with pytest.raises(InvalidParameterError, match="was not enabled when the task was run") as caught:
        await ask(ecs, f"{ARN}task/default/{task}", **({"container": container} if container else {}))
    assert caught.value.message == NOT_ENABLED


async def test_wrong_calls_are_told_what_is_wrong(ecs):
    task = await running(ecs, "app", "side")
    wrong = {
        "Interactive is the only mode": {"interactive": False},
        "command can not be blank": {"command": " "},
        "several containers.*app, side": {},
        "no container web; it has app, side": {"container": "web"},
        "task was not found": {"task": "f" * 32},
        "length should be one of": {"task": "x"},
        "is for cluster other": {"task": f"{ARN}task/other/{task}"},
    }
    for sentence, members in wrong.items():
        with pytest.raises(InvalidParameterError, match=sentence):
            await ask(ecs, **{"task": task, **members})
    with pytest.raises(ClusterNotFoundError):
        await ask(ecs, task, cluster="none")


@pytest.mark.parametrize(("last", "desired"), [("PENDING", "RUNNING"), ("RUNNING", "STOPPED"), ("STOPPED", "STOPPED")])
async def test_a_task_that_does_not_run_has_no_exec(ecs, last, desired):
    task = await running(ecs, last_status=last, desired_status=desired)
    with pytest.raises(InvalidParameterError, match=f"not running; its status is {last}"):
        await ask(ecs, task)
