"""What a caller of Homeport's own operations must be allowed to do.

Owns: `asks`. Never decides. Each operation is an action of the prefix homeport; a read of the past needs as well what the same read needs today.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec

from homeport.api.call import Call
from homeport.api.ecs import permission
from homeport.api.permission import Ask
from homeport.api.protocol import json, model
from homeport.store.table import Reader


def asks(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """Everything that the caller of `request` must be allowed, each of it."""
    own = Ask(f"homeport:{call.operation}", "*", {})
    if call.operation != "DescribeAt" or request.operation not in model.load().operations:
        return [own]
    read = json.decode(model.load().operations[request.operation], msgspec.json.encode(request.request or {}))
    return [own, *permission.asks(dataclasses.replace(call, operation=request.operation), read, reader)]
