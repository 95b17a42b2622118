"""The API as AWS models it: operations, their shapes, and the msgspec types compiled from their input shapes.

Owns: `ServiceModel`, `Operation`, `Shape`, and the choice of types. Never judges a request (`json.py` decodes it, `validation.py` phrases what is
wrong), never holds state that a request changes.

The model is botocore's `service-2.json`, read from the installed package without importing it: that keeps the start under a second.
Types are compiled at an operation's first use. Members keep the API's camelCase names; a Python keyword gets a trailing underscore.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import keyword
import pathlib
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec

INTEGER_MIN: Final = -(2**31)
INTEGER_MAX: Final = 2**31 - 1
LONG_MIN: Final = -(2**63)
LONG_MAX: Final = 2**63 - 1
DOCUMENT_DEPTH_MAX: Final = 32
"""How deep lists and objects may be nested in a member that may hold any JSON: what is kept must be readable again wherever it is read."""
_SEPARATORS: Final = " \\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"


class ModelNotFoundError(LookupError):
    """botocore is not installed, or does not have the service."""


class Reference(msgspec.Struct, frozen=True):
    """A place where a shape is used."""

    shape: str
    locationName: str | None = None
    """The name on the wire where it is not the member's."""
    resultWrapper: str | None = None
    """Of an operation's output: the element that holds it in the query protocol."""


class ModelledError(msgspec.Struct, frozen=True):
    """The code and HTTP status of an error shape, for protocols that have them in the model."""

    code: str
    httpStatusCode: int = 400


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """One type of the model. Which members are set depends on `type`."""

    type: str
    """structure, list, map, string, integer, long, float, double, boolean, timestamp or blob."""
    members: dict[str, Reference] = {}
    required: tuple[str, ...] = ()
    member: Reference | None = None
    key: Reference | None = None
    value: Reference | None = None
    enum: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None
    pattern: str | None = None
    document: bool = False
    """Any JSON value."""
    flattened: bool = False
    """A list or map without an element of its own around its items, in the query protocol."""
    error: ModelledError | None = None
    sensitive: bool = False
    """What it holds must not be written down anywhere (`public.py`)."""


class _ModelledOperation(msgspec.Struct, frozen=True):
    name: str
    input: Reference | None = None
    output: Reference | None = None
    errors: tuple[Reference, ...] = ()
    authtype: str = ""


class _Metadata(msgspec.Struct, frozen=True):
    serviceFullName: str
    endpointPrefix: str = ""
    signingName: str = ""
    apiVersion: str = ""
    protocol: str = "json"
    targetPrefix: str = ""
    xmlNamespace: str = ""
    globalEndpoint: str = ""


class _Document(msgspec.Struct, frozen=True):
    metadata: _Metadata
    operations: dict[str, _ModelledOperation]
    shapes: dict[str, Shape]


class Operation:
    """One operation: its name, input shape, modelled errors and, compiled at first use, its decoder."""

    def __init__(self, model: ServiceModel, modelled: _ModelledOperation) -> None:
        self.name: str = modelled.name
        self.input_shape: str | None = modelled.input.shape if modelled.input else None
        self.output_shape: str | None = modelled.output.shape if modelled.output else None
        self.result_wrapper: str | None = modelled.output.resultWrapper if modelled.output else None
        self.errors: frozenset[str] = frozenset(error.shape for error in modelled.errors)
        self.unsigned: bool = modelled.authtype == "none"
        """Whether clients send it without a signature: what is in the request says whose it is."""
        self.model = model

    def __repr__(self) -> str:
        return f"Operation({self.name})"

    @functools.cached_property
    def input_type(self) -> Any:
        """The msgspec Struct of the request."""
        return self.model.input_type(self.input_shape) if self.input_shape else msgspec.defstruct(f"{self.name}Request", [])

    @functools.cached_property
    def has_documents(self) -> bool:
        """Whether some member of the request may hold any JSON, which the types cannot bound."""
        return self.input_shape is not None and any(shape.document for shape in self.model.reachable(self.input_shape))

    @functools.cached_property
    def decode(self) -> Callable[[bytes], Any]:
        """From a JSON body to the request; raises msgspec's errors."""
        return msgspec.json.Decoder(self.input_type).decode


BEYOND_THE_MODEL: Final[dict[str, dict[str, Any]]] = {
    # Agents name their registration, so that one whose answer was lost is not made twice; the public model leaves the member out.
    "RegisterContainerInstanceRequest": {"members": {"clientToken": "String"}},
    # Docker's driver that keeps nothing. ECS's agent advertises it, the public model does not list it.
    "LogDriver": {"enum": ("none",)},
}
"""What ECS takes on the wire beyond its public model: by shape, further members (name → shape) and further enum values."""


def _extended(shapes: dict[str, Shape]) -> dict[str, Shape]:
    extended = dict(shapes)
    for name, more in BEYOND_THE_MODEL.items():
        if (shape := shapes.get(name)) is None:
            continue
        members = {member: Reference(kind) for member, kind in more.get("members", {}).items()}
        extended[name] = msgspec.structs.replace(shape, members={**shape.members, **members}, enum=(*shape.enum, *more.get("enum", ())))
    return extended


class ServiceModel:
    """All operations and shapes of one service."""

    def __init__(self, document: bytes) -> None:
        """`document` is the text of a botocore `service-2.json`."""
        parsed = msgspec.json.decode(document, type=_Document)
        self.shapes: dict[str, Shape] = _extended(parsed.shapes)
        metadata = parsed.metadata
        self.protocol: str = metadata.protocol
        """"json" (AWS JSON 1.1) or "query" (form in, XML out)."""
        self.version: str = metadata.apiVersion
        self.xml_namespace: str = metadata.xmlNamespace
        self.target_prefix: str = metadata.targetPrefix
        self.signing_name: str = metadata.signingName or metadata.endpointPrefix
        self.is_global: bool = bool(metadata.globalEndpoint)
        """Whether clients may sign for the region us-east-1 whatever theirs is."""
        self.statuses: dict[str, int] = {shape.error.code: shape.error.httpStatusCode for shape in self.shapes.values() if shape.error}
        """Error code → HTTP status, as far as the model has them."""
        self.operations: dict[str, Operation] = {name: Operation(self, modelled) for name, modelled in parsed.operations.items()}
        self._types: dict[str, Any] = {}

    def input_type(self, shape_name: str) -> Any:
        """The type of one input shape; the same object at each call."""
        known = self._types.get(shape_name)
        if known is None:
            known = self._types[shape_name] = self._compile(shape_name, self.shapes[shape_name])
        return known

    def reachable(self, shape_name: str) -> list[Shape]:
        """The shape and every shape that it is made of."""
        found: dict[str, Shape] = {}
        names = [shape_name]
        while names:
            name = names.pop()
            if name not in found:
                shape = found[name] = self.shapes[name]
                names += [part.shape for part in (*shape.members.values(), shape.member, shape.key, shape.value) if part]
        return list(found.values())

    def _compile(self, name: str, shape: Shape) -> Any:
        if shape.document:
            return Any
        if shape.type == "structure":
            return self._structure(name, shape)
        if shape.type == "list" and shape.member:
            return _limited(list[self.input_type(shape.member.shape)], min_length=_whole(shape.min), max_length=_whole(shape.max))  # type: ignore[misc]  # a type made at run time
        if shape.type == "map" and shape.key and shape.value:
            mapping: Any = dict[self.input_type(shape.key.shape), self.input_type(shape.value.shape)]  # type: ignore[misc]  # a type made at run time
            return _limited(mapping, min_length=_whole(shape.min), max_length=_whole(shape.max))
        return _scalar(shape)

    def _structure(self, name: str, shape: Shape) -> Any:
        # A recursive shape would not end here. No input shape of the services in use is one; a test compiles them all.
        fields: list[Any] = []
        rename: dict[str, str] = {}
        for member, reference in shape.members.items():
            attribute = attribute_name(member)
            if attribute != member:
                rename[attribute] = member
            member_type = self.input_type(reference.shape)
            fields.append((attribute, member_type) if member in shape.required else (attribute, member_type | None, None))
        # gc=False: requests are trees, so reference counts are enough. omit_defaults: an encoded request holds what was given, no more.
        return msgspec.defstruct(name, fields, kw_only=True, frozen=True, gc=False, omit_defaults=True, rename=rename or None, module=__name__)


def attribute_name(member: str) -> str:
    """The attribute that holds `member` of a shape: the same name, with an underscore behind a Python keyword."""
    return member + "_" if keyword.iskeyword(member) else member


def python_pattern(pattern: str) -> str:
    """A pattern of the model, which must match the whole value, as Python's `re` reads it.

    `\\p{L}`, `\\p{N}` and `\\p{Z}` (letters, numbers, separators) occur in character sets only.
    """
    translated = pattern.replace(r"\p{L}", r"\w").replace(r"\p{N}", "").replace(r"\p{Z}", _SEPARATORS)
    return rf"\A(?:{translated})\Z"


@functools.cache
def load(service: str = "ecs") -> ServiceModel:
    """The model of `service`: Homeport's own (`api/SERVICE/service-2.json`), else the newest in the installed botocore.

    Raises ModelNotFoundError if there is none.
    """
    own = pathlib.Path(__file__).parents[1] / service / "service-2.json"
    if own.is_file():
        return ServiceModel(own.read_bytes())
    found = importlib.util.find_spec("botocore")
    if found is None or not found.submodule_search_locations:
        raise ModelNotFoundError("botocore is not installed; it holds the model of the API")
    directory = pathlib.Path(found.submodule_search_locations[0], "data", service)
    for path in sorted(directory.glob("*/service-2.json*"), reverse=True):
        content = path.read_bytes()
        return ServiceModel(gzip.decompress(content) if path.suffix == ".gz" else content)
    raise ModelNotFoundError(f"botocore has no model of {service!r}")


def _whole(limit: float | None) -> int | None:
    return None if limit is None else int(limit)


def _limited(kind: Any, **limits: Any) -> Any:
    given = {name: limit for name, limit in limits.items() if limit}
    return Annotated[kind, msgspec.Meta(**given)] if given else kind


def _scalar(shape: Shape) -> Any:
    """The type of a shape without parts."""
    if shape.type == "string":
        if shape.enum:
            return Literal[shape.enum]
        return _limited(str, min_length=_whole(shape.min), max_length=_whole(shape.max), pattern=shape.pattern and python_pattern(shape.pattern))
    if shape.type in {"integer", "long"}:
        low, high = (INTEGER_MIN, INTEGER_MAX) if shape.type == "integer" else (LONG_MIN, LONG_MAX)
        return Annotated[int, msgspec.Meta(ge=low if shape.min is None else int(shape.min), le=high if shape.max is None else int(shape.max))]
    if shape.type in {"float", "double"}:
        bounded = shape.min is not None or shape.max is not None
        return Annotated[float, msgspec.Meta(ge=shape.min, le=shape.max)] if bounded else float
    return {"boolean": bool, "timestamp": float, "blob": bytes}[shape.type]
