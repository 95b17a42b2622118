"""Managed scaling with real agents and containers: waiting tasks bring agents, one that is taken away drains under its service first, and
one that is not needed any more ends (45 s)."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance.harness import IMAGE, ROOT, Installation, until

PROGRAM = ROOT / "docs" / "howto" / "agents-as-machines.py"
STRATEGY = [{"capacityProvider": "burst", "weight": 1}]
MEMORY_MIB = 64
"""Of each agent of the pool: two of the test's tasks fill it."""


class Burst:
    """An installation and the pool `burst`, whose machines are agents on this machine."""

    def __init__(self, installation: Installation, pool: Path) -> None:
        self.installation = installation
        self.pool = pool
        self.ecs = installation.ecs

    def tasks(self) -> list[dict[str, Any]]:
        arns = [arn for status in ("RUNNING", "STOPPED") for arn in self.ecs.list_tasks(desiredStatus=status)["taskArns"]]
        return list(self.ecs.describe_tasks(tasks=arns)["tasks"]) if arns else []

    def statuses(self) -> Counter[str]:
        return Counter(task["lastStatus"] for task in self.tasks() if task["desiredStatus"] == "RUNNING")

    def instances(self) -> list[dict[str, Any]]:
        arns = self.ecs.list_container_instances()["containerInstanceArns"]
        found = self.ecs.describe_container_instances(containerInstances=arns)["containerInstances"]
        return [item for item in found if item.get("capacityProviderName") == "burst"]

    def machines(self) -> list[str]:
        return sorted(path.name for path in (self.pool / "burst").iterdir())

    def capacity(self) -> dict[str, Any]:
        (found,) = json.loads(self.installation.homeport("list", "capacity-providers", "--json").stdout)[2:]
        return dict(found["capacity"])


@pytest.fixture
def burst(new_installation: Callable[[], Installation], tmp_path: Path) -> Iterator[Burst]:
    installation = new_installation()
    pool = tmp_path / "pool"
    installation.environment |= {
        "POOL_DIR": str(pool),
        "POOL_HOMEPORT": str(ROOT / "homeport"),
        "POOL_CREDENTIALS": str(installation.data_dir / "credentials.json"),
        "HOMEPORT_MEMORY": str(MEMORY_MIB),
    }
    installation.up("--set", f"instance_providers=burst={PROGRAM}", "--set", "managed_scaling_seconds=1")
    made = Burst(installation, pool)
    scaling = {"status": "ENABLED", "instanceWarmupPeriod": 15}
    group = {"autoScalingGroupArn": "burst", "managedScaling": scaling, "managedDraining": "ENABLED"}
    made.ecs.create_capacity_provider(name="burst", autoScalingGroupProvider=group)
    made.ecs.put_cluster_capacity_providers(cluster="default", capacityProviders=["burst"], defaultCapacityProviderStrategy=[])
    container = {"name": "app", "image": IMAGE, "memory": MEMORY_MIB // 2, "command": ["sleep", "600"], "stopTimeout": 1}
    made.ecs.register_task_definition(family="half", containerDefinitions=[container])
    try:
        yield made
    finally:
        for directory in (pool / "burst").iterdir() if (pool / "burst").exists() else ():
            subprocess.run([str(ROOT / "homeport"), "down", "--data-dir", str(directory)], check=False, timeout=60, capture_output=True)


def test_a_pool_of_real_agents_follows_the_tasks(burst: Burst) -> None:
    ecs = burst.ecs
    ecs.create_service(serviceName="web", taskDefinition="half", desiredCount=3, capacityProviderStrategy=STRATEGY)
    assert until(lambda: burst.statuses() == {"PROVISIONING": 3})
    assert until(lambda: burst.statuses() == {"RUNNING": 3}, seconds=60)
    assert len(burst.machines()) == 2
    assert {item["ec2InstanceId"] for item in burst.instances()} == set(burst.machines())
    assert len(burst.installation.containers(running=True)) == 3
    assert until(lambda: burst.capacity()["capacityProviderReservation"] == 100.0)
    assert burst.capacity()["instances"] == 2
    leaving = max(burst.machines())
    (burst.pool / "burst" / leaving / "leaving").touch()  # as a spot market does
    running = []

    def gone() -> bool:
        running.append(ecs.describe_services(services=["web"])["services"][0]["runningCount"])
        return leaving not in burst.machines()

    assert until(gone, seconds=60)
    assert min(running) == 3  # its tasks were replaced before they went, on a machine that came for them
    assert until(lambda: burst.statuses() == {"RUNNING": 3})
    assert until(lambda: leaving not in {item["ec2InstanceId"] for item in burst.instances()})
    assert not [task for task in burst.tasks() if task.get("stopCode") == "InfrastructureHealth"]
    ecs.update_service(service="web", desiredCount=1)
    assert until(lambda: burst.statuses() == {"RUNNING": 1})
    before = burst.machines()
    assert until(lambda: len(burst.machines()) == 1, seconds=60)  # 15 samples in a row, then it drains and ends
    assert until(lambda: len(burst.instances()) == 1)
    (left,) = burst.machines()
    assert left in before
    assert burst.statuses() == {"RUNNING": 1}
    assert until(lambda: "1, 1 needed  100 %" in burst.installation.homeport("list", "capacity-providers").stdout)
    told = burst.installation.homeport("history", "capacity-provider/burst").stdout
    assert "scaling.reservation" in told
