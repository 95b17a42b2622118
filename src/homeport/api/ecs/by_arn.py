"""Describe operations that take ARNs of what stands below a cluster's resource: deployments and revisions, of services and of daemons.

Owns: the bounds of such a call and the form of its `failures`. Never knows what it describes: its caller does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from homeport.api.call import Call
from homeport.api.ecs import lookup
from homeport.errors import InvalidParameterError
from homeport.store.table import Reader

DESCRIBE_MAX: Final = 20

Found = Callable[[Reader, str], dict[str, Any] | None]
"""From a store key to what is shown of it, or None when it is not there."""


async def described(call: Call, arns: Sequence[str], kind: str, found: Found) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """What is shown of each of 1 to 20 ARNs of `kind`, and the failures of those that are not there. Raises InvalidParameterError."""
    if not 1 <= len(arns) <= DESCRIBE_MAX:
        raise InvalidParameterError(f"Between 1 and {DESCRIBE_MAX} ARNs must be given.")
    keys = {text: lookup.part_key(call, text, kind) for text in arns}

    def look(reader: Reader) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        shown, failures = [], []
        for text, key in keys.items():
            item = found(reader, key)
            if item is None:
                failures.append({"arn": text, "reason": "MISSING"})
            else:
                shown.append(item)
        return shown, failures

    return await call.view(look)
