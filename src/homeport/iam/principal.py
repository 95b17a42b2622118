"""Who asks, and the Principal element that names who may.

Owns: the identifiers of a caller, and how a Principal or NotPrincipal element takes it in. Never knows actions or resources.
Source: IAM user guide, "AWS JSON policy elements: Principal" and "NotPrincipal".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from homeport.errors import MalformedPolicyDocumentError


class PrincipalKind(StrEnum):
    """What a caller is."""

    ROOT = "Root"
    USER = "User"
    ROLE_SESSION = "AssumedRole"
    FEDERATED_USER = "FederatedUser"
    SERVICE = "Service"
    FEDERATED = "Federated"  # somebody with a token of an identity provider, before there is a session


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller.

    `arn` is what GetCallerIdentity says: a user's ARN, a session's (`arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`), a service's name
    (`ecs-tasks.amazonaws.com`) or an identity provider's ARN or address. `source_arn` is the role of a session or the user behind a federated one.
    """

    kind: PrincipalKind
    arn: str
    account: str
    source_arn: str = ""

    @property
    def identifiers(self) -> frozenset[str]:
        """Every text of an AWS principal that means this caller, its account's among them."""
        root = f"arn:aws:iam::{self.account}:root"
        return frozenset({self.arn, self.source_arn, self.account, root} - {""})


class Grant(IntEnum):
    """How directly a statement of a resource's policy means a caller; more is stronger."""

    NONE = 0
    ACCOUNT = 1  # its account, which may hand the permission on by its own policies
    ROLE = 2  # the role of its session, or everybody: identity policies need not say so again, boundary and session policies must
    DIRECT = 3  # itself: within one account nothing else is asked


_ACCOUNT: Final = re.compile(r"\d{12}")
_ARN: Final = re.compile(r"arn:aws:(?:iam|sts)::\d{12}:(?:root|(?:user|role|assumed-role|federated-user)/[\w+=,.@/-]+)")
_SERVICE: Final = re.compile(r"[a-z0-9.-]+\.amazonaws\.com")
_TYPES: Final = ("AWS", "Service", "Federated", "CanonicalUser")


class Principals:
    """A Principal element; `excluded` for NotPrincipal."""

    __slots__ = ("_accounts", "_aws", "_everybody", "_federated", "_services", "excluded")

    def __init__(self, named: dict[str, frozenset[str]], *, everybody: bool, excluded: bool) -> None:
        self.excluded = excluded
        self._everybody = everybody
        self._aws = named.get("AWS", frozenset())
        self._services = named.get("Service", frozenset())
        self._federated = named.get("Federated", frozenset())
        self._accounts = frozenset(
            text if _ACCOUNT.fullmatch(text) else text.split(":")[4] for text in self._aws if text.endswith(":root") or _ACCOUNT.fullmatch(text)
        )

    def grant(self, principal: Principal) -> Grant:
        """How directly an Allow with this element means `principal`."""
        if self.excluded:
            return Grant.NONE if self._named(principal) else Grant.ROLE
        if principal.kind is PrincipalKind.SERVICE:
            return Grant.DIRECT if self._everybody or principal.arn in self._services else Grant.NONE
        if principal.kind is PrincipalKind.FEDERATED:
            return Grant.DIRECT if self._everybody or principal.arn in self._federated else Grant.NONE
        if principal.arn in self._aws:
            return Grant.DIRECT
        if self._everybody or principal.source_arn in self._aws:
            return Grant.ROLE
        return Grant.ACCOUNT if principal.account in self._accounts else Grant.NONE

    def denies(self, principal: Principal, *, bounded: bool) -> bool:
        """Whether a Deny with this element means `principal`.

        NotPrincipal spares a caller only when each of its identifiers is listed (account, role, session), and never one with a permissions
        boundary (`bounded`): so says the guide.
        """
        if not self.excluded:
            return self.grant(principal) is not Grant.NONE
        return bounded or not self._spared(principal)

    def _named(self, principal: Principal) -> bool:
        if principal.kind is PrincipalKind.SERVICE:
            return principal.arn in self._services
        if principal.kind is PrincipalKind.FEDERATED:
            return principal.arn in self._federated
        return self._everybody or principal.account in self._accounts or bool({principal.arn, principal.source_arn} & self._aws)

    def _spared(self, principal: Principal) -> bool:
        if principal.kind in (PrincipalKind.SERVICE, PrincipalKind.FEDERATED):
            return self._named(principal)
        own = {principal.arn, principal.source_arn} - {"", f"arn:aws:iam::{principal.account}:root"}
        return self._everybody or (principal.account in self._accounts and own <= self._aws)


def principals(element: object, *, excluded: bool) -> Principals:
    """The element's JSON value, compiled. Raises MalformedPolicyDocumentError for what names nobody that could exist."""
    if element == "*":
        return Principals({}, everybody=True, excluded=excluded)
    if not isinstance(element, dict) or not element or not element.keys() <= set(_TYPES):
        raise MalformedPolicyDocumentError(f"Invalid principal in policy: {element if isinstance(element, str) else 'no type of principal'}")
    named: dict[str, frozenset[str]] = {}
    for kind, value in element.items():
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not values or not all(isinstance(text, str) for text in values):
            raise MalformedPolicyDocumentError("Syntax errors in policy.")
        for text in values:
            _check(kind, text)
        named[kind] = frozenset(values)
    return Principals(named, everybody="*" in named.get("AWS", ()), excluded=excluded)


def _check(kind: str, text: str) -> None:
    valid = {
        "AWS": text == "*" or _ACCOUNT.fullmatch(text) is not None or _ARN.fullmatch(text) is not None,
        "Service": _SERVICE.fullmatch(text) is not None,
        "Federated": bool(text) and "*" not in text,
        "CanonicalUser": False,  # S3's, which Homeport does not have
    }[kind]
    if not valid:
        raise MalformedPolicyDocumentError(f'Invalid principal in policy: "{kind}":"{text}"')
