"""`homeport rule`: what may be typed, how files are read, what a person sees."""

from __future__ import annotations

import json

import pytest

from homeport.cli.arguments import parse
from homeport.cli.client import OWN_OPERATIONS
from homeport.cli.rule import report_screen, rule, rules_in, rules_screen
from homeport.cli.terminal import CommandError
from homeport.testing.records import ACCOUNT


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("rule put f.json", {"action": "put", "mode": None, "json": False}),
        ("rule put f.json --mode REPORT --json", {"mode": "REPORT", "json": True}),
        ("rule list", {"action": "list"}),
        ("rule delete a b", {"action": "delete", "name": ["a", "b"]}),
        ("rule test", {"action": "test", "name": [], "rule": None, "cluster": None}),
        ("rule test a --cluster prod --json", {"name": ["a"], "cluster": "prod", "json": True}),
    ],
)
def test_what_may_be_typed(typed, expected):
    parsed = vars(parse(typed.split()))
    assert {name: parsed[name] for name in expected} == expected


@pytest.mark.parametrize("typed", ["rule", "rule put", "rule put f --mode MAYBE", "rule delete"])
def test_what_may_not(typed):
    with pytest.raises(SystemExit) as ended:
        parse(typed.split())
    assert ended.value.code == 2


def test_every_operation_that_it_calls_is_known_as_our_own():
    assert {"PutRule", "DeleteRule", "ListRules", "TestRules"} <= set(OWN_OPERATIONS)
    assert callable(rule)


def test_a_file_holds_a_rule_or_a_list_of_them(tmp_path):
    path = tmp_path / "rules.json"
    path.write_text('{"name": "a"}')
    assert rules_in(path) == [{"name": "a"}]
    path.write_text('[{"name": "a"}, {"name": "b"}]')
    assert [item["name"] for item in rules_in(path)] == ["a", "b"]
    for wrong in ("[]", "7", '["a"]', "{", "[" * 100_000):
        path.write_text(wrong)
        with pytest.raises(CommandError, match=r"rules\.json"):
            rules_in(path)
    with pytest.raises(CommandError, match="No such file"):
        rules_in(tmp_path / "none.json")


def test_what_a_person_sees():
    item = {"name": "r", "mode": "ENFORCE", "version": 2, "clusters": ["prod*"], "resourceTypes": ["task"], "violations": "x" * 80}
    lines = list(rules_screen([item, {"name": "s", "mode": "REPORT", "version": 1, "require": "a"}]))
    assert lines[1].split()[:6] == ["r", "ENFORCE", "2", "task,", "cluster", "prod*"]
    assert lines[1].endswith("…")
    assert lines[2].split() == ["s", "REPORT", "1", "everything", "require", "a"]
    assert list(rules_screen([])) == ["no rules"]
    violation = {
        "ruleName": "r",
        "mode": "REPORT",
        "resourceType": "service",
        "resourceArn": f"arn:aws:ecs:us-east-1:{ACCOUNT}:service/prod/web",
        "message": "No. (found: app)",
    }
    assert list(report_screen([violation], 3))[1:] == ["r     REPORT  service  prod/web  No. (found: app)", "", "1 violation in 3 objects"]
    assert list(report_screen([], 0)) == ["0 violations in 0 objects"]


class Told:
    """In the place of the API: answers by operation, and remembers what was asked."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def call(self, operation, /, **parameters):
        self.asked.append((operation, parameters))
        return self.answers[operation].pop(0)


class Shown:
    def __init__(self):
        self.text = ""

    def show(self, text):
        self.text += text


def test_the_report_reads_every_page_and_its_status_says_whether_something_violates(tmp_path):
    from homeport.cli.rule import _test

    violation = {"ruleName": "r", "mode": "REPORT", "resourceType": "service", "resourceArn": "arn:aws:ecs:r:1:service/c/s", "message": "m"}
    api, shown = Told(TestRules=[{"violations": [], "examined": 2, "nextToken": "t"}, {"violations": [violation], "examined": 1}]), Shown()
    assert _test(api, parse(["rule", "test", "--cluster", "prod", "--json"]), shown) == 1
    assert json.loads(shown.text) == {"violations": [violation], "examined": 3}
    assert api.asked == [("TestRules", {"cluster": "prod"}), ("TestRules", {"cluster": "prod", "nextToken": "t"})]
    path = tmp_path / "rules.json"
    path.write_text('[{"name": "a"}, {"name": "b"}]')
    api = Told(TestRules=[{"violations": [], "examined": 3}, {"violations": [], "examined": 3}])
    assert _test(api, parse(["rule", "test", "--rule", str(path), "--stopped"]), Shown()) == 0
    assert api.asked == [("TestRules", {"rule": {"name": name}, "includeStopped": True}) for name in "ab"]
