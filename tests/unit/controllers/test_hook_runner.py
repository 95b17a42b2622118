"""Who calls lifecycle hooks, when things happen beside: commits amid a call, no room for a task, another leader, definitions that are gone."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.unit.controllers.test_deployment import Aws
from tests.unit.controllers.test_traffic_shift import BLUE_GREEN, TASK_HOOK, URL, hook, primary, serving, until

from homeport.store.tables import CONTAINER_INSTANCES, TASK_DEFINITIONS, TASKS
from homeport.testing import records

OTHER_URL = "http://100.64.0.2/hook"


@pytest.fixture
async def aws(make_cell):
    return Aws(await make_cell(records.task_definition(revision=2), records.task_definition(revision=3, cpu=700)))


async def at_post_scale_up(aws, *hooks):
    await serving(aws, **BLUE_GREEN)
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": list(hooks)})
    await until(aws, "POST_SCALE_UP")


def task_hook(**members):
    return {"hookTargetArn": TASK_HOOK, "lifecycleStages": ["POST_SCALE_UP"], **members}


async def hook_tasks(aws):
    return [task for task in await aws.cell.all(TASKS) if task.revision == 3]


async def end_leader(aws):
    runner = aws.cell._running.pop(1)
    runner.cancel()
    await asyncio.gather(runner, return_exceptions=True)


async def test_a_target_that_takes_long_is_called_once_whatever_is_written_beside(aws):
    answered = asyncio.Event()

    async def slowly():
        await answered.wait()
        return {"hookStatus": "SUCCEEDED"}

    aws.cell.hook_targets.answers[URL] = lambda payload: slowly()
    await at_post_scale_up(aws, hook("POST_SCALE_UP"), hook("POST_SCALE_UP", hookTargetArn=OTHER_URL))
    await aws.update(desiredCount=3)
    await aws.update(deploymentConfiguration={"bakeTimeInMinutes": 6})
    await aws.cell.clock.advance(60)
    assert sorted(url for url, _ in aws.cell.hook_targets.calls) == [URL, OTHER_URL]
    answered.set()
    await aws.cell.clock.settle()
    assert (await primary(aws)).lifecycle_stage == "BAKE_TIME"


async def test_a_task_without_room_is_tried_until_there_is_some(aws):
    (instance,) = await aws.cell.all(CONTAINER_INSTANCES)
    await aws.cell.put(msgspec.structs.replace(instance, cpu=600))
    await at_post_scale_up(aws, task_hook())
    await aws.cell.clock.advance(60)
    (run,) = (await primary(aws)).hooks
    assert (run.status, await hook_tasks(aws)) == ("IN_PROGRESS", [])
    assert "cannot be placed" in run.reason
    await aws.cell.put(msgspec.structs.replace(instance, cpu=4096))
    await aws.cell.clock.advance(6)
    (task,) = await hook_tasks(aws)
    assert (await primary(aws)).hooks[0].task_id == task.id


async def test_a_task_that_ended_while_nobody_led_is_looked_at_by_the_next_leader(aws):
    await at_post_scale_up(aws, task_hook())
    await aws.cell.clock.advance(3)
    (task,) = await hook_tasks(aws)
    await end_leader(aws)
    await aws.cell.report(task, "STOPPED", containers={"app": {"status": "STOPPED", "exit_code": 0}})
    await aws.cell.clock.advance(30)
    assert (await primary(aws)).lifecycle_stage == "POST_SCALE_UP"
    aws.cell._running.append(asyncio.create_task(aws.cell.new_hooks().run()))
    await aws.cell.clock.advance(1)
    assert (await primary(aws)).lifecycle_stage == "BAKE_TIME"


async def test_a_task_that_nobody_waits_for_any_more_is_stopped_by_the_next_leader(aws):
    await at_post_scale_up(aws, task_hook(timeoutConfiguration={"timeoutInMinutes": 1}))
    await aws.cell.clock.advance(3)
    await end_leader(aws)
    await aws.cell.clock.advance(90)
    (task,) = await hook_tasks(aws)
    assert task.desired_status == "RUNNING"
    aws.cell._running.append(asyncio.create_task(aws.cell.new_hooks().run()))
    await aws.cell.clock.advance(1)
    (task,) = await hook_tasks(aws)
    assert task.desired_status == "STOPPED" and "is over" in task.stopped_reason


async def test_a_task_definition_that_was_deleted_meanwhile_has_failed(aws):
    (definition,) = [item for item in await aws.cell.all(TASK_DEFINITIONS) if item.revision == 3]
    await serving(aws, **BLUE_GREEN)
    await aws.update(taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": [task_hook()]})
    await aws.cell.store.update(lambda tx: tx.delete(TASK_DEFINITIONS, definition.key), cause="test")
    await aws.cell.clock.advance(120)
    described = await aws.newest()
    assert described["status"] == "ROLLBACK_SUCCESSFUL"
    assert [run["status"] for run in described["lifecycleHookDetails"]] == ["FAILED"]
