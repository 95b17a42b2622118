"""What makes a service revision, what starts a deployment, and what a rollback puts back."""

from __future__ import annotations

import json

import pytest

from homeport.planner.service_revision import REVISION_MEMBERS, new_revision, put_back, starts_deployment
from homeport.testing import records

BALANCED = [{"targetGroupArn": "arn:tg", "containerName": "app", "containerPort": 80}]
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}


def service(document=None, **fields):
    return records.service(document=json.dumps(document).encode() if document else b"", **fields)


@pytest.mark.parametrize(
    ("before", "after", "starts"),
    [
        (service(), service(revision=2), True),
        (service(), service(family="other"), True),
        (service(), service(desired_count=9), False),
        (service(), service(maximum_percent=100, minimum_healthy_percent=0, deployment_configuration=b"{}"), False),
        (service(), service(placement_strategy=(), enable_ecs_managed_tags=True, propagate_tags="SERVICE", enable_execute_command=True), False),
        (service(), service(availability_zone_rebalancing="ENABLED", health_check_grace_period_seconds=9), False),
        (service(), service({"capacityProviderStrategy": [{"capacityProvider": "cp"}]}), False),
        (service(), service({"loadBalancers": []}), False),
        (service({"loadBalancers": BALANCED}), service({"loadBalancers": BALANCED, "anything": 1}), False),
        (service({"loadBalancers": BALANCED}), service({"loadBalancers": []}), True),
        *((service(), service({name: [{"a": 1}]}), True) for name in ("loadBalancers", "serviceRegistries", "volumeConfigurations")),
        *((service(), service({name: [{"a": 1}]}), True) for name in ("vpcLatticeConfigurations", "gatewayConnectors")),
        (service(), service({"networkConfiguration": NETWORK}), True),
        (service(), service({"platformVersion": "1.4.0"}), True),
        (service(), service({"serviceConnectConfiguration": {"enabled": True}}), True),
    ],
)
def test_what_starts_a_deployment(before, after, starts):
    assert starts_deployment(before, after) is starts


def test_a_revision_put_back_takes_its_own_members_and_leaves_the_others():
    old = service({"loadBalancers": BALANCED, "other": "old"})
    revision = new_revision(old, records.task_definition(), revision_id="1" * 19, now=records.NOW)
    assert set(json.loads(revision.document)) == {"loadBalancers"} < set(REVISION_MEMBERS)
    new = service({"networkConfiguration": NETWORK, "other": "new"}, revision=2, desired_count=7)
    back = put_back(new, revision)
    assert (back.revision, back.desired_count, json.loads(back.document)) == (1, 7, {"loadBalancers": BALANCED, "other": "new"})
