"""The Condition element: every operator, with IfExists, ForAllValues and ForAnyValue.

Owns: operators and what they do with keys that are absent, have one value, or many. Never knows statements or policies.
Source: IAM user guide, "IAM JSON policy elements: Condition operators" and "Single-valued vs. multivalued context keys".
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import operator
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Final, TypeAlias, TypeVar

from homeport.iam.wildcard import Context, Pattern

Test: TypeAlias = Callable[[str, Context], bool]
"""Whether one value of the request agrees with the values of the policy."""

Condition: TypeAlias = Callable[[Context], bool]
"""Whether a request meets a condition."""


_Ordered = TypeVar("_Ordered")


class ConditionError(Exception):
    """An operator that does not exist. `operator` is as written."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.operator = name


def condition(name: str, key: str, values: Iterable[str], *, variables: bool) -> Condition:
    """One line of a Condition block, compiled.

    `name` is an operator with an optional ForAllValues: or ForAnyValue: before and IfExists behind it; `key` a condition key in any case;
    `values` what the policy lists; `variables` whether `${…}` has a meaning. Raises ConditionError for an operator that does not exist.
    """
    quantifier, _, rest = name.rpartition(":")
    if_exists = rest.endswith("IfExists")
    base = rest.removesuffix("IfExists")
    key = key.lower()
    if base == "Null" and not if_exists and not quantifier:
        return _null(key, list(values))
    positive, negated = _POSITIVE_OF.get(base, (base, False))
    make = _TESTS.get(positive)
    if make is None or quantifier not in ("", "ForAllValues", "ForAnyValue"):
        raise ConditionError(name)
    test = make(list(values), variables)
    if not quantifier:
        return _plain(key, test, negated=negated, absent=if_exists or negated)
    every = quantifier == "ForAllValues"
    return _each(key, test, negated=negated, every=every, absent=if_exists or every)


def _plain(key: str, test: Test, *, negated: bool, absent: bool) -> Condition:
    """Without a set operator. A multivalued key agrees when any of its values does."""

    def met(context: Context) -> bool:
        value = context.get(key)
        if value is None:
            return absent
        if isinstance(value, str):
            return test(value, context) is not negated
        return any(test(one, context) for one in value) is not negated

    return met


def _each(key: str, test: Test, *, negated: bool, every: bool, absent: bool) -> Condition:
    """With a set operator. No values at all count as an absent key."""

    def met(context: Context) -> bool:
        value = context.get(key)
        values = (value,) if isinstance(value, str) else value
        if not values:
            return absent
        return (all if every else any)(test(one, context) is not negated for one in values)

    return met


def _null(key: str, values: list[str]) -> Condition:
    """Null: "true" when the key must be absent, "false" when it must be there."""
    wanted = {value.lower() == "true" for value in values if value.lower() in ("true", "false")}
    return lambda context: (context.get(key, ()) == ()) in wanted


def _equals(values: list[str], variables: bool) -> Test:
    fixed = frozenset(value for value in values if not variables or "$" not in value)
    patterns = [Pattern(value, wildcards=False, variables=True) for value in values if value not in fixed]
    if not patterns:
        return lambda value, _: value in fixed
    return lambda value, context: value in fixed or any(pattern.matches(value, context) for pattern in patterns)


def _equals_ignoring_case(values: list[str], variables: bool) -> Test:
    patterns = [Pattern(value, wildcards=False, variables=variables) for value in values]
    return lambda value, context: any(pattern.folded(context) == value.lower() for pattern in patterns)


def _like(values: list[str], variables: bool) -> Test:
    patterns = [Pattern(value, wildcards=True, variables=variables) for value in values]
    return lambda value, context: any(pattern.matches(value, context) for pattern in patterns)


def _arn_like(values: list[str], variables: bool) -> Test:
    patterns = [Pattern(value, wildcards=True, variables=variables) for value in values]
    return lambda value, context: any(pattern.arn_matches(value, context) for pattern in patterns)


def _bool(values: list[str], variables: bool) -> Test:
    patterns = [Pattern(value, wildcards=False, variables=variables) for value in values]
    return lambda value, context: any(pattern.folded(context) == value.lower() for pattern in patterns)


def _binary(values: list[str], _: bool) -> Test:
    wanted = {decoded for value in values if (decoded := _decoded(value)) is not None}
    return lambda value, _: _decoded(value) in wanted


def _decoded(value: str) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


def _ip(values: list[str], _: bool) -> Test:
    networks = [network for value in values if (network := _network(value)) is not None]

    def test(value: str, _: Context) -> bool:
        address = _network(value)
        return address is not None and any(
            network.version == address.version
            and int(network.network_address) <= int(address.network_address)
            and int(address.broadcast_address) <= int(network.broadcast_address)
            for network in networks
        )

    return test


def _network(value: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        return None


def _compared(read: Callable[[str], _Ordered | None], compare: Callable[[_Ordered, _Ordered], bool]) -> Callable[[list[str], bool], Test]:
    """A family of operators whose values have an order."""

    def make(values: list[str], _: bool) -> Test:
        bounds = [bound for value in values if (bound := read(value)) is not None]

        def test(value: str, _: Context) -> bool:
            given = read(value)
            return given is not None and any(compare(given, bound) for bound in bounds)

        return test

    return make


_NUMBER_CHARACTERS_MAX: Final = 40


def number(text: str) -> Decimal | None:
    """A number as policies write it; None for anything else, NaN and infinities among it."""
    if len(text) > _NUMBER_CHARACTERS_MAX:
        return None
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def instant(text: str) -> Decimal | None:
    """Seconds since the epoch, of a W3C form of ISO 8601 (UTC where it names no zone) or of a number of seconds; None for anything else."""
    as_number = number(text)
    if as_number is not None and not (text.isdigit() and len(text) == len("2026")):
        return as_number
    try:
        when = (
            datetime.fromisoformat(text if len(text) != len("2026-01") else f"{text}-01") if len(text) != len("2026") else datetime(int(text), 1, 1)
        )
        return Decimal(str((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()))
    except (ValueError, OverflowError):
        return None


_COMPARISONS: Final[dict[str, Callable[[Decimal, Decimal], bool]]] = {
    "Equals": operator.eq,
    "LessThan": operator.lt,
    "LessThanEquals": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanEquals": operator.ge,
}
_TESTS: Final[dict[str, Callable[[list[str], bool], Test]]] = {
    "StringEquals": _equals,
    "StringEqualsIgnoreCase": _equals_ignoring_case,
    "StringLike": _like,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "Bool": _bool,
    "BinaryEquals": _binary,
    "IpAddress": _ip,
    **{f"Numeric{name}": _compared(number, compare) for name, compare in _COMPARISONS.items()},
    **{f"Date{name}": _compared(instant, compare) for name, compare in _COMPARISONS.items()},
}
_POSITIVE_OF: Final = {
    "StringNotEquals": ("StringEquals", True),
    "StringNotEqualsIgnoreCase": ("StringEqualsIgnoreCase", True),
    "StringNotLike": ("StringLike", True),
    "ArnNotEquals": ("ArnEquals", True),
    "ArnNotLike": ("ArnLike", True),
    "NumericNotEquals": ("NumericEquals", True),
    "DateNotEquals": ("DateEquals", True),
    "NotIpAddress": ("IpAddress", True),
}
