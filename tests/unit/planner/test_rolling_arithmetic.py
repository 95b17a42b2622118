"""The rolling arithmetic as a table: deployments of 1 to 10 tasks under every pair of percentages, step by step to their end (ecs-reference 3.9)."""

from __future__ import annotations

import itertools
import math

import msgspec
import pytest

from homeport.config import Settings
from homeport.model.change import Event, StartTask, StopTask, UpdateDeployment, UpdateTask
from homeport.planner import deployment as deployment_planner
from homeport.planner import service as service_planner
from homeport.planner.health import is_healthy
from homeport.planner.service import ServiceView, bounds, unable_to_roll
from homeport.planner.task import stop, with_status
from homeport.testing import records

SETTINGS = Settings()
AFTER = SETTINGS.healthy_after_seconds
OLD, NEW = "1" * 19, "2" * 19
STEPS_MAX = 100


class Rollout:
    """A settled service of `desired` old tasks whose new deployment has just begun. The world does what is wanted, a step at a time."""

    def __init__(self, desired: int, minimum: int, maximum: int) -> None:
        self.now = records.NOW
        self.service = records.service(desired_count=desired, minimum_healthy_percent=minimum, maximum_percent=maximum)
        old = records.deployment(id=OLD, status="ACTIVE", rollout_state="COMPLETED")
        new = records.deployment(id=NEW, revision=2, created_at=self.now + 1000, service_deployment_status="PENDING")
        self.deployments = {OLD: old, NEW: new}
        self.tasks = {number: records.task(number, deployment_id=OLD, healthy_since=self.now + AFTER) for number in range(1, desired + 1)}
        self.numbers = itertools.count(desired + 1)
        self.now += 1000
        self.deadlocked = False
        self.lowest, self.highest = desired, desired

    @property
    def view(self) -> ServiceView:
        live = tuple(task for task in self.tasks.values() if task.last_status != "STOPPED")
        deployments = tuple(item for item in self.deployments.values() if item.status != "INACTIVE")
        return ServiceView(service=self.service, deployments=deployments, tasks=live)

    def step(self) -> None:
        """Both planners until they are content; then everybody obeys, and as much time passes as makes a task healthy."""
        while self.decide():
            live = self.view.tasks
            self.lowest = min(self.lowest, sum(is_healthy(task, AFTER, self.now) for task in live))
            self.highest = max(self.highest, sum(task.last_status in ("PENDING", "RUNNING") for task in live))
        for number, task in self.tasks.items():
            seen = "STOPPED" if task.desired_status == "STOPPED" else "RUNNING"
            self.tasks[number] = with_status(msgspec.structs.replace(task, observed_status=seen), self.now)
        self.now += AFTER

    def decide(self) -> bool:
        told = deployment_planner.plan(self.view, [t for t in self.tasks.values() if t.last_status == "STOPPED"], settings=SETTINGS, now=self.now)
        wanted = service_planner.plan(self.view, lambda tasks, count: list(tasks)[:count], healthy_after_seconds=AFTER, now=self.now)
        numbers = {task.id: number for number, task in self.tasks.items()}
        for change in (*told.changes, *wanted.changes):
            match change:
                case UpdateDeployment(deployment=deployment):
                    self.deployments[deployment.id] = deployment
                case UpdateTask(task=task):
                    self.tasks[numbers[task.id]] = task
        for change in wanted.changes:
            match change:
                case StartTask(deployment=deployment):
                    number = next(self.numbers)
                    fields = {"last_status": "PENDING", "observed_status": "", "started_at": 0.0, "created_at": self.now, "revision": 2}
                    self.tasks[number] = records.task(number, deployment_id=deployment.target_id, **fields)
                case StopTask(task=task):
                    current = self.tasks[numbers[task.id]]
                    self.tasks[numbers[task.id]] = stop(current, stop_code="ServiceSchedulerInitiated", reason="", now=self.now)
                case Event(message=message):
                    self.deadlocked |= message == unable_to_roll("web")
        return any(isinstance(change, StartTask | StopTask) for change in wanted.changes)


GRID = list(itertools.product(range(1, 11), (0, 50, 100), (100, 125, 150, 200)))


@pytest.mark.parametrize(("desired", "minimum", "maximum"), GRID)
def test_a_deployment_ends_within_its_bounds_or_says_that_they_forbid_it(desired, minimum, maximum):
    lower, upper = math.ceil(desired * minimum / 100), math.floor(desired * maximum / 100)
    rollout = Rollout(desired, minimum, maximum)
    assert msgspec.structs.astuple(bounds(rollout.service)) == (lower, upper)
    for _ in range(STEPS_MAX):
        rollout.step()
        if rollout.deadlocked or rollout.deployments[NEW].progress == "SUCCESSFUL":
            break
    assert rollout.lowest >= lower
    assert rollout.highest <= max(upper, desired)
    assert rollout.deadlocked is (lower == upper == desired)
    if rollout.deadlocked:
        assert [task.deployment_id for task in rollout.view.tasks] == [OLD] * desired
        assert rollout.deployments[NEW].progress == "IN_PROGRESS"
    else:
        assert [task.deployment_id for task in rollout.view.tasks] == [NEW] * desired
        assert (rollout.deployments[NEW].progress, rollout.deployments[OLD].status) == ("SUCCESSFUL", "INACTIVE")


@pytest.mark.parametrize(
    ("desired", "minimum", "maximum", "lowest", "highest"),
    [
        (4, 100, 200, 4, 8),
        (4, 50, 100, 2, 4),
        (4, 100, 125, 4, 5),
        (10, 50, 150, 5, 15),
        (3, 100, 150, 3, 4),
        (1, 0, 100, 0, 1),
        (10, 0, 200, 0, 10),
    ],
)
def test_how_far_both_bounds_are_used(desired, minimum, maximum, lowest, highest):
    rollout = Rollout(desired, minimum, maximum)
    for _ in range(STEPS_MAX):
        rollout.step()
    assert (rollout.lowest, rollout.highest) == (lowest, highest)


def test_3_tasks_and_125_percent_cannot_surge():
    rollout = Rollout(3, 100, 125)
    for _ in range(3):
        rollout.step()
    assert rollout.deadlocked
