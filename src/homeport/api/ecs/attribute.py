"""Operations on the custom attributes of container instances: put, delete, list.

Owns: the custom attributes in a `ContainerInstance`. Never changes an attribute that the instance's agent registered.
Source: ecs-reference 3.3 (names, values, at most 10 custom attributes an instance and 10 a call).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.ecs import lookup, page
from homeport.errors import AttributeLimitExceededError, InvalidParameterError, TargetNotFoundError
from homeport.model import arn
from homeport.model.ecs import container_instance as model
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.container_instance import Attribute, ContainerInstance
from homeport.store.table import Reader, Transaction
from homeport.store.tables import CONTAINER_INSTANCES

ATTRIBUTES_PER_CALL_MAX: Final = 10
TARGET_TYPE: Final = "container-instance"
_NAME = re.compile(r"[A-Za-z0-9_\-/\\.]{1,128}")
_VALUE = re.compile(r"[A-Za-z0-9_\-/\\.@:](?:[A-Za-z0-9_\-/\\.@: ]{0,126}[A-Za-z0-9_\-/\\.@:])?")
_TOKEN_SEPARATOR = "\n"


async def put_attributes(call: Call, request: Any) -> dict[str, Any]:
    """PutAttributes: set up to 10 attributes; one of the same name gets the new value.

    Raises TargetNotFoundError for an unknown instance, AttributeLimitExceededError above 10 custom attributes on one.
    """
    given = _checked(request.attributes)
    limit = call.settings.custom_attributes_max

    def put_one(instance: ContainerInstance, item: Any) -> tuple[Attribute, ...]:
        value = item.value or ""
        check_attribute(item.name, value)
        others = tuple(attribute for attribute in instance.attributes if attribute.name != item.name)
        if sum(attribute.custom for attribute in others) >= limit:
            raise AttributeLimitExceededError(f"A container instance can have at most {limit} custom attributes.")
        return (*others, Attribute(name=item.name, value=value, custom=True))

    return {"attributes": await call.update(lambda tx: _each(tx, call, request.cluster, given, put_one))}


async def delete_attributes(call: Call, request: Any) -> dict[str, Any]:
    """DeleteAttributes: remove up to 10 attributes by name; one that is not there is no error. Raises TargetNotFoundError."""
    given = _checked(request.attributes)

    def delete_one(instance: ContainerInstance, item: Any) -> tuple[Attribute, ...]:
        return tuple(attribute for attribute in instance.attributes if attribute.name != item.name)

    return {"attributes": await call.update(lambda tx: _each(tx, call, request.cluster, given, delete_one))}


def check_attribute(name: str, value: str) -> None:
    """Raise InvalidParameterError unless an attribute may be called `name` and have `value`; "" stands for none."""
    if not _NAME.fullmatch(name):
        raise InvalidParameterError(f"Attribute name is not valid: {name}")
    if value and not _VALUE.fullmatch(value):
        raise InvalidParameterError(f"Attribute value is not valid: {value}")


def _checked(given: list[Any]) -> list[Any]:
    if not given:
        raise InvalidParameterError("Attributes can not be empty.")
    if len(given) > ATTRIBUTES_PER_CALL_MAX:
        raise InvalidParameterError(f"Attributes cannot have more than {ATTRIBUTES_PER_CALL_MAX} elements.")
    for item in given:
        check_attribute(item.name or "", "")
        if not item.targetId:
            raise InvalidParameterError(f"targetId is required for the attribute {item.name}.")
        if not item.targetId.startswith("arn:") and not item.targetType:
            raise InvalidParameterError(f"targetType is required for the attribute {item.name}, because its targetId is no ARN.")
    return given


def _each(
    tx: Transaction, call: Call, reference: str | None, given: list[Any], change: Callable[[ContainerInstance, Any], tuple[Attribute, ...]]
) -> list[dict[str, str]]:
    """Apply `change` for every item to its instance, all or none; the answer's attributes."""
    cluster = lookup.cluster_of(tx, call, reference)
    answer = []
    for item in given:
        instance = tx.get(CONTAINER_INSTANCES, lookup.container_instance_key(call, cluster, item.targetId))
        if instance is None or instance.status == model.INACTIVE:
            raise TargetNotFoundError(f"The specified target was not found: {item.targetId}")
        if any(attribute.name == item.name and not attribute.custom for attribute in instance.attributes):
            raise InvalidParameterError(f"The attribute {item.name} was registered by the instance's agent and cannot be changed.")
        attributes = change(instance, item)
        if attributes != instance.attributes:
            tx.put(CONTAINER_INSTANCES, msgspec.structs.replace(instance, attributes=attributes, version=instance.version + 1))
        answer.append(_attribute_json(call, cluster, instance.id, Attribute(name=item.name, value=item.value or "")))
    return answer


async def list_attributes(call: Call, request: Any) -> dict[str, Any]:
    """ListAttributes: attributes of all instances of a cluster, by instance and name, in pages; by name and value when they are given."""
    limit = page.limit_of(request.maxResults)
    if request.attributeValue is not None and not request.attributeName:
        raise InvalidParameterError("attributeName is required when attributeValue is given.")

    def list_page(reader: Reader) -> dict[str, Any]:
        cluster = lookup.cluster_of(reader, call, request.cluster)
        filters = (cluster.key, request.targetType, request.attributeName, request.attributeValue)
        after = pagination.open_token(call, request.nextToken, filters)
        wanted = _wanted(reader, cluster, request, after)
        found, last = pagination.paginate(wanted, limit=limit, key=lambda pair: pair[0].key + _TOKEN_SEPARATOR + pair[1].name)
        rendered = [_attribute_json(call, cluster, instance.id, attribute) for instance, attribute in found]
        return {"attributes": rendered, **page.next_page(call, last, filters)}

    return await call.view(list_page)


def _wanted(reader: Reader, cluster: Cluster, request: Any, after: str) -> Iterator[tuple[ContainerInstance, Attribute]]:
    """From behind `after` (instance key and attribute name, or ""): the rest of that instance first, then the instances behind it."""
    instance_key, _, name = after.partition(_TOKEN_SEPARATOR)
    started = reader.get(CONTAINER_INSTANCES, instance_key) if instance_key else None
    if started is not None:
        yield from ((started, attribute) for attribute in _chosen(started, request) if attribute.name > name)
    for instance in reader.scan(CONTAINER_INSTANCES, f"{cluster.key}/", instance_key):
        yield from ((instance, attribute) for attribute in _chosen(instance, request))


def _chosen(instance: ContainerInstance, request: Any) -> list[Attribute]:
    if instance.status == model.INACTIVE:
        return []
    chosen = [
        attribute
        for attribute in instance.attributes
        if request.attributeName in (None, "", attribute.name) and request.attributeValue in (None, attribute.value)
    ]
    return sorted(chosen, key=lambda attribute: attribute.name)


def _attribute_json(call: Call, cluster: Cluster, instance_id: str, attribute: Attribute) -> dict[str, str]:
    rendered = {
        "name": attribute.name,
        "targetType": TARGET_TYPE,
        "targetId": arn.container_instance_arn(call.region, cluster.account, cluster.name, instance_id),
    }
    if attribute.value:
        rendered["value"] = attribute.value
    return rendered
