"""The dependency graph."""

from __future__ import annotations

import pytest

from homeport.acs.messages import ContainerPayload, Dependency, VolumeFrom
from homeport.agent.engine.ordering import Need, OrderingError, check, dependents, is_timed, needs, verdict
from homeport.agent.engine.task import ContainerState


def container(name: str, *waits: tuple[str, str], links: tuple[str, ...] = (), volumes: tuple[str, ...] = ()) -> ContainerPayload:
    return ContainerPayload(
        name=name,
        image="i",
        essential=True,
        dependsOn=[Dependency(containerName=target, condition=condition) for target, condition in waits],
        links=list(links),
        volumesFrom=[VolumeFrom(sourceContainer=source) for source in volumes],
    )


def test_links_and_volumes_are_dependencies_too() -> None:
    made = container("a", ("b", "HEALTHY"), links=("c:alias", "d"), volumes=("e",))
    assert needs(made) == (Need("b", "HEALTHY"), Need("c", "START"), Need("d", "START"), Need("e", "CREATE"))


def test_a_circle_is_refused() -> None:
    with pytest.raises(OrderingError, match="a, b depend on each other in a circle"):
        check([container("a", ("b", "START")), container("b", links=("a",)), container("c")])
    with pytest.raises(OrderingError, match="circle"):
        check([container("a", ("a", "START"))])


def test_unknown_names_and_conditions_are_refused() -> None:
    with pytest.raises(OrderingError, match="container a depends on container b, which the task does not have"):
        check([container("a", ("b", "START"))])
    with pytest.raises(OrderingError, match="unknown condition 'READY'"):
        check([container("a", ("b", "READY")), container("b")])
    check([container("a", ("b", "START"), ("c", "COMPLETE")), container("b", ("c", "SUCCESS")), container("c")])


def test_who_stops_first() -> None:
    containers = [container("a", ("b", "START")), container("b", ("c", "START")), container("c")]
    assert dependents("c", containers) == {"b"}
    assert dependents("b", containers) == {"a"}
    assert dependents("a", containers) == frozenset()


def test_a_start_timeout_counts_for_more_than_start() -> None:
    assert not is_timed("b", [container("a", ("b", "START")), container("b")])
    assert is_timed("b", [container("a", ("b", "COMPLETE")), container("b")])


NEW = ContainerState(name="x")
CREATED = ContainerState(name="x", known="CREATED", runtime_id="1")
RUNNING = ContainerState(name="x", known="RUNNING", runtime_id="1", started_at=1.0)
HEALTHY = ContainerState(name="x", known="RUNNING", runtime_id="1", started_at=1.0, health="HEALTHY")
LATE = ContainerState(name="x", known="RUNNING", runtime_id="1", started_at=1.0, overdue=True)
DONE = ContainerState(name="x", known="STOPPED", runtime_id="1", started_at=1.0, exit_code=0)
FAILED = ContainerState(name="x", known="STOPPED", runtime_id="1", started_at=1.0, exit_code=1)
UNBORN = ContainerState(name="x", known="STOPPED")


@pytest.mark.parametrize(
    ("condition", "verdicts"),
    [
        ("CREATE", "WAIT READY READY READY READY READY READY NEVER"),
        ("START", "WAIT WAIT READY READY READY READY READY NEVER"),
        ("COMPLETE", "WAIT WAIT WAIT WAIT NEVER READY READY NEVER"),
        ("SUCCESS", "WAIT WAIT WAIT WAIT NEVER READY NEVER NEVER"),
        ("HEALTHY", "WAIT WAIT WAIT READY NEVER NEVER NEVER NEVER"),
    ],
)
def test_each_condition_against_each_state(condition: str, verdicts: str) -> None:
    states = (NEW, CREATED, RUNNING, HEALTHY, LATE, DONE, FAILED, UNBORN)
    assert " ".join(verdict(Need("x", condition), state) for state in states) == verdicts
