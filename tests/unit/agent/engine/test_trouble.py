"""Random trouble in virtual time: whatever breaks, in the end what is told is what is, and nothing was made twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.unit.agent.engine.test_engine import World, container, task

from homeport.acs.messages import Dependency, PortMapping, TaskPayload
from homeport.agent.engine import config
from homeport.agent.runtime.contract import PortTakenError, RuntimeDeadlineError, RuntimeFailureError, RuntimeUnavailableError
from homeport.testing.runtime import FakeContainer

STEPS = 40
FAULTS = (PortTakenError("port is already allocated"), RuntimeDeadlineError("slow"), RuntimeUnavailableError("reset"), RuntimeFailureError("no"))
METHODS = ("create", "start", "stop", "inspect", "list", "image", "remove")


class Trouble:
    """One seeded story."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.tasks: list[TaskPayload] = []
        self.away = False

    def payload(self, number: int) -> TaskPayload:
        commands = ("sleep 100000", "trap 'exit 9' sleep 100000", f"sleep {self.chance.randint(0, 20)}; exit {self.chance.randint(0, 5)}")
        app = container("app", self.chance.choice(commands), stopTimeout=self.chance.randint(1, 5))
        side = container(
            "side",
            self.chance.choice(commands),
            essential=self.chance.random() < 0.3,
            stopTimeout=2,
            dependsOn=[Dependency(containerName="app", condition="START")] if self.chance.random() < 0.5 else [],
            portMappings=[PortMapping(containerPort=80, protocol="tcp")],
        )
        return task(number, app, side)

    async def step(self) -> None:
        world, runtime = self.world, self.world.runtime
        match self.chance.randrange(9):
            case 0 | 1:
                self.tasks.append(self.payload(len(self.tasks) + 1))
                world.engine.submit(self.tasks[-1])
            case 2 if self.tasks:
                world.engine.submit(TaskPayload(arn=self.chance.choice(self.tasks).arn, desiredStatus="STOPPED"))
            case 3:
                running = [item for item in runtime.containers.values() if item.status == "running"]
                if running:
                    runtime.end(self.chance.choice(running).name, self.chance.randint(0, 255))
            case 4:
                self.away = not self.away
                runtime.break_connection() if self.away else runtime.restore_connection()
            case 5 if not self.away:
                runtime.restart()
            case 6:
                runtime.failures.setdefault(self.chance.choice(METHODS), []).append(self.chance.choice(FAULTS))
            case 7:
                await world.die()
                await world.boot()
        await world.clock.advance(self.chance.choice((0.0, 0.0, 0.05, 1.0, 10.0)))

    async def heal(self) -> None:
        self.world.runtime.failures.clear()
        if self.away:
            self.world.runtime.restore_connection()
        await self.world.clock.advance(200)

    def found(self, payload: TaskPayload) -> dict[str, FakeContainer]:
        mine = [item for item in self.world.runtime.containers.values() if item.labels.get(config.LABEL_TASK) == payload.arn]
        found = {item.labels[config.LABEL_CONTAINER]: item for item in mine}
        assert len(found) == len(mine), "a container was made twice"
        return found

    def check(self) -> None:
        known = {arn: (desired, status) for arn, desired, status in self.world.engine.tasks()}
        for payload in self.tasks:
            desired, status = known[payload.arn]
            assert status in ("RUNNING", "STOPPED")
            reports = [report for report in self.world.reports if report.arn == payload.arn]
            assert reports[-1].status == status
            assert [report.status for report in reports] == sorted(report.status for report in reports), "a status went backwards"
            assert status == "RUNNING" or desired == "STOPPED"
            for entry in reports[-1].containers:
                real = self.found(payload).get(entry.name)
                if real is None:
                    assert entry.status == "STOPPED"
                    continue
                assert real.run <= 1, "a container ran twice"
                assert (real.status == "running") == (entry.status == "RUNNING")
                if entry.status == "STOPPED" and entry.exit_code is not None:
                    assert (entry.exit_code, entry.runtime_id) == (real.exit_code, real.id)
                if real.run and entry.status == "STOPPED" and not entry.reason:
                    assert entry.exit_code == real.exit_code


@pytest.mark.parametrize("seed", range(60))
async def test_what_is_told_is_what_is(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path)
    await world.boot()
    try:
        story = Trouble(world, seed)
        for _ in range(STEPS):
            await story.step()
        await story.heal()
        story.check()
        for payload in story.tasks:
            world.engine.submit(TaskPayload(arn=payload.arn, desiredStatus="STOPPED"))
        await world.clock.advance(60)
        story.check()
        for payload in story.tasks:
            world.engine.acknowledged(payload.arn)
        await world.clock.advance(20_000)
        assert world.runtime.containers == {}
        assert world.engine.tasks() == []
    finally:
        await world.die()
        await world.runtime.close()
