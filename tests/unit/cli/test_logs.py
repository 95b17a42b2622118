from __future__ import annotations

import pytest

from homeport.cli.containers import NAME_LABEL, TASK_LABEL
from homeport.cli.logs import matching
from homeport.cli.terminal import CommandError

ARN = "arn:aws:ecs:us-east-1:111122223333:task/default/"


def container(identity: str, task: str, name: str) -> dict:
    return {"Id": identity, "Labels": {TASK_LABEL: ARN + task, NAME_LABEL: name}}


FOUND = [container("c2", "aa11", "web"), container("c1", "aa11", "log"), container("c3", "ab22", "web"), {"Id": "c4", "Labels": {}}]


@pytest.mark.parametrize("typed", ["aa11", "aa", ARN + "aa11"])
def test_a_task_is_found_by_arn_id_or_beginning(typed):
    assert matching(FOUND, typed) == [("c1", "log"), ("c2", "web")]


@pytest.mark.parametrize(("typed", "reason"), [("a", "several tasks: aa11, ab22"), ("ff", "no container of task ff"), ("", "no container")])
def test_no_task_or_several_are_an_error(typed, reason):
    with pytest.raises(CommandError, match=reason):
        matching(FOUND, typed)
