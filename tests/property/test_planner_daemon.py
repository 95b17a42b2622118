"""Safety and progress of the daemon planner and of what placement keeps free, in a small world whose tasks report in any order.

Safety: never two wanted tasks of a daemon on one instance, never a stop under the lower bound, never more booked than an instance has, and a replica
never takes the share of a daemon that is missing. Progress: in a world that obeys, every suiting instance gets its task.
"""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.model.change import StartTask, StopTask, UpdateService
from homeport.model.ecs import task as task_model
from homeport.placement.daemons import daemon_request
from homeport.placement.index import PlacementIndex
from homeport.placement.request import Placement, PlacementRequest
from homeport.planner.daemon import DaemonView, plan, share_of
from homeport.planner.health import is_healthy
from homeport.planner.service import ServiceView
from homeport.planner.task import Seen, observed, stop
from homeport.testing import records

AFTER = 40.0
REPLICA = PlacementRequest(cluster_key=f"{records.ACCOUNT}/default", cpu=1024, memory_mib=1024, group="service:r", service_key="r")


class World:
    def __init__(self, minimum: int) -> None:
        self.now = records.NOW
        self.index = PlacementIndex()
        self.tasks: dict[str, task_model.Task] = {}
        self.instances: dict[int, object] = {}
        self.numbers = itertools.count(1)
        self.deployments = [records.deployment()]
        definition = records.task_definition(cpu=3000, memory_mib=3000)
        service = records.service(scheduling_strategy="DAEMON", maximum_percent=100, minimum_healthy_percent=minimum, desired_count=0)
        self.service = msgspec.structs.replace(service, daemon_share=share_of(service, definition))
        self.index.change("services", None, self.service)

    def put(self, task: task_model.Task) -> None:
        self.index.change("tasks", self.tasks.get(task.id), task)
        self.tasks[task.id] = task

    def instance(self, number: int, status: str) -> None:
        before = self.instances.get(number)
        after = records.container_instance(id=f"{number:032x}", status=status)
        self.index.change("container_instances", before, after)
        self.instances[number] = after

    @property
    def own(self) -> list[task_model.Task]:
        return [task for task in self.tasks.values() if task.service == "web" and task.last_status != "STOPPED"]

    def activate(self) -> bool:
        self.now += 0.001
        targets = self.index.targets(daemon_request(self.service, self.service.daemon_share))
        draining = frozenset(item.key for item in self.instances.values() if item.status != "ACTIVE")
        used = {task.deployment_id for task in self.own}
        deployments = tuple(item for item in self.deployments if item.status == "PRIMARY" or item.id in used)
        base = ServiceView(service=self.service, deployments=deployments, tasks=tuple(self.own), draining=draining)
        answer = plan(DaemonView(service_view=base, targets=targets), healthy_after_seconds=AFTER, now=self.now)
        rolled = [c.task for c in answer.changes if isinstance(c, StopTask) and c.task.instance_key in targets]
        healthy = sum(is_healthy(task, AFTER, self.now) for task in self.own if task.instance_key in targets)
        changed = False
        for change in answer.changes:
            if isinstance(change, StopTask):
                changed = True
                self.put(stop(change.task, stop_code="ServiceSchedulerInitiated", reason="r", now=self.now))
            elif isinstance(change, UpdateService):
                before, self.service = self.service, change.service
                self.index.change("services", before, self.service)
        lower = -(-self.service.desired_count * self.service.minimum_healthy_percent // 100)
        left = healthy - sum(is_healthy(task, AFTER, self.now) for task in rolled)
        assert left >= min(healthy, lower), "stopped below the lower bound"
        for change in (item for item in answer.changes if isinstance(item, StartTask)):
            found = self.index.place_on(daemon_request(self.service, self.service.daemon_share), change.instance_key)
            if isinstance(found, Placement):
                changed = True
                self.start(found.instance_id, change.deployment.id)
        self.check()
        return changed

    def start(self, instance_id: str, deployment_id: str) -> None:
        number = next(self.numbers)
        fields = {"last_status": "PENDING", "observed_status": "PENDING", "started_at": 0.0, "cpu": 3000, "memory_mib": 3000}
        self.put(records.task(number, deployment_id=deployment_id, container_instance_id=instance_id, created_at=self.now, **fields))

    def replica(self) -> None:
        found = self.index.place(REPLICA)
        if isinstance(found, Placement):
            there = [t for t in self.tasks.values() if t.instance_key == found.instance_key and t.last_status != "STOPPED"]
            served = any(t.service == "web" and t.desired_status == "RUNNING" for t in there)
            others = 1024 + sum(t.cpu for t in there if t.service == "r")
            assert served or others + 3000 <= 4096, "a replica took the share of a daemon that is missing"
            number = next(self.numbers)
            own = {"service": "r", "group": "service:r", "started_by": "", "deployment_id": "x"}
            self.put(records.task(number, container_instance_id=found.instance_id, cpu=1024, memory_mib=1024, **own))
        self.check()

    def check(self) -> None:
        wanted = [task.instance_key for task in self.own if task.desired_status == "RUNNING"]
        assert len(wanted) == len(set(wanted)), "two on one instance"
        for instance in self.instances.values():
            held = sum(t.cpu for t in self.tasks.values() if t.instance_key == instance.key and t.last_status != "STOPPED")
            assert held <= instance.cpu, "oversubscribed"

    def report(self, task: task_model.Task, status: str) -> None:
        self.put(observed(task, Seen(status=status), self.now))

    def deploy(self) -> None:
        self.deployments = [msgspec.structs.replace(item, status="ACTIVE") for item in self.deployments]
        self.deployments.append(records.deployment(id=f"{len(self.deployments) + 1:019d}"))

    def rebuilt(self) -> PlacementIndex:
        fresh = PlacementIndex()
        for task in self.tasks.values():
            fresh.change("tasks", None, task)
        fresh.change("services", None, self.service)
        for instance in self.instances.values():
            fresh.change("container_instances", None, instance)
        return fresh


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("activate"), st.just(0)),
        st.tuples(st.just("activate"), st.just(0)),
        st.tuples(st.just("ACTIVE"), st.integers(1, 4)),
        st.tuples(st.just("DRAINING"), st.integers(1, 4)),
        st.tuples(st.just("replica"), st.just(0)),
        st.tuples(st.just("RUNNING"), st.integers(0, 99)),
        st.tuples(st.just("STOPPED"), st.integers(0, 99)),
        st.tuples(st.just("wait"), st.just(0)),
        st.tuples(st.just("deploy"), st.just(0)),
    ),
    max_size=50,
)


def take(world: World, name: str, number: int) -> None:
    live = [task for task in world.tasks.values() if task.last_status != "STOPPED"]
    if name == "activate":
        world.activate()
    elif name in ("ACTIVE", "DRAINING"):
        world.instance(number, name)
    elif name == "replica":
        world.replica()
    elif name == "wait":
        world.now += AFTER + 1
    elif name == "deploy":
        world.deploy()
    elif live:
        world.report(live[number % len(live)], name)


@given(minimum=st.sampled_from((0, 50, 75)), steps=STEPS)
@settings(max_examples=200, deadline=None)
def test_a_daemon_is_safe_in_any_order_and_gets_everywhere_in_a_world_that_obeys(minimum, steps):
    world = World(minimum)
    world.instance(1, "ACTIVE")
    for name, number in steps:
        take(world, name, number)
        assert world.rebuilt().holdings() == world.index.holdings(), "placement's books depend on the order of the changes"
    for _ in range(60):
        world.activate()
        world.now += AFTER + 1
        for task in list(world.tasks.values()):
            if task.last_status != "STOPPED":
                world.report(task, "STOPPED" if task.service == "r" else task.desired_status)
    primary = world.deployments[-1].id
    active = sorted(f"{number:032x}" for number, item in world.instances.items() if item.status == "ACTIVE")
    assert sorted(task.container_instance_id for task in world.own) == active
    if -(-len(active) * minimum // 100) < len(active):  # else the percentages forbid an update, which the planner says
        assert {task.deployment_id for task in world.own} <= {primary}
    assert world.service.desired_count == len(active)
