"""Which instance an agent's connection is for."""

from __future__ import annotations

import pytest

from homeport.dispatcher import liveness
from homeport.dispatcher.hub import instance_key
from homeport.testing.records import ACCOUNT

INSTANCE = f"arn:aws:ecs:us-east-1:{ACCOUNT}:container-instance/prod/0123"
OTHERS = INSTANCE.replace(ACCOUNT, "210987654321")


@pytest.mark.parametrize("cluster", ["", "prod", f"arn:aws:ecs:us-east-1:{ACCOUNT}:cluster/prod"])
def test_an_instance_of_the_caller_s_account_is_found_by_its_arn(cluster):
    assert instance_key(cluster, INSTANCE, ACCOUNT) == f"{ACCOUNT}/prod/0123"


@pytest.mark.parametrize(
    ("cluster", "instance", "kind"),
    [
        ("prod", OTHERS, liveness.ACCESS_DENIED),
        ("", OTHERS, liveness.ACCESS_DENIED),
        ("test", INSTANCE, liveness.INVALID_CLUSTER),
        ("prod", "", liveness.BAD_REQUEST),
        ("prod", f"arn:aws:ecs:us-east-1:{ACCOUNT}:task/prod/0123", liveness.BAD_REQUEST),
        ("prod", f"arn:aws:ecs:us-east-1:{ACCOUNT}:container-instance/0123", liveness.BAD_REQUEST),
    ],
)
def test_what_is_another_account_s_or_does_not_fit_is_refused(cluster, instance, kind):
    with pytest.raises(liveness.SessionRefusedError) as raised:
        instance_key(cluster, instance, ACCOUNT)
    assert raised.value.exception == kind
