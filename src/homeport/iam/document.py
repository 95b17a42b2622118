"""Policy documents: their grammar, and the compiled form that decisions read.

Owns: parsing and its errors. Never knows who asks for what (`evaluate`) or where a policy is attached (its kind is an argument).
Source: IAM user guide, "Grammar of the IAM JSON policy language" and the pages of its elements.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, NoReturn

from homeport.errors import MalformedPolicyDocumentError
from homeport.iam.condition import Condition, ConditionError, condition
from homeport.iam.principal import Principals, principals
from homeport.iam.wildcard import Context, Pattern

_VERSIONS: Final = ("2008-10-17", "2012-10-17")
_TOP: Final = frozenset({"Version", "Id", "Statement"})
_ELEMENTS: Final = frozenset({"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"})
_SID: Final = re.compile(r"[A-Za-z0-9]*")
_ACTION: Final = re.compile(r"\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+|\*:\*")
_ARN_FIELDS: Final = 6
_DEPTH_MAX: Final = 12
_STATEMENTS_MAX: Final = 1000


class Kind(StrEnum):
    """What a policy is attached to, which decides which elements it must and must not have."""

    IDENTITY = "identity"
    RESOURCE = "resource"
    TRUST = "trust"


class Statement:
    """One statement, compiled. `deny` is its Effect; `sid` may be empty."""

    __slots__ = ("_acts", "_conditions", "_matches_resource", "_not_action", "deny", "principals", "sid")

    def __init__(self, elements: Mapping[str, Any], *, kind: Kind, variables: bool) -> None:
        self.sid = _sid(elements)
        self.deny = _effect(elements)
        self.principals: Principals | None = None if kind is Kind.IDENTITY else _principals(elements)
        if kind is Kind.IDENTITY and ("Principal" in elements or "NotPrincipal" in elements):
            _malformed("Policy document should not specify a principal.")
        self._not_action = "NotAction" in elements
        self._acts = [Pattern(text.lower(), wildcards=True, variables=False) for text in _actions(elements, kind)]
        self._matches_resource = _resources(elements, kind, variables=variables)
        self._conditions = tuple(_conditions(elements.get("Condition", {}), variables=variables))

    def covers(self, action: str) -> bool:
        """Whether its Action or NotAction takes in `action` ("ecs:RunTask" in lower case)."""
        return any(pattern.matches(action, {}) for pattern in self._acts) is not self._not_action

    def applies(self, resource: str, context: Context) -> bool:
        """Whether it takes in `resource` (an ARN or "*") and every one of its conditions is met."""
        return self._matches_resource(resource, context) and all(met(context) for met in self._conditions)


class Policy:
    """A parsed policy. `name` is how refusals and simulations call it: its ARN, or the name of an inline policy."""

    __slots__ = ("_by_action", "name", "statements")

    def __init__(self, name: str, statements: tuple[Statement, ...]) -> None:
        self.name = name
        self.statements = statements
        self._by_action: dict[str, tuple[Statement, ...]] = {}

    def covering(self, action: str) -> tuple[Statement, ...]:
        """The statements that take in `action` (lower case), in their order; remembered."""
        known = self._by_action.get(action)
        if known is None:
            if len(self._by_action) >= _REMEMBERED_MAX:
                self._by_action.clear()
            known = self._by_action[action] = tuple(statement for statement in self.statements if statement.covers(action))
        return known


_REMEMBERED_MAX: Final = 1024


def parse(text: str, *, kind: Kind = Kind.IDENTITY, name: str = "") -> Policy:
    """The policy that the JSON `text` describes. Raises MalformedPolicyDocumentError with the sentence that IAM says."""
    document = _read(text)
    if not isinstance(document, dict) or not document.keys() <= _TOP:
        _malformed("Syntax errors in policy.")
    version = document.get("Version", _VERSIONS[0])
    if version not in _VERSIONS:
        _malformed("The policy must contain a valid version string.")
    if not isinstance(document.get("Id", ""), str):
        _malformed("Syntax errors in policy.")
    listed = document.get("Statement")
    statements = [listed] if isinstance(listed, dict) else listed
    if not isinstance(statements, list) or not statements or len(statements) > _STATEMENTS_MAX:
        _malformed("Syntax errors in policy.")
    compiled = tuple(_statement(one, kind=kind, variables=version == _VERSIONS[1]) for one in statements)
    sids = [statement.sid for statement in compiled if statement.sid]
    if len(sids) != len(set(sids)):
        _malformed("Statement IDs (SID) in a single policy must be unique.")
    return Policy(name, compiled)


def _statement(elements: object, *, kind: Kind, variables: bool) -> Statement:
    if not isinstance(elements, dict) or not elements.keys() <= _ELEMENTS:
        _malformed("Syntax errors in policy.")
    return Statement(elements, kind=kind, variables=variables)


def _read(text: str) -> object:
    """The JSON; nesting deeper than any policy has, and a member that is there twice, are errors."""
    depth = deepest = 0
    for character in re.sub(r'"(?:[^"\\]|\\.)*"', "", text):
        depth += (character in "[{") - (character in "]}")
        deepest = max(deepest, depth)
    if deepest > _DEPTH_MAX:
        _malformed("Syntax errors in policy.")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=lambda _: _malformed("Syntax errors in policy."))
    except ValueError:
        _malformed("Syntax errors in policy.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        _malformed("Syntax errors in policy.")
    return dict(pairs)


def _sid(elements: Mapping[str, Any]) -> str:
    sid = elements.get("Sid", "")
    if not isinstance(sid, str):
        _malformed("Syntax errors in policy.")
    if _SID.fullmatch(sid) is None:
        _malformed("Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*")
    return sid


def _effect(elements: Mapping[str, Any]) -> bool:
    effect = elements.get("Effect")
    if effect is None:
        _malformed("Missing required field Effect")
    if effect not in ("Allow", "Deny"):
        _malformed(f"Invalid effect: {effect}")
    return bool(effect == "Deny")


def _principals(elements: Mapping[str, Any]) -> Principals:
    if ("Principal" in elements) == ("NotPrincipal" in elements):
        _malformed("Missing required field Principal")
    excluded = "NotPrincipal" in elements
    return principals(elements["NotPrincipal" if excluded else "Principal"], excluded=excluded)


def _actions(elements: Mapping[str, Any], kind: Kind) -> list[str]:
    if "Action" in elements and "NotAction" in elements:
        _malformed("Syntax errors in policy.")
    actions = _texts(elements.get("Action", elements.get("NotAction")), "Policy statement must contain actions.")
    for action in actions:
        if _ACTION.fullmatch(action) is None:
            _malformed(
                "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
                if ":" not in action
                else f"Action {action} is not valid. Vendors and actions are made of letters, digits and hyphens; wildcards go into the action only."
            )
        if kind is Kind.TRUST and not action.lower().startswith("sts:"):
            _malformed("AssumeRole policy may only specify STS AssumeRole actions.")
    return actions


def _resources(elements: Mapping[str, Any], kind: Kind, *, variables: bool) -> Callable[[str, Context], bool]:
    named, excluded = "Resource" in elements, "NotResource" in elements
    if kind is Kind.TRUST:
        if named or excluded:
            _malformed("Has prohibited field Resource")
        return lambda _resource, _context: True
    if named and excluded:
        _malformed("Syntax errors in policy.")
    texts = _texts(elements.get("Resource", elements.get("NotResource")), "Policy statement must contain resources.")
    for text in texts:
        if text != "*" and not text.startswith("arn:"):
            _malformed(f'Resource {text} must be in ARN format or "*".')
    patterns = [Pattern(_whole_arn(text), wildcards=True, variables=variables) for text in texts]
    if "*" in texts:
        return lambda _resource, _context: not excluded
    return lambda resource, context: any(pattern.matches(resource, context) for pattern in patterns) is not excluded


def _whole_arn(text: str) -> str:
    """An ARN of fewer than six parts stands for any value of those that are missing."""
    missing = 0 if text == "*" else _ARN_FIELDS - 1 - text.count(":")
    return text + ":*" * missing


def _conditions(block: object, *, variables: bool) -> list[Condition]:
    if not isinstance(block, dict):
        _malformed("Syntax errors in policy.")
    found = []
    for name, keys in block.items():
        if not isinstance(keys, dict):
            _malformed("Syntax errors in policy.")
        for key, value in keys.items():
            if ":" not in key:
                _malformed("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
            try:
                found.append(condition(name, key, _scalars(value), variables=variables))
            except ConditionError as error:
                _malformed(f"Invalid Condition type : {error.operator}.")
    return found


def _texts(value: object, missing: str) -> list[str]:
    """A text or a list of texts, at least one."""
    texts = [value] if isinstance(value, str) else value
    if texts is None or texts == []:
        _malformed(missing)
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        _malformed("Syntax errors in policy.")
    return texts


def _scalars(value: object) -> list[str]:
    """The values of a condition as texts: JSON's true is "true", its 5 is "5"."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(one, str | bool | int | float) for one in values):
        _malformed("Syntax errors in policy.")
    return [one if isinstance(one, str) else json.dumps(one) for one in values]


def _malformed(message: str) -> NoReturn:
    raise MalformedPolicyDocumentError(message)
