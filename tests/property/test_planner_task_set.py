"""Safety and progress of the planner of task sets: several sets in a world that reports, drains, scales and deletes in any order.

Safety: starts never lift a set above its share (twice the share while tasks are replaced), its stops never take its healthy tasks below the share,
and what happens to one set is no matter of another. Progress: when the world obeys, every set has its share and is stable, and deleted ones are gone.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.config import Settings
from homeport.model.change import ForgetTaskSet, StartTask, StopTask, UpdateTask, UpdateTaskSet
from homeport.model.ecs.task import Task
from homeport.planner.health import is_healthy
from homeport.planner.task import Seen, observed, stop
from homeport.planner.task_set import TaskSetView, plan
from homeport.testing import records

SETTINGS = Settings()
AFTER = SETTINGS.healthy_after_seconds
INSTANCES = ("1" * 32, "2" * 32)
SCALES = (0.0, 0.1, 12.5, 33.3, 50.0, 99.9, 100.0)


class World:
    """A service with task sets. Moves only as told."""

    def __init__(self, desired: int, scales: list[float]) -> None:
        self.now = records.NOW
        self.service = records.service(desired_count=desired, deployment_controller="EXTERNAL", family="", revision=0)
        self.sets = {str(n) * 19: records.task_set(id=str(n) * 19, scale=scale) for n, scale in enumerate(scales, 1)}
        self.tasks: dict[str, Task] = {}
        self.draining: set[str] = set()
        self.numbers = itertools.count(1)

    def share(self, set_id: str) -> int:
        item = self.sets[set_id]
        return 0 if item.status == "DRAINING" else math.ceil(Fraction(str(item.scale)) * self.service.desired_count / 100)

    def of(self, set_id: str) -> list[Task]:
        return [task for task in self.tasks.values() if task.deployment_id == set_id and task.last_status != "STOPPED"]

    def healthy(self, set_id: str) -> int:
        return sum(is_healthy(task, AFTER, self.now) for task in self.of(set_id))

    def activate(self, set_id: str) -> bool:
        """Do what the planner says of a set, and hold it to its bounds. False when it changed nothing."""
        self.now += 0.001
        keys = frozenset(f"{records.ACCOUNT}/default/{instance}" for instance in self.draining)
        view = TaskSetView(service=self.service, task_set=self.sets[set_id], tasks=tuple(self.of(set_id)), draining=keys)
        ended = [task for task in self.tasks.values() if task.deployment_id == set_id and task.last_status == "STOPPED"]
        healthy_before, share = self.healthy(set_id), self.share(set_id)
        changes = plan(view, lambda tasks, count: list(tasks)[:count], ended, settings=SETTINGS, now=self.now).changes
        for change in changes:
            match change:
                case UpdateTask(task=task):
                    self.tasks[task.id] = task
                case StopTask(task=task):
                    assert task.deployment_id == set_id
                    self.tasks[task.id] = stop(self.tasks[task.id], stop_code="ServiceSchedulerInitiated", reason="r", now=self.now)
                case UpdateTaskSet(task_set=item):
                    self.sets[set_id] = item
                case ForgetTaskSet():
                    assert not any(task.last_status in ("PENDING", "RUNNING") for task in self.of(set_id))
                    del self.sets[set_id]
        starts = [change for change in changes if isinstance(change, StartTask)]
        for start in starts:
            assert start.deployment.id == set_id
            self.start(set_id)
        if starts:
            assert sum(task.last_status in ("PENDING", "RUNNING") for task in self.of(set_id)) <= 2 * share
            stays = [task for task in self.of(set_id) if task.desired_status == "RUNNING" and task.container_instance_id not in self.draining]
            assert len(stays) <= share
        if set_id in self.sets and self.sets[set_id].status != "DRAINING":
            assert self.healthy(set_id) >= min(healthy_before, share)
        return bool(changes)

    def start(self, set_id: str) -> None:
        number = next(self.numbers)
        there = next((instance for instance in INSTANCES if instance not in self.draining), INSTANCES[0])
        made = {"created_at": self.now, "last_status": "PENDING", "observed_status": "PENDING", "started_at": 0.0, "container_instance_id": there}
        task = records.task(number, deployment_id=set_id, started_by=f"ecs-svc/{set_id}", **made)
        self.tasks[task.id] = task

    def report(self, chosen: int, status: str) -> None:
        live = [task for task in self.tasks.values() if task.last_status != "STOPPED"]
        if live:
            task = live[chosen % len(live)]
            self.tasks[task.id] = observed(task, Seen(status=status), self.now)

    def obey(self) -> None:
        """Every task gets where it is wanted, a minute passes, and the planner is asked until it has nothing more to say."""
        for _ in range(30):
            for task in list(self.tasks.values()):
                if task.last_status != "STOPPED" and task.observed_status != "RUNNING":
                    self.tasks[task.id] = observed(task, Seen(status="RUNNING"), self.now)
                if self.tasks[task.id].desired_status == "STOPPED" and self.tasks[task.id].last_status != "STOPPED":
                    self.tasks[task.id] = observed(self.tasks[task.id], Seen(status="STOPPED"), self.now)
            self.now += 2000.0  # longer than any launch delay
            changed = [self.activate(set_id) for set_id in list(self.sets)]
            if not any(changed):
                return
        raise AssertionError("the sets never come to rest")


moves = st.lists(
    st.one_of(
        st.tuples(st.just("activate"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("activate"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("run"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("die"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 60), st.just(0)),
        st.tuples(st.just("desired"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("scale"), st.integers(0, 9), st.integers(0, len(SCALES) - 1)),
        st.tuples(st.just("delete"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("drain"), st.integers(0, 1), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(desired=st.integers(0, 9), scales=st.lists(st.sampled_from(SCALES), min_size=1, max_size=4), steps=moves)
def test_every_set_keeps_its_bounds_and_comes_to_its_share(desired, scales, steps):
    world = World(desired, scales)
    for kind, first, second in steps:
        ids = list(world.sets)
        if not ids:
            break
        chosen = ids[first % len(ids)]
        match kind:
            case "activate":
                world.activate(chosen)
            case "run" | "die":
                world.report(first, "RUNNING" if kind == "run" else "STOPPED")
            case "wait":
                world.now += first
            case "desired":
                world.service = msgspec.structs.replace(world.service, desired_count=first)
            case "scale":
                world.sets[chosen] = msgspec.structs.replace(world.sets[chosen], scale=SCALES[second])
            case "delete":
                world.sets[chosen] = msgspec.structs.replace(world.sets[chosen], status="DRAINING")
            case "drain":
                world.draining = set() if world.draining else {INSTANCES[first]}
    world.obey()
    for set_id, item in world.sets.items():
        live = world.of(set_id)
        assert item.status != "DRAINING"
        assert len(live) == world.share(set_id)
        assert all(task.last_status == "RUNNING" and task.container_instance_id not in world.draining for task in live)
        assert item.stability_status == "STEADY_STATE"
