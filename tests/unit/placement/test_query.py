"""The cluster query language: grammar, operators, absent attributes, errors."""

from __future__ import annotations

from typing import Any

import pytest

from homeport.placement import query


class Instance:
    """A query.Subject."""

    def __init__(self, **fields: Any) -> None:
        self.attributes = {"stack": "prod", "ecs.instance-type": "t2.small", "ecs.availability-zone": "us-east-1a", "slots": "10", "flag": ""}
        self.agent_connected = True
        self.agent_version = "1.10.0"
        self.ec2_instance_id = "i-0123456789abcdef0"
        self.registered_at = 1_529_280_000.0  # 2018-06-18T00:00:00Z
        self.running = 3
        self.groups = {"service:web": 2, "databases": 1}
        for name, value in fields.items():
            setattr(self, name, value)


TRUE = [
    "attribute:stack == prod",
    "attribute:stack==prod",
    "attribute:stack equals 'prod'",
    'attribute:stack == "prod"',
    "attribute:stack != test",
    "attribute:stack in [test, prod]",
    "attribute:stack in ['test',\"prod\"]",
    "attribute:stack !in [test, dev]",
    "attribute:stack not_in [test]",
    "attribute:stack exists",
    "attribute:flag exists",
    "attribute:missing !exists",
    "attribute:missing not_exists",
    "not(attribute:missing == x)",
    "!(attribute:missing == x)",
    "! attribute:missing exists",
    "attribute:ecs.instance-type =~ t2.*",
    "attribute:ecs.instance-type matches 't2\\.(small|large)'",
    "attribute:ecs.instance-type =~ (t2|t3)\\.small",
    "attribute:ecs.instance-type !~ g2.*",
    "attribute:slots > 9",
    "attribute:slots greater_than_equal 10",
    "attribute:stack < q",
    "agentConnected == true",
    "agentVersion >= 1.9",
    "agentVersion == 1.10",
    "agentVersion less_than 2",
    "ec2InstanceId in [i-1, i-0123456789abcdef0]",
    "ec2InstanceId =~ i-0.*",
    "registeredAt == 2018-06-18",
    "registeredAt < 2018-06-18T00:00:01Z",
    "registeredAt >= 2018-06-18T02:00:00+02:00",
    "registeredAt < '2018-06-18 00:00:01'",
    "runningTasksCount == 3",
    "runningTasksCount <= 3",
    "task:group == service:web",
    "task:group in [service:web, x]",
    "task:group =~ data.*",
    "not(task:group == service:api)",
    "attribute:stack == test or attribute:stack == prod and agentConnected == true",
    "(attribute:stack == prod || attribute:stack == test) && runningTasksCount < 5",
    "attribute:stack == prod&&attribute:slots==10",
    "attribute:stack == prod OR attribute:x == y",
    "attribute:ecs.instance-type in [t2.small, t2.medium] and attribute:ecs.availability-zone != us-east-1d",
]

FALSE = [
    "attribute:stack == Prod",
    "attribute:missing == x",
    "attribute:missing != x",
    "attribute:missing !in [x]",
    "attribute:missing !~ x",
    "attribute:missing exists",
    "attribute:stack !exists",
    "attribute:ecs.instance-type =~ t2",
    "attribute:ecs.instance-type =~ small",
    "agentVersion > 1.10",
    "agentConnected != true",
    "runningTasksCount > 3",
    "task:group == service:api",
    "(attribute:stack == test or attribute:stack == prod) and agentConnected == false",
    "attribute:stack == test and attribute:stack == prod or agentConnected == false",
    "not attribute:stack == prod",
    "not not attribute:stack == test",
]

INVALID = [
    "",
    "  ",
    "attribute:stack",
    "attribute:stack ==",
    "attribute:stack = prod",
    "stack == prod",
    "attribute:stack == prod and",
    "attribute:stack == prod attribute:x == y",
    "(attribute:stack == prod",
    "attribute:stack == prod)",
    "attribute:(stack == prod)",
    "attribute:stack in prod",
    "attribute:stack in []",
    "attribute:stack in [a, ]",
    "attribute:stack == 'prod",
    "agentConnected > true",
    "agentConnected == maybe",
    "agentVersion =~ 1.*",
    "agentVersion == abc",
    "registeredAt == yesterday",
    "registeredAt == 2018-13-45",
    "runningTasksCount == many",
    "runningTasksCount in [1]",
    "attribute:a =~ '(?=x)'",
    "attribute:a =~ '(x'",
    "attribute:a =~ '\\1'",
    "attribute:a == " + "x" * 2000,
    "!" * 500 + "attribute:a exists",
]


@pytest.mark.parametrize("expression", TRUE)
def test_true(expression: str) -> None:
    assert query.parse(expression).matches(Instance())


@pytest.mark.parametrize("expression", FALSE)
def test_false(expression: str) -> None:
    assert not query.parse(expression).matches(Instance())


@pytest.mark.parametrize("expression", INVALID)
def test_invalid(expression: str) -> None:
    with pytest.raises(query.QueryError) as caught:
        query.parse(expression)
    assert caught.value.message.endswith(".")


def test_absent_values_of_fields() -> None:
    bare = Instance(agent_version="", ec2_instance_id="", groups={}, running=0)
    assert not query.parse("agentVersion > 0").matches(bare)
    assert query.parse("agentVersion >= 1.999").matches(Instance(agent_version="1." + "9" * 5000))
    assert not query.parse("ec2InstanceId != i-1").matches(bare)
    assert query.parse("task:group !exists").matches(bare)


def test_dynamic() -> None:
    assert query.parse("attribute:a exists or runningTasksCount < 2").dynamic
    assert query.parse("not(task:group == x)").dynamic
    assert not query.parse("attribute:a exists and agentVersion > 1").dynamic
