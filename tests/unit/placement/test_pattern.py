"""The safe regular expressions agree with Python's on what both know, and stay fast where Python's does not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.placement.pattern import Pattern, PatternError

_ATOMS = st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", "[a-b]", "\\w", "\\d", "\\.", "^", "$", "a?", "b*", "(?:a|b)", "()"])


def _combine(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.tuples(inner, inner).map(lambda p: f"({p[0]}|{p[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{0,2}", "*?"])).map(lambda p: f"(?:{p[0]}){p[1]}"),
    )


@given(st.recursive(_ATOMS, _combine, max_leaves=8), st.lists(st.text(alphabet="abc.1", max_size=6), max_size=6))
def test_agrees_with_python(pattern: str, texts: list[str]) -> None:
    ours = Pattern(pattern)
    for text in texts:
        assert ours.matches(text) == (re.fullmatch(pattern, text) is not None), (pattern, text)


@pytest.mark.parametrize(
    "pattern", ["(", ")", "[a", "*a", "a{3,1}", "a{,2}", "a{x}", "\\", "\\b", "(?P<n>a)", "a*+", "[b-a]", "[[a]]", "x" * 513, "(" * 60 + ")" * 60]
)
def test_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        Pattern(pattern)


def test_too_complex() -> None:
    with pytest.raises(PatternError, match="too complex"):
        Pattern("((a{50}){50}){50}")


def test_catastrophic_patterns_end() -> None:
    text = "a" * 128 + "!"
    assert not Pattern("(a+)+").matches(text)
    assert not Pattern("(a|a)*b").matches(text)
    assert not Pattern(".*.*.*.*.*.*.*.*x").matches(text)
