from __future__ import annotations

import msgspec
import pytest

from homeport.model import sharing
from homeport.model.ecs.task import Container, NetworkBinding, Task
from homeport.testing import records


def read_anew(task: Task) -> Task:
    """As a store reads it: every text an object of its own."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(task), type=Task)


@pytest.fixture
def task():
    binding = NetworkBinding(bind_ip="0.0.0.0", container_port=80, host_port=8080, protocol="tcp")
    container = Container(name="app", id="c1", image="app:1", status="RUNNING", network_bindings=(binding,))
    return records.task(containers=(container,), stopped_reason="because")


def test_equal_texts_of_two_tasks_become_one_object_and_say_the_same(task):
    one, other = sharing.share(read_anew(task)), sharing.share(read_anew(task))
    assert one == other == task
    assert one.group is other.group
    assert one.containers[0].image is other.containers[0].image
    assert one.containers[0].network_bindings[0].bind_ip is other.containers[0].network_bindings[0].bind_ip
    assert one.stopped_reason is not other.stopped_reason


def test_what_is_kept_for_it_has_a_bound(task, monkeypatch):
    monkeypatch.setattr(sharing, "SHARED_MAX", 30)
    for number in range(100):
        sharing.share(read_anew(msgspec.structs.replace(task, group=f"service:{number}")))
    assert len(sharing._texts) < 30 + 30
