"""Over a socket every operation succeeds with its smallest valid request and with every member given; the same wrong in one place is told so."""

from __future__ import annotations

import os
import random
from typing import Any

import msgspec
import pytest
from tests.conformance.wire_cases import ANY, MODEL, OPERATIONS, SHAPES, Case, Generator, encoded
from tests.conformance.wire_valid import FULL, MINIMAL, NEVER, OMITTED, valid
from tests.conformance.wire_world import Front, World, world

from homeport.api.ecs.operations import OPERATIONS as BUILT
from homeport.model.ecs.deployment import LifecycleHook
from homeport.store.memory import MemoryBackend
from homeport.store.tables import DEPLOYMENTS
from homeport.testing import records

SEED = int(os.environ.get("HOMEPORT_WIRE_SEED", "4"))
WRONG_MAX = 120
"""Wrong requests made of each full one."""
TURNED = 30
"""Requests made of each full one by turning bytes of its body before it is signed, so that they come as far as the reading of the body."""


async def furnished(made: World) -> dict[str, str]:
    """Put what else the valid requests name into the world; the words that stand for ARNs."""
    await made.good("RegisterTaskDefinition", family="old", containerDefinitions=[{"name": "a", "image": "a", "memory": 8}])
    await made.good("DeregisterTaskDefinition", taskDefinition="old:1")
    main = {"name": "Main", "image": "a", "portMappings": [{"containerPort": 80, "name": "web"}]}
    await made.good("RegisterTaskDefinition", family="express", networkMode="awsvpc", cpu="256", memory="512", containerDefinitions=[main])
    for name in ("pool", "unused"):
        await made.good("CreateCapacityProvider", name=name, autoScalingGroupProvider={"autoScalingGroupArn": name})
    template = {"ec2InstanceProfileArn": f"arn:aws:iam::{records.ACCOUNT}:instance-profile/x", "networkConfiguration": {"subnets": ["s"]}}
    instances = {"infrastructureRoleArn": f"arn:aws:iam::{records.ACCOUNT}:role/r", "instanceLaunchTemplate": template}
    await made.good("CreateCapacityProvider", name="managed", cluster="other", managedInstancesProvider=instances)
    await made.good("PutClusterCapacityProviders", cluster="other", capacityProviders=["pool", "FARGATE"], defaultCapacityProviderStrategy=[])
    await made.good("CreateService", serviceName="unscaled", taskDefinition="web", desiredCount=0)
    await made.good("CreateService", cluster="other", serviceName="strategic", desiredCount=1, deploymentController={"type": "EXTERNAL"})
    await made.good("PutAccountSetting", name="containerInsights", value="enabled", principalArn=f"arn:aws:iam::{records.ACCOUNT}:user/a")
    briefs = (await made.good("ListServiceDeployments", service="web"))["serviceDeployments"]
    key = f"{records.ACCOUNT}/{briefs[0]['serviceDeploymentArn'].partition('/')[2]}"
    hook = LifecycleHook(
        id="hook-1", target_type="PAUSE", target="", stage="PRE_SCALE_UP", status="AWAITING_ACTION", expires_at=4e9, timeout_action="ROLLBACK"
    )

    def pause(tx: Any) -> None:
        deployment = tx.get(DEPLOYMENTS, key)
        tx.put(DEPLOYMENTS, msgspec.structs.replace(deployment, service_deployment_status="IN_PROGRESS", hooks=(hook,)))

    await made.context.store.update(pause, cause="test")
    return {
        "INSTANCE": made.known["containerinstance"][0],
        "TASK": made.known["task"][0],
        "SET": made.known["taskset"][0],
        "AGENTS": made.known["daemonarn"][0],
        "ROLLOUT": made.known["daemondeploymentarns"][0],
        "VERSION": made.known["daemonrevisionarns"][0],
        "EXPRESS": made.known["expressservice"][0],
        "PAUSED": briefs[0]["serviceDeploymentArn"],
        "REVISION": briefs[0]["targetServiceRevisionArn"],
    }


def turned(body: bytes, chance: random.Random) -> bytes:
    """`body` with up to four bytes other than they were, doubled or left out."""
    changed = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed))
        kind = chance.randrange(4)
        if kind == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at] = chance.randrange(256)
        elif kind == 2:
            changed.insert(at, changed[at])
        elif len(changed) > 1:
            del changed[at]
    return bytes(changed)


def requests(operation: str) -> list[dict[str, Any]]:
    """The valid requests of an operation, the smallest first."""
    return [MINIMAL.get(operation, {}), *FULL.get(operation, [])]


READY = [operation for operation in OPERATIONS if operation in BUILT and operation not in NEVER]


@pytest.mark.parametrize("operation", READY)
async def test_valid_requests_succeed_and_the_same_wrong_in_one_place_do_not_break_anything(operation):
    chance = random.Random(f"{SEED} {operation}")
    front = Front()
    async with front.open() as port:
        for number, members in enumerate(requests(operation)):
            async with world(front, port, MemoryBackend(), seed=SEED) as made:
                request = valid(await furnished(made), members)
                if number and "nextToken" in SHAPES[MODEL["operations"][operation]["input"]["shape"]]["members"]:
                    request |= await _token(made, operation, request)
                status, answer = await made.attempt(Case(operation, "valid", encoded(request)))
                assert status == 200, f"{operation} {request}: {answer}"
                if number or not FULL.get(operation):
                    generator = Generator(operation, seed=SEED, known=made.known)
                    wrong = [case for place in list(generator.places(request, generator.input)) for case in generator.wrong_at(request, place)]
                    for case in wrong if len(wrong) <= WRONG_MAX else chance.sample(wrong, WRONG_MAX):
                        await made.attempt(case)
                    for _ in range(TURNED):
                        await made.attempt(Case(operation, "hardly JSON", turned(encoded(request), chance)))
                    assert operation in _WITHOUT_MEMBERS or any(case.expected != ANY for case in wrong)


@pytest.mark.parametrize("operation", NEVER)
async def test_what_cannot_succeed_here_is_told_so(operation):
    members, code, _ = NEVER[operation]
    front = Front()
    async with front.open() as port, world(front, port, MemoryBackend(), seed=SEED) as made:
        status, answer = await made.attempt(Case(operation, "valid", encoded(valid(await furnished(made), members))))
        assert (status, answer["__type"]) == (400, code)


_WITHOUT_MEMBERS = frozenset(operation for operation in OPERATIONS if not SHAPES[MODEL["operations"][operation]["input"]["shape"]]["members"])


async def _token(made: World, operation: str, request: dict[str, Any]) -> dict[str, str]:
    """{"nextToken": …} of the page before, where there is another one."""
    answer = await made.good(operation, **request)
    return {"nextToken": answer["nextToken"]} if "nextToken" in answer else {}


def test_a_full_request_has_every_member_that_can_be_given():
    missing = {}
    for operation in READY:
        members = SHAPES[MODEL["operations"][operation]["input"]["shape"]]["members"].keys()
        given = {member for request in requests(operation) for member in request}
        lacking = members - given - {"nextToken"} - OMITTED.get(operation, {}).keys()
        if lacking:
            missing[operation] = sorted(lacking)
    assert not missing, "give it, or say in OMITTED why no valid request has it"


def test_a_smallest_request_has_what_is_required_and_hardly_more():
    for operation in READY:
        shape = SHAPES[MODEL["operations"][operation]["input"]["shape"]]
        assert set(shape.get("required", ())) <= MINIMAL.get(operation, {}).keys(), operation
        assert MINIMAL.get(operation, {}).keys() <= shape["members"].keys(), operation


def test_the_tables_name_operations_that_are_built_and_members_that_there_are():
    assert set(NEVER) <= set(BUILT)
    for table in (MINIMAL, FULL, OMITTED):
        assert set(table) <= set(OPERATIONS)
    for operation, omitted in OMITTED.items():
        assert omitted.keys() <= SHAPES[MODEL["operations"][operation]["input"]["shape"]]["members"].keys()
