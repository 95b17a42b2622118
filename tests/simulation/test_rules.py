"""Rules of the simulation where they are hard to tell from too strict ones: what they let pass, and what not."""

from __future__ import annotations

import msgspec
import pytest

from homeport.config import Settings
from homeport.model.ecs.container_instance import CAPACITY_PROVIDER_ATTRIBUTE, Attribute
from homeport.model.ecs.task import Container
from homeport.placement.index import PlacementIndex
from homeport.planner.task import lost, stop
from homeport.store.table import Change, Commit
from homeport.testing import records
from homeport.testing.daemon_rules import daemons_at_rest
from homeport.testing.invariants import Invariants

OLD = "1" * 19
APP = Container(name="app", id="c", image="app:1")


@pytest.mark.parametrize(
    ("status", "container", "closed_by", "violated"),
    [
        ("ACTIVE", "PENDING", "DeregisterContainerInstance", True),
        ("INACTIVE", "PENDING", "DeregisterContainerInstance", False),
        ("DEREGISTERING", "RUNNING", "DeregisterContainerInstance", False),
        ("INACTIVE", "STOPPED", "DeregisterContainerInstance", True),  # its agent had told of that container's end before
        ("INACTIVE", "PENDING", "SubmitTaskStateChange", True),  # its agent told of the task's end
        ("", "PENDING", "controller/instance", False),
    ],
)
@pytest.mark.parametrize("by_user", [False, True])  # stopped by a user just before: the reason stays the user's
def test_a_container_starts_late_only_where_nobody_could_tell_of_its_end(status, container, closed_by, violated, by_user):
    found: list[str] = []
    invariants = Invariants(settings=Settings(), violated=found.append)
    before = records.task(1, last_status="PENDING", desired_status="RUNNING", containers=(msgspec.structs.replace(APP, status=container),))
    if by_user:
        before = stop(before, stop_code="UserInitiated", reason="Task stopped by user", now=5.0)
    invariants.records["tasks"][before.key] = before
    invariants.made[before.key] = ""
    if status:
        instance = records.container_instance(id=before.container_instance_id, status=status)
        invariants.records["container_instances"][instance.key] = instance
    after = lost(before, stop_code="UserInitiated", reason="Container instance deregistration forced by user.", now=6.0)
    invariants.committed([Commit(revision=1, now=6.0, cause=f"{closed_by} 1", changes=(Change("tasks", before.key, before, after),))])
    assert not found
    invariants.container_started("host1", f"arn:aws:ecs:{records.REGION}:{records.ACCOUNT}:task/default/{before.id}", "app")
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
