"""Safety and progress of the service planner, in a small world of tasks that report in any order.

Safety: the planner's own starts never lift RUNNING + PENDING above the upper bound; its own stops never take the healthy total below the lower
one. Progress: in a world that obeys, every deployment ends, or the percentages forbid it and the event says so.
"""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.model.change import Event, StartTask, StopTask
from homeport.model.ecs import task as task_model
from homeport.model.ecs.task import Container
from homeport.planner.health import concerns, is_healthy
from homeport.planner.service import ServiceView, bounds, is_settled, plan, standing
from homeport.planner.task import Seen, observed, stop
from homeport.testing import records

HEALTHY_AFTER = 40.0
CHECKED = (Container(name="app", id="c", image="app:1", has_health_check=True),)
PERCENTAGES = list(itertools.product((0, 50, 100), (100, 125, 150, 200)))
INSTANCES = ("1" * 32, "2" * 32)


class World:
    """A service, its deployments and tasks. Moves only as told."""

    def __init__(self, desired: int, minimum: int, maximum: int, *, checked: bool = False) -> None:
        self.now = records.NOW
        self.service = records.service(desired_count=desired, minimum_healthy_percent=minimum, maximum_percent=maximum)
        self.deployments = [records.deployment()]
        self.tasks: list[task_model.Task] = []
        self.checked = checked
        self.draining: set[str] = set()
        self.events: list[Event] = []
        self.numbers = itertools.count(1)

    @property
    def view(self) -> ServiceView:
        live = tuple(task for task in self.tasks if task.last_status != "STOPPED")
        used = {task.deployment_id for task in live}
        deployments = tuple(d for d in self.deployments if d.status == "PRIMARY" or d.id in used)
        keys = frozenset(f"{records.ACCOUNT}/default/{instance}" for instance in self.draining)
        return ServiceView(service=self.service, deployments=deployments, tasks=live, draining=keys)

    @property
    def occupied(self) -> int:
        return sum(task.last_status in ("PENDING", "RUNNING") for task in self.tasks)

    @property
    def healthy(self) -> int:
        return sum(is_healthy(task, HEALTHY_AFTER, self.now) for task in self.tasks)

    def replace(self, index: int, task: task_model.Task) -> None:
        self.tasks[index] = task

    def victims(self, tasks, count):
        return [task for task in tasks if task.protected_until <= self.now][:count]

    def answer(self):
        return plan(self.view, self.victims, healthy_after_seconds=HEALTHY_AFTER, now=self.now)

    def activate(self) -> bool:
        """Do what the planner says, and hold it to its bounds. False when it changed no task."""
        self.now += 0.001
        limits, healthy_before = bounds(self.service), self.healthy
        answer = self.answer()
        stops = [change.task for change in answer.changes if isinstance(change, StopTask)]
        starts = [change for change in answer.changes if isinstance(change, StartTask)]
        self.events += [change for change in answer.changes if isinstance(change, Event)]
        for task in stops:
            index = self.tasks.index(task)
            assert task.desired_status == "RUNNING"
            assert task.protected_until <= self.now or task.health_status == "UNHEALTHY", "stopped a protected task"
            self.replace(index, stop(task, stop_code="ServiceSchedulerInitiated", reason="r", now=self.now))
        for change in starts:
            self.start(change.deployment.id)
        if starts:
            assert self.occupied <= limits.upper, "started above the upper bound"
        assert self.healthy >= min(healthy_before, limits.lower), "stopped below the lower bound"
        primary = self.view.primary
        wanted = [t for t in self.view.tasks if t.deployment_id == primary.id and t.desired_status == "RUNNING"]
        assert not starts or len(standing(self.view, HEALTHY_AFTER, self.now).good) <= self.service.desired_count, wanted
        return bool(starts or stops)

    def start(self, deployment_id: str) -> None:
        number = next(self.numbers)
        there = next((i for i in INSTANCES if i not in self.draining), INSTANCES[0])
        self.tasks.append(
            records.task(
                number,
                deployment_id=deployment_id,
                created_at=self.now,
                last_status="PENDING",
                observed_status="PENDING",
                started_at=0.0,
                container_instance_id=there,
                containers=CHECKED if self.checked else records.task().containers,
            )
        )

    def report(self, index: int, status: str) -> None:
        before, answered = self.tasks[index], self.answer()
        self.replace(index, observed(before, Seen(status=status), self.now))
        if not concerns(before, self.tasks[index], HEALTHY_AFTER) and not answered.changes:
            assert not self.answer().changes, "a change that concerns nobody gave the planner something to do"
        assert is_settled(self.view, HEALTHY_AFTER, self.now) == standing(self.view, HEALTHY_AFTER, self.now).settled

    def health(self, index: int, status: str) -> None:
        self.replace(index, msgspec.structs.replace(self.tasks[index], health_status=status))

    def deploy(self) -> None:
        self.deployments = [msgspec.structs.replace(d, status="ACTIVE") for d in self.deployments]
        self.deployments.append(records.deployment(id=f"{len(self.deployments) + 1:019d}", created_at=self.now))

    def scale(self, desired: int) -> None:
        self.service = msgspec.structs.replace(self.service, desired_count=desired)

    def obey(self, rounds: int = 400) -> bool:
        """Let every task do what is wanted of it until the service has settled; False when it never does."""
        for _ in range(rounds):
            changed = self.activate()
            if not changed and standing(self.view, HEALTHY_AFTER, self.now).settled and len(self.view.tasks) == self.service.desired_count:
                return True
            self.now += HEALTHY_AFTER + 1 if not changed else 1.0
            for index, task in enumerate(self.tasks):
                if task.last_status == "STOPPED":
                    continue
                self.report(index, task.desired_status)
                if task.desired_status == "RUNNING" and self.checked and task.health_status == "UNKNOWN":
                    self.health(index, "HEALTHY")
        return False


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("activate")),
        st.tuples(st.just("activate")),
        st.tuples(st.just("run"), st.integers(0, 99)),
        st.tuples(st.just("end"), st.integers(0, 99)),
        st.tuples(st.just("healthy"), st.integers(0, 99)),
        st.tuples(st.just("unhealthy"), st.integers(0, 99)),
        st.tuples(st.just("wait"), st.sampled_from((1.0, 20.0, 41.0))),
        st.tuples(st.just("protect"), st.integers(0, 99)),
        st.tuples(st.just("deploy")),
        st.tuples(st.just("scale"), st.integers(0, 10)),
        st.tuples(st.just("drain"), st.sampled_from(INSTANCES)),
        st.tuples(st.just("undrain"), st.sampled_from(INSTANCES)),
    ),
    max_size=60,
)


def take(world: World, step: tuple[object, ...]) -> None:
    name, *arguments = step
    live = [index for index, task in enumerate(world.tasks) if task.last_status != "STOPPED"]
    if name == "activate":
        world.activate()
    elif name == "wait":
        world.now += arguments[0]  # type: ignore[operator]
    elif name == "deploy":
        world.deploy()
    elif name == "scale":
        world.scale(arguments[0])  # type: ignore[arg-type]
    elif name == "drain":
        world.draining.add(str(arguments[0]))
    elif name == "undrain":
        world.draining.discard(str(arguments[0]))
    elif live:
        index = live[int(str(arguments[0])) % len(live)]
        if name == "run":
            world.report(index, "RUNNING")
        elif name == "end":
            world.report(index, "STOPPED")
        elif name == "protect":
            world.replace(index, msgspec.structs.replace(world.tasks[index], protected_until=world.now + 60.0))
        else:
            world.health(index, name.upper())


@given(desired=st.integers(1, 10), percentages=st.sampled_from(PERCENTAGES), checked=st.booleans(), steps=STEPS)
@settings(max_examples=300, deadline=None)
def test_the_planner_keeps_its_bounds_whatever_the_order_of_reports(desired, percentages, checked, steps):
    world = World(desired, *percentages, checked=checked)
    for step in steps:
        take(world, step)


TASKS = st.lists(
    st.tuples(
        st.sampled_from(("old", "new")),
        st.sampled_from(("PENDING", "RUNNING", "RUNNING", "STOPPING")),
        st.sampled_from(("UNKNOWN", "HEALTHY", "UNHEALTHY")),
        st.sampled_from((1.0, 100.0)),
        st.sampled_from(INSTANCES),
    ),
    max_size=16,
)


@given(desired=st.integers(0, 10), percentages=st.sampled_from(PERCENTAGES), checked=st.booleans(), tasks=TASKS, drains=st.booleans())
@settings(max_examples=1000, deadline=None)
def test_one_activation_keeps_the_bounds_from_any_state_at_all(desired, percentages, checked, tasks, drains):
    world = World(desired, *percentages, checked=checked)
    world.deploy()
    if drains:
        world.draining.add(INSTANCES[0])
    for owner, status, health, age, instance in tasks:
        world.start(world.deployments[owner == "new"].id)
        seen = {"last_status": status, "observed_status": status if status != "STOPPING" else "RUNNING", "health_status": health}
        wanted = "STOPPED" if status == "STOPPING" else "RUNNING"
        started_at = 0.0 if status == "PENDING" else world.now - age
        fields = {**seen, "desired_status": wanted, "started_at": started_at, "container_instance_id": instance}
        world.replace(-1, msgspec.structs.replace(world.tasks[-1], **fields))
    world.activate()


@given(desired=st.integers(0, 10), percentages=st.sampled_from(PERCENTAGES), checked=st.booleans(), steps=STEPS)
@settings(max_examples=200, deadline=None)
def test_from_wherever_it_stands_the_service_settles_or_says_why_not(desired, percentages, checked, steps):
    world = World(desired, *percentages, checked=checked)
    for step in steps:
        take(world, step)
    world.draining.clear()
    if not world.obey():
        limits = bounds(world.service)
        assert limits.lower == limits.upper == world.service.desired_count > 0, "stuck although the percentages leave room"
        assert any("because of the service deployment configuration" in event.message for event in world.events)


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize(("minimum", "maximum"), PERCENTAGES)
@pytest.mark.parametrize("desired", range(1, 11))
def test_each_rolling_update_ends_or_is_told_to_be_impossible(desired, minimum, maximum, checked):
    world = World(desired, minimum, maximum, checked=checked)
    assert world.obey()
    world.deploy()
    limits = bounds(world.service)
    impossible = limits.lower == limits.upper
    world.events.clear()
    assert world.obey(60 if impossible else 400) is not impossible
    assert any("because of the service deployment configuration" in event.message for event in world.events) is impossible
    if impossible:
        assert world.healthy == desired
