"""What users, groups, roles and instance profiles have in common: names, paths, tags, pages.

Owns: `Kind` and the four there are, finding one, the forms that several operations share. Never holds an operation.
Source: the IAM API reference and its quotas ("IAM and AWS STS quotas").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from homeport.api.call import Call
from homeport.api.pagination import open_token, page_token, paginate
from homeport.errors import DeleteConflictError, EntityAlreadyExistsError, IamLimitExceededError, InvalidInputError, NoSuchEntityError
from homeport.model import arn
from homeport.model.record import Tags
from homeport.store.table import Reader, Table, Transaction
from homeport.store.tables import GROUPS, INSTANCE_PROFILES, ROLES, USERS

TAGS_MAX: Final = 50
PAGE_ITEMS: Final = 100


class Kind(NamedTuple):
    """A kind of entity."""

    table: Table[Any]
    noun: str
    """As messages have it: user."""
    member: str
    """The member of requests that names one: UserName."""
    prefix: str
    """Of its unique ids."""
    arn: Callable[[str, str, str], str]
    """(account, path, name) → ARN."""
    quota: int
    """How many an account may have."""
    inline_characters_max: int = 0
    """Of all inline policies of one together, white space not counted."""

    def find(self, reader: Reader, account: str, name: str) -> Any:
        """The record of that name. Raises NoSuchEntityError."""
        record = reader.get(self.table, f"{account}/{name.lower()}")
        if record is None:
            raise NoSuchEntityError(f"{self._shown(name)} cannot be found.")
        return record

    def require_new(self, reader: Reader, account: str, name: str) -> None:
        """Raises EntityAlreadyExistsError when the name is taken (in any case of letters), IamLimitExceededError when the account has its quota."""
        if reader.get(self.table, f"{account}/{name.lower()}") is not None:
            shown = self._shown(name) if self.prefix == "AIPA" else f"{self.noun.capitalize()} with name {name}"
            raise EntityAlreadyExistsError(f"{shown} already exists.")
        if reader.count(self.table, "account", account) >= self.quota:
            raise IamLimitExceededError(f"Cannot exceed quota for {self.noun.title().replace(' ', '')}sPerAccount: {self.quota}")

    def of_account(self, reader: Reader, account: str, path_prefix: str | None) -> list[Any]:
        """All of an account under a path, by name."""
        found = (record for record in reader.find(self.table, "account", account) if record.path.startswith(path_prefix or "/"))
        return sorted(found, key=lambda record: record.key)

    def rename(self, tx: Transaction, account: str, request: Any) -> tuple[Any, Any]:
        """(before, after) of a request that gives another name or path, written. Raises NoSuchEntityError, EntityAlreadyExistsError."""
        before = self.find(tx, account, getattr(request, self.member))
        name = getattr(request, f"New{self.member}") or before.name
        after = msgspec.structs.replace(before, name=name, path=request.NewPath or before.path)
        if after.key != before.key:
            tx.delete(self.table, before.key)  # first: one more than before there will not be, so a full account may rename too
            self.require_new(tx, account, after.name)
        tx.put(self.table, after)
        return before, after

    def _shown(self, name: str) -> str:
        return f"Instance Profile {name}" if self.prefix == "AIPA" else f"The {self.noun} with name {name}"


USER: Final = Kind(USERS, "user", "UserName", "AIDA", arn.user_arn, 5000, 2048)
GROUP: Final = Kind(GROUPS, "group", "GroupName", "AGPA", arn.group_arn, 300, 5120)
ROLE: Final = Kind(ROLES, "role", "RoleName", "AROA", arn.role_arn, 1000, 10240)
PROFILE: Final = Kind(INSTANCE_PROFILES, "instance profile", "InstanceProfileName", "AIPA", arn.instance_profile_arn, 1000)


def arn_of(kind: Kind, record: Any) -> str:
    """The ARN of a record of that kind."""
    return kind.arn(record.account, record.path, record.name)


def tags_of(given: Sequence[Any] | None, before: Tags = ()) -> Tags:
    """`before` with the tags of a request put over it; keys are unique without regard to case, and take the newest spelling.

    Raises InvalidInputError for a key that is there twice or reserved, IamLimitExceededError above 50.
    """
    tags = {key.lower(): (key, value) for key, value in before}
    seen: set[str] = set()
    for each in given or ():
        folded = each.Key.lower()
        if folded in seen:
            raise InvalidInputError("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
        if folded.startswith("aws:"):
            raise InvalidInputError("Tag keys that begin with aws: are reserved.")
        seen.add(folded)
        tags[folded] = (each.Key, each.Value)
    if len(tags) > TAGS_MAX:
        raise IamLimitExceededError(f"The number of tags has reached the maximum limit of {TAGS_MAX}.")
    return tuple(tags.values())


def tags_json(tags: Tags) -> list[dict[str, str]] | None:
    """The API's form; None for no tags."""
    return [{"Key": key, "Value": value} for key, value in tags] or None


def document_json(document: str) -> str:
    """A policy as IAM answers it: percent-encoded."""
    return quote(document, safe="-_.~")


def page(
    call: Call, request: Any, records: Iterable[Any], *, key: Callable[[Any], str], filters: Sequence[Any] = ()
) -> tuple[list[Any], dict[str, Any]]:
    """(the records of this page, IsTruncated and Marker). `records` in the order of `key`. Raises InvalidInputError for a bad Marker."""
    after = open_token(call, request.Marker, filters)
    items, last = paginate((record for record in records if key(record) > after), limit=request.MaxItems or PAGE_ITEMS, key=key)
    if last is None:
        return items, {"IsTruncated": False}
    return items, {"IsTruncated": True, "Marker": page_token(call, last, filters)}


async def listed(call: Call, request: Any, kind: Kind, member: str, form: Callable[[Reader, Any], dict[str, Any]]) -> dict[str, Any]:
    """The answer of an operation that lists all of a kind under a path, by name. Raises InvalidInputError for a bad Marker."""

    def read(reader: Reader) -> dict[str, Any]:
        found = kind.of_account(reader, call.account, request.PathPrefix)
        records, more = page(call, request, found, key=lambda record: record.key, filters=(request.PathPrefix,))
        return {member: [form(reader, record) for record in records], **more}

    return await call.view(read)


def require_no_policies(record: Any) -> None:
    """Raises DeleteConflictError for a user, group or role that has policies."""
    if record.attached:
        raise DeleteConflictError("Cannot delete entity, must detach all policies first.")
    if record.inline:
        raise DeleteConflictError("Cannot delete entity, must delete policies first.")


def boundary_json(boundary: str) -> dict[str, str] | None:
    """The API's form of a permissions boundary; None for none."""
    return {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": boundary} if boundary else None
