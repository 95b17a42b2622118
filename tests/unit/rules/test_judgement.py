"""What a rule is about, and when it holds: true, an empty list, and nothing else."""

from __future__ import annotations

import pytest

from homeport.model.homeport.rule import Rule
from homeport.rules.expression import STEPS_MAX, Budget
from homeport.rules.judgement import FOUND_MAX, covers, fits, judge

OBJECT = {
    "resourceType": "task",
    "cluster": "prod-eu",
    "service": None,
    "family": "web",
    "n": 1,
    "yes": True,
    "no": False,
    "list": [],
    "texts": ["a"],
}


def rule(**fields) -> Rule:
    return Rule(**{"account": "1" * 12, "name": "r", "mode": "ENFORCE", **fields})


def found(document=OBJECT, **fields):
    return judge(rule(**fields), document, Budget(STEPS_MAX))


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("prod", "prod", True),
        ("prod", "prods", False),
        ("prod*", "prod", True),
        ("prod*", "production", True),
        ("*prod", "preprod", True),
        ("*prod", "prods", False),
        ("a*b", "ab", True),
        ("ab*ba", "aba", False),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("*", "", True),
        ("**", "x", True),
        ("", "", True),
        ("", "x", False),
        ("a.c", "abc", False),
        ("[a]", "a", False),
        ("*a*a*a*a*", "aaa", False),
        ("*a*a*a*a*", "xaxaxaxax", True),
        ("a*a", "a", False),
    ],
)
def test_a_star_stands_for_any_text_and_nothing_else_is_special(pattern, name, expected):
    assert fits(pattern, name) is expected


def test_a_pattern_of_many_stars_is_no_work():
    assert not fits("*a" * 120 + "b", "a" * 200_000)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"kinds": ("task",)}, True),
        ({"kinds": ("service", "daemon")}, False),
        ({"clusters": ("prod*",)}, True),
        ({"clusters": ("test", "prod-eu")}, True),
        ({"clusters": ("test",)}, False),
        ({"families": ("web",), "clusters": ("prod*",)}, True),
        ({"families": ("api",), "clusters": ("prod*",)}, False),
        ({"services": ("*",)}, False),
    ],
)
def test_a_rule_is_about_what_all_of_its_limits_fit(fields, expected):
    assert covers(rule(**fields), OBJECT) is expected
    finding = found(require="no", **fields)
    assert (finding is not None) is expected


@pytest.mark.parametrize("expression", ["yes", "n == `1`", "!no", "length(list) == `0`"])
def test_what_is_required_holds_when_it_is_true(expression):
    assert found(require=expression) is None


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("no", ""),
        ("n == `2`", ""),
        ("missing", "null"),
        ("yess", "null"),
        ("n", "a number"),
        ("cluster", "a text"),
        ("texts", "a list"),
        ("@", "an object"),
        ("starts_with(service, 'x')", "starts_with"),
        ("n < 'x'", "TypeError|null"),
    ],
)
def test_all_else_is_violated_and_a_misspelt_name_does_not_pass_for_true(expression, error):
    finding = found(require=expression)
    assert finding is not None
    assert bool(finding.error) is bool(error)
    if error:
        assert "cannot be evaluated" in finding.sentence


@pytest.mark.parametrize(
    ("expression", "elements", "error"),
    [
        ("list", None, ""),
        ("texts[?@ == 'b']", None, ""),
        ("texts", ("a",), ""),
        ("[n, yes, service]", ("1", "true", "null"), ""),
        ("missing", (), "null"),
        ("missing[?x]", (), "null"),
        ("n", (), "a number"),
        ("yes", (), "a truth value"),
    ],
)
def test_violations_are_a_list_and_its_elements_are_told(expression, elements, error):
    finding = found(violations=expression)
    if elements is None:
        assert finding is None
    else:
        assert finding is not None
        assert finding.found == elements
        assert error in finding.error


def test_what_is_told_has_bounds():
    finding = found({**OBJECT, "texts": ["x" * 5_000] * 500}, violations="texts", message="No texts")
    assert len(finding.found) == FOUND_MAX
    assert len(finding.sentence) < 2_500
    assert finding.sentence.startswith("No texts (found: xxx")


def test_without_a_message_the_expression_speaks():
    assert found(require="no").sentence == "no is not true"
    assert found(violations="texts").sentence == "texts finds something (found: a)"


def test_an_expression_that_a_later_version_would_not_take_is_violated():
    assert "no function" in found(require="gone(@)").error


def test_a_budget_that_is_used_up_is_violated():
    budget = Budget(5)
    assert judge(rule(require="yes && yes && yes && yes"), OBJECT, budget).error == "its evaluation takes too many steps"
    assert budget.steps == 0
    assert judge(rule(require="yes"), OBJECT, budget).error
    assert judge(rule(require="yes", clusters=("test",)), OBJECT, budget) is None


def test_one_evaluation_may_take_only_a_part_of_a_larger_budget():
    budget = Budget(10 * STEPS_MAX)
    assert judge(rule(require="[@,@][]" + "|[@,@][]" * 40 + " == @"), OBJECT, budget).error
    assert budget.steps == 9 * STEPS_MAX
