"""Safety and progress of the planner of daemon deployments, in a small world whose tasks report, fail and are lost in any order.

Safety: never a second task on an instance, never more instances taken for an update than the batch has, none taken while one of the last batch is
without, statuses only along their table. Progress: in a world that obeys, every connected instance gets what it is to have and the deployment ends.
"""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.config import Settings
from homeport.model.ecs import daemon_deployment as model
from homeport.model.ecs.daemon_deployment import configuration_of
from homeport.model.ecs.task import Task
from homeport.planner import daemon_monitors as monitors
from homeport.planner.daemon_deployment import DaemonPlan, DaemonView, plan
from homeport.planner.health import is_healthy
from homeport.planner.task import Seen, observed, stop
from homeport.store.tables import DAEMON_DEPLOYMENTS
from homeport.testing import records

SETTINGS = Settings()
AFTER = SETTINGS.healthy_after_seconds


class World:
    def __init__(self, percent: float, minutes: int) -> None:
        self.now = records.NOW
        self.numbers = itertools.count(1)
        self.connected: dict[int, bool] = {}
        self.tasks: dict[str, Task] = {}
        self.revisions = {"1" * 19: records.daemon_revision(id="1" * 19)}
        configuration = msgspec.json.encode({"drainPercent": percent, "bakeTimeInMinutes": minutes})
        self.deployment = records.daemon_deployment(status="PENDING", revision_id="1" * 19, configuration=configuration)
        self.daemon = records.daemon(revision_id="1" * 19)

    def live(self) -> list[Task]:
        return [task for task in self.tasks.values() if task.last_status != "STOPPED"]

    def on(self, number: int) -> list[Task]:
        return [task for task in self.live() if int(task.container_instance_id, 16) == number]

    def view(self) -> DaemonView:
        targets = {f"{records.ACCOUNT}/default/{number:032x}": connected for number, connected in self.connected.items()}
        return DaemonView(
            daemon=self.daemon,
            deployment=self.deployment,
            revision=self.revisions[self.daemon.revision_id],
            tasks=tuple(self.live()),
            targets=targets,
            completed=self.revisions.get(self.daemon.completed_revision_id),
        )

    def activate(self) -> DaemonPlan:
        self.now += 0.001
        view = self.view()
        ended = [task for task in self.tasks.values() if task.last_status == "STOPPED" and task.deployment_id == self.deployment.target_id]
        answer = plan(view, ended, settings=SETTINGS, now=self.now)
        self.check(view, answer)
        DAEMON_DEPLOYMENTS.guard(self.deployment, answer.deployment)
        self.deployment, self.daemon = answer.deployment, answer.daemon
        self.revisions[answer.revision.id] = answer.revision
        for task in answer.healthy:
            self.tasks[task.id] = task
        for item in answer.stops:
            self.tasks[item.task.id] = stop(self.tasks[item.task.id], stop_code=item.stop_code, reason=item.reason, now=self.now)
        for key in answer.starts:
            assert not self.on(int(key[-32:], 16)), "a second task on an instance"
            fields = {"deployment_id": self.daemon.revision_id, "container_instance_id": key[-32:], "started_by": self.deployment.started_by}
            made = records.daemon_task(next(self.numbers), last_status="PENDING", observed_status="", started_at=0.0, created_at=self.now, **fields)
            self.tasks[made.id] = made
        return answer

    def check(self, view: DaemonView, answer: DaemonPlan) -> None:
        """What is taken for an update: older tasks that serve on connected instances."""
        taken = [item.task for item in answer.stops if is_healthy(item.task, AFTER, self.now) and item.task.deployment_id != self.daemon.revision_id]
        taken = [task for task in taken if view.targets.get(task.instance_key)]
        share = int(len(view.targets) * configuration_of(self.deployment.configuration).drain_percent / 100)
        assert len(taken) <= max(1, share), "more than a batch"
        bare = [n for n, connected in self.connected.items() if connected and not any(task.last_status == "RUNNING" for task in self.on(n))]
        assert not taken or not bare, "another batch while an instance is without"

    def update(self) -> None:
        revision_id = f"{len(self.revisions) + 1:019d}"
        self.revisions[revision_id] = records.daemon_revision(id=revision_id)
        ended = monitors.superseded(self.deployment, self.now)
        DAEMON_DEPLOYMENTS.guard(self.deployment, ended)
        self.deployment = records.daemon_deployment(
            id=f"{len(self.revisions) + 90:019d}", status="PENDING", revision_id=revision_id, configuration=self.deployment.configuration
        )
        completed = self.revisions.get(self.daemon.completed_revision_id)
        self.daemon = monitors.with_revision(self.daemon, self.revisions[revision_id], completed=completed)

    def report(self, task: Task, status: str) -> None:
        self.tasks[task.id] = observed(task, Seen(status=status), self.now)

    def begin(self, count: int) -> None:
        """So many instances that have it, and an update."""
        self.connected = dict.fromkeys(range(count), True)
        while self.deployment.status not in model.TERMINAL:
            self.activate()
            self.obey()
            self.now += AFTER + 30.0
        self.update()

    def obey(self) -> None:
        """Every agent does at once what is wanted."""
        for task in self.live():
            if self.connected.get(int(task.container_instance_id, 16)):
                self.report(task, "STOPPED" if task.desired_status == "STOPPED" else "RUNNING")


STEPS = ("activate", "join", "away", "back", "leave", "run", "end", "end", "fail", "update", "wait", "wait")


@settings(max_examples=120, deadline=None)
@given(
    count=st.integers(0, 8),
    percent=st.sampled_from((0.0, 10.0, 34.0, 50.0, 100.0)),
    minutes=st.sampled_from((0, 0, 1)),
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), max_size=60),
)
def test_a_daemon_gets_everywhere_by_batches(count: int, percent: float, minutes: int, steps: list[tuple[str, int]]) -> None:
    world = World(percent, minutes)
    world.begin(count)
    for step, number in steps:
        here = world.on(number)
        if step == "join":
            world.connected.setdefault(number, True)
        elif step in ("away", "back") and number in world.connected:
            world.connected[number] = step == "back"
        elif step == "leave" and not here:
            world.connected.pop(number, None)
        elif step == "run" and here and here[0].desired_status == "RUNNING":
            world.report(here[0], "RUNNING")
        elif step == "end" and here and here[0].desired_status == "STOPPED" or step == "fail" and here:
            world.report(here[0], "STOPPED")
        elif step == "update":
            world.update()
        elif step == "wait":
            world.now += 10.0 * (number + 1)
        world.activate()
    if world.deployment.status == model.STOPPED:
        world.update()
    for _ in range(200):
        world.activate()
        world.obey()
        world.now += AFTER + 30.0
        if world.deployment.status in model.TERMINAL and all(
            [task.deployment_id for task in world.on(n)] == [world.daemon.revision_id] for n, connected in world.connected.items() if connected
        ):
            break
    assert world.deployment.status in model.TERMINAL, world.deployment.status
    for number, connected in world.connected.items():
        if connected:
            assert [task.deployment_id for task in world.on(number)] == [world.daemon.revision_id]
    before = world.deployment, world.daemon
    again = world.activate()
    assert (again.starts, again.stops, (world.deployment, world.daemon)) == ((), (), before)
