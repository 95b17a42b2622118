"""What the credentials of a host may touch: its own container instance and the tasks on it, whatever their policies allow.

Owns: which operations are bound so, and the identity behind a call. Never decides what a policy says, never writes.
Credentials that belong to no host (a user's, a role's that somebody assumed) are not bound: their policies alone decide, as in ECS.
"""

from __future__ import annotations

from typing import Any, Final

from homeport.api.call import Call
from homeport.api.ecs import lookup
from homeport.errors import AccessDeniedError
from homeport.iam.session import Session
from homeport.model.iam.instance_identity import InstanceIdentity
from homeport.store.table import Reader
from homeport.store.tables import INSTANCE_IDENTITIES

NOBODYS: Final = "-"
"""The key of no instance: that of a host that has not registered."""
REVOKED: Final = "The identity of this host was revoked, or is not known. Join it anew with a new token."
_NAMING: Final = ("DeregisterContainerInstance", "DiscoverPollEndpoint", "RegisterContainerInstance", "UpdateContainerInstancesState")
_MEMBERS: Final = ("containerInstanceArn", "containerInstance", "containerInstances")


def require_known(reader: Reader, session: Session | None) -> InstanceIdentity | None:
    """The identity that a session is bound to, None for one that is not bound. Raises AccessDeniedError when it was revoked."""
    if session is None or not session.instance:
        return None
    identity = reader.get(INSTANCE_IDENTITIES, session.instance)
    if identity is None or identity.role_id != session.source_id:
        raise AccessDeniedError(REVOKED)
    return identity


def key_of(reader: Reader, call: Call) -> str:
    """Key of the one instance that the caller may speak for; "" for any. Raises AccessDeniedError for a revoked identity."""
    identity = require_known(reader, call.session)
    return "" if identity is None else identity.instance or NOBODYS


def require_own(reader: Reader, call: Call, request: Any) -> None:
    """Raises AccessDeniedError for a request of a host about another instance, or for another cluster than its own."""
    identity = require_known(reader, call.session)
    if identity is None or call.operation not in _NAMING:
        return
    if call.operation == "RegisterContainerInstance" and lookup.cluster_name(call, request.cluster) != identity.cluster:
        raise AccessDeniedError(f"Host {identity.id} joined for cluster {identity.cluster} and may register in no other.")
    for reference in _instances(request):
        if _key(call, request, reference) != (identity.instance or NOBODYS):
            raise AccessDeniedError(f"{reference} is not the container instance of host {identity.id}, whose credentials are good for its own only.")


def _instances(request: Any) -> list[str]:
    found = [getattr(request, name, None) for name in _MEMBERS]
    return [reference for value in found if value for reference in ([value] if isinstance(value, str) else value)]


def _key(call: Call, request: Any, reference: str) -> str:
    """The store key that a handler makes of `reference`, "" for what it refuses."""
    parts = reference.split("/")
    if len(parts) == 3:  # an ARN names its cluster itself; the handlers refuse one of another cluster than the request's
        own = lookup.own_arn(call, reference)
        return f"{call.account}/{parts[1]}/{parts[2]}" if own is not None else ""
    return f"{call.account}/{lookup.cluster_name(call, getattr(request, 'cluster', None))}/{parts[-1]}"
