"""AWS JSON 1.1: bodies to requests and answers to bodies.

Owns: `decode`, `encode`, `CONTENT_TYPE`. Never knows HTTP beyond the content type, never looks at what a request means.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.api import validation
from homeport.api.protocol.model import Operation
from homeport.errors import SerializationError

CONTENT_TYPE: Final = b"application/x-amz-json-1.1"
_encode: Final = msgspec.json.Encoder().encode


def decode(operation: Operation, body: bytes) -> Any:
    """The request in `body` as the Struct of the operation's input shape. Members that the model does not have are passed over.

    Raises SerializationError when it is no JSON or a member has a wrong type, InvalidParameterError for every other violation of the model.
    """
    if operation.has_documents:
        return _look_closer(operation, body)
    try:
        if not body.isascii():
            body.decode()  # msgspec looks into no text that it passes over
        return operation.decode(body)
    except msgspec.ValidationError:
        return _look_closer(operation, body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as failure:
        raise SerializationError(f"The request body is not valid JSON: {failure}") from None


def encode(answer: Any) -> bytes:
    """`answer` as a JSON body; members that are None are left out, wherever they are.

    Handlers are expected to leave them out themselves; the search for `:null` costs next to nothing when they did.
    """
    body = _encode(answer)
    if b":null" in body:
        return _encode(_without_nulls(msgspec.json.decode(body)))
    return body


def _look_closer(operation: Operation, body: bytes) -> Any:
    """The slow way: raise what is wrong in AWS's words, or return the request, if it is good but spelled in an unusual way."""
    if operation.input_shape is None:
        raise SerializationError("The request body is no JSON object.")
    try:
        corrected = validation.judge(operation.model, operation.input_shape, msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as failure:
        raise SerializationError(f"The request body is not valid JSON: {failure}") from None
    try:
        return msgspec.convert(corrected, operation.input_type)
    except msgspec.ValidationError as failure:
        # The walk and the compiled types disagree: a fault of ours, but the request is refused all the same.
        raise SerializationError(str(failure)) from None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
