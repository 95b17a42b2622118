"""Requests and answers without what is nobody's business: what may be written down about a call.

Owns: `request_of`, `answer_of`, `without_secrets`. Never decides whether a call is recorded.

From a shape of the model a second type is compiled that lacks every member that is, or may be, sensitive: what the model marks so, members with
telling names, options of drivers, and documents of any JSON, of which nobody knows what is in them. Decoding into it leaves those values out, fast.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Final

import msgspec

from homeport.api.protocol.model import Operation, ServiceModel, Shape, attribute_name

_TELLING: Final = re.compile(
    r"password|passphrase|secret.?(access)?.?key|private.?key|session.?token|security.?token|identity.?token|token.?code|assertion|^token$|^proof$",
    re.IGNORECASE,
)
"""Names of members whose values are secrets, whether or not the model says so."""
SENSITIVE_SHAPES: Final = frozenset(
    (
        "LogConfigurationOptionsMap",  # a driver's options hold its tokens (splunk-token)
        "FirelensConfigurationOptionsMap",
        "DockerLocalDriverOpts",  # mount options: a share's user and password
        "StringMap",  # driverOpts of volumes
        "EnvironmentVariables",
    )
)
"""Shapes that the model does not mark everywhere, but whose values are often secrets."""
RECORDED_BYTES_MAX: Final = 32_768
"""A request or answer beyond that is recorded by its size alone."""
SHORT_CHARACTERS: Final = 4
"""A secret shorter than that is not looked for in messages: it would be found everywhere."""

ANSWER_DEPTH: Final = 2
"""Structures inside each other that are told of an answer: the answer itself, and the objects that it names."""

_encode: Final = msgspec.json.Encoder().encode
_NOTHING: Final = msgspec.Raw(b"{}")


def request_of(operation: Operation, request: Any) -> msgspec.Raw | None:
    """The decoded request of `operation` without what is sensitive, as JSON; None where it cannot be told."""
    return _told(_decoder(operation.model, operation.input_shape), request)


def answer_of(operation: Operation, encoded: bytes) -> msgspec.Raw | None:
    """The same of an answer: of what it tells of each object the plain members, not what is nested in them. That names what was made, and is a
    fraction of a task definition, of which the request says the rest."""
    return _kept(_decoder(operation.model, operation.output_shape, ANSWER_DEPTH), encoded)


def without_secrets(text: str, operation: Operation, request: Any) -> str:
    """`text` with every value of the request that is sensitive replaced by asterisks."""
    if request is None or not text:
        return text
    told = request_of(operation, request)
    shown = set(_strings(msgspec.json.decode(told))) if told is not None else set()
    hidden = set(_strings(msgspec.to_builtins(request))) - shown
    for value in sorted(hidden, key=len, reverse=True):
        if len(value) >= SHORT_CHARACTERS:
            text = text.replace(value, "***")
    return text


def _told(decoder: msgspec.json.Decoder[Any] | None, value: Any) -> msgspec.Raw | None:
    if value is None:
        return _NOTHING
    try:
        encoded = _encode(value)
    except (msgspec.MsgspecError, TypeError, RecursionError):
        return None
    return _kept(decoder, encoded)


def _kept(decoder: msgspec.json.Decoder[Any] | None, encoded: bytes) -> msgspec.Raw | None:
    if decoder is None or not encoded:
        return _NOTHING
    try:
        told = _encode(decoder.decode(encoded))
    except (msgspec.MsgspecError, TypeError, RecursionError):  # an answer beyond the model: rather nothing than too much
        return None
    if len(told) > RECORDED_BYTES_MAX:
        return msgspec.Raw(_encode({"omittedBytes": len(told)}))
    return msgspec.Raw(told)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for member in value.values() for text in _strings(member)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _strings(item)]
    return []


@functools.cache
def _decoder(model: ServiceModel, shape: str | None, depth: int | None = None) -> msgspec.json.Decoder[Any] | None:
    return msgspec.json.Decoder(_Types(model).of(shape, depth), strict=False) if shape else None


class _Types:
    """Types of one service's shapes without their sensitive members, and without constraints: whatever was taken can be told."""

    def __init__(self, model: ServiceModel) -> None:
        self._shapes = model.shapes
        self._known: dict[tuple[str, int | None], Any] = {}

    def of(self, name: str, depth: int | None) -> Any:
        """The type of a shape that is not sensitive itself, with at most `depth` structures inside each other, any number with None. The type is
        None where nothing of the shape is told."""
        key = (name, depth)
        if key not in self._known:
            self._known[key] = None  # a recursive shape ends here: what is below is not told
            self._known[key] = self._compile(name, depth)
        return self._known[key]

    def hides(self, member: str, name: str) -> bool:
        """Whether a member of that shape is left out."""
        shape = self._shapes[name]
        return shape.sensitive or shape.document or name in SENSITIVE_SHAPES or _TELLING.search(member) is not None

    def _compile(self, name: str, depth: int | None) -> Any:
        shape = self._shapes[name]
        if shape.type == "structure":
            return None if depth == 0 else self._structure(name, shape, None if depth is None else depth - 1)
        if shape.type == "list" and shape.member:
            inner = None if self.hides("", shape.member.shape) else self.of(shape.member.shape, depth)
            return list[inner | None] if inner is not None else None  # type: ignore[valid-type]  # a type made at run time
        if shape.type == "map" and shape.value:
            inner = None if self.hides("", shape.value.shape) else self.of(shape.value.shape, depth)
            return dict[str, inner | None] if inner is not None else None  # type: ignore[valid-type]  # the same
        return {"string": str, "integer": int, "long": int, "boolean": bool, "blob": str}.get(shape.type, float | str)

    def _structure(self, name: str, shape: Shape, depth: int | None) -> Any:
        fields: list[Any] = []
        rename: dict[str, str] = {}
        for member, reference in shape.members.items():
            if self.hides(member, reference.shape):
                continue
            attribute = attribute_name(member)
            if attribute != member:
                rename[attribute] = member
            inner = self.of(reference.shape, depth)
            if inner is not None:
                fields.append((attribute, inner | None, None))
        return msgspec.defstruct(name, fields, kw_only=True, frozen=True, gc=False, omit_defaults=True, rename=rename or None, module=__name__)
