"""Patterns of policies: text with `*`, `?` and variables.

Owns: how a value of a policy is read into a pattern, and matching. Never knows elements or operators.
Matching takes at most (stars × length) steps and never backtracks, so that no pattern can hold up a decision.
Source: IAM user guide, "IAM JSON policy elements: Resource", "Condition operators", "Policy elements: Variables and tags".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

Context: TypeAlias = Mapping[str, str | tuple[str, ...]]
"""What a request says of itself: condition key in lower case → its value; a tuple for a multivalued key."""

Part: TypeAlias = "str | _Variable | _Star | _Any"

# No two parts of it can take the same characters: it fails in one pass, whatever stands there.
_VARIABLE: Final = re.compile(r"\$\{(?P<key>[^,{}']*)(?:,\s*'(?P<default>(?:[^']|'')*)'\s*)?\}")
_SPECIAL: Final = re.compile(r"[*?$]")
_ESCAPED: Final = frozenset("*?$")


class _Star:
    """Any number of characters."""


class _Any:
    """One character."""


class _Variable:
    """The value of a condition key, or a default."""

    __slots__ = ("default", "key")

    def __init__(self, key: str, default: str | None) -> None:
        self.key = key
        self.default = default

    def value(self, context: Context) -> str | None:
        """Its text; None when the request has no single value for it and there is no default."""
        value = context.get(self.key)
        return value if isinstance(value, str) else self.default


_STAR: Final = _Star()
_ANY: Final = _Any()


class Pattern:
    """One value of a policy, ready to be matched.

    `text` as written; `wildcards` says whether `*` and `?` mean something (StringLike) or themselves (StringEquals); `variables` whether `${…}`
    does (policy versions from 2012-10-17 on). A variable's value is taken literally, its own `*` mean nothing. A pattern with a variable that has
    no value matches nothing ("there is no equal or like value").
    """

    __slots__ = ("_fixed", "_parts", "text")

    def __init__(self, text: str, *, wildcards: bool, variables: bool) -> None:
        self.text = text
        self._parts = tuple(_parts(text, wildcards=wildcards, variables=variables))
        self._fixed = None if any(isinstance(part, _Variable) for part in self._parts) else _matcher(self._parts)

    def matches(self, value: str, context: Context) -> bool:
        """Whether `value` has this form in a request with `context`."""
        if self._fixed is not None:
            return self._fixed(value)
        parts = self.resolved(context)
        return parts is not None and _matcher(parts)(value)

    def resolved(self, context: Context) -> tuple[Part, ...] | None:
        """Its parts with every variable replaced by its value; None when one has no value."""
        parts: list[Part] = []
        for part in self._parts:
            if isinstance(part, _Variable):
                value = part.value(context)
                if value is None:
                    return None
                parts.append(value)
            else:
                parts.append(part)
        return tuple(parts)

    def folded(self, context: Context) -> str | None:
        """The whole text in lower case with variables replaced, for comparisons without case; None when a variable has no value."""
        parts = self.resolved(context)
        return None if parts is None else "".join(part for part in parts if isinstance(part, str)).lower()

    def arn_matches(self, value: str, context: Context) -> bool:
        """Whether each of the six parts of the ARN `value` has the form of the same part of this pattern (ArnEquals, ArnLike)."""
        parts = self.resolved(context)
        if parts is None:
            return False
        pattern, fields = _split(parts), value.split(":", 5)
        return len(pattern) == len(fields) == _ARN_FIELDS and all(_matcher(part)(field) for part, field in zip(pattern, fields, strict=True))


_ARN_FIELDS: Final = 6


def _parts(text: str, *, wildcards: bool, variables: bool) -> list[Part]:
    """`text` cut into literal text, wildcards and variables."""
    parts: list[Part] = []
    literal: list[str] = []
    position = 0
    while (special := _SPECIAL.search(text, position)) is not None:
        literal.append(text[position : special.start()])
        part, position = _special(text, special, wildcards=wildcards, variables=variables)
        if isinstance(part, str):
            literal.append(part)
        else:
            parts += ["".join(literal), part]
            literal.clear()
    return [part for part in (*parts, "".join(literal) + text[position:]) if part != ""]


def _special(text: str, found: re.Match[str], *, wildcards: bool, variables: bool) -> tuple[Part, int]:
    """(what stands at a `*`, `?` or `$`, where it ends)."""
    variable = _VARIABLE.match(text, found.start()) if variables else None
    key = variable["key"].strip() if variable is not None else ""
    if variable is not None and key:
        default = variable["default"]
        if key in _ESCAPED and default is None:
            return key, variable.end()
        return _Variable(key.lower(), None if default is None else default.replace("''", "'")), variable.end()
    if wildcards and found[0] != "$":
        return _STAR if found[0] == "*" else _ANY, found.end()
    return found[0], found.end()


def _split(parts: tuple[Part, ...]) -> list[tuple[Part, ...]]:
    """The parts of an ARN's pattern, cut at its first five colons."""
    fields: list[list[Part]] = [[]]
    for part in parts:
        if not isinstance(part, str):
            fields[-1].append(part)
            continue
        pieces = part.split(":", _ARN_FIELDS - len(fields))
        fields[-1].append(pieces[0])
        fields.extend([piece] for piece in pieces[1:])
    return [tuple(field) for field in fields]


def _matcher(parts: tuple[Part, ...]) -> Callable[[str], bool]:
    """A function that says whether a whole text has this form. No part is a variable."""
    segments: list[list[str | _Any]] = [[]]
    for part in parts:
        if isinstance(part, _Star):
            segments.append([])
        elif isinstance(part, str | _Any):
            segments[-1].append(part)
    if all(isinstance(piece, str) for segment in segments for piece in segment):
        return _literal(["".join(str(piece) for piece in segment) for segment in segments])
    return _general([_segment(segment) for segment in segments])


def _literal(segments: list[str]) -> Callable[[str], bool]:
    """For patterns without `?`: the common ones without any search."""
    first, last, middle = segments[0], segments[-1], [segment for segment in segments[1:-1] if segment]
    if len(segments) == 1:
        return lambda text: text == first
    if not middle and not last:
        return (lambda text: text.startswith(first)) if first else (lambda _: True)
    least = sum(map(len, segments))

    def matches(text: str) -> bool:
        if len(text) < least or not text.startswith(first) or not text.endswith(last):
            return False
        position, end = len(first), len(text) - len(last)
        for segment in middle:
            found = text.find(segment, position, end)
            if found < 0:
                return False
            position = found + len(segment)
        return True

    return matches


def _segment(pieces: list[str | _Any]) -> tuple[int, re.Pattern[str]]:
    """A segment between two stars: its length, and an expression that has no repetition."""
    source = "".join(re.escape(piece) if isinstance(piece, str) else "." for piece in pieces)
    return sum(len(piece) if isinstance(piece, str) else 1 for piece in pieces), re.compile(source, re.DOTALL)


def _general(segments: list[tuple[int, re.Pattern[str]]]) -> Callable[[str], bool]:
    """For patterns with `?`: the leftmost place of each segment is as good as any other."""
    least = sum(length for length, _ in segments)

    def matches(text: str) -> bool:
        if len(segments) == 1:
            return segments[0][1].fullmatch(text) is not None
        if len(text) < least or segments[0][1].match(text) is None:
            return False
        position, end = segments[0][0], len(text) - segments[-1][0]
        for length, segment in segments[1:-1]:
            found = segment.search(text, position, end)
            if found is None:
                return False
            position = found.start() + length
        return segments[-1][1].fullmatch(text, end) is not None

    return matches
