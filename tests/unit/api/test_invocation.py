"""A call that its client sends again: one effect, the first answer."""

from __future__ import annotations

import pytest

from homeport.api.ecs.operations import OPERATIONS
from homeport.api.invocation import ANSWER_BYTES_MAX, HEADER, HEADER_BYTES_MAX, Invocation, invocation_of
from homeport.api.signature import Principal
from homeport.model.ecs.cluster import Cluster
from homeport.store.tables import CLUSTERS, EFFECTS, TASK_DEFINITIONS

ID = b"0b1f7a06-2f5e-4d0f-8a4e-3f8f6f2c7a11"
DEFINITION = {"family": "web", "containerDefinitions": [{"name": "c", "image": "i", "memory": 8}]}


@pytest.fixture
def door(front_door):
    return front_door(**OPERATIONS)


async def count(door, table) -> int:
    return await door.context.store.view(lambda reader: sum(1 for _ in reader.scan(table)))


async def test_the_same_call_again_has_no_second_effect_and_gets_the_first_answer(door):
    first = await door.call("RegisterTaskDefinition", DEFINITION, amz_sdk_invocation_id=ID)
    again = await door.call("RegisterTaskDefinition", DEFINITION, amz_sdk_invocation_id=ID, amz_sdk_request=b"attempt=2; max=3")
    assert first.status == again.status == 200
    assert first.body == again.body
    assert first.headers[b"x-amzn-requestid"] != again.headers[b"x-amzn-requestid"]
    assert await count(door, TASK_DEFINITIONS) == 1


async def test_without_the_header_every_call_counts(door):
    for _ in range(2):
        await door.call("RegisterTaskDefinition", DEFINITION)
    assert await count(door, TASK_DEFINITIONS) == 2
    assert await count(door, EFFECTS) == 0


async def test_another_request_under_the_same_id_is_another_call(door):
    await door.call("RegisterTaskDefinition", DEFINITION, amz_sdk_invocation_id=ID)
    other = await door.call("RegisterTaskDefinition", DEFINITION | {"family": "other"}, amz_sdk_invocation_id=ID)
    assert other.body["taskDefinition"]["family"] == "other"
    assert await count(door, TASK_DEFINITIONS) == 2


async def test_a_header_that_no_sdk_sends_is_passed_over(door):
    for _ in range(2):
        await door.call("RegisterTaskDefinition", DEFINITION, amz_sdk_invocation_id=b"x" * (HEADER_BYTES_MAX + 1))
    assert await count(door, TASK_DEFINITIONS) == 2


async def test_an_error_is_not_kept_the_call_may_work_next_time(door):
    first = await door.call("DeleteCluster", {"cluster": "later"}, amz_sdk_invocation_id=ID)
    assert first.code == "ClusterNotFoundException"
    await door.call("CreateCluster", {"clusterName": "later"})
    again = await door.call("DeleteCluster", {"cluster": "later"}, amz_sdk_invocation_id=ID)
    assert again.body["cluster"]["status"] == "INACTIVE"


async def test_reads_and_what_agents_report_are_not_kept(door):
    await door.call("ListClusters", amz_sdk_invocation_id=ID)
    await door.call("CreateCluster", {"clusterName": "default"})
    resources = [{"name": name, "type": "INTEGER", "integerValue": 1024} for name in ("CPU", "MEMORY")]
    resources += [{"name": name, "type": "STRINGSET", "stringSetValue": []} for name in ("PORTS", "PORTS_UDP")]
    registered = await door.call("RegisterContainerInstance", {"cluster": "default", "totalResources": resources}, amz_sdk_invocation_id=ID)
    assert registered.status == 200, registered.body
    assert await count(door, EFFECTS) == 0


async def test_every_change_of_a_call_is_kept_on_its_own(door):
    store = door.context.store

    def made(name: str):
        def change(tx):
            cluster = Cluster(account="1", name=name, status="ACTIVE", created_at=tx.now)
            tx.put(CLUSTERS, cluster)
            return cluster

        return change

    first = Invocation("call")
    kept = [await store.update(first.once(made(name)), cause="t") for name in ("a", "b")]
    again = Invocation("call")
    assert [await store.update(again.once(made("other")), cause="t") for _ in range(2)] == kept
    assert await count(door, CLUSTERS) == 2


async def test_a_long_answer_is_not_kept(door):
    store = door.context.store
    for _ in range(2):
        await store.update(Invocation("call").once(lambda tx: "x" * ANSWER_BYTES_MAX), cause="t")  # noqa: ARG005
    assert await count(door, EFFECTS) == 0


def test_what_must_not_be_kept_has_no_name():
    """The answer to a new join token is a secret, which an earlier try's token would not fit."""
    caller = Principal("123456789012", "arn:aws:iam::123456789012:root", "AKID")
    headers = {HEADER: ID}
    assert invocation_of("CreateCluster", caller, headers, b"{}")
    for operation in ("CreateJoinToken", "Join", "RenewInstanceCredentials"):
        assert invocation_of(operation, caller, headers, b"{}") == ""
