"""The credentials of the tasks on this host, in memory and nowhere else, and who may have which.

Owns: `Registry`. Never listens, never touches a rule, never writes anything: after a restart it is empty until the control plane sends anew.
"""

from __future__ import annotations

import dataclasses
from typing import Final, NamedTuple

from homeport.acs.messages import RoleCredentials

ADDRESS: Final = "169.254.170.2"
"""Where containers ask, on every host."""
PATH: Final = "/v2/credentials/"


class Place(NamedTuple):
    """A container's own address, and that of the host in the same network."""

    address: str
    gateway: str


@dataclasses.dataclass(slots=True)
class Holder:
    """A task with a role, from when the engine has it until it is STOPPED."""

    task_arn: str
    role_arn: str
    host: bool
    """Its containers have the host's network, so that nothing but the id tells them from others there."""
    places: dict[str, Place] = dataclasses.field(default_factory=dict)
    """By container name, those that run with a network of their own."""
    credentials: RoleCredentials | None = None
    """None until the control plane has sent them."""


class Registry:
    """See the module."""

    def __init__(self) -> None:
        self._by_id: dict[str, Holder] = {}
        self._ids: dict[str, str] = {}
        """Task's ARN → credentials id."""
        self._by_address: dict[str, Holder] = {}

    def hold(self, task_arn: str, credentials_id: str, role_arn: str, *, host: bool) -> None:
        """The engine has this task. Again changes nothing."""
        if self._ids.get(task_arn) != credentials_id:
            self._ids[task_arn] = credentials_id
            self._by_id[credentials_id] = Holder(task_arn, role_arn, host)

    def forget(self, task_arn: str) -> bool:
        """The task is over: from now on nobody is given anything for it. True if it was held."""
        holder = self._by_id.pop(self._ids.pop(task_arn, ""), None)
        if holder is not None:
            self._index()
        return holder is not None

    def put(self, task_arn: str, given: RoleCredentials) -> bool:
        """Take credentials in the place of those before. False, and nothing kept, for a task that is not here or is over."""
        holder = self._by_id.get(given.credentialsId)
        if holder is None or holder.task_arn != task_arn:
            return False
        holder.credentials = given
        return True

    def place(self, task_arn: str, container: str, place: Place | None) -> bool:
        """Where a container of the task runs, or None when it does not. True if that is news."""
        holder = self._by_id.get(self._ids.get(task_arn, ""))
        if holder is None or holder.places.get(container) == place:
            return False
        if place is None:
            del holder.places[container]
        else:
            holder.places[container] = place
        self._index()
        return True

    def answer(self, credentials_id: str, peer: str, *, host: bool) -> Holder | None:
        """Whose credentials a caller at `peer` gets for this id; None for an id that is not known, or not the caller's to know.

        `host`: it came to the door of the host's own network, where only the tasks without a network of their own are served, by their id alone.
        """
        holder = self._by_id.get(credentials_id)
        if holder is None or holder.host is not host:
            return None
        return holder if host or self._by_address.get(peer) is holder else None

    def at(self, peer: str) -> Holder | None:
        """The task whose container has the address `peer`."""
        return self._by_address.get(peer)

    @property
    def places(self) -> tuple[Place, ...]:
        """Of every container that has a network of its own."""
        return tuple(sorted({place for holder in self._by_id.values() for place in holder.places.values()}))

    @property
    def hosts(self) -> bool:
        """Whether some task has the host's network."""
        return any(holder.host for holder in self._by_id.values())

    def _index(self) -> None:
        self._by_address = {place.address: holder for holder in self._by_id.values() for place in holder.places.values()}
