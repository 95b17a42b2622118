"""What daemons keep of their instances: their share, and the whole of one on which a critical daemon does not run."""

from __future__ import annotations

import msgspec
import pytest

from homeport.model.ecs.container_instance import CAPACITY_PROVIDER_ATTRIBUTE, Attribute
from homeport.placement.daemons import managed_request
from homeport.placement.index import PlacementIndex
from homeport.placement.reasons import Refusal
from homeport.placement.request import PlacementRequest
from homeport.planner.daemon_deployment import share_of
from homeport.testing import records

CLUSTER = f"{records.ACCOUNT}/default"
EDGE = (Attribute(name=CAPACITY_PROVIDER_ATTRIBUTE, value="edge"),)
TINY = PlacementRequest(cluster_key=CLUSTER, group="family:tiny", cpu=1, memory_mib=1)


def daemon(**fields):
    made = records.daemon(**fields)
    return msgspec.structs.replace(made, share=share_of(made, records.task_definition(cpu=1024, memory_mib=1024)))


def at(number):
    return f"{CLUSTER}/{number:032x}"


@pytest.fixture(params=[32, 0], ids=["small fleet", "by views"])
def index(request):
    """Instances 1 to 3 of the capacity provider edge, and 4 of none."""
    made = PlacementIndex(scan_nodes_max=request.param)
    for number in (1, 2, 3, 4):
        attributes = EDGE if number < 4 else ()
        made.change("container_instances", None, records.container_instance(id=f"{number:032x}", attributes=attributes))
    return made


def where(index, request=TINY):
    found = index.place(request)
    return None if isinstance(found, Refusal) else int(found.instance_id, 16)


def test_a_critical_daemon_that_does_not_run_has_the_instance_for_itself(index):
    assert where(index) == 1
    index.change("daemons", None, daemon())
    assert where(index) == 4
    assert index.explain(TINY, at(1)) == "DAEMON"
    assert [obstacle.reason for obstacle in index.obstacles(TINY, at(1))] == ["DAEMON"], "and lacks nothing else"
    pending = records.daemon_task(1, last_status="PENDING", started_at=0.0, cpu=1024, memory_mib=1024)
    index.change("tasks", None, pending)
    assert (where(index), index.explain(TINY, at(1))) == (4, "DAEMON")
    running = msgspec.structs.replace(pending, last_status="RUNNING")
    index.change("tasks", pending, running)
    assert where(index) == 1
    leaving = msgspec.structs.replace(running, desired_status="STOPPED", last_status="STOPPING")
    index.change("tasks", running, leaving)
    assert where(index) == 4
    index.change("daemons", daemon(), None)
    assert where(index) == 1


def test_one_that_is_not_critical_keeps_its_share(index):
    index.change("daemons", None, daemon(critical=False))
    assert where(index) == 1
    rest = msgspec.structs.replace(TINY, cpu=4096 - 1024, memory_mib=8192 - 1024)
    assert where(index, rest) == 1
    assert where(index, msgspec.structs.replace(rest, cpu=4096 - 1023)) == 4


def test_its_own_task_finds_the_room_that_is_kept(index):
    wanted = daemon()
    index.change("daemons", None, wanted)
    index.change("daemons", None, daemon(name="metrics"))
    request = managed_request(wanted, wanted.share)
    assert index.targets(request) == {at(number): True for number in (1, 2, 3)}
    assert not isinstance(index.place_on(request, at(2)), Refusal)


def test_a_machine_that_is_too_small_for_it_is_not_kept(index):
    index.change("container_instances", None, records.container_instance(id=f"{5:032x}", attributes=EDGE, cpu=512))
    index.change("daemons", None, daemon())
    assert index.explain(TINY, at(5)) is None


def test_what_changed_can_be_taken_back_exactly(index):
    before = index.holdings()
    made, changed = daemon(), daemon(critical=False)
    task = records.daemon_task(1)
    steps = [
        ("daemons", None, made),
        ("tasks", None, task),
        ("tasks", task, msgspec.structs.replace(task, desired_status="STOPPED", last_status="STOPPING")),
        ("daemons", made, changed),
        ("container_instances", records.container_instance(id=f"{2:032x}", attributes=EDGE), None),
        ("daemons", changed, None),
    ]
    for table, old, new in steps:
        index.change(table, old, new)
    for table, old, new in reversed(steps):
        index.change(table, new, old)
    assert index.holdings() == before


def test_a_daemon_may_come_before_its_instances():
    index = PlacementIndex()
    index.change("daemons", None, daemon())
    index.change("container_instances", None, records.container_instance(id=f"{1:032x}", attributes=EDGE))
    assert where(index) is None
    index.change("container_instances", records.container_instance(id=f"{1:032x}", attributes=EDGE), None)
    index.change("daemons", daemon(), None)
    assert index.holdings() == {}
