"""Who wanted a transaction, read from the words that the journal keeps with it.

Owns: `Cause`, `parse_cause`. Never writes a cause: `api/call.py`, the controllers' loop, the dispatcher and the server do.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

REQUEST: Final = "request"
CONTROLLER: Final = "controller"
DISPATCHER: Final = "dispatcher"
SERVER: Final = "server"

_REQUEST: Final = re.compile(r"([A-Za-z]+) ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) (arn:\S+)")
"""OPERATION REQUEST-ID PRINCIPAL-ARN"""
_CONTROLLER: Final = re.compile(r"controller/(\S+)(?: (.*))?", re.DOTALL)
"""controller/NAME KEY"""


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """A cause, taken apart. Members that its kind does not have are ""."""

    kind: str
    """request, controller, dispatcher or server."""
    text: str
    """As the journal has it."""
    operation: str = ""
    """Of a request: the operation of the API."""
    request_id: str = ""
    principal_arn: str = ""
    controller: str = ""
    """Of a controller: its name."""
    key: str = ""
    """Of a controller: what it was looking at."""

    @property
    def who(self) -> str:
        """Who did it, in one word or two: a principal's ARN, or the part of the control plane."""
        return self.principal_arn or (f"controller/{self.controller}" if self.controller else self.kind)

    @property
    def why(self) -> str:
        """What made it happen: the operation and its request id, the controller's key, or what the part said."""
        if self.kind == REQUEST:
            return f"{self.operation} {self.request_id}"
        return self.key if self.kind == CONTROLLER else self.text


def parse_cause(text: str) -> Cause:
    """The parts of a transaction's cause. What has no known form is the server's own."""
    if found := _REQUEST.fullmatch(text):
        return Cause(kind=REQUEST, text=text, operation=found[1], request_id=found[2], principal_arn=found[3])
    if found := _CONTROLLER.fullmatch(text):
        return Cause(kind=CONTROLLER, text=text, controller=found[1], key=found[2] or "")
    if text.startswith("dispatcher"):
        return Cause(kind=DISPATCHER, text=text)
    return Cause(kind=SERVER, text=text)
