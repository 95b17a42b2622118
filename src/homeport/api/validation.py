"""What is wrong with a request, in AWS's words.

Owns: `judge`: the walk over a decoded body that finds every violation of the model. Never runs for a request that msgspec accepts:
msgspec stops at its first complaint and has other words, so its refusal is only the reason to look closer.

AWS reads the body before it checks it: one member of a wrong type is a SerializationException; otherwise all violated constraints are listed
in one InvalidParameterException ("2 validation errors detected: Value null at 'family' failed to satisfy constraint: Member must not be null; …").
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from homeport.api.protocol.model import DOCUMENT_DEPTH_MAX, INTEGER_MAX, INTEGER_MIN, LONG_MAX, LONG_MIN, ServiceModel, Shape, python_pattern
from homeport.errors import InvalidParameterError, SerializationError

VIOLATIONS_MAX: Final = 20
"""Violations named in one message; the rest are counted."""
_SHOWN_CHARACTERS_MAX: Final = 200
_NAMES: Final = {"string": "a String", "integer": "an Integer", "long": "a Long", "float": "a Float", "double": "a Double", "boolean": "a Boolean"}


def judge(model: ServiceModel, shape_name: str, value: Any) -> Any:
    """`value` with whole numbers as integers where the model has integers (AWS takes 1.0 for 1), if nothing is wrong with it.

    Raises SerializationError for a wrong type, InvalidParameterError for everything else that the model forbids.
    """
    walk = _Walk(model)
    corrected = walk.value(shape_name, value, "")
    if walk.count:
        raise InvalidParameterError(_message(walk.violations, walk.count))
    return corrected


def violation(value: Any, path: str, constraint: str) -> str:
    """One violated constraint as a sentence. `constraint` goes on from "Member must"."""
    shown = "null" if value is None else f"'{_shown(value)}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: Member must {constraint}"


def _message(violations: list[str], count: int) -> str:
    noun = "error" if count == 1 else "errors"
    more = f"; and {count - VIOLATIONS_MAX} more" if count > VIOLATIONS_MAX else ""
    return f"{count} validation {noun} detected: {'; '.join(violations)}{more}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else text[:_SHOWN_CHARACTERS_MAX] + "…"


def _number(limit: float) -> str:
    return f"{limit:.15g}"


class _Walk:
    """One walk over one body. Paths are written as AWS writes them: `containerDefinitions.1.member.name`."""

    def __init__(self, model: ServiceModel) -> None:
        self.model = model
        self.violations: list[str] = []
        self.count = 0

    def value(self, shape_name: str, value: Any, path: str) -> Any:
        """The corrected `value` of one shape; notes violations, raises SerializationError."""
        shape = self.model.shapes[shape_name]
        if shape.document:
            if _depth(value) > DOCUMENT_DEPTH_MAX:
                self._note(value, path, f"not be nested deeper than {DOCUMENT_DEPTH_MAX}")
            return value
        if shape.type == "structure":
            return self._structure(shape, value, path)
        if shape.type == "list":
            return self._list(shape, value, path)
        if shape.type == "map":
            return self._map(shape, value, path)
        return self._scalar(shape, value, path)

    def _note(self, value: Any, path: str, constraint: str) -> None:
        """Count a violation; the first ones also get their sentence."""
        self.count += 1
        if self.count <= VIOLATIONS_MAX:
            self.violations.append(violation(value, path, constraint))

    def _structure(self, shape: Shape, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise SerializationError(_misplaced(value, path, "a structure"))
        corrected = {}
        for member, reference in shape.members.items():
            member_path = f"{path}.{member}" if path else member
            content = value.get(member)
            if content is not None:
                corrected[member] = self.value(reference.shape, content, member_path)
            elif member in shape.required:
                self._note(None, member_path, "not be null")
        return corrected

    def _list(self, shape: Shape, value: Any, path: str) -> list[Any]:
        if not isinstance(value, list) or shape.member is None:
            raise SerializationError(_misplaced(value, path, "a list"))
        self._length(shape, value, path)
        return [self._element(shape.member.shape, item, f"{path}.{number}.member") for number, item in enumerate(value, start=1)]

    def _map(self, shape: Shape, value: Any, path: str) -> dict[Any, Any]:
        if not isinstance(value, dict) or shape.key is None or shape.value is None:
            raise SerializationError(_misplaced(value, path, "a map"))
        self._length(shape, value, path)
        corrected = {}
        for key, content in value.items():
            self._element(shape.key.shape, key, f"{path}.key")
            corrected[key] = self._element(shape.value.shape, content, f"{path}.{key[:_SHOWN_CHARACTERS_MAX]}.member")
        return corrected

    def _element(self, shape_name: str, value: Any, path: str) -> Any:
        """A part of a list or map, where null is not a way to leave it out."""
        if value is None:
            self._note(None, path, "not be null")
            return None
        return self.value(shape_name, value, path)

    def _scalar(self, shape: Shape, value: Any, path: str) -> Any:
        kind = shape.type
        if kind in {"integer", "long"}:
            return self._whole_number(shape, value, path)
        if kind in {"float", "double", "timestamp"}:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise SerializationError(_misplaced(value, path, _NAMES.get(kind, "a Timestamp")))
            self._range(shape, value, path)
            return float(value)
        if kind == "boolean":
            if not isinstance(value, bool):
                raise SerializationError(_misplaced(value, path, _NAMES[kind]))
            return value
        if not isinstance(value, str):
            raise SerializationError(_misplaced(value, path, _NAMES.get(kind, "a Blob")))
        if kind == "string":
            self._string(shape, value, path)
        return value

    def _whole_number(self, shape: Shape, value: Any, path: str) -> int:
        low, high = (INTEGER_MIN, INTEGER_MAX) if shape.type == "integer" else (LONG_MIN, LONG_MAX)
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        if isinstance(whole, bool) or not isinstance(whole, int) or not low <= whole <= high:
            raise SerializationError(_misplaced(value, path, _NAMES[shape.type]))
        self._range(shape, whole, path)
        return whole

    def _range(self, shape: Shape, value: float, path: str) -> None:
        if shape.min is not None and value < shape.min:
            self._note(value, path, f"have value greater than or equal to {_number(shape.min)}")
        if shape.max is not None and value > shape.max:
            self._note(value, path, f"have value less than or equal to {_number(shape.max)}")

    def _length(self, shape: Shape, value: Any, path: str) -> None:
        if shape.min is not None and len(value) < shape.min:
            self._note(value, path, f"have length greater than or equal to {_number(shape.min)}")
        if shape.max is not None and len(value) > shape.max:
            self._note(value, path, f"have length less than or equal to {_number(shape.max)}")

    def _string(self, shape: Shape, value: str, path: str) -> None:
        if shape.enum:
            if value not in shape.enum:
                self._note(value, path, f"satisfy enum value set: [{', '.join(shape.enum)}]")
            return
        self._length(shape, value, path)
        if shape.pattern and not re.search(python_pattern(shape.pattern), value):
            self._note(value, path, f"satisfy regular expression pattern: {shape.pattern}")


def _depth(value: Any) -> int:
    """How deep lists and objects are nested in `value`: 0 for a text or number, 1 for a list of them."""
    depth, level = 0, [value] if isinstance(value, list | dict) else []
    while level:
        depth += 1
        parts = (part for holder in level for part in (holder.values() if isinstance(holder, dict) else holder))
        level = [part for part in parts if isinstance(part, list | dict)]
    return depth


def _misplaced(value: Any, path: str, wanted: str) -> str:
    """AWS's sentence about a JSON value where another type belongs, with the place, which AWS leaves out."""
    where = f" (at '{path}')" if path else ""
    if isinstance(value, list):
        return f"Start of list found where not expected{where}"
    if isinstance(value, dict):
        return f"Start of structure or map found where not expected{where}"
    if isinstance(value, bool):
        token = "TRUE_VALUE" if value else "FALSE_VALUE"
    else:
        token = {str: "STRING_VALUE", int: "NUMBER_VALUE", float: "DECIMAL_VALUE"}.get(type(value), "NULL_VALUE")
    return f"{token} can not be converted to {wanted}{where}"
