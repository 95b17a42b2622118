"""Two capacity providers with an agent each, on real containers: weights, and tasks that wait until a provider has an instance (5 s)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from acceptance.harness import IMAGE, Installation, docker, until

STRATEGY = [{"capacityProvider": "steady", "weight": 1}, {"capacityProvider": "burst", "weight": 3}]


def prepare(installation: Installation) -> None:
    """Both providers, associated; `burst` is to grow, so that tasks wait for it."""
    ecs = installation.ecs
    for name, status in (("steady", "DISABLED"), ("burst", "ENABLED")):
        group = {"autoScalingGroupArn": f"group-{name}", "managedScaling": {"status": status}}
        ecs.create_capacity_provider(name=name, autoScalingGroupProvider=group)
    ecs.put_cluster_capacity_providers(cluster="default", capacityProviders=["steady", "burst"], defaultCapacityProviderStrategy=[])
    container = {"name": "app", "image": IMAGE, "memory": 16, "command": ["sleep", "600"], "stopTimeout": 1}
    ecs.register_task_definition(family="shared", containerDefinitions=[container])


def join(installation: Installation, directory: Path, provider: str) -> Installation:
    """A second agent of this machine, in `provider`."""
    keys = {"AWS_ACCESS_KEY_ID": installation.access_key_id, "AWS_SECRET_ACCESS_KEY": installation.secret_access_key}
    environment = {**keys, "AWS_DEFAULT_REGION": installation.region, "HOMEPORT_CAPACITY_PROVIDER": provider}
    host = Installation(directory, installation.port, environment=environment)
    host.homeport("agent", "--detach", "--endpoint", installation.endpoint)
    return host


def test_weights_are_seen_in_docker_ps_and_tasks_wait_for_their_provider(new_installation: Callable[[], Installation], tmp_path: Path) -> None:
    installation = new_installation()
    installation.environment["HOMEPORT_CAPACITY_PROVIDER"] = "steady"
    installation.up()
    prepare(installation)
    listed = json.loads(installation.homeport("list", "capacity-providers", "--json").stdout)
    assert {"steady", "burst"} <= {item["name"] for item in listed}
    assert json.loads(installation.homeport("describe", "capacity-provider/burst", "--json").stdout)["name"] == "burst"
    started = installation.ecs.run_task(taskDefinition="shared", count=4, capacityProviderStrategy=STRATEGY)
    arns = [task["taskArn"] for task in started["tasks"]]

    def tasks() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = installation.ecs.describe_tasks(tasks=arns)["tasks"]
        return found

    def statuses() -> Counter[str]:
        return Counter(task["lastStatus"] for task in tasks())

    assert until(lambda: statuses() == {"RUNNING": 1, "PROVISIONING": 3})
    assert len(installation.containers(running=True)) == 1
    host = join(installation, tmp_path / "second", "burst")
    try:
        assert until(lambda: statuses() == {"RUNNING": 4})
        instances = installation.ecs.list_container_instances()["containerInstanceArns"]
        described = installation.ecs.describe_container_instances(containerInstances=instances)["containerInstances"]
        provider_of = {item["containerInstanceArn"]: item["capacityProviderName"] for item in described}
        running = docker("ps", "--no-trunc", "--quiet").split()
        seen = Counter(provider_of[t["containerInstanceArn"]] for t in tasks() if t["containers"][0]["runtimeId"] in running)
        assert seen == {"steady": 1, "burst": 3}
        for arn in arns:
            installation.ecs.stop_task(task=arn)
        assert until(lambda: statuses() == {"STOPPED": 4})
    finally:
        host.homeport("down", check=False, timeout=60)
