"""What a rule says of one object. Admission and report ask here, and nowhere else.

Owns: `judge`, `check`, `Finding`. Never builds the objects (`api/ecs/rule_object.py`) and never decides what follows from a finding.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from homeport.model.homeport.rule import Rule
from homeport.rules.expression import STEPS_MAX, Budget, Expression, ExpressionError

FOUND_MAX: Final = 10
FOUND_CHARACTERS_MAX: Final = 200
"""Of what an expression found so much is told."""
_COMPILED_MAX: Final = 256

_LIMITS: Final = (("clusters", "cluster"), ("families", "family"), ("services", "service"))
"""Member of a rule → what of the object its patterns are compared with."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that an object violates."""

    rule: Rule
    found: tuple[str, ...] = ()
    """The elements that the expression listed, as text."""
    error: str = ""
    """Why it could not be evaluated, which counts as violated; else ""."""

    @property
    def demand(self) -> str:
        """What the rule demands, in its author's words if it has some. Nothing of the object is in it."""
        return self.rule.message or (f"{self.rule.require} is not true" if self.rule.require else f"{self.rule.violations} finds something")

    @property
    def sentence(self) -> str:
        """What whoever is refused reads."""
        if self.error:
            return f"{self.demand} (the rule cannot be evaluated: {self.error})"
        return f"{self.demand} (found: {', '.join(self.found)})" if self.found else self.demand


def covers(rule: Rule, document: Mapping[str, Any]) -> bool:
    """Whether `rule` is about the object: its kind is among the rule's, and each pattern that the rule has fits. What has no cluster or service is
    in none."""
    if rule.kinds and document["resourceType"] not in rule.kinds:
        return False
    return all(not getattr(rule, limit) or _fits(getattr(rule, limit), document.get(member)) for limit, member in _LIMITS)


def judge(rule: Rule, document: Mapping[str, Any], budget: Budget) -> Finding | None:
    """What `document` violates of `rule`; None when it holds or the object is none of its. Errors count as violated.

    At most `STEPS_MAX` steps are taken out of `budget`, which may be shared by many evaluations.
    """
    if not covers(rule, document):
        return None
    own = Budget(min(STEPS_MAX, max(budget.steps, 0)))
    before = own.steps
    try:
        said = compiled(rule.require or rule.violations).evaluate(document, own)
    except ExpressionError as error:
        return Finding(rule=rule, error=str(error))
    finally:
        budget.steps -= before - max(own.steps, 0)
    return _required(rule, said) if rule.require else _listed(rule, said)


def _required(rule: Rule, said: Any) -> Finding | None:
    """Only true is true: a name that is written wrong says null, and nothing may be passed for that."""
    if said is True:
        return None
    return Finding(rule=rule) if said is False else Finding(rule=rule, error=f"it says {_kind_of(said)}, neither true nor false")


def _listed(rule: Rule, said: Any) -> Finding | None:
    if not isinstance(said, list):
        return Finding(rule=rule, error=f"it says {_kind_of(said)}, not a list")
    return Finding(rule=rule, found=tuple(_text(item) for item in said[:FOUND_MAX])) if said else None


def _text(item: Any) -> str:
    text = item if isinstance(item, str) else msgspec.json.encode(item).decode()
    return text if len(text) <= FOUND_CHARACTERS_MAX else f"{text[:FOUND_CHARACTERS_MAX]}…"


def _kind_of(said: Any) -> str:
    if said is None:
        return "null"
    kinds = {bool: "a truth value", str: "a text", list: "a list", dict: "an object"}
    return kinds.get(type(said), "a number")


@functools.lru_cache(maxsize=_COMPILED_MAX)
def compiled(text: str) -> Expression:
    """The expression of `text`. Raises ExpressionError."""
    return Expression(text)


def _fits(patterns: tuple[str, ...], name: Any) -> bool:
    return isinstance(name, str) and any(fits(pattern, name) for pattern in patterns)


def fits(pattern: str, name: str) -> bool:
    """Whether `name` is of `pattern`, in which `*` stands for any text. Each piece is looked for once, from the left: nothing is tried again."""
    first, *middle = pattern.split("*")
    if not middle:
        return name == first
    last = middle.pop()
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    place, end = len(first), len(name) - len(last)
    for piece in middle:
        place = name.find(piece, place, end)
        if place < 0:
            return False
        place += len(piece)
    return True
