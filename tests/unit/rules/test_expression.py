"""JMESPath with bounds: what is refused before it is stored, and that no evaluation can cost more than its budget."""

from __future__ import annotations

import tracemalloc

import pytest

from homeport.rules.expression import CHARACTERS_MAX, STEPS_MAX, TOKENS_MAX, Budget, Expression, ExpressionError

DOCUMENT = {
    "taskDefinition": {"containerDefinitions": [{"name": f"c{number}", "image": "r/i:1", "privileged": number % 2 == 1} for number in range(6)]},
    "text": "x" * 400,
    "numbers": [3, 1, 2],
    "deep": {"a": {"b": {"c": [1, [2, [3]]]}}},
}


def said(text: str, document=DOCUMENT, steps: int = STEPS_MAX):
    return Expression(text).evaluate(document, Budget(steps))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("taskDefinition.containerDefinitions[?privileged].name", ["c1", "c3", "c5"]),
        ("length(taskDefinition.containerDefinitions[?starts_with(image, 'r/')]) == `6`", True),
        ("sort(numbers)", [1, 2, 3]),
        ("deep.a.b.c[]", [1, 2, [3]]),
        ("deep.a.b.c[] == [`1`, `2`, [`3`]]", True),
        ("map(&name, taskDefinition.containerDefinitions)", [f"c{number}" for number in range(6)]),
        ("sort_by(taskDefinition.containerDefinitions, &name)[0].name", "c0"),
        ("join('-', ['a', 'b'])", "a-b"),
        ("not_null(missing, other, 'x')", "x"),
        ("numbers[0] > `2` && numbers[1] < `2`", True),
        ("!missing", True),
        ("@.numbers | [1:]", [1, 2]),
        ("deep.*.b", [{"c": [1, [2, [3]]]}]),
        ("missing.at.all[?x]", None),
    ],
)
def test_the_language_is_that_of_the_aws_cli(text, expected):
    assert said(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("a b", "Unexpected token"),
        ("a ||", "Incomplete|Unexpected|Invalid"),
        ("a = b", "token"),
        ("'unclosed", "Unclosed"),
        ("nothing(a)", r"there is no function nothing\(\)"),
        ("a[?nothing(@)]", "there is no function nothing"),
        ("map(&nothing(@), a)", "there is no function nothing"),
        ("length(a, b)", r"length\(\) takes 1 arguments, not 2"),
        ("not_null()", r"not_null\(\) takes at least 1 arguments, not 0"),
        ("x" * (CHARACTERS_MAX + 1), f"more than {CHARACTERS_MAX} characters"),
        ("a" + ".a" * TOKENS_MAX, f"more than {TOKENS_MAX} parts"),
        ("(" * 300 + "a" + ")" * 300, "nested deeper"),
        ("[" * 300 + "a" + "]" * 300, "nested deeper"),
        ("a" + "[?a" * 300, "nested deeper"),
        ("!" * 900 + "a", "nested deeper|Recursion"),
        ("a" + "|a" * 400, "nested deeper"),
        ("a" + "||a" * 400, "nested deeper"),
        ("*" + ".*" * 400, "nested deeper|Recursion"),
        ("`" + "[" * 2000 + "]" * 2000 + "`", "Recursion|Bad token"),
        ("&a(", "Incomplete|Invalid|Unexpected"),
        ("\x00", "token"),
        ("{a: b", "Incomplete|Unexpected|Invalid"),
        ("\ud800", "token"),
    ],
)
def test_what_is_no_expression_or_too_large_is_refused_before_it_is_stored(text, words):
    with pytest.raises(ExpressionError, match=words):
        Expression(text)


DOUBLING = "[@,@][]" + "|[@,@][]" * 60
EXPLOSIONS = [
    DOUBLING,
    "taskDefinition.containerDefinitions|" + DOUBLING,
    "[text,text]|join('',@)" + "|[@,@]|join('',@)" * 40,
    "[@]|to_string(@)" + "|[@,@]|to_string(@)" * 40,
    "[@,@]" + "|[@,@]" * 40 + "|to_string(@)",
    "[@,@]" + "|[@,@]" * 40 + "|@ == [@]",
    "[@,@]" + "|[@,@]" * 40 + "|contains(@, 'x')",
    "[@,@]" + "|[@,@]" * 40 + "|length(@[][][][][][][][][][][][][][][][][][][][][])",
    "{a:@,b:@}" + "|{a:@,b:@}" * 40 + "|to_string(@)",
    "join(text, numbers[].to_string(@)) | [@,@,@,@,@,@,@,@] | join(@[0], @)" + "| [@,@,@,@,@,@,@,@] | join(@[0], @)" * 5,
    "[@,@][]" + "|[@,@][]" * 12 + "|map(&length(@|[@,@][]|[@,@][]), [@])",
]


@pytest.mark.parametrize("text", EXPLOSIONS, ids=range(len(EXPLOSIONS)))
def test_a_small_expression_cannot_grow_large(text):
    """Each would need gigabytes or years; the budget ends it within a few megabytes."""
    expression = Expression(text)
    tracemalloc.start()
    try:
        with pytest.raises(ExpressionError, match="too many steps"):
            expression.evaluate(DOCUMENT, Budget(STEPS_MAX))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_separator_is_paid_for_as_often_as_it_is_put():
    document = {"text": "x" * 100_000, "names": [""] * 1_000}
    with pytest.raises(ExpressionError, match="too many steps"):
        said("join(text, names)", document)


def test_flattening_is_paid_for_before_the_lists_are_put_together():
    shared = ["x"] * 8_000
    tracemalloc.start()
    try:
        with pytest.raises(ExpressionError, match="too many steps"):
            said("@[]", [shared] * 10_000)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_each_look_at_a_large_document_is_paid_for():
    document = {"environment": [{"name": f"N{number}", "value": "v"} for number in range(4_000)]}
    assert len(said("environment[].name", document)) == 4_000
    with pytest.raises(ExpressionError, match="too many steps"):
        said("environment[?length(name) > `0` && length(value) > `0` && name != value].name", document)


@pytest.mark.parametrize(
    ("text", "document", "words"),
    [
        ("starts_with(image, 'r/')", {}, "image|starts_with"),
        ("a < b", {"a": "x", "b": 1}, "TypeError"),
        ("contains(a, b)", {"a": "x", "b": 1}, "TypeError"),
        ("a[::0]", {"a": [1]}, "ValueError|step"),
        ("sort(a)", {"a": ["x", 1]}, "sort"),
        ("ceil(a)", {"a": float("nan")}, "ValueError"),
        ("sum(a)", {"a": ["x"]}, "sum"),
        ("a == b", {"a": [], "b": []}, None),
    ],
)
def test_what_cannot_be_evaluated_says_why(text, document, words):
    if words is None:
        assert said(text, document) is True
    else:
        with pytest.raises(ExpressionError, match=words):
            said(text, document)


def test_a_comparison_of_things_nested_too_deeply_is_an_error_and_no_crash():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ExpressionError):
        said("a == b", {"a": deep, "b": [deep]}, steps=10_000_000)


def test_a_budget_is_used_up_over_several_evaluations():
    budget = Budget(80)
    expression = Expression("taskDefinition.containerDefinitions[].name")
    assert len(expression.evaluate(DOCUMENT, budget)) == 6
    with pytest.raises(ExpressionError, match="too many steps"):
        expression.evaluate(DOCUMENT, budget)
