"""CloudTrail's operations, in one list.

Owns: `OPERATIONS` (name → handler). Never holds logic.
"""

from __future__ import annotations

from typing import Final

from homeport.api.call import Handler
from homeport.api.cloudtrail import lookup, public_key

OPERATIONS: Final[dict[str, Handler]] = {
    "ListPublicKeys": public_key.list_public_keys,
    "LookupEvents": lookup.lookup_events,
}
