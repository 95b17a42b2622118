"""From what a caller wrote to the records that it may mean, also of resources that are long gone.

Owns: `Place`, `places`, `meant`, `arn_of`. Never asks whether a record exists: the history of a deleted one is wanted too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from homeport.api.call import Call
from homeport.api.ecs import lookup
from homeport.errors import InvalidParameterError
from homeport.model import arn
from homeport.model.arn import parse_arn
from homeport.store.table import Reader, Table
from homeport.store.tables import (
    CAPACITY_PROVIDERS,
    CLUSTERS,
    CONTAINER_INSTANCES,
    DAEMON_DEPLOYMENTS,
    DAEMON_REVISIONS,
    DAEMON_TASK_DEFINITIONS,
    DAEMONS,
    DEPLOYMENTS,
    EXPRESS_GATEWAY_SERVICES,
    GATEWAYS,
    RULES,
    SERVICE_REVISIONS,
    SERVICES,
    TASK_DEFINITIONS,
    TASK_SETS,
    TASKS,
)

IN_ACCOUNT: Final[dict[str, Table[Any]]] = {"cluster": CLUSTERS, "capacity-provider": CAPACITY_PROVIDERS, "gateway": GATEWAYS, "rule": RULES}
"""Kinds of resources whose names are unique in the account."""
IN_CLUSTER: Final[dict[str, Table[Any]]] = {"service": SERVICES, "daemon": DAEMONS, "task": TASKS, "container-instance": CONTAINER_INSTANCES}
"""Kinds of resources whose names are unique in a cluster only, by the word that their ARNs have."""
IN_SERVICE: Final[dict[str, Table[Any]]] = {
    "service-deployment": DEPLOYMENTS,
    "service-revision": SERVICE_REVISIONS,
    "daemon-deployment": DAEMON_DEPLOYMENTS,
    "daemon-revision": DAEMON_REVISIONS,
    "task-set": TASK_SETS,
}
"""Kinds of resources whose digits belong to a service or a daemon."""
DEFINITIONS: Final[dict[str, Table[Any]]] = {"task-definition": TASK_DEFINITIONS, "daemon-task-definition": DAEMON_TASK_DEFINITIONS}
"""Kinds of resources that are a family and a revision."""
_WITH_IDS: Final[tuple[Table[Any], ...]] = (TASKS, CONTAINER_INSTANCES)
KINDS: Final = (*IN_ACCOUNT, *IN_CLUSTER, *DEFINITIONS, *IN_SERVICE)
PREFIX_CHARACTERS_MIN: Final = 4
"""So many first characters of an id stand for it."""

_ID = re.compile(r"[0-9a-f]{32}")
_ID_START = re.compile(rf"[0-9a-f]{{{PREFIX_CHARACTERS_MIN},31}}")
_REVISION = re.compile(r"(\S+?):([0-9]{1,7})")


class Place(NamedTuple):
    """A record's table and key."""

    table: Table[Any]
    key: str


def places(reader: Reader, call: Call, text: str, cluster: str | None) -> list[Place]:
    """What `text` can mean, the likeliest first: an ARN, KIND/NAME, KIND/CLUSTER/NAME, a name, an id or the first characters of one.

    Raises InvalidParameterError for what can mean nothing, and for an ARN of another account or region.
    """
    found = dict.fromkeys(_places(reader, call, text, lookup.cluster_name(call, cluster)))
    express = (Place(EXPRESS_GATEWAY_SERVICES, place.key) for place in found if place.table is SERVICES)  # they share names and ARNs
    return [*found, *express]


def meant(reader: Reader, call: Call, text: str, cluster: str | None) -> list[Place]:
    """The first of `places` where there is something, behind those where there may have been. Raises as `places`."""
    found = []
    for place in places(reader, call, text, cluster):
        found.append(place)
        if reader.get(place.table, place.key) is not None:
            break
    return found


def _places(reader: Reader, call: Call, text: str, cluster: str) -> Iterator[Place]:
    if text.startswith("arn:"):
        yield _of_kind(call, _own(call, text), cluster)
    elif text.partition("/")[0] in KINDS:
        yield _of_kind(call, text, cluster)
    elif "/" in text:
        raise InvalidParameterError(f"{text} is none of {', '.join(f'{kind}/…' for kind in KINDS)}")
    else:
        yield from _bare(reader, call, text, cluster)


def arn_of(call: Call, place: Place) -> str:
    """The ARN of the record at `place`."""
    account, _, rest = place.key.partition("/")
    parts = rest.split("/")
    if place.table is CLUSTERS:
        return arn.cluster_arn(call.region, account, rest)
    if place.table is CAPACITY_PROVIDERS:
        return arn.capacity_provider_arn(call.region, account, rest)
    if place.table is RULES:
        return arn.rule_arn(call.region, account, rest)
    if place.table is GATEWAYS:
        return arn.gateway_arn(call.region, account, rest)
    if place.table in DEFINITIONS.values():
        family, _, revision = rest.rpartition(":")
        if place.table is DAEMON_TASK_DEFINITIONS:
            return arn.daemon_task_definition_arn(call.region, f"{account}/{family}:{int(revision)}")
        return arn.task_definition_arn(call.region, account, family, int(revision))
    if place.table.name in _ARNS_OF_KEYS:
        return _ARNS_OF_KEYS[place.table.name](call.region, place.key)
    return _ARNS[place.table.name](call.region, account, *parts)


_ARNS: Final[dict[str, Callable[..., str]]] = {
    SERVICES.name: arn.service_arn,
    EXPRESS_GATEWAY_SERVICES.name: arn.service_arn,
    TASKS.name: arn.task_arn,
    CONTAINER_INSTANCES.name: arn.container_instance_arn,
    DEPLOYMENTS.name: arn.service_deployment_arn,
    SERVICE_REVISIONS.name: arn.service_revision_arn,
    TASK_SETS.name: arn.task_set_arn,
}
_ARNS_OF_KEYS: Final[dict[str, Callable[[str, str], str]]] = {
    DAEMONS.name: arn.daemon_arn,
    DAEMON_DEPLOYMENTS.name: arn.daemon_deployment_arn,
    DAEMON_REVISIONS.name: arn.daemon_revision_arn,
}


def _own(call: Call, text: str) -> str:
    """KIND/… of an ARN of this account and region."""
    found = parse_arn(text)
    if found is None or found.service not in ("ecs", "homeport") or (found.region, found.account) != (call.region, call.account):
        raise InvalidParameterError(f"{text} is no ARN of Amazon ECS in region {call.region} and account {call.account}")
    return found.resource


def _of_kind(call: Call, text: str, cluster: str) -> Place:
    kind, *parts = text.split("/")
    if not parts or not all(parts):
        raise InvalidParameterError(f"{text} names nothing")
    if kind == "task-set":  # its id has a part more than others: ecs-svc/DIGITS
        parts = [part for part in parts if part != "ecs-svc"]
    scope = f"{call.account}/{cluster}"
    if kind in IN_ACCOUNT and len(parts) == 1:
        return Place(IN_ACCOUNT[kind], f"{call.account}/{parts[0]}")
    if kind in IN_CLUSTER and len(parts) <= 2:
        return Place(IN_CLUSTER[kind], "/".join((call.account, *parts)) if len(parts) == 2 else f"{scope}/{parts[0]}")
    if kind in IN_SERVICE and len(parts) in (2, 3):
        return Place(IN_SERVICE[kind], "/".join((call.account, *parts) if len(parts) == 3 else (scope, *parts)))
    if kind in DEFINITIONS and len(parts) == 1 and (found := _REVISION.fullmatch(parts[0])):
        return Place(DEFINITIONS[kind], f"{call.account}/{found[1]}:{int(found[2]):07d}")
    raise InvalidParameterError(f"{text} is not the name of a {kind}" if kind in KINDS else f"{kind} has no history")


def _bare(reader: Reader, call: Call, text: str, cluster: str) -> Iterator[Place]:
    scope = f"{call.account}/{cluster}"
    if found := _REVISION.fullmatch(text):
        yield from (Place(table, f"{call.account}/{found[1]}:{int(found[2]):07d}") for table in DEFINITIONS.values())
        return
    if _ID.fullmatch(text):
        yield Place(TASKS, f"{scope}/{text}")
        yield Place(CONTAINER_INSTANCES, f"{scope}/{text}")
        for known in reader.scan(CLUSTERS, f"{call.account}/"):  # an id is unique in all clusters
            for table in _WITH_IDS:
                if reader.get(table, f"{known.key}/{text}") is not None:
                    yield Place(table, f"{known.key}/{text}")
    yield Place(SERVICES, f"{scope}/{text}")
    yield Place(DAEMONS, f"{scope}/{text}")
    yield Place(CLUSTERS, f"{call.account}/{text}")
    yield Place(CAPACITY_PROVIDERS, f"{call.account}/{text}")
    yield Place(GATEWAYS, f"{call.account}/{text}")
    if _ID_START.fullmatch(text):
        for table in _WITH_IDS:
            begun = list(islice(reader.scan(table, f"{scope}/{text}"), 2))
            if len(begun) > 1:
                raise InvalidParameterError(f"several {table.name} begin with {text}; give more of the id")
            yield from (Place(table, record.key) for record in begun)
