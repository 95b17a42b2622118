"""A stored record as JSON, and what is different between two of them.

Owns: `record_json`, `differences`, `FieldDifference`. Never knows a resource: names are those of the model's fields, in camelCase as the API spells
them, and what is empty is left out.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from homeport.model.record import Record

_NAMES: Final = ("name", "id")
"""Members that tell the elements of a list apart."""


class FieldDifference(NamedTuple):
    """A place with other values before and after; None where there was nothing."""

    field: str
    """For example `desiredCount` or `containers.web.exitCode`."""
    old: Any
    new: Any


def record_json(record: Record | None) -> dict[str, Any]:
    """The fields of `record` that are not empty; {} for None."""
    if record is None:
        return {}
    found = {camel(name): json_value(getattr(record, name)) for name in record.__struct_fields__}
    return {name: value for name, value in found.items() if not _empty(value)}


def json_value(value: Any) -> Any:
    """A field's value: records as objects, JSON documents as what they hold, tuples as lists."""
    if isinstance(value, Record):
        return record_json(value)
    if isinstance(value, tuple | list):
        return [json_value(item) for item in value]
    if isinstance(value, bytes):
        return _document(value)
    return value


def camel(name: str) -> str:
    """`exit_code` as `exitCode`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def differences(old: Any, new: Any, place: str = "") -> Iterator[FieldDifference]:
    """Every place in which two JSON values differ. Lists whose elements have names are compared element by element."""
    if old == new:
        return
    if isinstance(old, list) and isinstance(new, list):
        olds, news = _by_name(old), _by_name(new)
        if olds is None or news is None:
            yield FieldDifference(place, old, new)
            return
        old, new = olds, news
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            yield from differences(old.get(name), new.get(name), f"{place}.{name}" if place else name)
        return
    yield FieldDifference(place, old, new)


def _by_name(items: list[Any]) -> dict[str, Any] | None:
    for member in _NAMES:
        if items and all(isinstance(item, dict) and isinstance(item.get(member), str) for item in items):
            named = {item[member]: item for item in items}
            return named if len(named) == len(items) else None
    return None


def _document(value: bytes) -> Any:
    if not value:
        return None
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return base64.b64encode(value).decode()


def _empty(value: Any) -> bool:
    """What a field holds that was never set; 0 and False say something, except an instant that has not come."""
    return value is None or value in ("", [], {}) or (isinstance(value, float) and value == 0.0)
