"""The buckets' arithmetic, and the step of the front door that asks them."""

from __future__ import annotations

import msgspec
import pytest

from homeport.api.protocol import model
from homeport.api.throttle import RATE_OF, RATES, Throttle
from homeport.config import Settings


def admitted(throttle, operation, now, *, account="a", calls=1000):
    return sum(throttle.admit(account, operation, now) for _ in range(calls))


@pytest.mark.parametrize("rate", RATES, ids=lambda rate: rate.operations.split()[0])
@pytest.mark.parametrize("factor", [0.01, 1.0, 2.0])
def test_a_burst_then_the_refill_and_never_more_than_a_burst(rate, factor):
    throttle, operation = Throttle(factor), rate.operations.split()[-1]
    burst = max(1, int(rate.burst * factor))
    assert admitted(throttle, operation, 100.0) == burst
    assert admitted(throttle, operation, 100.0 + 1 / (rate.refill * factor) + 1e-6) == 1
    assert admitted(throttle, operation, 1e6) == burst


def test_a_bucket_is_shared_by_its_class_and_by_nobody_else():
    throttle = Throttle(1.0)
    assert admitted(throttle, "ListClusters", 0.0) == 50
    assert not throttle.admit("a", "DescribeClusters", 0.0)
    assert throttle.admit("b", "DescribeClusters", 0.0)
    assert throttle.admit("a", "ListTasks", 0.0)
    assert admitted(throttle, "DiscoverPollEndpoint", 0.0) == 1000


def test_every_operation_is_modelled_and_in_one_class():
    assert RATE_OF.keys() <= model.load().operations.keys()
    assert len(RATE_OF) == sum(len(rate.operations.split()) for rate in RATES)


class Here:
    """One of several servers, which leads."""

    async def run(self, exchange, attempt, *, repeatable):
        return await attempt()


@pytest.mark.parametrize("factor", [0.0, 1.0])
async def test_the_front_door_refuses_before_anything_is_done(front_door, context, factor):
    reached = []

    async def handler(call, request):
        reached.append(request)
        return {}

    object.__setattr__(context, "settings", msgspec.structs.replace(Settings(), request_throttling_factor=factor))
    door = front_door(DeleteTaskDefinitions=handler)
    request = {"taskDefinitions": ["a:1"]}
    answers = [await door.call("DeleteTaskDefinitions", request) for _ in range(7)]
    assert len(reached) == (5 if factor else 7)
    if factor:
        assert (answers[5].status, answers[5].code, answers[5].message) == (400, "ThrottlingException", "Rate exceeded")
        forwarded = {"x_homeport_forwarded": b"other"}
        assert (await door.call("DeleteTaskDefinitions", request, **forwarded)).code == "ThrottlingException", "nobody sends on to a lone server"
        door.application.elsewhere = Here()
        assert (await door.call("DeleteTaskDefinitions", request, **forwarded)).status == 200
        unsigned = await door.send(
            b"{}", {b"content-type": b"application/x-amz-json-1.1", b"x-amz-target": door.signed("ListTasks", b"")[b"x-amz-target"]}
        )
        assert unsigned.code == "MissingAuthenticationTokenException"
