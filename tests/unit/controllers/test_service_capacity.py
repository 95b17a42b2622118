"""A service with a capacity provider strategy: which provider its tasks come by, and which gives one up."""

from __future__ import annotations

from collections import Counter

import msgspec

from homeport.model.ecs.container_instance import Attribute
from homeport.store.tables import SERVICES, TASKS
from homeport.testing import records

STRATEGY = b'{"capacityProviderStrategy":[{"capacityProvider":"a","weight":1,"base":1},{"capacityProvider":"b","weight":3}]}'


def instance(number, provider):
    attribute = Attribute(name="homeport.capacity-provider", value=provider)
    return records.container_instance(id=f"{number:032x}", attributes=(attribute,))


async def wanted(cell):
    return Counter(task.capacity_provider for task in await cell.all(TASKS) if task.desired_status == "RUNNING")


async def scale(cell, count):
    (service,) = await cell.all(SERVICES)
    await cell.put(msgspec.structs.replace(service, desired_count=count))
    await cell.clock.advance(60)


async def test_scaling_out_and_in_keeps_to_base_and_weights(make_cell):
    service = records.service(document=STRATEGY, launch_type="", desired_count=9)
    cell = await make_cell(instance(1, "a"), instance(2, "b"), service, records.deployment(launch_type=""))
    await cell.clock.advance(60)
    assert await wanted(cell) == {"a": 3, "b": 6}
    assert {(task.capacity_provider, task.container_instance_id[-1], task.launch_type) for task in await cell.all(TASKS)} == {
        ("a", "1", "EC2"),
        ("b", "2", "EC2"),
    }
    for count, shared in ((5, {"a": 2, "b": 3}), (1, {"a": 1}), (9, {"a": 3, "b": 6})):
        await scale(cell, count)
        assert await wanted(cell) == shared


async def test_a_provider_without_instances_keeps_its_share_open(make_cell):
    service = records.service(document=STRATEGY, launch_type="", desired_count=3)
    cell = await make_cell(instance(1, "a"), service, records.deployment(launch_type=""))
    await cell.clock.advance(60)
    assert await wanted(cell) == {"a": 1}
    (service,) = await cell.all(SERVICES)
    assert "unable to place a task" in service.placement_failure
    await cell.put(instance(2, "b"))
    await cell.clock.advance(60)
    assert await wanted(cell) == {"a": 1, "b": 2}
