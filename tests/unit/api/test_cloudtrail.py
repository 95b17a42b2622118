"""LookupEvents over a log on the disk and a journal: whose, which, in which order, and in CloudTrail's form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.api.audited import BOB, BOB_KEY, LIFE, ROOT_KEY, Door, member, opened
from tests.unit.api.ecs.caller import ACCOUNT, ARN, REGION, ROOT

from homeport.api.cloudtrail.lookup import answered, encode, merged
from homeport.audit.record import CALL, Record
from homeport.audit.search import END, Found, Page, Question, Wanted
from homeport.model.iam.access_key import AccessKey
from homeport.store.tables import ACCESS_KEYS

OTHER = "210987654321"


@pytest.fixture
async def door(tmp_path):
    made = await opened(directory=tmp_path / "audit")
    yield made
    await made.audit.close()
    await made.context.store.close()


async def lookup(door: Door, **members: Any) -> Any:
    return await door.call("LookupEvents", members, service="cloudtrail")


def names(answer: Any) -> list[str]:
    return [event["EventName"] for event in answer["Events"]]


def by(key: str, value: str) -> dict[str, Any]:
    return {"LookupAttributes": [{"AttributeKey": key, "AttributeValue": value}]}


async def work(door: Door) -> None:
    """Some calls, good and bad, by two people."""
    await door.call("CreateCluster", {"clusterName": "prod"})
    await door.wait(10.0)
    await door.call("ListClusters")
    await door.call("DeleteCluster", {"cluster": "prod"}, key=BOB_KEY)
    await door.call("CreateCluster", {"clusterName": "evil"}, secret="wrong")
    await door.wait(10.0)
    await door.form("CreateUser", service="iam", UserName="eve")


async def test_every_call_is_there_the_newest_first(door):
    await work(door)
    answer = await lookup(door)
    assert names(answer) == ["CreateUser", "CreateCluster", "DeleteCluster", "ListClusters", "CreateCluster"]
    assert "NextToken" not in answer
    assert names(await lookup(door))[0] == "LookupEvents", "a lookup is a call as well"


async def test_the_form_of_an_event(door):
    await work(door)
    answer = await lookup(door, **by("EventName", "DeleteCluster"))
    (event,) = answer["Events"]
    told = json.loads(event.pop("CloudTrailEvent"))
    assert event.pop("EventTime") == float(int(door.context.clock.now() - 10))
    assert event == {
        "EventId": told["eventID"],
        "EventName": "DeleteCluster",
        "ReadOnly": "false",
        "EventSource": "ecs.amazonaws.com",
        "Username": "bob",
        "AccessKeyId": BOB_KEY,
        "Resources": [{"ResourceType": "AWS::ECS::Cluster", "ResourceName": f"{ARN}cluster/prod"}, _cluster("prod")],
    }
    decision = told.pop("additionalEventData")["decision"]
    assert decision == {
        "allowed": False,
        "by": "identity-based policy",
        "action": "ecs:DeleteCluster",
        "resource": f"{ARN}cluster/prod",
    }
    message = told.pop("errorMessage")
    assert message.startswith(f"User: {BOB} is not authorized")
    assert told.pop("eventTime").endswith("Z")
    assert told.pop("requestID").startswith(LIFE)
    assert len(told.pop("eventID")) == 36
    assert told == {
        "eventVersion": "1.11",
        "userIdentity": {"type": "IAMUser", "principalId": "AIDABOBBOB", "arn": BOB, "accountId": ACCOUNT, "userName": "bob", "accessKeyId": BOB_KEY},
        "eventSource": "ecs.amazonaws.com",
        "eventName": "DeleteCluster",
        "awsRegion": REGION,
        "sourceIPAddress": "100.64.0.7",
        "userAgent": "tester/1.0",
        "errorCode": "AccessDenied",
        "requestParameters": {"cluster": "prod"},
        "responseElements": None,
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Management",
        "resources": [{"ARN": f"{ARN}cluster/prod", "accountId": ACCOUNT}],
    }


def _cluster(name: str) -> dict[str, str]:
    return {"ResourceType": "AWS::ECS::Cluster", "ResourceName": name}


async def test_members_of_the_query_protocol_are_spelled_as_cloudtrail_does_and_sessions_told(door):
    await work(door)
    (event,) = (await lookup(door, **by("EventName", "CreateUser")))["Events"]
    told = json.loads(event["CloudTrailEvent"])
    assert told["requestParameters"] == {"userName": "eve"}
    assert told["responseElements"]["user"]["userName"] == "eve"
    assert told["userIdentity"]["type"] == "Root"
    assert event["Username"] == "root"
    session = await door.form("GetSessionToken", service="sts", key=BOB_KEY)
    door.token = member(session, "SessionToken")
    await door.call("ListClusters", key=member(session, "AccessKeyId"), secret=member(session, "SecretAccessKey"))
    door.token = ""
    (event,) = (await lookup(door, **by("AccessKeyId", member(session, "AccessKeyId"))))["Events"]
    identity = json.loads(event["CloudTrailEvent"])["userIdentity"]
    assert identity["sessionContext"]["sessionIssuer"]["arn"] == BOB
    assert identity["sessionContext"]["attributes"]["mfaAuthenticated"] == "false"


LOOKED_FOR = [
    ("EventName", "ListClusters", ["ListClusters"]),
    ("EventName", "Nothing", []),
    ("Username", "bob", ["DeleteCluster"]),
    ("Username", "root", ["CreateUser", "ListClusters", "CreateCluster"]),
    ("ResourceName", "prod", ["DeleteCluster", "CreateCluster"]),
    ("ResourceName", f"{ARN}cluster/prod", ["DeleteCluster", "CreateCluster"]),
    ("ResourceType", "AWS::IAM::User", ["CreateUser"]),
    ("EventSource", "iam.amazonaws.com", ["CreateUser"]),
    ("AccessKeyId", BOB_KEY, ["DeleteCluster"]),
    ("AccessKeyId", ROOT_KEY, ["CreateUser", "CreateCluster", "ListClusters", "CreateCluster"]),
    ("ReadOnly", "true", ["ListClusters"]),
    ("ReadOnly", "false", ["CreateUser", "CreateCluster", "DeleteCluster", "CreateCluster"]),
]


@pytest.mark.parametrize(("key", "value", "expected"), LOOKED_FOR)
async def test_each_attribute(door, key, value, expected):
    await work(door)
    assert names(await lookup(door, **by(key, value))) == expected


async def test_by_the_id_of_an_event(door):
    await work(door)
    wanted = (await lookup(door))["Events"][2]
    assert (await lookup(door, **by("EventId", wanted["EventId"])))["Events"] == [wanted]


async def test_a_range_of_time(door):
    await work(door)
    now = door.context.clock.now()
    assert names(await lookup(door, StartTime=now - 10, EndTime=now - 10)) == ["CreateCluster", "DeleteCluster", "ListClusters"]
    assert names(await lookup(door, EndTime=now - 15)) == ["CreateCluster"]
    assert names(await lookup(door, StartTime=now - 5, EndTime=now, **by("EventName", "CreateUser"))) == ["CreateUser"]


async def test_pages_have_fifty_and_go_on_where_they_ended(door):
    for number in range(120):
        await door.call("DescribeClusters", {"clusters": [f"c{number}"]})
    wanted = by("EventName", "DescribeClusters")
    found: list[str] = []
    sizes = []
    token: dict[str, Any] = {}
    while True:
        answer = await lookup(door, **wanted, **token)
        sizes.append(len(answer["Events"]))
        found += [json.loads(event["CloudTrailEvent"])["requestParameters"]["clusters"][0] for event in answer["Events"]]
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert found == [f"c{number}" for number in reversed(range(120))]
    assert sizes[:2] == [50, 50]
    small = await lookup(door, **wanted, MaxResults=7)
    assert len(small["Events"]) == 7


WRONG = [
    ({"LookupAttributes": [{"AttributeKey": "Username", "AttributeValue": "a"}] * 2}, "InvalidLookupAttributesException"),
    ({"LookupAttributes": [{"AttributeKey": "Nonsense", "AttributeValue": "a"}]}, "InvalidLookupAttributesException"),
    ({"LookupAttributes": [{"AttributeKey": "Username"}]}, "InvalidLookupAttributesException"),
    ({"MaxResults": 51}, "InvalidMaxResultsException"),
    ({"MaxResults": 0}, "InvalidMaxResultsException"),
    ({"StartTime": 2.0, "EndTime": 1.0}, "InvalidTimeRangeException"),
    ({"NextToken": "nonsense"}, "InvalidNextTokenException"),
    ({"EventCategory": "nonsense"}, "InvalidEventCategoryException"),
]


@pytest.mark.parametrize(("members", "code"), WRONG)
async def test_what_cannot_be_looked_up(door, members, code):
    assert (await lookup(door, **members))["__type"] == code
    assert door.context.store.revision == (await door.context.store.journal.head())[0]


async def test_a_token_belongs_to_its_lookup(door):
    await work(door)
    token = (await lookup(door, MaxResults=1))["NextToken"]
    assert (await lookup(door, NextToken=token, **by("Username", "bob")))["__type"] == "InvalidNextTokenException"
    assert names(await lookup(door, NextToken=token))[0] == "CreateCluster"


async def test_insights_are_made_by_nobody(door):
    assert await lookup(door, EventCategory="insight") == {"Events": []}


async def test_nobody_sees_another_account(door):
    other = AccessKey(id="AKIAOTHEROTHEROTHERO", secret="secret", account=OTHER, principal_arn=f"arn:aws:iam::{OTHER}:root", created_at=1.0)
    await door.ecs.put((ACCESS_KEYS, other))
    await work(door)
    await door.call("ListClusters", key=other.id)
    answer = await door.call("LookupEvents", {}, service="cloudtrail", key=other.id)
    assert names(answer) == ["ListClusters"]
    assert "AKIAOTHEROTHEROTHERO" not in json.dumps(await lookup(door))
    for wanted in (by("EventName", "ListClusters"), by("AccessKeyId", other.id), by("Username", "root")):
        events = (await lookup(door, **wanted))["Events"]
        assert {json.loads(event["CloudTrailEvent"])["recipientAccountId"] for event in events} <= {ACCOUNT}, wanted
    assert names(await lookup(door, **by("AccessKeyId", other.id))) == []


async def test_it_needs_its_permission(door):
    refused = await door.call("LookupEvents", {}, service="cloudtrail", key=BOB_KEY)
    assert refused["__type"] == "AccessDeniedException"
    assert "cloudtrail:LookupEvents" in refused["message"]
    await door.allow({"Effect": "Allow", "Action": "cloudtrail:LookupEvents", "Resource": "*"})
    assert names(await door.call("LookupEvents", {}, service="cloudtrail", key=BOB_KEY)) == ["LookupEvents"]


async def test_an_sdk_may_leave_the_package_out_of_the_target(door):
    headers = {b"content-type": b"application/x-amz-json-1.1", b"x-amz-target": b"CloudTrail_20131101.LookupEvents"}
    status, _ = await door.send(headers, b"{}", service="cloudtrail", key=ROOT_KEY, secret="secret")
    assert status == 200


async def test_changes_from_before_the_log_began_are_told_from_the_journal(door):
    """As after an upgrade: the journal has calls that no log knows."""
    cause = f"CreateCluster ffffffff-0000-4000-8000-000000000001 {ROOT}"
    await door.context.store.update(lambda tx: tx.put(ACCESS_KEYS, _key("AKIAX")), cause=cause)
    await door.wait(100.0)
    late = await opened_later(door)
    try:
        await late.call("ListClusters")
        answer = await lookup(late)
        assert names(answer) == ["ListClusters", "CreateCluster"]
        told = json.loads(answer["Events"][1]["CloudTrailEvent"])
        assert told["additionalEventData"]["toldFromJournal"]["records"] == ["create access_keys AKIAX"]
        assert told["userIdentity"]["arn"] == ROOT
    finally:
        await late.audit.close()


def _key(name: str) -> AccessKey:
    return AccessKey(id=name, secret="secret", account=ACCOUNT, principal_arn=ROOT, created_at=1.0)


async def opened_later(door: Door) -> Door:
    """Another door on the same store, whose log begins now."""
    from homeport.audit.log import AuditLog

    directory = door.audit.directory.with_name("later")
    log = AuditLog(directory, clock=door.context.clock, settings=door.context.settings, life="99999999-89ab-4cde-8f01-", facts={})
    log.open()
    return door.again(log)


class Another:
    """Another server, with a log of its own."""

    def __init__(self, door: Door | None, name: str = "server-2") -> None:
        self._door = door
        self._name = name

    async def names(self) -> list[str]:
        return [self._name]

    async def ask(self, question: bytes) -> Any:
        return await self.ask_each({self._name: question})

    async def ask_each(self, questions: Any) -> Any:
        if self._door is None:
            return [(name, None) for name in questions]
        await self._door.audit.durable()
        return [(name, answered(self._door.audit.directory, question)) for name, question in questions.items()]


async def test_several_servers_are_told_as_one(door):
    second = await opened_later(door)
    for number in range(40):
        await (door, second)[number % 2].call("DescribeClusters", {"clusters": [f"c{number}"]})
        await door.wait(1.0)
    asked = door.again(door.audit, others=Another(second))
    found: list[str] = []
    token: dict[str, Any] = {}
    for _ in range(20):
        answer = await lookup(asked, MaxResults=7, **by("EventName", "DescribeClusters"), **token)
        assert "NotCovered" not in answer
        found += [json.loads(event["CloudTrailEvent"])["requestParameters"]["clusters"][0] for event in answer["Events"]]
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert found == [f"c{number}" for number in reversed(range(40))], "each once, the newest first"
    await second.audit.close()


async def test_what_cannot_be_asked_is_named_and_its_changes_are_told_from_the_journal(door):
    second = await opened_later(door)
    await second.call("CreateCluster", {"clusterName": "there"})
    await second.call("ListClusters")
    asked = door.again(door.audit, others=Another(None))
    answer = await lookup(asked)
    assert answer["NotCovered"] == ["server-2"]
    assert names(answer) == ["CreateCluster"]
    whole = door.again(door.audit, others=Another(second))
    assert names(await lookup(whole, **by("EventSource", "ecs.amazonaws.com"))) == ["ListClusters", "CreateCluster"], "and not twice"
    await second.audit.close()


def found(instant: float, place: str) -> Found:
    return Found(instant, place, Record(number=1, previous="", instant=instant, kind=CALL))


def test_what_a_source_has_not_looked_at_yet_holds_back_what_is_older():
    pages = {"a": Page([found(9.0, "a9"), found(3.0, "a3")], END, 0.0), "b": Page([found(8.0, "b8")], "b5", 5.0)}
    taken, places = merged(pages, 50)
    assert [item.place for item in taken] == ["a9", "b8"]
    assert places == {"a": "a3", "b": "b5"}
    taken, places = merged({"a": Page([found(3.0, "a3")], END, 0.0), "b": Page([], END, 0.0)}, 50)
    assert [item.place for item in taken] == ["a3"]
    assert places == {"a": END, "b": END}


def test_a_question_for_a_place_that_is_none(tmp_path):
    (tmp_path / "000000000000001.jsonl").write_bytes(b"")
    with pytest.raises(ValueError, match="invalid literal|not enough"):
        answered(tmp_path, encode(Question(Wanted(account=ACCOUNT), "nonsense.1", 5)))


async def test_the_public_key_is_told(door):
    from homeport.audit import checkpoint

    signer = checkpoint.Signer.open(door.audit.directory.parent, door.audit.directory)
    answer = await door.call("ListPublicKeys", {}, service="cloudtrail")
    (key,) = answer["PublicKeyList"]
    assert key["Fingerprint"] == checkpoint.fingerprint(signer.der)
