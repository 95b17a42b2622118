"""What a caller of STS must be allowed to do.

Owns: `asks`. Never decides.
"""

from __future__ import annotations

from typing import Any

from homeport.api.call import Call
from homeport.api.permission import Ask
from homeport.store.table import Reader


def asks(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """Who one is, everybody may ask (STS's API reference, GetCallerIdentity); no policy can forbid it."""
    return [] if call.operation == "GetCallerIdentity" else [Ask(f"sts:{call.operation}", "*", {})]
