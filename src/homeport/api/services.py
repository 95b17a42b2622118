"""Every service of the front door: the operations that are built, and what each needs to be allowed.

Owns: `OPERATIONS`, `ASKS`. Never holds logic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from homeport.api.call import Handler
from homeport.api.cloudtrail.operations import OPERATIONS as CLOUDTRAIL_OPERATIONS
from homeport.api.ecs import permission as ecs_permission
from homeport.api.ecs.operations import OPERATIONS as ECS_OPERATIONS
from homeport.api.homeport import permission as homeport_permission
from homeport.api.homeport.operations import OPERATIONS as HOMEPORT_OPERATIONS
from homeport.api.iam import permission as iam_permission
from homeport.api.iam.operations import OPERATIONS as IAM_OPERATIONS
from homeport.api.permission import Asks
from homeport.api.sts import permission as sts_permission
from homeport.api.sts.operations import OPERATIONS as STS_OPERATIONS

OPERATIONS: Final[Mapping[str, Mapping[str, Handler]]] = {
    "ecs": ECS_OPERATIONS,
    "homeport": HOMEPORT_OPERATIONS,
    "iam": IAM_OPERATIONS,
    "sts": STS_OPERATIONS,
    "cloudtrail": CLOUDTRAIL_OPERATIONS,
}
"""Every operation that is built."""
ASKS: Final[dict[str, Asks]] = {
    "ecs": ecs_permission.asks,
    "homeport": homeport_permission.asks,
    "iam": iam_permission.asks,
    "sts": sts_permission.asks,
}
"""What the operations of each service need."""
