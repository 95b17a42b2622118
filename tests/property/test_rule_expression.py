"""Bounded JMESPath says what the library says, and no text makes anything but an expression or an ExpressionError of itself."""

from __future__ import annotations

import random
from typing import Any

import jmespath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.rules.expression import Budget, Expression, ExpressionError

FIELDS = ("a", "b", "c", "image")
LITERALS = ("`1`", "`0`", "`true`", "`false`", "`null`", "`[]`", '`[1, [2], "x"]`', '`{"a": 1}`', "'x'", "''")
COMPARATORS = ("==", "!=", "<", ">=", "&&", "||")
FUNCTIONS = (
    ("length", 1), ("not_null", 2), ("to_string", 1), ("to_array", 1), ("to_number", 1), ("type", 1), ("keys", 1), ("values", 1), ("sort", 1),
    ("sum", 1), ("max", 1), ("reverse", 1), ("contains", 2), ("starts_with", 2), ("ends_with", 2), ("join", 2), ("merge", 2), ("abs", 1),
)  # fmt: skip
BY_EXPRESSION = ("sort_by", "max_by", "min_by")


def expression(chance: random.Random, depth: int) -> str:
    """A random expression; most are sensible."""

    def part() -> str:
        return expression(chance, depth - 1)

    if depth <= 0:
        return chance.choice((*FIELDS, "@", chance.choice(LITERALS)))
    kind = chance.randrange(13)
    if kind <= 1:
        return f"{part()} {chance.choice(COMPARATORS)} {part()}" if kind else f"({part()}) {chance.choice(COMPARATORS)} ({part()})"
    if kind == 2:
        return f"{chance.choice(FIELDS)}[?{part()}].{chance.choice(FIELDS)}"
    if kind == 3:
        return f"{part()} | {part()}"
    if kind == 4:
        return f"[{part()}, {part()}]"
    if kind == 5:
        return f"{{a: {part()}, b: {part()}}}"
    if kind == 6:
        return f"{chance.choice(FIELDS)}[]{chance.choice(('', '[]', '.a', '[0]', '[?a]'))}"
    if kind == 7:
        return f"{chance.choice(FIELDS)}[*].{part() if chance.random() < 0.3 else chance.choice(FIELDS)}"
    if kind == 8:
        return f"!({part()})"
    if kind == 9:
        name, count = chance.choice(FUNCTIONS)
        return f"{name}({', '.join(part() for _ in range(count))})"
    if kind == 10:
        return f"{chance.choice(BY_EXPRESSION)}({chance.choice(FIELDS)}, &{part()})"
    if kind == 11:
        return f"map(&{part()}, {chance.choice(FIELDS)}[])"
    return f"{chance.choice(FIELDS)}.{chance.choice(('*', 'a', 'b.c', 'c[1:]', 'a[-1]', 'b[::2]'))}"


def document(chance: random.Random, depth: int = 4) -> Any:
    kind = chance.randrange(8)
    if depth and kind <= 2:
        return {name: document(chance, depth - 1) for name in chance.sample(FIELDS, chance.randint(0, 4))}
    if depth and kind <= 4:
        return [document(chance, depth - 1) for _ in range(chance.randint(0, 4))]
    return chance.choice((None, True, False, 0, 1, 2.5, "", "x", "registry/x:1"))


def said(evaluate: Any) -> Any:
    """("value", …) or ("error",)."""
    try:
        return "value", evaluate()
    except Exception:
        return ("error",)


@pytest.mark.parametrize("first", range(0, 4_000, 500))
def test_what_the_library_says_is_said(first):
    values = 0
    for seed in range(first, first + 500):
        chance = random.Random(seed)
        text = expression(chance, chance.randint(0, 4))
        about = {name: document(chance) for name in FIELDS}
        expected = said(lambda text=text, about=about: jmespath.search(text, about))
        assert said(lambda text=text, about=about: Expression(text).evaluate(about, Budget(1_000_000))) == expected, (text, about)
        values += expected[0] == "value" and expected[1] not in (None, [], {})
    assert values > 100


TOKENS = st.sampled_from(
    [*FIELDS, *LITERALS, *COMPARATORS, "[", "]", "[?", "[]", "(", ")", "{", "}", "*", ".", ",", ":", "|", "&", "!", "@", "-1", "length("]
)


@settings(max_examples=600, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(TOKENS, max_size=40).map(" ".join), st.lists(TOKENS, max_size=300).map("".join)))
def test_any_text_is_an_expression_or_none_and_ends(text):
    try:
        made = Expression(text)
    except ExpressionError:
        return
    try:
        made.evaluate({"a": [1, {"b": [2, 3]}], "b": {"c": "x"}}, Budget(2_000))
    except ExpressionError:
        return
