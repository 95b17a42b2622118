"""STS's operations, in one list.

Owns: `OPERATIONS` (name → handler). Never holds logic.
"""

from __future__ import annotations

from typing import Final

from homeport.api.call import Handler
from homeport.api.sts import caller_identity

OPERATIONS: Final[dict[str, Handler]] = {"GetCallerIdentity": caller_identity.get_caller_identity}
