"""How a story and an answer of the past are shown."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from homeport.cli import reading
from homeport.cli.client import Api
from homeport.cli.history import fetch, screen
from homeport.cli.installation import LocalCredentials
from homeport.cli.moment import Moment
from homeport.cli.reading import PastApi
from homeport.cli.terminal import Terminal
from homeport.virtual_clock import VirtualClock

ARN = "arn:aws:ecs:us-east-1:123456789012:service/default/web"
ROOT = "arn:aws:iam::123456789012:root"
REQUEST = {"kind": "request", "who": ROOT, "why": "UpdateService 1", "operation": "UpdateService", "requestId": "1", "principalArn": ROOT}
CONTROLLER = {"kind": "controller", "who": "controller/service", "why": "123456789012/default/web", "controller": "service"}


def entry(kind: str, cause: dict[str, str], *changes: dict[str, Any], arn: str = ARN, revision: int = 7) -> dict[str, Any]:
    return {"revision": revision, "instant": 1795507200.25, "kind": kind, "resourceArn": arn, "cause": cause, "changes": list(changes)}


def test_a_change_has_its_revision_instant_cause_and_fields():
    lines = list(screen(ARN, [entry("update", REQUEST, {"field": "desiredCount", "old": 1, "new": 2}, {"field": "drainedAt", "new": 1795507200.0})]))
    assert lines[0] == ARN
    assert lines[2].startswith("revision 7  2026-11-24T") and lines[2].endswith(f"changed by {ROOT}: UpdateService, request 1")
    assert lines[3] == "    desiredCount: 1 → 2"
    assert lines[4].startswith("    drainedAt: - → 2026-11-24T")


def test_a_part_is_named_and_a_creation_shows_what_is_plain():
    part = "arn:aws:ecs:us-east-1:123456789012:service-deployment/default/web/1"
    created = entry("create", CONTROLLER, {"field": "status", "new": "PRIMARY"}, {"field": "tags", "new": [["a", "b"]]}, arn=part)
    lines = list(screen(ARN, [created, entry("delete", CONTROLLER)]))
    assert "service-deployment/default/web/1 created by controller/service: 123456789012/default/web" in lines[2]
    assert lines[3] == "    status=PRIMARY"
    assert lines[5].endswith("removed by controller/service: 123456789012/default/web")


def test_long_values_are_cut_on_the_screen():
    lines = list(screen(ARN, [entry("update", REQUEST, {"field": "placementFailure", "old": "x" * 500, "new": ["y" * 500]})]))
    assert len(lines[3]) < 300 and "…" in lines[3]


class Recorded:
    """The API's answers, one after the other, and what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any]) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        waiting = list(answers)

        def call(_: Api, operation: str, /, **parameters: Any) -> dict[str, Any]:
            self.asked.append((operation, parameters))
            return waiting.pop(0)

        monkeypatch.setattr(Api, "call", call)


CREDENTIALS = LocalCredentials("http://127.0.0.1:1", "id", "secret", "us-east-1", "123456789012", "i")


def test_every_page_is_fetched(monkeypatch):
    recorded = Recorded(monkeypatch, {"resourceArn": ARN, "entries": [1], "nextToken": "t"}, {"resourceArn": ARN, "entries": [2]})
    assert fetch(Api(CREDENTIALS, VirtualClock()), "web", None) == (ARN, [1, 2])
    assert recorded.asked[1] == ("DescribeHistory", {"resource": "web", "nextToken": "t"})


def test_all_calls_about_a_moment_are_about_one_revision(monkeypatch):
    recorded = Recorded(monkeypatch, {"revision": 41, "instant": 5.0, "answer": {"a": 1}}, {"revision": 41, "answer": {"b": 2}})
    clock = VirtualClock()
    api = PastApi(CREDENTIALS, clock, moment=Moment(ago=600.0))
    assert api.call("ListClusters") == {"a": 1}
    assert api.call("ListTasks", cluster="c") == {"b": 2}
    assert recorded.asked == [
        ("DescribeAt", {"operation": "ListClusters", "request": {}, "instant": clock.now() - 600.0}),
        ("DescribeAt", {"operation": "ListTasks", "request": {"cluster": "c"}, "revision": 41}),
    ]
    assert (api.revision, api.instant) == (41, 0.0)


def test_what_managed_scaling_sees_is_asked_of_the_present_alone(monkeypatch, capsys):
    """ECS has no operation for it, so nobody can be asked what it would have answered then."""
    recorded = Recorded(monkeypatch, {"revision": 41, "answer": {"capacityProviders": [{"name": "pool", "status": "ACTIVE"}]}})
    monkeypatch.setattr(reading, "api_of", lambda *_: PastApi(CREDENTIALS, VirtualClock(), moment=Moment(ago=600.0)))
    options = argparse.Namespace(kind="capacity-providers", cluster=None, json=False)
    assert reading.list_resources(options, Terminal(VirtualClock()), {}) == 0
    assert [parameters["operation"] for _, parameters in recorded.asked] == ["DescribeCapacityProviders"]
    assert "pool" in capsys.readouterr().out
