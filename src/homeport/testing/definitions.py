"""The task definitions and the choices that users of a simulation have.

Owns: the data. Never calls anything. What a container does is read from its command by `runtime.py`.
"""

from __future__ import annotations

from typing import Any, Final

Container = dict[str, Any]


def _container(command: str, **members: Any) -> Container:
    return {"name": "app", "image": "app:1", "cpu": 128, "memory": 128, "essential": True, "command": ["sh", "-c", command], **members}


_SERVES: Final = "trap; sleep 1000000"
_CHECK: Final = {"command": ["CMD", "true"], "interval": 5, "timeout": 2, "retries": 1}

DEFINITIONS: Final[dict[str, list[Container]]] = {
    "web": [_container(_SERVES)],
    "slow-to-stop": [_container("sleep 1000000", stopTimeout=6)],
    "port": [_container(_SERVES, portMappings=[{"containerPort": 80, "hostPort": 8080}])],
    "dynamic": [_container(_SERVES, portMappings=[{"containerPort": 80}])],
    "heavy": [_container(_SERVES, cpu=1500, memory=2500)],
    "pair": [
        _container(_SERVES, dependsOn=[{"containerName": "side", "condition": "START"}]),
        _container(_SERVES, name="side", essential=False, cpu=64, memory=64),
    ],
    "checked": [_container(_SERVES, healthCheck=_CHECK)],
    "sick": [_container(f"sick; {_SERVES}", healthCheck=_CHECK)],
    "pulled": [_container(_SERVES, image="slow:1")],
    "racked": [_container(_SERVES)],
    "job": [_container("sleep 12; exit 0")],
    "failing": [_container("sleep 15; exit 3")],
    "crashing": [_container("sleep 1; exit 1")],
    "unstartable": [_container("x")],
    "missing": [_container(_SERVES, image="missing:1")],
}
"""Family → its containers."""
DEFINITIONS["unstartable"][0]["command"] = ["/nothing"]

MORE_WEB: Final = (_container(_SERVES, cpu=192), _container(_SERVES, cpu=192))
"""The containers of the second and third revision of web."""

MEMBERS: Final[dict[str, dict[str, Any]]] = {
    "racked": {"placementConstraints": [{"type": "memberOf", "expression": "attribute:rack exists"}]},
    "web": {"tags": [{"key": "team", "value": "web"}]},
    "pair": {"tags": [{"key": "team", "value": "pairs"}, {"key": "cost", "value": "7"}]},
}
"""Family → what its definition has beside containers."""

STEADY: Final = ("web", "web", "slow-to-stop", "port", "dynamic", "heavy", "pair", "checked", "pulled", "racked")
"""Families whose tasks run until they are stopped: services of them must get where they are wanted."""
UNSTEADY: Final = ("sick", "failing", "crashing", "unstartable", "missing")
DAEMONS: Final = ("web", "slow-to-stop", "checked", "racked")
"""Families of DAEMON services."""
DAEMON_EXPRESSIONS: Final = ("", "attribute:rack == one", "attribute:ecs.availability-zone == us-east-1b")
"""What a daemon's instances are chosen by."""
DAEMON_PERCENTS: Final = (0, 50, 80)
"""minimumHealthyPercent of daemons."""
PERCENTS: Final = ((100, 200), (100, 200), (50, 100), (50, 150), (0, 100), (100, 150), (100, 125))
"""(minimumHealthyPercent, maximumPercent)."""
BREAKER_SHARE: Final = 0.4
"""What part of the services has a circuit breaker."""
STRATEGIES: Final[tuple[list[dict[str, str]], ...]] = (
    [],
    [{"type": "spread", "field": "attribute:ecs.availability-zone"}, {"type": "spread", "field": "instanceId"}],
    [{"type": "binpack", "field": "memory"}],
    [{"type": "spread", "field": "instanceId"}],
)
PROPAGATED: Final = ("NONE", "SERVICE", "TASK_DEFINITION")
"""propagateTags."""
RACK: Final = "rack"
"""The custom attribute that the operator puts on instances."""
RACKS: Final = ("one", "two", "three")
