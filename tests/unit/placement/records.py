"""Records for the tests of placement, with short names. Owns: `instance`, `task`, `request`. Never asserts anything."""

from __future__ import annotations

from typing import Any

from homeport.model.ecs.container_instance import Attribute, ContainerInstance
from homeport.model.ecs.service import PlacementConstraint, PlacementStrategy
from homeport.model.ecs.task import HostPortUse, Task
from homeport.placement.index import PlacementIndex
from homeport.placement.request import PlacementRequest

CLUSTER = "111122223333/default"


def instance(number: int, *, zone: str = "a", attributes: dict[str, str] | None = None, **fields: Any) -> ContainerInstance:
    """An ACTIVE, connected instance with id NUMBER in hexadecimal."""
    named = {"ecs.availability-zone": zone, **(attributes or {})}
    if not zone:
        del named["ecs.availability-zone"]
    return ContainerInstance(
        **{
            "account": "111122223333",
            "cluster": "default",
            "id": f"{number:032x}",
            "ec2_instance_id": f"i-{number:017x}",
            "status": "ACTIVE",
            "registered_at": 1_700_000_000.0 + number,
            "cpu": 4096,
            "memory_mib": 8192,
            "agent_connected": True,
            "agent_version": "1.89.1",
            "attributes": tuple(Attribute(name=n, value=v) for n, v in named.items()),
            **fields,
        }
    )


def task(number: int, on: int, *, service: str = "", ports: tuple[tuple[int, str], ...] = (), **fields: Any) -> Task:
    """A RUNNING task of `service` (or standalone) on instance `on`."""
    return Task(
        **{
            "account": "111122223333",
            "cluster": "default",
            "id": f"{number:032x}",
            "family": "web",
            "revision": 1,
            "desired_status": "RUNNING",
            "last_status": "RUNNING",
            "created_at": 1_700_000_000.0 + number,
            "group": f"service:{service}" if service else "family:web",
            "launch_type": "EC2",
            "container_instance_id": f"{on:032x}",
            "cpu": 256,
            "memory_mib": 512,
            "service": service,
            "host_ports": tuple(HostPortUse(port=p, protocol=q) for p, q in ports),
            **fields,
        }
    )


def request(*, service: str = "", strategies: str = "", constraints: tuple[str, ...] = (), distinct: bool = False, **fields: Any) -> PlacementRequest:
    """A request; `strategies` as "spread=instanceId,binpack=memory,random", `constraints` as memberOf expressions."""
    pairs = [part.partition("=") for part in strategies.split(",") if part]
    wanted = [PlacementConstraint(type="memberOf", expression=e) for e in constraints]
    if distinct:
        wanted.append(PlacementConstraint(type="distinctInstance"))
    return PlacementRequest(
        **{
            "cluster_key": CLUSTER,
            "cpu": 256,
            "memory_mib": 512,
            "group": "" if service else "family:web",
            "service_key": f"{CLUSTER}/{service}" if service else "",
            "strategies": tuple(PlacementStrategy(type=kind, field=field) for kind, _, field in pairs),
            "constraints": tuple(wanted),
            **fields,
        }
    )


def index_of(*records: ContainerInstance | Task, **options: Any) -> PlacementIndex:
    """An index that has seen the records appear in this order."""
    index = PlacementIndex(**options)
    for record in records:
        index.change("tasks" if isinstance(record, Task) else "container_instances", None, record)
    return index
