"""The views of a large fleet answer as looking at every instance does, over long random histories and with tiny limits.

`test_placement.py` compares with an independent reference on small fleets; this goes where views are dropped, rebuilt and shared.
"""

from __future__ import annotations

import random

import msgspec
import pytest
from tests.unit.placement.records import instance, request, task

from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.task import Task
from homeport.placement import engine, fleet
from homeport.placement.index import PlacementIndex
from homeport.placement.request import Placement, PlacementRequest

ZONE = "spread=attribute:ecs.availability-zone"
RACK = "spread=attribute:rack"
STRATEGIES = [
    "",
    "spread=instanceId",
    "binpack=memory",
    "binpack=cpu",
    "random",
    RACK,
    f"{ZONE},spread=instanceId",
    f"{ZONE},binpack=memory",
    f"{RACK},{ZONE}",
    f"{RACK},random",
    f"{RACK},{ZONE},spread=instanceId",
    f"{ZONE},spread=instanceId,binpack=cpu",
    "binpack=cpu,spread=instanceId",
]


class Pair:
    """Two indexes that follow the same records: one with views always, one that always looks at every instance."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.views = PlacementIndex(scan_nodes_max=0)
        self.scan = PlacementIndex(scan_nodes_max=1_000_000)
        self.instances: dict[int, ContainerInstance | None] = {}
        self.tasks: dict[int, Task] = {}
        self.placed = 0

    def change(self, table: str, before: ContainerInstance | Task | None, after: ContainerInstance | Task | None) -> None:
        self.views.change(table, before, after)
        self.scan.change(table, before, after)

    def edit(self, number: int) -> None:
        chance, before = self.chance, self.instances.get(number)
        after = None
        if before is None or chance.random() > 0.2:
            after = instance(
                number,
                zone=chance.choice(["a", "b", "c", ""]),
                attributes={"rack": str(chance.randrange(4))} if chance.random() < 0.8 else {},
                cpu=chance.choice([2048, 4096]),
                memory_mib=chance.choice([2048, 4096, 8192]),
                status=chance.choice(["ACTIVE"] * 9 + ["DRAINING"]),
                agent_connected=chance.random() < 0.95,
                gpu_ids=("g",) if chance.random() < 0.1 else (),
            )
        self.instances[number] = after
        self.change("container_instances", before, after)

    def request(self) -> PlacementRequest:
        chance = self.chance
        return request(
            service=chance.choice(["", "s1", "s2", "s3", "s4"]),
            strategies=chance.choice(STRATEGIES),
            distinct=chance.random() < 0.2,
            constraints=chance.choice([(), (), (), ("attribute:rack != 1",), ("runningTasksCount < 3",), ("task:group == service:s1",)]),
            cpu=chance.choice([0, 64, 256, 512, 1024]),
            memory_mib=chance.choice([0, 128, 256, 512, 1024]),
            host_ports=chance.choice([(), (), (), ((80, "tcp"),)]),
            gpus=chance.choice([0] * 8 + [1]),
        )

    def place(self, wanted: PlacementRequest) -> None:
        answer, expected = self.views.place(wanted), self.scan.place(wanted)
        if not isinstance(expected, Placement):
            assert not isinstance(answer, Placement), (wanted, answer)
            return
        assert answer == expected, wanted
        self.placed += 1
        if self.chance.random() < 0.95:
            service = wanted.service_key.rsplit("/", 1)[-1] if wanted.service_key else ""
            new = task(
                self.placed,
                int(expected.instance_id, 16),
                service=service,
                cpu=wanted.cpu,
                memory_mib=wanted.memory_mib,
                ports=wanted.host_ports,
                gpus=wanted.gpus,
            )
            self.tasks[self.placed] = new
            self.change("tasks", None, new)

    def stop(self, number: int) -> None:
        old = self.tasks[number]
        if self.chance.random() < 0.3 and old.desired_status == "RUNNING":
            self.tasks[number] = msgspec.structs.replace(old, desired_status="STOPPED")
            self.change("tasks", old, self.tasks[number])
        else:
            del self.tasks[number]
            self.change("tasks", old, msgspec.structs.replace(old, desired_status="STOPPED", last_status="STOPPED"))


@pytest.mark.parametrize("limits", ["usual", "tiny"])
@pytest.mark.parametrize("seed", range(6))
def test_views_answer_as_a_scan_does(seed: int, limits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if limits == "tiny":
        monkeypatch.setattr(fleet, "HISTORY_MAX", 20)
        monkeypatch.setattr(engine, "PLANS_MAX", 8)
        monkeypatch.setattr(engine, "PARTITIONS_MAX", 5)
        monkeypatch.setattr(engine, "BEST_FITS_MAX", 3)
    chance = random.Random(seed)
    pair = Pair(chance)
    numbers = [chance.getrandbits(128) for _ in range(chance.choice([20, 40, 120]))]
    for number in numbers:
        pair.edit(number)
    palette = [pair.request() for _ in range(14)]
    for step in range(2500):
        kind = chance.random()
        if kind < 0.6 or step < 200:
            pair.place(chance.choice(palette))
        elif kind < 0.93 and pair.tasks:
            pair.stop(chance.choice(list(pair.tasks)))
        else:
            pair.edit(chance.choice(numbers))
    assert pair.placed > 200
    assert pair.views.holdings() == pair.scan.holdings()
