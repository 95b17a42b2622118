"""Availability-zone rebalancing from the API to placement, on a cell in memory."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from homeport.api.ecs import capacity_provider, service, task_protection
from homeport.api.ecs import cluster as cluster_api
from homeport.errors import InvalidParameterError
from homeport.model.ecs.container_instance import Attribute
from homeport.store.tables import DEPLOYMENTS, SERVICE_EVENTS, SERVICES, TASKS
from homeport.testing import records
from homeport.testing.cell import MemoryCell

ZONE = "attribute:ecs.availability-zone"
BINPACK = [{"type": "binpack", "field": "cpu"}]


def instance(number, zone, **fields):
    return records.container_instance(id=f"{number:032x}", attributes=(Attribute(name="ecs.availability-zone", value=zone),), **fields)


@pytest.fixture
async def cell():
    cell = await MemoryCell.open()
    await cell.put(records.cluster(), records.task_definition(), records.task_definition(revision=2), instance(1, "a"), instance(2, "b"))
    cell.start()
    yield cell
    await cell.close()


async def create(cell, **members):
    request = {"serviceName": "web", "taskDefinition": "web:1", "desiredCount": 6, **members}
    return (await cell.call("CreateService", service.create_service, request))["service"]


async def update(cell, **members):
    return (await cell.call("UpdateService", service.update_service, {"service": "web", **members}))["service"]


async def zones(cell, status="RUNNING"):
    names = {f"{n:032x}": zone for n, zone in ((1, "a"), (2, "b"), (3, "c"), (4, "d"))}
    return dict(Counter(names[task.container_instance_id] for task in await cell.all(TASKS) if task.last_status == status))


async def messages(cell):
    return [event.message for event in await cell.all(SERVICE_EVENTS) if "AZ" in event.message or "protection" in event.message]


@pytest.mark.parametrize(
    ("members", "eligible"),
    [
        ({}, True),
        ({"placementStrategy": [{"type": "spread", "field": ZONE}, *BINPACK]}, True),
        ({"placementStrategy": BINPACK}, False),
        ({"placementStrategy": [*BINPACK, {"type": "spread", "field": ZONE}]}, False),
        ({"deploymentConfiguration": {"maximumPercent": 100, "minimumHealthyPercent": 50}}, False),
        ({"launchType": "EXTERNAL"}, False),
        ({"placementConstraints": [{"type": "memberOf", "expression": f"{ZONE} == a"}]}, False),
        ({"placementConstraints": [{"type": "distinctInstance"}]}, True),
        ({"schedulingStrategy": "DAEMON"}, False),
    ],
)
async def test_the_default_is_enabled_where_it_is_possible_and_asking_for_it_elsewhere_is_an_error(cell, members, eligible):
    assert (await create(cell, **members))["availabilityZoneRebalancing"] == ("ENABLED" if eligible else "DISABLED")
    if eligible:
        assert (await update(cell, desiredCount=1))["availabilityZoneRebalancing"] == "ENABLED"
        assert (await update(cell, availabilityZoneRebalancing="DISABLED"))["availabilityZoneRebalancing"] == "DISABLED"
        assert (await update(cell, desiredCount=2))["availabilityZoneRebalancing"] == "DISABLED"
    else:
        with pytest.raises(InvalidParameterError):
            await update(cell, availabilityZoneRebalancing="ENABLED")
        with pytest.raises(InvalidParameterError):
            await create(cell, serviceName="other", availabilityZoneRebalancing="ENABLED", **members)


async def test_a_new_zone_gets_its_share_without_a_moment_below_the_desired_count(cell):
    await create(cell)
    await cell.clock.advance(60)
    assert await zones(cell) == {"a": 3, "b": 3}
    await cell.put(instance(3, "c"))
    seen = []
    for _ in range(200):
        await cell.clock.advance(1)
        seen.append(sum((await zones(cell)).values()))
    assert (min(seen), max(seen)) == (6, 7)
    assert await zones(cell) == {"a": 2, "b": 2, "c": 2}
    told = await messages(cell)
    assert told[0] == "(service web) is not AZ balanced with 3 tasks in a, 3 tasks in b, 0 tasks in c. AZ Rebalancing in progress." or told[1] == (
        "(service web) is not AZ balanced with 3 tasks in a, 3 tasks in b, 0 tasks in c. AZ Rebalancing in progress."
    )
    assert told[-1] == "(service web) is AZ balanced with 2 tasks in a, 2 tasks in b, 2 tasks in c."
    assert sum("has started 1 tasks in c to AZ Rebalance: (task " in text for text in told) == 2
    assert sum("running tasks in a due to AZ rebalancing: (task " in text for text in told) == 1
    assert sum("running tasks in b due to AZ rebalancing: (task " in text for text in told) == 1
    assert (await cell.all(SERVICES))[0].steady


async def test_disabled_services_and_a_skew_of_one_are_left_alone(cell):
    await create(cell, availabilityZoneRebalancing="DISABLED")
    await create(cell, serviceName="small", desiredCount=1)
    await cell.clock.advance(60)
    await cell.put(instance(3, "c"))
    await cell.clock.advance(100)
    assert not await messages(cell)


async def test_what_would_end_at_once_does_not_begin(cell):
    """A steady service whose deployment has not COMPLETED: it began and ended without a pause, thousands of times."""
    await create(cell)
    await cell.clock.advance(60)
    (deployment,) = await cell.all(DEPLOYMENTS)
    await cell.put(msgspec.structs.replace(deployment, rollout_state="FAILED"))
    await cell.put(instance(3, "c"))
    await cell.clock.advance(60)
    assert await messages(cell) == []
    assert await zones(cell) == {"a": 3, "b": 3}


async def test_protected_tasks_are_not_moved(cell):
    await create(cell)
    await cell.clock.advance(60)
    tasks = [task.id for task in await cell.all(TASKS)]
    await cell.call("UpdateTaskProtection", task_protection.update_task_protection, {"cluster": "default", "tasks": tasks, "protectionEnabled": True})
    await cell.put(instance(3, "c"))
    await cell.clock.advance(200)
    assert await zones(cell) == {"a": 3, "b": 3}


async def test_a_deployment_ends_a_rebalancing_and_is_told(cell):
    await create(cell)
    await cell.clock.advance(60)
    await cell.put(instance(3, "c"))
    await cell.clock.advance(12)  # the next sweep sees the new zone
    assert (await cell.all(SERVICES))[0].rebalancing == 6
    await update(cell, taskDefinition="web:2")
    await cell.clock.advance(2)
    assert (await cell.all(SERVICES))[0].rebalancing == 0
    assert (await messages(cell))[-1] == "(service web) has stopped AZ Rebalancing."
    await cell.clock.advance(300)
    assert await zones(cell) == {"a": 2, "b": 2, "c": 2}
    assert {task.revision for task in await cell.all(TASKS) if task.last_status == "RUNNING"} == {2}


async def test_a_scale_in_ends_a_rebalancing(cell):
    await create(cell)
    await cell.clock.advance(60)
    await cell.put(instance(3, "c"))
    await cell.clock.advance(12)
    await update(cell, desiredCount=3)
    await cell.clock.advance(100)
    assert sum((await zones(cell)).values()) == 3
    assert max((await zones(cell)).values()) - min((await zones(cell)).values()) <= 1


async def test_a_service_of_a_capacity_provider_is_rebalanced_within_it():
    cell = await MemoryCell.open()
    try:
        of_provider = Attribute(name="homeport.capacity-provider", value="pool")

        def member(number, zone):
            return records.container_instance(id=f"{number:032x}", attributes=(of_provider, Attribute(name="ecs.availability-zone", value=zone)))

        await cell.put(records.cluster(), records.task_definition(), member(1, "a"), member(2, "b"))
        await cell.call(
            "CreateCapacityProvider",
            capacity_provider.create_capacity_provider,
            {"name": "pool", "autoScalingGroupProvider": {"autoScalingGroupArn": "group"}},
        )
        associate = {"cluster": "default", "capacityProviders": ["pool"], "defaultCapacityProviderStrategy": []}
        await cell.call("PutClusterCapacityProviders", cluster_api.put_cluster_capacity_providers, associate)
        made = await create(cell, capacityProviderStrategy=[{"capacityProvider": "pool", "weight": 1}])
        assert made["availabilityZoneRebalancing"] == "ENABLED"
        cell.start()
        await cell.clock.advance(120)
        await cell.put(member(3, "c"), instance(4, "d"))
        await cell.clock.advance(400)
        assert await zones(cell) == {"a": 2, "b": 2, "c": 2}, "the zone of an instance outside the provider is none of its"
    finally:
        await cell.close()
