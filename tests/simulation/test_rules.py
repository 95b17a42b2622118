"""Rules of the simulation where they are hard to tell from too strict ones: what they let pass, and what not."""

from __future__ import annotations

import msgspec
import pytest

from homeport.config import Settings
from homeport.model.ecs.container_instance import CAPACITY_PROVIDER_ATTRIBUTE, Attribute
from homeport.model.ecs.task import Container
from homeport.placement.index import PlacementIndex
from homeport.testing import records
from homeport.testing.daemon_rules import daemons_at_rest
from homeport.testing.invariants import Invariants

OLD = "1" * 19
APP = Container(name="app", id="c", image="app:1")


@pytest.mark.parametrize(
    ("status", "container", "reason", "violated"),
    [
        ("ACTIVE", "PENDING", "Task stopped by user", True),
        ("INACTIVE", "PENDING", "Task stopped by user", False),  # stopped by a user, and its instance deregistered by force before the agent knew
        ("DEREGISTERING", "PENDING", "Container instance deregistration forced by user.", False),
        ("ACTIVE", "PENDING", "Container instance deregistration forced by user.", True),
        ("INACTIVE", "STOPPED", "Essential container in task exited", True),  # its agent told of the end
        ("", "PENDING", "The container instance was deregistered.", False),
    ],
)
def test_a_container_starts_late_only_where_nobody_could_tell_of_its_end(status, container, reason, violated):
    found: list[str] = []
    invariants = Invariants(settings=Settings(), violated=found.append)
    stopped = records.task(1, last_status="STOPPED", desired_status="STOPPED", stopped_reason=reason)
    stopped = msgspec.structs.replace(stopped, containers=(msgspec.structs.replace(APP, status=container),))
    invariants.records["tasks"][stopped.key] = stopped
    invariants.made[stopped.key] = ""
    if status:
        instance = records.container_instance(id=stopped.container_instance_id, status=status)
        invariants.records["container_instances"][instance.key] = instance
    invariants.container_started("host1", f"arn:aws:ecs:{records.REGION}:{records.ACCOUNT}:task/default/{stopped.id}", "app")
    assert bool(found) is violated, found


@pytest.mark.parametrize(
    ("status", "revision", "others", "problem"),
    [
        ("ACTIVE", "2" * 19, False, ""),
        ("ACTIVE", OLD, False, "an older task"),
        ("DRAINING", "2" * 19, True, ""),
        ("DRAINING", OLD, True, ""),  # it stays as it is until the others are gone, and an update passes it by
        ("DRAINING", OLD, False, "still has a task"),
        ("DEREGISTERING", "2" * 19, True, "still has a task"),
    ],
)
def test_where_a_daemon_is_at_rest(status, revision, others, problem):
    daemon = records.daemon()
    deployment = records.daemon_deployment(status="SUCCESSFUL")
    edge = (Attribute(name=CAPACITY_PROVIDER_ATTRIBUTE, value="edge"),)
    instance = records.container_instance(id=f"{1:032x}", status=status, attributes=edge)
    tasks = [records.daemon_task(1, deployment_id=revision)]
    if others:
        tasks.append(records.task(2, container_instance_id=instance.id))
    tables = {"daemons": {daemon.key: daemon}, "daemon_deployments": {f"{daemon.key}/{daemon.deployment_id}": deployment}}
    tables["container_instances"] = {instance.key: instance}
    told = list(daemons_at_rest(tables, tasks, PlacementIndex()))
    assert (len(told), problem in "".join(told)) == (bool(problem), True), told
