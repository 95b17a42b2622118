"""The chain of steps: what reaches a handler, and what every bad request is answered."""

from __future__ import annotations

import json
import logging

import msgspec
import pytest

from homeport.api.requestlog import Answered, RequestLog
from homeport.api.server import REQUEST_ID, STEPS
from homeport.errors import ClientError, CommitFailedError, ConflictError, InvalidTransitionError, ServerError, TransactionTooLargeError
from homeport.model.iam.access_key import AccessKey
from homeport.store.tables import ACCESS_KEYS


async def echo(call, request):
    return {"clusterArns": [call.operation, call.account, call.principal_arn, call.request_id, repr(request.maxResults)]}


def test_the_chain_is_one_visible_list():
    assert [step.__name__ for step in STEPS] == [
        "make_room",
        "read_body",
        "route",
        "refuse_pretenders",
        "verify_signature",
        "throttle",
        "refuse_not_built",
        "decode",
        "identify",
        "authorize",
        "handle",
        "encode",
    ]


async def test_a_handler_gets_the_call_and_its_answer_goes_out(front_door):
    answer = await front_door(ListClusters=echo).call("ListClusters", {"maxResults": 7, "notInTheModel": {"a": [1]}})
    assert answer.status == 200
    request_id = answer.headers[b"x-amzn-requestid"].decode()
    assert answer.body == {"clusterArns": ["ListClusters", "123456789012", "arn:aws:iam::123456789012:root", request_id, "7"]}
    assert answer.headers[b"content-type"] == b"application/x-amz-json-1.1"


async def test_each_request_has_an_id_of_its_own_in_the_form_of_a_uuid(front_door):
    door = front_door()
    ids = [(await door.call("ListClusters")).headers[b"x-amzn-requestid"].decode() for _ in range(3)]
    assert len(set(ids)) == 3
    assert all([len(part) for part in text.split("-")] == [8, 4, 4, 4, 12] for text in ids)


async def test_members_that_are_none_are_left_out(front_door):
    async def handler(call, request):
        return {"clusterArns": ["a:null"], "nextToken": None, "deep": [{"x": None, "y": [{"z": None}]}]}

    answer = await front_door(ListClusters=handler).call("ListClusters")
    assert answer.body == {"clusterArns": ["a:null"], "deep": [{"y": [{}]}]}


async def test_an_operation_that_is_not_built_says_so_after_its_signature_was_checked(front_door):
    door = front_door()
    modelled = await door.call("RunTask", {"taskDefinition": "a"})
    assert (modelled.status, modelled.code, modelled.message) == (400, "UnsupportedFeatureException", "RunTask is not built yet.")
    plain = await door.call("ListClusters")
    assert (plain.status, plain.code, plain.message) == (400, "ClientException", "ListClusters is not built yet.")
    assert (await door.call("RunTask", {})).message == "RunTask is not built yet."
    unsigned = await door.send(
        b"{}", {b"content-type": b"application/x-amz-json-1.1", b"x-amz-target": b"AmazonEC2ContainerServiceV20141113.RunTask"}
    )
    assert unsigned.code == "MissingAuthenticationTokenException"


@pytest.mark.parametrize(
    ("operation", "body", "changes", "status", "code"),
    [
        ("MakeCoffee", b"{}", {}, 400, "UnknownOperationException"),
        ("", b"{}", {}, 400, "UnknownOperationException"),
        ("ListClusters", b"{}", {"x_amz_target": b"Other_20141113.ListClusters"}, 400, "UnknownOperationException"),
        ("ListClusters", b"{}", {"x_amz_target": b""}, 400, "UnknownOperationException"),
        ("ListClusters", b"{}", {"content_type": b"application/json"}, 400, "UnknownOperationException"),
        ("ListClusters", b"", {}, 400, "SerializationException"),
        ("ListClusters", b"{", {}, 400, "SerializationException"),
        ("ListClusters", b"null", {}, 400, "SerializationException"),
        ("ListClusters", b'{"nextToken":"\xff"}', {}, 400, "SerializationException"),
        ("ListClusters", b'{"nextToken":' + b"[" * 100_000, {}, 400, "SerializationException"),
        ("ListClusters", b'{"other":' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}, 400, "SerializationException"),
        ("ListClusters", b'{"maxResults":"7"}', {}, 400, "SerializationException"),
        ("ListClusters", b'{"maxResults":99999999999999999999}', {}, 400, "SerializationException"),
        ("ListTasks", b'{"launchType":"MOON"}', {}, 400, "InvalidParameterException"),
        ("ListClusters", b" " * 1_048_577, {}, 413, "RequestEntityTooLargeException"),
    ],
)
async def test_bad_requests(front_door, operation, body, changes, status, code):
    reached = []

    async def handler(call, request):
        reached.append(request)
        return {}

    door = front_door(ListClusters=handler, ListTasks=handler)
    for declared in (False, True):
        more = {"content_length": b"%d" % len(body)} if declared else {}
        answer = await door.call(operation, body, **changes, **more)
        assert (answer.status, answer.code) == (status, code)
        assert answer.message
        assert answer.headers[b"x-amzn-requestid"]
    assert reached == []


async def test_content_type_may_have_parameters(front_door):
    assert (await front_door(ListClusters=echo).call("ListClusters", content_type=b"Application/X-Amz-Json-1.1; charset=utf-8")).status == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/clusters"), ("PUT", "/"), ("POST", "/health")])
async def test_only_post_to_the_root_is_the_api(front_door, method, path):
    door = front_door(ListClusters=echo)
    answer = await door.send(b"{}", door.signed("ListClusters", b"{}"), method=method, path=path)
    assert (answer.status, answer.code) == (400, "UnknownOperationException")


async def test_a_body_in_pieces_is_put_together_and_held_to_the_limit(front_door):
    door = front_door(ListClusters=echo)
    body = b'{"maxResults":7' + b" " * 1_048_560 + b"}"
    assert len(body) == 1_048_576
    assert (await door.send(body, door.signed("ListClusters", body), pieces=9)).status == 200
    assert (await door.send(body + b" ", door.signed("ListClusters", body + b" "), pieces=9)).code == "RequestEntityTooLargeException"


async def test_a_client_that_leaves_in_the_middle_gets_nothing_and_does_nothing(front_door):
    door = front_door(ListClusters=echo)
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent = []

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": list(door.signed("ListClusters", b"{").items()),
    }
    await door.application(scope, receive, send)
    assert sent == []


async def test_skewed_clock_wrong_secret_and_unknown_key(front_door, context):
    door = front_door(ListClusters=echo)
    headers = door.signed("ListClusters", b"{}")
    await context.clock.advance(300)
    assert (await door.send(b"{}", headers)).status == 200
    await context.clock.advance(1)
    late = await door.send(b"{}", headers)
    assert (late.status, late.code) == (400, "InvalidSignatureException")
    assert late.message.startswith("Signature expired: ")
    headers = door.signed("ListClusters", b"{}")
    assert (await door.send(b"{ }", headers)).code == "InvalidSignatureException"
    other = {**headers, b"authorization": headers[b"authorization"].replace(b"AKIDEXAMPLE", b"AKIDUNKNOWN")}
    unknown = await door.send(b"{}", other)
    assert (unknown.status, unknown.code) == (400, "UnrecognizedClientException")
    assert unknown.message == "The security token included in the request is invalid."


async def test_a_key_works_from_the_moment_it_is_stored_until_it_is_inactive_or_deleted(front_door, context):
    door = front_door(ListClusters=echo)
    key = AccessKey(id="AKIDEXAMPLE", secret="secret", account="123456789012", principal_arn="arn:aws:iam::123456789012:root", created_at=1.0)
    assert (await door.call("ListClusters")).status == 200
    await context.store.update(lambda tx: tx.delete(ACCESS_KEYS, "AKIDEXAMPLE"), cause="test")
    assert (await door.call("ListClusters")).code == "UnrecognizedClientException"
    await context.store.update(lambda tx: tx.put(ACCESS_KEYS, key), cause="test")
    assert (await door.call("ListClusters")).status == 200
    inactive = msgspec.structs.replace(key, status="Inactive")
    await context.store.update(lambda tx: tx.put(ACCESS_KEYS, inactive), cause="test")
    assert (await door.call("ListClusters")).code == "UnrecognizedClientException"


@pytest.mark.parametrize(
    ("error", "status", "code", "logged"),
    [
        (ClientError("no"), 400, "ClientException", False),
        (ServerError("wait"), 503, "ServerException", False),
        (CommitFailedError("disk full"), 503, "ServerException", True),
        (TransactionTooLargeError("101 records"), 400, "ClientException", False),
        (InvalidTransitionError("a bug"), 500, "ServerException", True),
        (ZeroDivisionError("a bug"), 500, "ServerException", True),
    ],
)
async def test_what_a_handler_raises(front_door, caplog, error, status, code, logged):
    async def handler(call, request):
        raise error

    with caplog.at_level(logging.INFO, logger="homeport"):
        answer = await front_door(ListClusters=handler).call("ListClusters")
    assert (answer.status, answer.code) == (status, code)
    assert [record.fields["requestId"] for record in caplog.records] == ([answer.headers[b"x-amzn-requestid"].decode()] if logged else [])
    if status == 500:
        assert "a bug" not in str(answer.body)
        assert caplog.records[0].exc_info[1] is error


async def test_a_conflict_names_the_first_call_s_resources(front_door):
    async def handler(call, request):
        raise ConflictError("other parameters", ("arn:1", "arn:2"))

    answer = await front_door(ListClusters=handler).call("ListClusters")
    assert answer.body == {"__type": "ConflictException", "message": "other parameters", "resourceIds": ["arn:1", "arn:2"]}


async def test_health_needs_no_signature(front_door):
    answer = await front_door().send(b"", {}, method="GET", path="/health")
    expected = {"status": "ok", "region": "us-east-1", "installationId": "0123456789abcdef", "revision": 1, "started": 1700000000.0}
    assert (answer.status, answer.body) == (200, expected)
    assert answer.headers[b"x-amzn-requestid"]


def test_a_handler_of_an_operation_that_does_not_exist_is_refused_at_start(front_door):
    with pytest.raises(KeyError, match="ListClouds"):
        front_door(ListClouds=echo)


async def test_websockets_go_to_their_handler_and_nowhere_else(front_door):
    door = front_door()
    seen = []

    async def acs(scope, receive, send):
        seen.append(scope[REQUEST_ID])
        await send({"type": "websocket.accept"})

    door.websockets["/acs/ws"] = acs
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message["type"])

    await door.application({"type": "websocket", "path": "/acs/ws"}, receive, send)
    await door.application({"type": "websocket", "path": "/other"}, receive, send)
    assert sent == ["websocket.accept", "websocket.close"]
    assert len(seen) == 1


async def test_lifespan_is_answered(front_door):
    messages = iter(["lifespan.startup", "lifespan.shutdown"])
    sent = []

    async def receive():
        return {"type": next(messages)}

    async def send(message):
        sent.append(message["type"])

    await front_door().application({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_every_request_is_one_line_of_the_log(front_door, context, tmp_path):
    log = RequestLog(tmp_path / "requests.log", clock=context.clock)
    door = front_door(log, ListClusters=echo)
    answers = [
        await door.call("ListClusters"),
        await door.call("ListTasks", {"cluster": "x"}),
        await door.call("ListClusters", {"maxResults": []}),
        await door.call('Make"Coffee'),
        await door.send(b"{}", {b"authorization": b"x"}),
    ]
    assert (tmp_path / "requests.log").read_text() == ""
    await context.clock.advance(0.2)
    lines = [json.loads(line) for line in (tmp_path / "requests.log").read_text().splitlines()]
    assert [line["requestId"] for line in lines] == [answer.headers[b"x-amzn-requestid"].decode() for answer in answers]
    assert [(line["operation"], line["account"], line["status"], line["error"]) for line in lines] == [
        ("ListClusters", "123456789012", 200, ""),
        ("ListTasks", "123456789012", 400, "ClientException"),
        ("ListClusters", "123456789012", 400, "SerializationException"),
        ("", "", 400, "UnknownOperationException"),
        ("", "", 400, "UnknownOperationException"),
    ]
    assert lines[0]["instant"] == "2023-11-14T22:13:20.000Z"
    log.close()


async def test_the_log_of_requests_keeps_to_its_size(context, tmp_path):
    log = RequestLog(tmp_path / "requests.log", clock=context.clock, file_bytes_max=1000)
    for number in range(20):
        log.write(Answered(1.5, f"id{number}", "A", "1", 200, "", 0.001))
        log.flush()
    log.close()
    newer, older = (tmp_path / "requests.log").read_text(), (tmp_path / "requests.log.1").read_text()
    assert '"id19"' in newer and len(newer) <= 1000 and len(older) <= 1000
    assert (tmp_path / "requests.log").stat().st_mode & 0o777 == 0o600
