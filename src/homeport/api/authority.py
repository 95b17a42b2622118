"""Which policies apply to a caller.

Owns: `Authority`, a view derived from users, groups, roles and managed policies. Never decides (`iam.evaluate` does) and never answers a call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from homeport.errors import MalformedPolicyDocumentError
from homeport.iam.amazon_policies import AMAZON_POLICIES
from homeport.iam.document import Kind, Policy, parse
from homeport.iam.evaluate import Policies
from homeport.iam.principal import Principal, PrincipalKind
from homeport.log import logger
from homeport.model import arn
from homeport.model.iam.group import Group
from homeport.model.iam.policy import InlinePolicy, ManagedPolicy
from homeport.model.iam.role import Role
from homeport.model.iam.user import User
from homeport.model.record import Record
from homeport.store.tables import GROUPS, MANAGED_POLICIES, ROLES, USERS

_log = logger("authority")
_REMEMBERED_MAX: Final = 10_000
"""Of callers, and of documents, those of sessions among them, which callers write."""
_NOTHING: Final = Policies()
_EVERYTHING: Final = Policies((parse(AMAZON_POLICIES["arn:aws:iam::aws:policy/AdministratorAccess"], name="AdministratorAccess"),))


class Authority:
    """The policies of every principal, compiled at first use and kept until one of them changes (a `Derived` view)."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}
        self._groups: dict[str, Group] = {}
        self._roles: dict[str, Role] = {}
        self._managed: dict[str, ManagedPolicy] = {}
        self._known: dict[str, dict[str, Any]] = {
            USERS.name: self._users,
            GROUPS.name: self._groups,
            ROLES.name: self._roles,
            MANAGED_POLICIES.name: self._managed,
        }
        self._compiled: dict[str, Policies] = {}
        self._trusts: dict[str, Policy] = {}
        self._parsed: dict[str, Policy] = {}

    def change(self, table: str, before: Record | None, after: Record | None) -> None:
        """Follow the store; records of other tables are passed over."""
        if table not in self._known:
            return
        known = self._known[table]
        if before is not None:
            known.pop(_place(before), None)
        if after is not None:
            known[_place(after)] = after
        # Changes of policies are rare, calls are not: what applies to whom is put together anew at its next use. A document means what it meant.
        self._compiled.clear()
        self._trusts.clear()

    def user(self, user_arn: str) -> User | None:
        """The user of an ARN."""
        return self._users.get(user_arn)

    def role(self, role_arn: str) -> Role | None:
        """The role of an ARN."""
        return self._roles.get(role_arn)

    def policies(self, principal: Principal, *, session: tuple[str, ...] | None = None) -> Policies:
        """What applies to `principal`: identity policies and boundary of the user or role, and `session`, the session's own policies (JSON, or ARNs).

        A user or role that is not there any more has no policies, hence no permissions.
        """
        if principal.kind is PrincipalKind.ROOT:
            return _NOTHING
        source = principal.source_arn or principal.arn
        # Of an account's root, a federated user has what the session's policies allow.
        found = _EVERYTHING if source == arn.root_arn(principal.account) else self._identity(source)
        if session is None:
            return found
        return Policies(found.identity, found.boundary, tuple(self._of_session(session)))

    def of(self, owner: User | Role | Group) -> Policies:
        """What applies to a user, group or role, compiled for this question."""
        return self._compile(owner)

    def trust(self, role: Role) -> Policy:
        """The compiled trust policy of `role`."""
        known = self._trusts.get(role.key)
        if known is None:
            known = self._trusts[role.key] = parse(role.trust, kind=Kind.TRUST, name=role.name)
        return known

    def is_there(self, source_arn: str, unique: str) -> bool:
        """Whether the user or role of a session is still the one of that unique id; an account's root always is."""
        owner = self._users.get(source_arn) or self._roles.get(source_arn)
        return owner.id == unique if owner is not None else not unique

    def _of_session(self, policies: tuple[str, ...]) -> Iterator[Policy]:
        for each in policies:
            # A managed policy that is gone allows nothing.
            yield from self._attached((each,)) if each.startswith("arn:") else (self._parse(each, "session policy"),)

    def _identity(self, owner_arn: str) -> Policies:
        known = self._compiled.get(owner_arn)
        if known is None:
            if len(self._compiled) >= _REMEMBERED_MAX:
                self._compiled.clear()
            known = self._compiled[owner_arn] = self._compile(self._users.get(owner_arn) or self._roles.get(owner_arn))
        return known

    def _compile(self, owner: User | Role | Group | None) -> Policies:
        if owner is None:
            return _NOTHING
        holders: list[User | Role | Group] = [owner]
        if isinstance(owner, User):
            holders += [group for name in owner.groups if (group := self._groups.get(f"{owner.account}/{name.lower()}")) is not None]
        identity = [policy for holder in holders for policy in (*self._inline(holder.inline), *self._attached(holder.attached))]
        boundary = None
        if not isinstance(owner, Group) and owner.boundary:
            # A boundary that cannot be read allows nothing.
            boundary = next(self._attached((owner.boundary,)), Policy(owner.boundary, ()))
        return Policies(tuple(identity), boundary)

    def _inline(self, inline: Iterable[InlinePolicy]) -> Iterator[Policy]:
        return (self._parse(policy.document, policy.name) for policy in inline)

    def _attached(self, arns: Iterable[str]) -> Iterator[Policy]:
        for policy_arn in arns:
            managed = self._managed.get(policy_arn)
            document = managed.document if managed is not None else AMAZON_POLICIES.get(policy_arn, "")
            if document:
                yield self._parse(document, policy_arn)

    def _parse(self, document: str, name: str) -> Policy:
        known = self._parsed.get(name + document)
        if known is None:
            if len(self._parsed) >= _REMEMBERED_MAX:
                self._parsed.clear()
            known = self._parsed[name + document] = self._read(document, name)
        return known

    @staticmethod
    def _read(document: str, name: str) -> Policy:
        try:
            return parse(document, name=name)
        except MalformedPolicyDocumentError as error:  # stored by a version that took it: it allows nothing
            _log.error("the policy %s cannot be read: %s", name, error.message)
            return Policy(name, ())


def _place(record: Record) -> str:
    """Under what a record is looked up: the ARN of a principal or policy, the key of a group."""
    if isinstance(record, User):
        return arn.user_arn(record.account, record.path, record.name)
    if isinstance(record, Role):
        return arn.role_arn(record.account, record.path, record.name)
    if isinstance(record, ManagedPolicy):
        return arn.policy_arn(record.account, record.path, record.name)
    assert isinstance(record, Group)
    return record.key
