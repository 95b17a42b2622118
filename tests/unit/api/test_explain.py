"""ExplainPlacement over a control plane in memory, and how the command shows it."""

from __future__ import annotations

import msgspec
import pytest

from homeport.api.call import Call
from homeport.api.ecs.operations import OPERATIONS as ECS
from homeport.api.homeport.operations import OPERATIONS
from homeport.api.protocol import json, model
from homeport.cli.explain import screen
from homeport.errors import InvalidParameterError, ResourceNotFoundError
from homeport.model.arn import root_arn
from homeport.store.tables import CONTAINER_INSTANCES, SERVICES
from homeport.testing.cell import MemoryCell
from homeport.testing.records import ACCOUNT, REGION, container_instance

ONE, TWO = "1" * 32, "2" * 32
WEB = {"family": "web", "containerDefinitions": [{"name": "app", "image": "busybox", "memory": 512, "cpu": 512, "stopTimeout": 7}]}
BIG = {"family": "big", "containerDefinitions": [{"name": "app", "image": "busybox", "memory": 4096, "cpu": 512}]}


@pytest.fixture
async def cell():
    made = await MemoryCell.open()

    def join(tx):
        for instance_id, memory in ((ONE, 1024), (TWO, 2048)):
            tx.put(CONTAINER_INSTANCES, container_instance(id=instance_id, cpu=1024, memory_mib=memory))

    await made.call("CreateCluster", ECS["CreateCluster"], {})
    await made.context.store.update(join, cause="test")
    for definition in (WEB, BIG):
        await made.call("RegisterTaskDefinition", ECS["RegisterTaskDefinition"], definition)
    yield made
    await made.close()


async def explain(cell, **request):
    decoded = json.decode(model.load("homeport").operations["ExplainPlacement"], msgspec.json.encode(request))
    call = Call(
        context=cell.context, operation="ExplainPlacement", request_id=cell.context.ids.uuid(), account=ACCOUNT, principal_arn=root_arn(ACCOUNT)
    )
    return msgspec.json.decode(json.encode(await OPERATIONS["ExplainPlacement"](call, decoded)))


async def test_a_service_that_fits_says_where_its_next_task_would_run(cell):
    await cell.call("CreateService", ECS["CreateService"], {"serviceName": "web", "taskDefinition": "web", "desiredCount": 1})
    told = await explain(cell, resource="web")
    assert told["resourceArn"] == f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/default/web"
    assert told["wouldRunOn"].endswith(ONE)
    assert told["changes"] == []
    assert [item["fits"] for item in told["containerInstances"]] == [True, True]
    assert told["requirement"]["memory"] == 512


async def test_what_fits_nowhere_names_every_shortfall_and_the_smallest_change(cell):
    await cell.call("CreateService", ECS["CreateService"], {"serviceName": "big", "taskDefinition": "big", "desiredCount": 1})
    told = await explain(cell, resource="big", maxResults=1)
    assert "wouldRunOn" not in told
    assert told["containerInstanceCount"] == 2
    (closest,) = told["containerInstances"]
    assert closest["containerInstanceArn"].endswith(TWO)
    assert closest["obstacles"] == [{"reason": "RESOURCE:MEMORY", "needed": 4096, "available": 2048}]
    change = told["suggestedChange"]
    assert (change["kind"], change["size"], change["cpu"], change["memory"]) == ("LOWER_REQUEST", 2048, 512, 2048)
    assert change["containerInstanceArn"].endswith(TWO)
    shown = "\n".join(screen(told))
    assert "RESOURCE:MEMORY: needs 4096, 2048 free" in shown
    assert "the smallest change: ask for 512 CPU units and 2048 MiB instead of 512 CPU units and 4096 MiB" in shown
    assert "and 1 more" in shown


async def test_room_that_is_about_to_come_free_is_told_with_its_time(cell):
    ran = await cell.call("RunTask", ECS["RunTask"], {"taskDefinition": "web", "count": 6})
    assert len(ran["tasks"]) == 4
    stopped = ran["tasks"][0]
    await cell.call("StopTask", ECS["StopTask"], {"task": stopped["taskArn"]})
    await cell.call("CreateService", ECS["CreateService"], {"serviceName": "web", "taskDefinition": "web", "desiredCount": 1})
    told = await explain(cell, resource="service/default/web")
    assert told["suggestedChange"]["kind"] == "WAIT_FOR_STOPPING_TASKS"
    assert told["suggestedChange"]["taskArns"] == [stopped["taskArn"]]
    (where,) = [item for item in told["containerInstances"] if item["stoppingTasks"]]
    assert where["stoppingTasks"][0]["taskArn"] == stopped["taskArn"]
    kinds = [change["kind"] for change in told["changes"]]
    assert "STOP_TASKS" in kinds
    assert "ADD_INSTANCE" in kinds


async def test_a_task_is_explained_as_one_more_of_its_kind(cell):
    ran = await cell.call("RunTask", ECS["RunTask"], {"taskDefinition": "web"})
    arn = ran["tasks"][0]["taskArn"]
    told = await explain(cell, resource=arn)
    assert told["containerInstanceArn"] == ran["tasks"][0]["containerInstanceArn"]
    assert "runs on" in "\n".join(screen(told))


async def test_it_writes_nothing(cell):
    await cell.call("CreateService", ECS["CreateService"], {"serviceName": "big", "taskDefinition": "big", "desiredCount": 1})
    before = await cell.context.store.view(lambda reader: (reader.revision, list(reader.scan(SERVICES))))
    await explain(cell, resource="big")
    assert await cell.context.store.view(lambda reader: (reader.revision, list(reader.scan(SERVICES)))) == before


async def test_what_is_no_service_and_no_task_is_refused(cell):
    with pytest.raises(ResourceNotFoundError):
        await explain(cell, resource="nobody")
    with pytest.raises(InvalidParameterError):
        await explain(cell, resource=f"container-instance/default/{ONE}")


async def test_a_service_with_task_sets_says_which_set_the_next_task_is_of(cell):
    await cell.call("CreateService", ECS["CreateService"], {"serviceName": "sets", "desiredCount": 4, "deploymentController": {"type": "EXTERNAL"}})
    told = await explain(cell, resource="sets")
    assert told["waitingOn"] == ["a task set: the service has none"]
    assert "taskSetArn" not in told
    made = {}
    for family, scale in (("web", 0.0), ("big", 25.0)):
        request = {"cluster": "default", "service": "sets", "taskDefinition": family, "scale": {"value": scale, "unit": "PERCENT"}}
        made[family] = (await cell.call("CreateTaskSet", ECS["CreateTaskSet"], request))["taskSet"]
    told = await explain(cell, resource="sets")
    assert told["taskSetArn"] == made["big"]["taskSetArn"]
    assert (told["requirement"]["memory"], told["suggestedChange"]["kind"]) == (4096, "LOWER_REQUEST")
    assert told["waitingOn"] == [f"nothing: the task set {made['web']['id']} (web:1) has the 0 tasks that 0 % of the desired count of 4 are"]
    assert f"next task in the task set {made['big']['id']}" in "\n".join(screen(told))
    of_one = await explain(cell, resource=made["web"]["taskSetArn"])
    assert (of_one["resourceArn"], of_one["requirement"]["memory"]) == (made["web"]["taskSetArn"], 512)
    assert of_one["wouldRunOn"].endswith(ONE)
    assert list(screen(of_one))[0] == made["web"]["taskSetArn"]
