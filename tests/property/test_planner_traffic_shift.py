"""Deployments that shift traffic, in a small world of tasks, hooks and users in any order: both planners of a service, taken by turns.

Stages move only along their table, weights sum to 100, no hook is passed by, green has no task before its stage, and nobody takes a task of blue away
before CLEAN_UP as long as it is desired. In a world that obeys, every deployment ends.
"""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from homeport.config import Settings
from homeport.model.change import RollBack, StartTask, StopTask, UpdateDeployment, UpdateService, UpdateTask
from homeport.model.ecs.deployment import LIFECYCLE, TERMINAL
from homeport.planner import deployment as deployment_planner
from homeport.planner import lifecycle_hook, side_by_side
from homeport.planner import service as service_planner
from homeport.planner.deployment_start import new_deployment, start
from homeport.planner.rollback import roll_back
from homeport.planner.service import ServiceView
from homeport.planner.service_revision import new_revision
from homeport.planner.task import Seen, observed, stop
from homeport.testing import records

SETTINGS = Settings(healthy_after_seconds=5.0)
HOOKS = [
    {"hookTargetArn": "http://100.64.0.1/", "lifecycleStages": ["PRE_SCALE_UP", "TEST_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT"]},
    {
        "targetType": "PAUSE",
        "lifecycleStages": ["PRE_PRODUCTION_TRAFFIC_SHIFT"],
        "timeoutConfiguration": {"timeoutInMinutes": 3, "action": "CONTINUE"},
    },
]
CONFIGURATIONS = [
    {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 1},
    {"strategy": "LINEAR", "bakeTimeInMinutes": 0, "linearConfiguration": {"stepPercent": 33.4, "stepBakeTimeInMinutes": 1}},
    {"strategy": "CANARY", "bakeTimeInMinutes": 1, "canaryConfiguration": {"canaryPercent": 0.1, "canaryBakeTimeInMinutes": 0}},
    {"strategy": "ROLLING", "bakeTimeInMinutes": 0},
]


class World:
    """A service with its deployments, revisions and tasks. Moves only as told."""

    def __init__(self, desired, configuration, hooks):
        self.now = records.NOW
        self.numbers = itertools.count(1)
        self.tasks, self.deployments, self.revisions = {}, {}, {}
        asked = {**configuration, "lifecycleHooks": HOOKS if hooks and configuration["strategy"] != "ROLLING" else []}
        self.service = records.service(desired_count=desired, deployment_configuration=msgspec.json.encode(asked))
        self.update()

    def update(self):
        digits = f"{next(self.numbers):019d}"
        self.now += 0.001
        self.revisions[digits] = new_revision(self.service, records.task_definition(), revision_id=digits, now=self.now)
        for item in start(self.service, self.deployments.values(), new_deployment(self.service, digits, self.now)):
            self.put(item)

    def configure(self, configuration):
        self.service = msgspec.structs.replace(self.service, deployment_configuration=msgspec.json.encode({**configuration, "lifecycleHooks": []}))
        self.update()

    def put(self, after):
        before = self.deployments.get(after.id)
        if before is not None and before.lifecycle_stage != after.lifecycle_stage:
            assert after.lifecycle_stage in LIFECYCLE[before.lifecycle_stage]
            assert all(not run.open and not lifecycle_hook.is_failed(run) for run in after.hooks if run.stage == before.lifecycle_stage)
        assert round(sum(item.production for item in after.weights), 6) in (0.0, 100.0)
        assert round(sum(item.test for item in after.weights), 6) in (0.0, 100.0)
        self.deployments[after.id] = after

    @property
    def live(self):
        return tuple(task for task in self.tasks.values() if task.last_status != "STOPPED")

    @property
    def primary(self):
        return next(item for item in self.deployments.values() if item.status == "PRIMARY")

    def view(self):
        primary = self.primary
        return ServiceView(
            service=self.service,
            deployments=tuple(item for item in self.deployments.values() if item.status != "INACTIVE"),
            tasks=self.live,
            undone=self.deployments.get(primary.rollback_of),
            rollback_to=self.revisions.get(self.service.completed_revision_id),
        )

    def activate(self):
        """Both planners once, each held to what it may do."""
        self.now += 0.001
        self._deployment()
        self.now += 0.001
        return self._tasks()

    def _deployment(self):
        ended = [task for task in self.tasks.values() if task.last_status == "STOPPED"]
        answer = deployment_planner.plan(self.view(), ended, settings=SETTINGS, now=self.now)
        for change in answer.changes:
            if isinstance(change, UpdateTask):
                self.tasks[change.task.id] = change.task
            elif isinstance(change, UpdateDeployment):
                self.put(change.deployment)
            elif isinstance(change, UpdateService):
                self.service = change.service
            elif isinstance(change, RollBack):
                before = [item for item in self.deployments.values() if item.status != "INACTIVE"]
                self.service, made = roll_back(self.service, before, change, deployment_id=f"{next(self.numbers):019d}", now=self.now)
                for item in made:
                    self.put(item)

    def _tasks(self):
        view, primary = self.view(), self.primary
        apart = side_by_side.applies(view)
        decide = side_by_side.plan if apart else service_planner.plan
        answer = decide(view, lambda tasks, count: list(tasks)[:count], healthy_after_seconds=SETTINGS.healthy_after_seconds, now=self.now)
        acted = False
        for change in answer.changes:
            if isinstance(change, StartTask):
                acted = True
                green = change.deployment.id == primary.id
                assert not (apart and green and not primary.rollback_of and primary.lifecycle_stage in ("", "RECONCILE_SERVICE", "PRE_SCALE_UP"))
                self._start(change.deployment.target_id)
            elif isinstance(change, StopTask):
                acted = True
                self.tasks[change.task.id] = stop(change.task, stop_code="ServiceSchedulerInitiated", reason="r", now=self.now)
                if apart and change.task.deployment_id == primary.blue_revision_id:
                    assert self._wanted(primary.blue_revision_id) >= self.service.desired_count, "a task of blue was taken away"
        if apart:
            for revision in {task.deployment_id for task in self.live}:
                assert self._wanted(revision) <= max(self.service.desired_count, sum(task.deployment_id == revision for task in view.tasks))
        return acted

    def _wanted(self, revision):
        return sum(task.deployment_id == revision and task.desired_status == "RUNNING" for task in self.live)

    def _start(self, revision):
        number = next(self.numbers)
        self.tasks[f"{number:032x}"] = records.task(
            number, deployment_id=revision, created_at=self.now, last_status="PENDING", observed_status="PENDING", started_at=0.0
        )

    def report(self, index, status):
        if self.live:
            task = self.live[index % len(self.live)]
            self.tasks[task.id] = observed(task, Seen(status=status), self.now)

    def answer(self, index, how):
        waiting = [(item, run) for item in self.deployments.values() for run in item.hooks if run.open]
        if waiting:
            item, run = waiting[index % len(waiting)]
            after = lifecycle_hook.continued(run, how)
            self.put(msgspec.structs.replace(item, hooks=tuple(after if other.id == run.id else other for other in item.hooks)))

    def request_stop(self):
        primary = self.primary
        if primary.progress in ("PENDING", "IN_PROGRESS") and not primary.rollback_of and primary.lifecycle_stage != "CLEAN_UP":
            status = "ROLLBACK_REQUESTED" if self.service.completed_revision_id else "STOP_REQUESTED"
            self.put(msgspec.structs.replace(primary, service_deployment_status=status))

    def obey(self, rounds=300):
        """Let every task and every hook do what is wanted of it; whether the service came to rest with its deployment over."""
        for _ in range(rounds):
            acted = self.activate()
            for index, task in enumerate(self.live):
                if task.last_status != task.desired_status:
                    self.report(index, task.desired_status)
            self.answer(0, "CONTINUE")
            self.now += 1.0 if acted else 20.0
            primary = self.primary
            if not acted and primary.rollout_state != "IN_PROGRESS" and all(task.last_status == task.desired_status for task in self.live):
                return True
        return False


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("activate")),
        st.tuples(st.just("activate")),
        st.tuples(st.just("run"), st.integers(0, 99)),
        st.tuples(st.just("run"), st.integers(0, 99)),
        st.tuples(st.just("end"), st.integers(0, 99)),
        st.tuples(st.just("answer"), st.integers(0, 9), st.sampled_from(("CONTINUE", "CONTINUE", "CONTINUE", "ROLLBACK"))),
        st.tuples(st.just("wait"), st.sampled_from((1.0, 6.0, 61.0, 200.0))),
        st.tuples(st.just("obey"), st.integers(1, 12)),
        st.tuples(st.just("stop")),
        st.tuples(st.just("update")),
        st.tuples(st.just("configure"), st.sampled_from(CONFIGURATIONS)),
        st.tuples(st.just("scale"), st.integers(0, 5)),
    ),
    max_size=60,
)


def _walk(world, steps):
    for name, *given_ in steps:
        match name:
            case "activate":
                world.activate()
            case "run":
                world.report(given_[0], "RUNNING")
            case "end":
                world.report(given_[0], "STOPPED")
            case "answer":
                world.answer(*given_)
            case "wait":
                world.now += given_[0]
            case "obey":
                world.obey(given_[0])
            case "stop":
                world.request_stop()
            case "update":
                world.update()
            case "configure":
                world.configure(given_[0])
            case "scale":
                world.service = msgspec.structs.replace(world.service, desired_count=given_[0])


@example(desired=0, configuration=CONFIGURATIONS[0], hooks=False, steps=[("obey", 10), ("update",), ("stop",)])
@settings(max_examples=250, deadline=None)
@given(desired=st.integers(0, 4), configuration=st.sampled_from(CONFIGURATIONS), hooks=st.booleans(), steps=STEPS)
def test_no_order_of_things_breaks_a_shift(desired, configuration, hooks, steps):
    world = World(desired, configuration, hooks)
    _walk(world, steps)
    assert world.obey(), f"the deployment is stuck at {world.primary.lifecycle_stage!r}: {world.primary}"
    primary = world.primary
    if primary.rollout_state == "COMPLETED":
        assert {task.deployment_id for task in world.live} <= {primary.target_id}
        assert len(world.live) == world.service.desired_count
        if primary.weights:
            assert {item.service_revision_id: item.production for item in primary.weights}[primary.target_id] == 100.0
    assert all(item.progress in TERMINAL for item in world.deployments.values())


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_first_and_a_second_deployment_in_a_world_that_obeys(configuration):
    world = World(3, configuration, hooks=True)
    assert world.obey() and world.primary.rollout_state == "COMPLETED"
    world.update()
    assert world.obey() and world.primary.rollout_state == "COMPLETED"
    assert [item.progress for item in world.deployments.values()] == ["SUCCESSFUL", "SUCCESSFUL"]
