"""Managed scaling end to end in memory: waiting tasks make a pool grow, idle instances leave it, and instances that leave drain first."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from tests.unit.api.test_history import own

from homeport.api.ecs.operations import OPERATIONS
from homeport.config import Settings, instance_providers_of
from homeport.controllers.capacity import Providers
from homeport.controllers.instance_provider import InstanceProviderError
from homeport.errors import InvalidParameterError
from homeport.model.ecs.capacity_provider import CapacityProvider, InstanceSize, Leaving, ScalingState
from homeport.model.ecs.container_instance import CAPACITY_PROVIDER_ATTRIBUTE, Attribute
from homeport.store.codec import ENCODER, Codec
from homeport.store.tables import CAPACITY_PROVIDERS, CONTAINER_INSTANCES, TASKS
from homeport.testing import records
from homeport.testing.cell import MemoryCell
from homeport.testing.machines import SimulatedMachines

MINUTE = 60.0
STRATEGY = [{"capacityProvider": "pool", "weight": 1}]
HALF = {"cpu": 2048, "memory_mib": 128}
"""Two such tasks fill a machine."""


class Pooled:
    """A cell whose only instances are those of the pool `pool`."""

    def __init__(self, cell: MemoryCell, machines: SimulatedMachines) -> None:
        self.cell = cell
        self.machines = machines

    async def aws(self, operation: str, **request):
        return await self.cell.call(operation, OPERATIONS[operation], request)

    async def minutes(self, count: float) -> None:
        await self.cell.clock.advance(count * MINUTE)

    async def state(self):
        return next(iter(await self.cell.all(CAPACITY_PROVIDERS))).scaling

    async def statuses(self) -> Counter:
        return Counter(instance.status for instance in await self.cell.all(CONTAINER_INSTANCES))

    async def tasks(self) -> Counter:
        return Counter(task.last_status for task in await self.cell.all(TASKS))

    async def run_tasks(self, count: int, **more):
        answer = await self.aws("RunTask", taskDefinition="web", count=count, capacityProviderStrategy=STRATEGY, **more)
        return [task["taskArn"] for task in answer["tasks"]]


@pytest.fixture
async def make_pool():
    made: list[Pooled] = []

    async def make(*, settings=None, scaling=None, served: bool = True, **provider) -> Pooled:
        cell = await MemoryCell.open(settings=settings)
        machines = SimulatedMachines(cell.store, cell.clock)
        made.append(Pooled(cell, machines))
        await cell.put(records.cluster(), records.task_definition(**HALF))
        managed = {"status": "ENABLED", "instanceWarmupPeriod": 60, **(scaling or {})}
        group = {"autoScalingGroupArn": "group", "managedScaling": managed, **provider}
        await made[-1].aws("CreateCapacityProvider", name="pool", autoScalingGroupProvider=group)
        await made[-1].aws("PutClusterCapacityProviders", cluster="default", capacityProviders=["pool"], defaultCapacityProviderStrategy=[])
        cell.start()
        cell.scale({"pool": machines} if served else {})
        await cell.clock.settle()
        return made[-1]

    yield make
    for pool in made:
        pool.machines.close()
        await pool.cell.close()


async def test_waiting_tasks_bring_machines_and_run_on_them(make_pool):
    pool = await make_pool()
    await pool.run_tasks(7)
    assert await pool.tasks() == {"PROVISIONING": 7}
    await pool.minutes(1.1)
    state = await pool.state()
    assert (state.reservation, state.instances, state.needed, state.desired) == (200.0, 0, 1, 2)
    await pool.minutes(1)
    assert await pool.tasks() == {"RUNNING": 4, "PROVISIONING": 3}
    await pool.minutes(3)  # the first two are warm, and their size is known: two more for three tasks
    assert await pool.tasks() == {"RUNNING": 7}
    state = await pool.state()
    assert (state.reservation, state.instances, state.needed, state.desired) == (100.0, 4, 4, 4)
    assert [call for call in pool.machines.calls if call != "fleet"] == ["set-desired 2", "set-desired 4"]


async def test_a_provider_that_was_sampled_is_made_again_as_it_is(make_pool):
    pool = await make_pool()
    await pool.minutes(1.1)
    state = await pool.state()
    assert state.changed_at
    group = {"autoScalingGroupArn": "group", "managedScaling": {"status": "ENABLED", "instanceWarmupPeriod": 60}}
    assert (await pool.aws("CreateCapacityProvider", name="pool", autoScalingGroupProvider=group))["capacityProvider"]["status"] == "ACTIVE"
    assert await pool.state() == state


async def test_a_quiet_pool_writes_nothing(make_pool):
    pool = await make_pool()
    await pool.run_tasks(1)
    await pool.minutes(60)
    assert (await pool.state()).instances == 1
    revision = pool.cell.store.revision
    await pool.minutes(10)
    assert pool.cell.store.revision == revision


@pytest.mark.parametrize("tells", [True, False])
async def test_an_idle_machine_leaves_after_fifteen_minutes_below_the_target(make_pool, tells):
    pool = await make_pool()
    pool.machines.tells = tells
    arns = await pool.run_tasks(4)
    await pool.minutes(4)
    assert await pool.statuses() == {"ACTIVE": 2}
    for arn in arns:
        if (await pool.aws("DescribeTasks", tasks=[arn]))["tasks"][0]["containerInstanceArn"].endswith("1"):
            await pool.aws("StopTask", task=arn)
    await pool.minutes(14)
    assert await pool.statuses() == {"ACTIVE": 2}
    assert (await pool.state()).reservation == 50.0
    await pool.minutes(2)
    assert await pool.statuses() == {"ACTIVE": 1, "INACTIVE": 1}
    assert pool.machines.ended == ["i-00000000000000001"]
    state = await pool.state()
    assert (state.desired, state.leaving) == (1, ())


async def test_a_machine_that_is_taken_away_drains_under_the_services_percentages_before_it_ends(make_pool):
    pool = await make_pool(scaling={"targetCapacity": 50})
    bounds = {"minimumHealthyPercent": 100, "maximumPercent": 200}
    await pool.aws(
        "CreateService", serviceName="web", taskDefinition="web", desiredCount=2, capacityProviderStrategy=STRATEGY, deploymentConfiguration=bounds
    )
    await pool.minutes(6)
    assert await pool.tasks() == {"RUNNING": 2}
    instances = {instance.id: instance.ec2_instance_id for instance in await pool.cell.all(CONTAINER_INSTANCES)}
    busy = next(instances[task.container_instance_id] for task in await pool.cell.all(TASKS))
    running = []
    pool.machines.machines[busy] = True
    statuses = []
    while busy not in pool.machines.ended and len(running) < 60:
        await pool.cell.clock.advance(5.0)
        running.append((await pool.tasks())["RUNNING"])
        statuses.append(next(instance.status for instance in await pool.cell.all(CONTAINER_INSTANCES) if instance.ec2_instance_id == busy))
    assert pool.machines.ended == [busy]
    assert list(dict.fromkeys(statuses)) == ["ACTIVE", "DRAINING", "INACTIVE"]
    assert min(running) == 2  # MHP 100: replaced before they went
    assert (await pool.state()).leaving == ()


async def test_without_managed_draining_it_ends_at_once_and_its_tasks_with_it(make_pool):
    pool = await make_pool(managedDraining="DISABLED")
    await pool.run_tasks(2)
    await pool.minutes(3)
    on = {task.container_instance_id for task in await pool.cell.all(TASKS)}
    busy = next(instance for instance in await pool.cell.all(CONTAINER_INSTANCES) if instance.id in on)
    pool.machines.machines[busy.ec2_instance_id] = True
    await pool.minutes(1)
    assert pool.machines.ended == [busy.ec2_instance_id]
    ended = [task for task in await pool.cell.all(TASKS) if task.last_status == "STOPPED"]
    assert ended
    assert {(task.stop_code, task.stopped_reason) for task in ended} == {
        ("TerminationNotice", f"Host EC2 (instance {busy.ec2_instance_id}) terminated.")
    }
    (gone,) = [instance for instance in await pool.cell.all(CONTAINER_INSTANCES) if instance.id == busy.id]
    assert (gone.status, gone.agent_connected) == ("INACTIVE", False)


async def test_a_standalone_task_holds_the_end_up_and_no_longer_than_the_limit(make_pool):
    pool = await make_pool(settings=Settings(managed_draining_seconds_max=600.0))
    await pool.run_tasks(1)
    await pool.minutes(3)
    busy = (await pool.cell.all(TASKS))[0].container_instance_id
    machine = next(i.ec2_instance_id for i in await pool.cell.all(CONTAINER_INSTANCES) if i.id == busy)
    pool.machines.machines[machine] = True
    await pool.minutes(9)
    assert (await pool.statuses())["DRAINING"] == 1
    assert await pool.tasks() == {"RUNNING": 1}
    await pool.minutes(3)
    assert machine in pool.machines.ended
    assert await pool.tasks() == {"STOPPED": 1}


async def test_a_machine_that_goes_before_it_has_drained_has_ended(make_pool):
    """A spot market waits for nobody: what is on the machine in the books would else be there until managed draining gives up, for 48 h."""
    pool = await make_pool()
    await pool.run_tasks(4)
    await pool.minutes(6)
    name = "i-00000000000000001"
    pool.machines.machines[name] = True
    await pool.minutes(1)
    assert await pool.statuses() == {"DRAINING": 1, "ACTIVE": 1}
    await pool.machines.lose(name)
    await pool.run_tasks(2)
    await pool.minutes(1)
    assert await pool.statuses() == {"INACTIVE": 1, "ACTIVE": 1}
    state = await pool.state()
    assert (state.leaving, pool.machines.ended) == ((), [])
    assert pool.machines.desired == state.desired == 2
    lost = [task for task in await pool.cell.all(TASKS) if task.last_status == "STOPPED"]
    assert [task.stop_code for task in lost] == ["TerminationNotice"] * 2
    await pool.minutes(2)
    assert (await pool.tasks())["RUNNING"] == 4
    assert (await pool.state()).trouble == ""


async def test_daemons_do_not_keep_an_instance(make_pool):
    pool = await make_pool()
    await pool.aws("CreateService", serviceName="agent", taskDefinition="web", schedulingStrategy="DAEMON")
    arns = await pool.run_tasks(1)
    await pool.minutes(3)
    assert (await pool.state()).instances == 2
    await pool.aws("StopTask", task=arns[0])
    await pool.minutes(40)
    assert await pool.statuses() == {"INACTIVE": 2}
    state = await pool.state()
    assert (state.instances, state.needed, state.reservation, state.desired) == (0, 0, 100.0, 0)


async def test_a_task_of_a_daemon_keeps_no_instance_either(make_pool):
    pool = await make_pool()
    attribute = (Attribute(name=CAPACITY_PROVIDER_ATTRIBUTE, value="pool"),)
    pool.machines.tells = False
    await pool.cell.put(records.container_instance(id="9" * 32, ec2_instance_id="i-mine", attributes=attribute))
    await pool.cell.put(records.task(1, container_instance_id="9" * 32, daemon="logs", service="", group="daemon:logs"))
    await pool.minutes(1.1)
    state = await pool.state()
    assert (state.instances, state.needed) == (1, 0)


async def test_an_instance_with_a_task_of_a_protected_pool_never_leaves(make_pool):
    pool = await make_pool(managedTerminationProtection="ENABLED")
    await pool.run_tasks(4)
    await pool.minutes(3)
    await pool.minutes(60)
    assert await pool.statuses() == {"ACTIVE": 2}
    assert pool.machines.ended == []


async def test_trouble_is_told_and_the_next_sample_asks_again(make_pool):
    pool = await make_pool()
    await pool.run_tasks(1)
    pool.machines.trouble = "no machines left"
    await pool.minutes(1.1)
    assert (await pool.state()).trouble == "no machines left"
    pool.machines.tells, pool.machines.trouble = False, ""
    await pool.minutes(2)
    assert await pool.tasks() == {"RUNNING": 1}
    assert (await pool.state()).trouble == ""


async def test_a_pool_that_nobody_serves_has_its_reservation_all_the_same(make_pool):
    pool = await make_pool(served=False)
    await pool.run_tasks(1)
    await pool.minutes(1.1)
    state = await pool.state()
    assert (state.reservation, "instance_providers" in state.trouble) == (200.0, True)
    attribute = (Attribute(name=CAPACITY_PROVIDER_ATTRIBUTE, value="pool"),)
    await pool.cell.put(*(records.container_instance(id=digit * 32, ec2_instance_id=f"i-{digit}", attributes=attribute) for digit in "89"))
    await pool.minutes(60)
    state = await pool.state()
    assert (state.reservation, state.leaving, await pool.statuses()) == (50.0, (), {"ACTIVE": 2})  # nobody would end what it drained


async def test_a_waiting_task_ends_when_nobody_comes_for_it(make_pool):
    pool = await make_pool(served=False, settings=Settings(provisioning_timeout_seconds=600.0))
    await pool.run_tasks(1)
    await pool.minutes(9)
    assert await pool.tasks() == {"PROVISIONING": 1}
    await pool.minutes(2)
    (task,) = await pool.cell.all(TASKS)
    assert (task.last_status, task.stop_code, task.stopped_reason) == ("STOPPED", "TaskFailedToStart", "EMPTY CAPACITY PROVIDER")


async def test_a_task_that_no_instance_of_the_pool_can_take_brings_no_machines_without_end(make_pool):
    pool = await make_pool()
    await pool.run_tasks(1, placementConstraints=[{"type": "memberOf", "expression": "attribute:color == red"}])
    await pool.minutes(25)
    assert [call for call in pool.machines.calls if call.startswith("set")] == ["set-desired 2"]
    assert pool.machines.desired == 1
    assert await pool.tasks() == {"PROVISIONING": 1}


async def test_without_managed_scaling_a_machine_that_is_taken_away_drains_too(make_pool):
    pool = await make_pool(scaling={"status": "DISABLED"})
    attribute = (Attribute(name=CAPACITY_PROVIDER_ATTRIBUTE, value="pool"),)
    await pool.cell.put(records.container_instance(id="9" * 32, ec2_instance_id="i-mine", attributes=attribute))
    pool.machines.machines["i-mine"] = False
    await pool.minutes(2)
    assert await pool.statuses() == {"ACTIVE": 1}
    pool.machines.machines["i-mine"] = True
    await pool.minutes(1)
    assert await pool.statuses() == {"INACTIVE": 1}
    assert pool.machines.ended == ["i-mine"]


async def test_many_machines_that_are_taken_away_together_drain_in_one_sample_and_from_the_moment_that_it_is_written(make_pool):
    pool = await make_pool(scaling={"status": "DISABLED"})
    attribute = (Attribute(name=CAPACITY_PROVIDER_ATTRIBUTE, value="pool"),)
    for n in range(240):
        instance = records.container_instance(id=f"{n:032x}", ec2_instance_id=f"i-{n}", attributes=attribute)
        await pool.cell.put(instance, records.task(n, container_instance_id=instance.id, service="", group="family:web"))
    pool.machines.machines = {f"i-{n}": True for n in range(240)}
    await pool.minutes(1.1)
    assert await pool.statuses() == {"DRAINING": 240}
    story = (await own(pool.cell, "DescribeHistory", resource="capacity-provider/pool"))["entries"]
    written = next(entry["revision"] for entry in story if entry["cause"].get("controller") == "capacity")
    first = (await own(pool.cell, "DescribeHistory", resource=f"container-instance/{0:032x}"))["entries"][-1]
    assert (first["revision"], {"field": "status", "old": "ACTIVE", "new": "DRAINING"} in first["changes"]) == (written, True)


async def test_a_leader_that_dies_between_deciding_and_asking_is_followed_by_one_that_asks(make_pool):
    pool = await make_pool(scaling={"instanceWarmupPeriod": 0})
    await pool.run_tasks(1)
    pool.machines.tells = False
    real = pool.machines.set_desired

    async def lost(_pool, _desired):
        pool.machines.calls.append("lost")

    pool.machines.set_desired = lost
    await pool.minutes(1.1)
    pool.machines.set_desired = real
    await pool.minutes(2)
    assert "lost" in pool.machines.calls
    assert await pool.tasks() == {"RUNNING": 1}


@pytest.mark.parametrize("tells", [True, False])
async def test_a_sample_that_ends_a_machine_and_asks_for_more_counts_the_ended_one_no_more(make_pool, tells):
    pool = await make_pool(managedDraining="DISABLED")
    pool.machines.tells = tells
    await pool.run_tasks(4)
    await pool.minutes(6)
    assert await pool.tasks() == {"RUNNING": 4}
    pool.machines.machines["i-00000000000000001"] = pool.machines.tells = True
    await pool.run_tasks(2)
    await pool.minutes(1)
    assert pool.machines.ended == ["i-00000000000000001"]
    assert (pool.machines.desired, (await pool.state()).desired) == (2, 2)


async def test_a_machine_that_cannot_be_ended_keeps_nobody_from_asking_for_more(make_pool):
    pool = await make_pool(managedDraining="DISABLED")
    await pool.run_tasks(4)
    await pool.minutes(6)

    async def refused(_pool, _ids):
        raise InstanceProviderError("it does not end")

    pool.machines.terminate = refused
    pool.machines.machines["i-00000000000000001"] = True
    await pool.run_tasks(2)
    await pool.minutes(1)
    assert (await pool.state()).trouble == "it does not end"
    assert pool.machines.desired == 3
    await pool.minutes(2)
    assert await pool.tasks() == {"RUNNING": 6}


async def test_describe_capacity_tells_what_a_sample_saw(make_pool):
    pool = await make_pool()

    async def told():
        (capacity,) = (await own(pool.cell, "DescribeCapacity"))["capacities"]
        return capacity

    assert "capacityProviderReservation" not in await told()
    await pool.run_tasks(1)
    await pool.minutes(1.1)
    before = await told()
    assert (before["capacityProviderReservation"], before["provisioningTasks"], before["desiredInstances"]) == (200.0, 1, 2)
    await pool.minutes(2)
    after = await told()
    assert (after["capacityProviderReservation"], after["instances"], after["instancesNeeded"], after["registeredInstances"]) == (50.0, 2, 1, 2)
    assert after["samplesBelowTarget"] > 0
    busy = next(task.container_instance_id for task in await pool.cell.all(TASKS))
    machine = next(item.ec2_instance_id for item in await pool.cell.all(CONTAINER_INSTANCES) if item.id == busy)
    pool.machines.machines[machine] = True
    await pool.minutes(1)
    (leaving,) = (await told())["leaving"]
    assert leaving["ec2InstanceId"] == machine
    assert leaving["containerInstanceArn"].endswith(busy)


async def test_a_provider_that_hangs_or_breaks_holds_up_no_other_pool(make_pool):
    pool = await make_pool(served=False)

    class Broken(SimulatedMachines):
        async def fleet(self, pool):
            raise ValueError("not what anybody expects")

    class Hanging(SimulatedMachines):
        async def fleet(self, pool):
            await asyncio.get_running_loop().create_future()

    for name in ("broken", "hanging"):
        await pool.aws("CreateCapacityProvider", name=name, autoScalingGroupProvider={"autoScalingGroupArn": name})
    store, clock = pool.cell.store, pool.cell.clock
    providers = {"pool": pool.machines, "broken": Broken(store, clock), "hanging": Hanging(store, clock)}
    pool.cell.scale(providers)
    await pool.run_tasks(1)
    await pool.minutes(3)
    assert "set-desired 2" in pool.machines.calls
    assert await pool.tasks() == {"RUNNING": 1}
    assert pool.machines.calls.count("fleet") == 3


async def test_instances_that_the_instance_provider_does_not_list_are_told_and_not_counted(make_pool):
    pool = await make_pool()
    attribute = (Attribute(name=CAPACITY_PROVIDER_ATTRIBUTE, value="pool"),)
    await pool.cell.put(records.container_instance(id="9" * 32, ec2_instance_id="i-stranger", attributes=attribute))
    await pool.minutes(1.1)
    state = await pool.state()
    assert (state.instances, "i-stranger" in state.trouble) == (0, True)
    await pool.minutes(30)
    assert pool.machines.ended == []


async def test_a_machine_that_is_gone_by_itself_counts_no_more_and_its_tasks_wait_for_nobody_else(make_pool):
    pool = await make_pool()
    await pool.run_tasks(2)
    await pool.minutes(3)
    busy = (await pool.cell.all(TASKS))[0].container_instance_id
    machine = next(item.ec2_instance_id for item in await pool.cell.all(CONTAINER_INSTANCES) if item.id == busy)
    before = (await pool.state()).instances
    await pool.machines.lose(machine)
    await pool.minutes(1)
    state = await pool.state()
    assert state.instances == before - 1
    assert machine in state.trouble


async def test_describe_capacity_of_named_providers_and_of_what_is_none(make_pool):
    pool = await make_pool()
    arn = f"arn:aws:ecs:{records.REGION}:{records.ACCOUNT}:capacity-provider/pool"
    for names, count in ((["pool"], 1), ([arn], 1), (["other"], 0)):
        assert len((await own(pool.cell, "DescribeCapacity", capacityProviders=names))["capacities"]) == count
    with pytest.raises(InvalidParameterError):
        await own(pool.cell, "DescribeCapacity", capacityProviders=[arn.replace("capacity-provider", "cluster")])


async def test_a_task_that_comes_while_a_machine_is_being_ended_goes_elsewhere(make_pool):
    """Also without managed draining: what scale-in chose had no task, and protection promises that it has none when it ends."""
    pool = await make_pool(managedDraining="DISABLED", managedTerminationProtection="ENABLED")
    arns = await pool.run_tasks(3)
    await pool.minutes(4)
    for arn in arns[:2]:
        await pool.aws("StopTask", task=arn)
    real = pool.machines.terminate
    going: list[str] = []
    may_end = asyncio.Event()

    async def slow(its_pool, machine_ids):
        going.extend(machine_ids)
        await may_end.wait()
        await real(its_pool, machine_ids)

    pool.machines.terminate = slow
    await pool.minutes(20)
    (machine,) = going
    await pool.run_tasks(2)  # at the very moment
    await pool.minutes(1)
    on = {task.container_instance_id for task in await pool.cell.all(TASKS) if task.last_status != "STOPPED"}
    assert machine not in {item.ec2_instance_id for item in await pool.cell.all(CONTAINER_INSTANCES) if item.id in on}
    may_end.set()
    await pool.minutes(5)
    assert pool.machines.ended == [machine]
    assert not [task for task in await pool.cell.all(TASKS) if task.stop_code == "InfrastructureHealth"]
    assert (await pool.tasks())["RUNNING"] == 3


@pytest.mark.parametrize("tells", [True, False])
async def test_machines_on_their_way_hold_the_next_step_up_and_are_asked_for_again_when_they_do_not_come(make_pool, tells):
    pool = await make_pool(scaling={"instanceWarmupPeriod": 300})
    pool.machines.boot_seconds, pool.machines.tells = 1e6, tells
    await pool.run_tasks(7)
    asked = []
    for _ in range(11):
        before = len(pool.machines.calls)
        await pool.minutes(1)
        asked.append([call for call in pool.machines.calls[before:] if call != "fleet"])
    again = ["set-desired 2"]
    assert asked == [again, [], [], [], [], again, [], [], [], [], again]
    assert (await pool.state()).desired == 2


def test_what_managed_scaling_keeps_is_stored_and_read_as_it_was():
    leaving = Leaving(machine_id="i-1", instance_key="a/b/c", since=3.0, scale_in=True)
    sizes = (InstanceSize(cpu=1, memory_mib=2, gpus=3), InstanceSize(cpu=4, memory_mib=5))
    state = ScalingState(
        changed_at=1.0,
        instances=2,
        needed=3,
        reservation=150.0,
        desired=4,
        asked_at=2.0,
        below=5,
        leaving=(leaving,),
        sizes=sizes,
        trouble="t",
    )
    provider = CapacityProvider(account="1", name="p", type="EC2_AUTOSCALING", status="ACTIVE", created_at=1.0, scaling=state)
    assert Codec(CAPACITY_PROVIDERS).decode(CAPACITY_PROVIDERS.version, ENCODER.encode(provider)) == provider


async def test_an_empty_pool_remembers_how_large_its_instances_were(make_pool):
    pool = await make_pool()
    arns = await pool.run_tasks(1)
    await pool.minutes(3)
    await pool.aws("StopTask", task=arns[0])
    await pool.minutes(30)
    assert await pool.statuses() == {"INACTIVE": 2}
    await pool.run_tasks(7)
    await pool.minutes(1)
    assert (await pool.state()).desired == 4  # two tasks fill a machine


async def test_tasks_that_wait_for_another_provider_are_its_own_concern(make_pool):
    pool = await make_pool()
    await pool.aws("CreateCapacityProvider", name="other", autoScalingGroupProvider={"autoScalingGroupArn": "o", "managedScaling": {}})
    await pool.aws("PutClusterCapacityProviders", cluster="default", capacityProviders=["pool", "other"], defaultCapacityProviderStrategy=[])
    await pool.aws("RunTask", taskDefinition="web", capacityProviderStrategy=[{"capacityProvider": "other"}])
    await pool.minutes(3)
    by_name = {item.name: item.scaling for item in await pool.cell.all(CAPACITY_PROVIDERS)}
    assert (by_name["pool"].reservation, by_name["other"].reservation) == (100.0, 200.0)
    assert pool.machines.desired == 0


async def test_what_could_not_be_asked_for_is_asked_for_with_the_next_sample_whatever_the_warmup(make_pool):
    pool = await make_pool(scaling={"instanceWarmupPeriod": 600})
    pool.machines.tells = False
    real = pool.machines.set_desired

    async def refused(_pool, _desired):
        raise InstanceProviderError("out of machines")

    pool.machines.set_desired = refused
    await pool.run_tasks(1)
    await pool.minutes(2.1)
    assert (await pool.state()).trouble == "out of machines"
    pool.machines.set_desired = real
    await pool.minutes(2)
    assert await pool.tasks() == {"RUNNING": 1}


async def test_the_provider_of_all_others_serves_whoever_has_none(make_pool):
    pool = await make_pool(served=False)
    pool.cell.scale({"other": SimulatedMachines(pool.cell.store, pool.cell.clock), "*": pool.machines})
    await pool.run_tasks(1)
    await pool.minutes(3)
    assert pool.machines.desired == 2


def test_who_is_asked_for_machines_goes_by_account():
    """Nobody gets the first account's machines by giving a capacity provider the same name."""
    first, second, third, fourth = (object() for _ in range(4))
    known = {"pool": first, "*": second, "222222222222/pool": third, "333333333333/*": fourth}
    providers = Providers(known, management="111111111111")
    assert [providers.of("111111111111", name) for name in ("pool", "other")] == [first, second]
    assert [providers.of("222222222222", name) for name in ("pool", "other")] == [third, None]
    assert [providers.of("333333333333", name) for name in ("pool", "other")] == [fourth, fourth]
    assert providers.of("444444444444", "pool") is None
    assert Providers(known).of("444444444444", "pool") is first
    assert set(instance_providers_of("pool=/a,222222222222/pool=/b,222222222222/*=http://c")) == {"pool", "222222222222/pool", "222222222222/*"}
