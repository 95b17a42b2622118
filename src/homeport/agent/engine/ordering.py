"""In which order a task's containers start and stop.

Owns: the dependency graph (dependsOn, links, volumesFrom), whether a dependency is met, and what must stop before what.
Pure. Never starts or stops anything. Source: ecs-reference.md 3.4, agent-protocol.md 7.2.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from homeport.acs.messages import ContainerPayload
from homeport.agent.engine.task import KNOWN, ContainerState

CONDITIONS = ("CREATE", "START", "COMPLETE", "SUCCESS", "HEALTHY")

Verdict = Literal["READY", "WAIT", "NEVER"]


class Need(msgspec.Struct, frozen=True):
    """A container waits for `container` to reach `condition`."""

    container: str
    condition: str


class OrderingError(ValueError):
    """The dependencies name a container that the task has not, an unknown condition, or go in a circle."""


def needs(container: ContainerPayload) -> tuple[Need, ...]:
    """What `container` waits for: its dependsOn, the containers that it links to (running), and whose volumes it takes (created)."""
    found = [Need(item.containerName, item.condition) for item in container.dependsOn]
    found += [Need(link.split(":", 1)[0], "START") for link in container.links]
    found += [Need(item.sourceContainer, "CREATE") for item in container.volumesFrom]
    return tuple(dict.fromkeys(found))


def check(containers: list[ContainerPayload]) -> None:
    """Raise OrderingError unless the containers can be put in order."""
    names = {container.name for container in containers}
    graph: dict[str, set[str]] = {}
    for container in containers:
        for need in needs(container):
            if need.container not in names:
                raise OrderingError(f"container {container.name} depends on container {need.container}, which the task does not have")
            if need.condition not in CONDITIONS:
                raise OrderingError(f"container {container.name} depends on {need.container} with the unknown condition {need.condition!r}")
        graph[container.name] = {need.container for need in needs(container)}
    while graph:
        free = {name for name, waits_for in graph.items() if not waits_for & graph.keys()}
        if not free:
            raise OrderingError(f"containers {', '.join(sorted(graph))} depend on each other in a circle")
        for name in free:
            del graph[name]


def verdict(need: Need, target: ContainerState) -> Verdict:
    """Whether `need` is met by what is known of its target, may still be met, or never will be."""
    stopped = target.known == "STOPPED"
    ran = target.started_at is not None
    if need.condition == "CREATE":
        met, lost = target.rank >= KNOWN.index("CREATED") and target.runtime_id is not None, stopped
    elif need.condition == "START":
        met, lost = target.rank >= KNOWN.index("RUNNING") and ran, stopped
    elif need.condition == "COMPLETE":
        met, lost = stopped and ran, stopped or target.overdue
    elif need.condition == "SUCCESS":
        met, lost = stopped and ran and target.exit_code == 0, stopped or target.overdue
    else:
        met, lost = target.known == "RUNNING" and target.health == "HEALTHY", stopped or target.overdue
    return "READY" if met else "NEVER" if lost else "WAIT"


def is_timed(name: str, containers: list[ContainerPayload]) -> bool:
    """Whether some container waits for `name` to do more than start, so that its startTimeout counts."""
    return any(need.container == name and need.condition in ("COMPLETE", "SUCCESS", "HEALTHY") for item in containers for need in needs(item))


def dependents(name: str, containers: list[ContainerPayload]) -> frozenset[str]:
    """Containers that wait for `name`, and so stop before it does."""
    return frozenset(item.name for item in containers if any(need.container == name for need in needs(item)))
