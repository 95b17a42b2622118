"""GPUs: registered with an instance, counted by placement, given to containers by id, shown, told to the agent, and free again afterwards."""

from __future__ import annotations

import pytest

from homeport.api.ecs.operations import OPERATIONS
from homeport.dispatcher.payload import task_payload
from homeport.errors import InvalidParameterError, UnsupportedFeatureError
from homeport.model.ecs.container_instance import CAPACITY_PROVIDER_ATTRIBUTE, Attribute
from homeport.store.tables import CONTAINER_INSTANCES, TASK_DEFINITIONS, TASKS
from homeport.testing import records
from homeport.testing.cell import MemoryCell

IDS = ("GPU-a", "GPU-b", "GPU-c", "GPU-d")
RESOURCES = [{"name": "CPU", "type": "INTEGER", "integerValue": 4096}, {"name": "MEMORY", "type": "INTEGER", "integerValue": 8192}]


def container(name, gpus):
    requirements = [{"type": "GPU", "value": str(gpus)}] if gpus else []
    return {"name": name, "image": "cuda:1", "cpu": 64, "memory": 64, "resourceRequirements": requirements}


@pytest.fixture
async def aws():
    cell = await MemoryCell.open()
    await cell.put(records.cluster())

    async def call(operation, **request):
        return await cell.call(operation, OPERATIONS[operation], request)

    call.cell = cell
    devices = [{"id": gpu, "type": "GPU"} for gpu in (*IDS, IDS[0])]  # one that is named twice is one
    registered = await call("RegisterContainerInstance", totalResources=RESOURCES, platformDevices=devices)
    call.instance = registered["containerInstance"]["containerInstanceArn"]
    families = {"pair": (2,), "one": (1,), "two-containers": (1, 2), "none": (0,)}
    for family, counts in families.items():
        definitions = [container(f"c{number}", count) for number, count in enumerate(counts)]
        await call("RegisterTaskDefinition", family=family, containerDefinitions=definitions)
    (instance,) = await cell.all(CONTAINER_INSTANCES)
    assert instance.gpu_ids == IDS
    await cell.put(records.container_instance(id=instance.id, gpu_ids=IDS))  # connected from now on
    cell.start()
    await cell.clock.settle()
    yield call
    await cell.close()


async def gpus_of(aws, arns):
    tasks = (await aws("DescribeTasks", tasks=arns))["tasks"]
    return [[container.get("gpuIds") for container in task["containers"]] for task in tasks]


async def resources(aws, member):
    (instance,) = (await aws("DescribeContainerInstances", containerInstances=[aws.instance]))["containerInstances"]
    (found,) = [item for item in instance[member] if item["name"] == "GPU"]
    assert found["type"] == "STRINGSET"
    return found["stringSetValue"]


async def test_each_container_has_whole_gpus_for_itself_and_all_are_shown(aws):
    assert await resources(aws, "registeredResources") == list(IDS)
    started = await aws("RunTask", taskDefinition="two-containers")
    second = await aws("RunTask", taskDefinition="one")
    arns = [task["taskArn"] for task in (*started["tasks"], *second["tasks"])]
    assert await gpus_of(aws, arns) == [[["GPU-a"], ["GPU-b", "GPU-c"]], [["GPU-d"]]]
    assert await resources(aws, "registeredResources") == list(IDS)
    assert await resources(aws, "remainingResources") == []


async def test_a_task_without_gpus_shows_none(aws):
    started = await aws("RunTask", taskDefinition="none")
    assert await gpus_of(aws, [started["tasks"][0]["taskArn"]]) == [[None]]


async def test_what_is_not_free_is_refused_and_is_free_again_when_the_task_has_stopped(aws):
    started = await aws("RunTask", taskDefinition="pair", count=3)
    assert len(started["tasks"]) == 2
    assert [failure["reason"] for failure in started["failures"]] == ["RESOURCE:GPU"]
    first = started["tasks"][0]["taskArn"]
    await aws("StopTask", task=first)
    assert (await aws("RunTask", taskDefinition="pair"))["failures"]  # it still has them until it has stopped
    await aws.cell.clock.advance(10)
    again = await aws("RunTask", taskDefinition="pair")
    assert await gpus_of(aws, [again["tasks"][0]["taskArn"]]) == [[["GPU-a", "GPU-b"]]]


async def test_start_task_counts_them_too(aws):
    started = await aws("StartTask", taskDefinition="pair", containerInstances=[aws.instance])
    assert await gpus_of(aws, [started["tasks"][0]["taskArn"]]) == [[["GPU-a", "GPU-b"]]]
    await aws("StartTask", taskDefinition="pair", containerInstances=[aws.instance])
    refused = await aws("StartTask", taskDefinition="one", containerInstances=[aws.instance])
    assert [failure["reason"] for failure in refused["failures"]] == ["RESOURCE:GPU"]


async def test_an_override_changes_how_many(aws):
    requirement = [{"type": "GPU", "value": "3"}]
    overrides = {"containerOverrides": [{"name": "c0", "resourceRequirements": requirement}]}
    started = await aws("RunTask", taskDefinition="one", overrides=overrides)
    assert await gpus_of(aws, [started["tasks"][0]["taskArn"]]) == [[["GPU-a", "GPU-b", "GPU-c"]]]
    assert (await aws("RunTask", taskDefinition="one", overrides=overrides))["failures"][0]["reason"] == "RESOURCE:GPU"


@pytest.mark.parametrize(
    ("requirement", "error"),
    [
        ({"type": "GPU", "value": "9" * 5000}, InvalidParameterError),
        ({"type": "GPU", "value": "\N{ARABIC-INDIC DIGIT THREE}"}, InvalidParameterError),
        ({"type": "GPU", "value": "some"}, InvalidParameterError),
        ({"type": "GPU"}, InvalidParameterError),
        ({"type": "GPU", "value": "ALL"}, UnsupportedFeatureError),
        ({"type": "GPU", "value": "1", "sharingStrategy": {"nvidiaMps": {"memory": 1}}}, UnsupportedFeatureError),
        ({"type": "NeuronDevice", "value": "1"}, UnsupportedFeatureError),
    ],
)
async def test_an_override_that_is_no_number_of_whole_gpus_is_refused(aws, requirement, error):
    with pytest.raises(error):
        await aws("RunTask", taskDefinition="one", overrides={"containerOverrides": [{"name": "c0", "resourceRequirements": [requirement]}]})
    assert await resources(aws, "remainingResources") == list(IDS)


async def test_a_services_tasks_never_share_one(aws):
    await aws("CreateService", serviceName="train", taskDefinition="one", desiredCount=6)
    await aws.cell.clock.advance(60)
    tasks = [task for task in await aws.cell.all(TASKS) if task.last_status == "RUNNING"]
    assert sorted(gpu for task in tasks for container in task.containers for gpu in container.gpu_ids) == list(IDS)


async def test_a_task_that_waited_gets_them_with_its_instance(aws):
    group = {"autoScalingGroupArn": "group", "managedScaling": {"status": "ENABLED"}}
    await aws("CreateCapacityProvider", name="gpu", autoScalingGroupProvider=group)
    await aws("PutClusterCapacityProviders", cluster="default", capacityProviders=["gpu"], defaultCapacityProviderStrategy=[])
    started = await aws("RunTask", taskDefinition="pair", capacityProviderStrategy=[{"capacityProvider": "gpu"}])
    arn = started["tasks"][0]["taskArn"]
    assert await gpus_of(aws, [arn]) == [[None]]
    attribute = (Attribute(name=CAPACITY_PROVIDER_ATTRIBUTE, value="gpu"),)
    await aws.cell.put(records.container_instance(id="9" * 32, gpu_ids=("GPU-x", "GPU-y"), attributes=attribute))
    await aws.cell.clock.advance(5)
    assert await gpus_of(aws, [arn]) == [[["GPU-x", "GPU-y"]]]


async def test_the_agent_is_told_which(aws):
    await aws("RunTask", taskDefinition="two-containers")
    (task,) = await aws.cell.all(TASKS)
    definition = next(item for item in await aws.cell.all(TASK_DEFINITIONS) if item.family == "two-containers")
    payload = task_payload(task, definition, region=records.REGION)
    assert [(item.type, item.name, item.containers) for item in payload.associations] == [
        ("gpu", "GPU-a", ["c0"]),
        ("gpu", "GPU-b", ["c1"]),
        ("gpu", "GPU-c", ["c1"]),
    ]
