"""AWS's query protocol: a form to requests, and answers and errors to XML.

Owns: `decode`, `encode`, `fault`, `CONTENT_TYPE`. Never knows HTTP beyond the content types, never looks at what a request means.
The form: `Action=…&Version=…`, members by name, structures by dots, lists as `Name.member.1`, maps as `Name.entry.1.key` and `.value`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import msgspec

from homeport.api import validation
from homeport.api.faults import Fault
from homeport.api.protocol.model import Operation, Reference, ServiceModel, Shape
from homeport.errors import InvalidParameterError, SerializationError

CONTENT_TYPE: Final = b"text/xml"
FORM: Final = b"application/x-www-form-urlencoded"
_FIELDS_MAX: Final = 5000
_DEPTH_MAX: Final = 20
_ITEMS_MAX: Final = 1000
_PLACE: Final = re.compile(r"[1-9][0-9]{0,4}")
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_PATH: Final = re.compile(r"(?<= at ')[^']+(?=')")
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_TYPE_NAMES: Final = {"integer": "Integer", "long": "Long", "float": "Float", "double": "Double", "boolean": "Boolean", "timestamp": "Timestamp"}

CODES: Final[Mapping[str, str]] = {
    "UnrecognizedClientException": "InvalidClientTokenId",
    "ExpiredTokenException": "ExpiredToken",
    "WebIdentityExpired": "ExpiredTokenException",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "IncompleteSignatureException": "IncompleteSignature",
    "AccessDeniedException": "AccessDenied",
    "ThrottlingException": "Throttling",
    "UnknownOperationException": "InvalidAction",
    "InvalidParameterException": "ValidationError",
    "SerializationException": "MalformedInput",
    "ServerException": "InternalFailure",
    "ClientException": "InvalidInput",
}
"""The names that errors common to all services have in this protocol (IAM's and STS's pages "Common Errors")."""
_STATUS: Final[Mapping[str, int]] = {
    "InvalidClientTokenId": 403,
    "SignatureDoesNotMatch": 403,
    "MissingAuthenticationToken": 403,
    "AccessDenied": 403,
    "ExpiredToken": 403,
}

Tree = dict[str, Any]


def fields(body: bytes) -> dict[str, str]:
    """The form in `body`, by name. Raises SerializationError when it is none, is too long, or has a name twice."""
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=_FIELDS_MAX, errors="strict")
    except ValueError:
        raise SerializationError("The request body is no valid form.") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise SerializationError("The request has a parameter more than once.")
    return found


def decode(operation: Operation, given: Mapping[str, str]) -> Any:
    """The request in the form `given` as the Struct of the operation's input shape; parameters that the model does not have are passed over.

    Raises SerializationError when a value is none of its type, InvalidParameterError for every other violation of the model.
    """
    if operation.input_shape is None:
        return operation.input_type()
    value = _Reader(operation.model).structure(operation.model.shapes[operation.input_shape], _tree(given), "")
    try:
        checked = validation.judge(operation.model, operation.input_shape, value)
    except InvalidParameterError as error:
        raise InvalidParameterError(_PATH.sub(lambda path: _lower(path[0]), error.message)) from None
    try:
        return msgspec.convert(checked, operation.input_type)
    except msgspec.ValidationError as failure:
        raise SerializationError(str(failure)) from None


def encode(operation: Operation, answer: Mapping[str, Any], request_id: str) -> bytes:
    """`answer` as an XML body; members that are None are left out."""
    result = ""
    if operation.output_shape is not None:
        shape = operation.model.shapes[operation.output_shape]
        result = _structure(operation.model, shape, answer)
        if operation.result_wrapper:
            result = f"<{operation.result_wrapper}>{result}</{operation.result_wrapper}>"
    metadata = f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
    return f'<{operation.name}Response xmlns="{operation.model.xml_namespace}">{result}{metadata}</{operation.name}Response>'.encode()


def fault(found: Fault, model: ServiceModel | None, request_id: str) -> tuple[int, str, bytes]:
    """(HTTP status, code, XML body) of an error; `model` is None when no operation was found."""
    code = CODES.get(found.code, found.code)
    status = model.statuses.get(code) if model is not None else None
    status = status or (_STATUS.get(code, found.status) if found.status == 400 else found.status)
    kind = "Receiver" if status >= 500 else "Sender"
    namespace = f' xmlns="{model.xml_namespace}"' if model is not None else ""
    error = f"<Error><Type>{kind}</Type><Code>{_text(code)}</Code><Message>{_text(str(found.members.get('message', '')))}</Message></Error>"
    return status, code, f"<ErrorResponse{namespace}>{error}<RequestId>{request_id}</RequestId></ErrorResponse>".encode()


def _tree(given: Mapping[str, str]) -> Tree:
    """The form's names cut at their dots."""
    tree: Tree = {}
    for name, value in given.items():
        *path, last = name.split(".")
        if len(path) > _DEPTH_MAX:
            raise SerializationError("The request is nested too deeply.")
        node = tree
        for step in path:
            child = node.setdefault(step, {})
            if not isinstance(child, dict):
                if child:
                    raise SerializationError(f"The parameter {name[:200]} has both a value and parts.")
                child = node[step] = {}
            node = child
        if last in node:
            raise SerializationError(f"The parameter {name[:200]} has both a value and parts.")
        node[last] = value
    return tree


class _Reader:
    """Reads one form into values as AWS JSON would have them."""

    def __init__(self, model: ServiceModel) -> None:
        self._shapes = model.shapes

    def structure(self, shape: Shape, node: Any, path: str) -> dict[str, Any]:
        """Members that were given, by their names in the model."""
        if not isinstance(node, dict):
            raise SerializationError(f"The parameter {path} has a value, and should have parts.")
        found = {}
        for member, reference in shape.members.items():
            name = reference.locationName or member
            if name in node:
                found[member] = self._value(reference, node[name], f"{path}.{name}" if path else name)
        return found

    def _value(self, reference: Reference, node: Any, path: str) -> Any:
        shape = self._shapes[reference.shape]
        if shape.type == "structure":
            return self.structure(shape, node, path)
        if shape.type == "list" and shape.member is not None:
            inner = node if shape.flattened else self._inner(node, shape.member.locationName or "member", path)
            return [self._value(shape.member, item, f"{path}.{place}") for place, item in self._items(inner, path)]
        if shape.type == "map" and shape.key is not None and shape.value is not None:
            inner = node if shape.flattened else self._inner(node, "entry", path)
            key, value = shape.key.locationName or "key", shape.value.locationName or "value"
            return {
                str(item.get(key)): self._value(shape.value, item.get(value, ""), path)
                for _, item in self._items(inner, path)
                if isinstance(item, dict)
            }
        if isinstance(node, dict):
            raise SerializationError(f"The parameter {path} has parts, and should have a value.")
        return _scalar(shape, node, path)

    @staticmethod
    def _inner(node: Any, name: str, path: str) -> Any:
        """What is in a list's or map's own element; a blank value is an empty one."""
        if node == "":
            return {}
        if not isinstance(node, dict) or node.keys() != {name}:
            raise SerializationError(f"The items of {path} are to be named {path}.{name}.N.")
        return node[name]

    @staticmethod
    def _items(node: Any, path: str) -> list[tuple[int, Any]]:
        if node == "":
            return []
        if not isinstance(node, dict) or not all(map(_PLACE.fullmatch, node)) or len(node) > _ITEMS_MAX:
            raise SerializationError(f"The items of {path} are to be numbered from 1.")
        return sorted(((int(place), item) for place, item in node.items()), key=lambda each: each[0])


def _scalar(shape: Shape, text: str, path: str) -> Any:
    """A value of a shape without parts, from its text."""
    try:
        if shape.type in ("integer", "long"):
            return int(text if _INTEGER.fullmatch(text) else "")  # Python's own int takes 1_000 and digits of other scripts
        if shape.type in ("float", "double"):
            return float(text)
        if shape.type == "boolean":
            return {"true": True, "false": False}[text.lower()]
        if shape.type == "timestamp":
            when = datetime.fromisoformat(text)
            return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, KeyError, OverflowError):
        raise SerializationError(f"Invalid value for {path}: '{text[:100]}' is no {_TYPE_NAMES[shape.type]}.") from None
    return text


def _lower(path: str) -> str:
    """A path as IAM writes it in its messages: `tags.1.member.key`."""
    return ".".join(step[:1].lower() + step[1:] for step in path.split("."))


def _structure(model: ServiceModel, shape: Shape, value: Mapping[str, Any]) -> str:
    return "".join(
        _element(model, reference, reference.locationName or member, value[member])
        for member, reference in shape.members.items()
        if value.get(member) is not None
    )


def _element(model: ServiceModel, reference: Reference, name: str, value: Any) -> str:
    shape = model.shapes[reference.shape]
    if shape.type == "list" and shape.member is not None:
        item_name = name if shape.flattened else shape.member.locationName or "member"
        items = "".join(_element(model, shape.member, item_name, item) for item in value)
        return items if shape.flattened else f"<{name}>{items}</{name}>"
    if shape.type == "map" and shape.key is not None and shape.value is not None:
        key_name, value_name = shape.key.locationName or "key", shape.value.locationName or "value"
        entry = name if shape.flattened else "entry"
        items = "".join(
            f"<{entry}><{key_name}>{_text(str(key))}</{key_name}>{_element(model, shape.value, value_name, item)}</{entry}>"
            for key, item in value.items()
        )
        return items if shape.flattened else f"<{name}>{items}</{name}>"
    content = _structure(model, shape, value) if shape.type == "structure" else _shown(shape, value)
    return f"<{name}>{content}</{name}>"


def _shown(shape: Shape, value: Any) -> str:
    if shape.type == "boolean":
        return "true" if value else "false"
    if shape.type == "timestamp":
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="auto" if value == int(value) else "milliseconds").replace("+00:00", "Z")
    if isinstance(value, bytes):  # a blob
        return base64.b64encode(value).decode()
    return _text(str(value))


def _text(text: str) -> str:
    return escape(_NO_XML.sub("�", text))
