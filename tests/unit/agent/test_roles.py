"""What the agent does with a task's role: who is given which credentials, by which door, under which rules, and until when."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable

import msgspec
import pytest

from homeport.acs.messages import ContainerPayload, RoleCredentials, TaskPayload
from homeport.agent.attachments.credentials import TaskRoles
from homeport.agent.engine.task import ContainerState, Gone, Launched, Seen, TaskState, encode
from homeport.agent.metadata import door
from homeport.agent.metadata.credentials import Place, Registry
from homeport.agent.metadata.door import Doors, answer
from homeport.agent.metadata.rules import Lead, NftRules, RulesError, script
from homeport.agent.runtime.contract import ContainerObservation
from homeport.agent.runtime.docker import _observation
from homeport.agent.settings import AgentSettings
from homeport.clock import SystemClock
from homeport.errors import HomeportError

ID, OTHER = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"
APP, DB = Place("127.0.0.2", "127.0.0.1"), Place("127.0.0.3", "127.0.0.1")


def given(credentials_id: str = ID, key: str = "ASIA1") -> RoleCredentials:
    return RoleCredentials(
        credentialsId=credentials_id, roleArn="role", accessKeyId=key, secretAccessKey="hush", sessionToken="token", expiration="2026-01-01T00:00:00Z"
    )


@pytest.fixture
def registry() -> Registry:
    """Task `app` at APP, task `db` at DB."""
    made = Registry()
    for task, credentials_id, place in (("app", ID, APP), ("db", OTHER, DB)):
        made.hold(task, credentials_id, f"role/{task}", host=False)
        assert made.place(task, "c", place)
        assert made.put(task, given(credentials_id, f"ASIA{task}"))
    return made


# -- who may have what ---------------------------------------------------------------------------------------------------


def test_an_id_is_known_to_its_own_task_s_containers_alone(registry):
    assert registry.answer(ID, APP.address, host=False).credentials.accessKeyId == "ASIAapp"
    assert registry.answer(OTHER, DB.address, host=False).credentials.accessKeyId == "ASIAdb"
    for peer in (DB.address, "127.0.0.1", "127.0.0.4", ""):
        assert registry.answer(ID, peer, host=False) is None
    assert registry.answer(ID, APP.address, host=True) is None
    assert registry.answer("", APP.address, host=False) is None


def test_a_task_of_the_host_s_network_is_served_at_the_host_s_door_by_its_id(registry):
    registry.hold("daemon", "h" * 36, "role/daemon", host=True)
    assert registry.hosts
    assert registry.answer("h" * 36, "192.0.2.2", host=True).credentials is None  # it is known, and has none yet
    assert registry.answer("h" * 36, APP.address, host=False) is None
    assert registry.forget("daemon")
    assert not registry.hosts
    assert registry.answer("h" * 36, "192.0.2.2", host=True) is None


def test_a_task_that_is_over_is_forgotten_and_credentials_that_come_late_are_not_kept(registry):
    assert registry.forget("app")
    assert registry.answer(ID, APP.address, host=False) is None
    assert registry.at(APP.address) is None
    assert registry.places == (DB,)
    assert not registry.put("app", given())
    assert not registry.place("app", "c", APP)
    assert not registry.forget("app")
    assert registry.answer(OTHER, DB.address, host=False) is not None


def test_credentials_under_another_task_s_id_change_nothing(registry):
    assert not registry.put("db", given(ID, "ASIAevil"))
    assert registry.answer(ID, APP.address, host=False).credentials.accessKeyId == "ASIAapp"


def test_an_address_belongs_to_who_has_it_now(registry):
    assert not registry.place("app", "c", APP)  # no news
    registry.place("app", "c", None)
    assert registry.answer(ID, APP.address, host=False) is None
    registry.place("db", "d", APP)
    assert registry.answer(ID, APP.address, host=False) is None
    assert registry.answer(OTHER, APP.address, host=False) is not None
    registry.hold("db", OTHER, "role/db", host=False)  # told again
    assert registry.places == (APP, DB)


# -- the words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (f"GET /v2/credentials/{ID} HTTP/1.1", 200),
        (f"GET /v2/credentials/{ID} HTTP/1.0", 200),
        (f"GET /v2/credentials/{ID}/ HTTP/1.1", 400),
        (f"GET /v2/credentials//{ID} HTTP/1.1", 400),
        (f"GET /v2/credentials/../credentials/{ID} HTTP/1.1", 400),
        (f"GET /v2/credentials/{ID}?a=b HTTP/1.1", 400),
        (f"GET /v2/credentials/{ID}#a HTTP/1.1", 400),
        (f"GET /v2/credentials/{ID}%00 HTTP/1.1", 400),
        (f"GET //v2/credentials/{ID} HTTP/1.1", 404),
        (f"GET /v2/%63redentials/{ID} HTTP/1.1", 404),
        (f"GET /V2/credentials/{ID} HTTP/1.1", 404),
        (f"GET /./v2/credentials/{ID} HTTP/1.1", 404),
        (f"GET http://169.254.170.2/v2/credentials/{ID} HTTP/1.1", 400),
        (f"HEAD /v2/credentials/{ID} HTTP/1.1", 405),
        (f"POST /v2/credentials/{ID} HTTP/1.1", 405),
        (f"get /v2/credentials/{ID} HTTP/1.1", 400),
        (f"GET  /v2/credentials/{ID} HTTP/1.1", 400),
        (f"GET /v2/credentials/{ID}", 400),
        (f"GET /v2/credentials/{ID} HTTP/2", 400),
        (f"GET /v2/credentials/{ID}\n HTTP/1.1", 400),
        ("GET /v2/credentials/ HTTP/1.1", 400),
        ("GET /v2/credentials HTTP/1.1", 400),
        ("GET /v2/credentialsx HTTP/1.1", 404),
        ("GET / HTTP/1.1", 404),
        ("", 400),
    ],
)
def test_only_the_path_itself_leads_anywhere(registry, line, status):
    found = answer(line.encode(), lambda credentials_id: registry.answer(credentials_id, APP.address, host=False))
    assert int(found.status[:3]) == status
    assert (b"hush" in found.body) == (status == 200)


def test_the_bodies_are_ecs_s(registry):
    def body(credentials_id: str) -> dict[str, object]:
        return msgspec.json.decode(answer(f"GET /v2/credentials/{credentials_id} HTTP/1.1".encode(), find).body)

    def find(credentials_id: str):
        return registry.answer(credentials_id, APP.address, host=False)

    assert body(ID) == {
        "RoleArn": "role/app",
        "AccessKeyId": "ASIAapp",
        "SecretAccessKey": "hush",
        "Token": "token",
        "Expiration": "2026-01-01T00:00:00Z",
    }
    assert body(OTHER) == {"code": "InvalidIdInRequest", "message": "CredentialsV2Request: Credentials not found", "HTTPErrorCode": 400}
    assert body("") == {"code": "NoIdInRequest", "message": "CredentialsV2Request: No Credential ID in the request", "HTTPErrorCode": 400}
    registry.forget("app")
    registry.hold("app", ID, "role/app", host=False)
    registry.place("app", "c", APP)
    assert body(ID) == {"code": "CredentialsUninitialized", "message": "CredentialsV2Request: Credentials uninitialized for ID", "HTTPErrorCode": 503}


# -- the doors -----------------------------------------------------------------------------------------------------------


async def refused() -> door.Streams:
    raise HomeportError("nobody is there")


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[door.Dial]:
    """An API that says everything back, and how often it was called."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1000):
            writer.write(piece)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield lambda: asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
    server.close()


async def sent(source: str, port: int, data: bytes) -> bytes:
    """What comes back to `source`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        writer.write(data)
        if data:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_a_container_is_known_by_where_it_calls_from_and_nothing_secret_is_logged(registry, caplog):
    doors = Doors(registry, refused)
    ports = await doors.open("127.0.0.1")
    request = f"GET /v2/credentials/{ID} HTTP/1.1\r\nHost: 169.254.170.2\r\n\r\n".encode()
    with caplog.at_level(logging.DEBUG):
        told = await sent(APP.address, ports.credentials, request)
        assert told.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Cache-Control: no-store" in told and told.endswith(b"}")
        for peer in (DB.address, "127.0.0.1"):
            assert (await sent(peer, ports.credentials, request)).startswith(b"HTTP/1.1 400 ")
        await sent(APP.address, ports.credentials, request)
    assert "hush" not in caplog.text and "token" not in caplog.text and ID not in caplog.text
    assert caplog.text.count("credentials of task app (role role/app, key ASIAapp) were asked for by 127.0.0.2") == 1
    assert await doors.open("127.0.0.1") == ports
    await doors.close()
    with pytest.raises(OSError):
        await sent(APP.address, ports.credentials, request)


async def test_a_head_that_is_too_long_or_too_slow_is_not_waited_for(registry, monkeypatch):
    monkeypatch.setattr(door, "HEAD_SECONDS_MAX", 0.1)
    doors = Doors(registry, refused)
    ports = await doors.open("127.0.0.1")
    assert await sent(APP.address, ports.credentials, b"") == b""
    assert b"200 OK" not in await sent(APP.address, ports.credentials, f"GET /v2/credentials/{ID} HTTP/1.1\r\nX: {'a' * 9000}\r\n\r\n".encode())
    await doors.close()


async def test_one_container_cannot_take_every_place(registry, monkeypatch):
    monkeypatch.setattr(door, "CONNECTIONS_PER_SOURCE_MAX", 2)
    async with echo() as dial:
        doors = Doors(registry, dial)
        ports = await doors.open("127.0.0.1")
        held = [await asyncio.open_connection("127.0.0.1", ports.api, local_addr=(APP.address, 0)) for _ in range(2)]
        for reader, writer in held:
            writer.write(b"x")
            assert await reader.read(1) == b"x"
        assert await sent(APP.address, ports.api, b"more") == b""
        assert await sent(DB.address, ports.api, b"mine") == b"mine"
        for _, writer in held:
            writer.close()
        for _ in range(100):
            if await sent(APP.address, ports.api, b"again") == b"again":
                break
            await asyncio.sleep(0.01)
        else:
            pytest.fail("a place that was given back stays taken")
        await doors.close()


async def test_bytes_for_the_api_are_passed_on_as_they_are_for_containers_with_a_role_alone(registry):
    async with echo() as dial:
        doors = Doors(registry, dial)
        ports = await doors.open("127.0.0.1")
        data = bytes(range(256)) * 3000
        assert await sent(APP.address, ports.api, data) == data
        assert await sent("127.0.0.9", ports.api, data) == b""
        host = await doors.open("127.0.0.8", host=True)
        reader, writer = await asyncio.open_connection("127.0.0.8", host.api)
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        writer.close()
        await doors.close()


async def test_without_a_control_plane_a_connection_ends(registry):
    doors = Doors(registry, refused)
    assert await sent(APP.address, (await doors.open("127.0.0.1")).api, b"GET / HTTP/1.1\r\n\r\n") == b""
    await doors.close()


# -- the rules -----------------------------------------------------------------------------------------------------------


def test_a_table_has_a_rule_for_each_container_and_port_and_drops_what_nobody_took():
    text = script(
        "homeport_x", [Lead("172.17.0.3", 80, "172.17.0.1", 4001), Lead("", 80, "127.0.0.1", 4002), Lead("172.17.0.2", 8470, "172.17.0.1", 5)]
    )
    lines = [line.strip() for line in text.splitlines()]
    assert lines[:3] == ["add table ip homeport_x", "delete table ip homeport_x", "table ip homeport_x {"]
    own = lines.index("chain leads {")
    assert lines[own + 2 : own + 5] == [
        "ip saddr 172.17.0.2 ip daddr 169.254.170.2 tcp dport 8470 dnat to 172.17.0.1:5",
        "ip saddr 172.17.0.3 ip daddr 169.254.170.2 tcp dport 80 dnat to 172.17.0.1:4001",
        "}",
    ]
    host = lines.index("chain host_leads {")
    assert lines[host + 2] == "ip daddr 169.254.170.2 tcp dport 80 dnat to 127.0.0.1:4002"
    assert lines[lines.index("chain strays {") + 2] == "ip daddr 169.254.170.2 drop"


def test_no_leads_leave_no_table():
    assert script("homeport_x", []) == "add table ip homeport_x\ndelete table ip homeport_x\n"


async def test_a_host_without_nft_says_so(monkeypatch):
    monkeypatch.setattr("homeport.agent.metadata.rules.SYSTEM_PATH", "/nonexistent")
    with pytest.raises(RulesError, match="package nftables"):
        await NftRules("homeport_x").apply(())


# -- all together --------------------------------------------------------------------------------------------------------


class KeptRules:
    """Remembers what was applied; refuses as often as it is told to."""

    def __init__(self) -> None:
        self.applied: list[tuple[Lead, ...]] = []
        self.refusals = 0

    async def apply(self, leads: Iterable[Lead]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise RulesError("no")
        self.applied.append(tuple(leads))


class Host:
    """An agent's roles, with rules that are only kept."""

    def __init__(self) -> None:
        self.rules, self.registry = KeptRules(), Registry()
        self.doors = Doors(self.registry, refused)
        self.roles = TaskRoles(registry=self.registry, doors=self.doors, rules=self.rules, clock=SystemClock(), api_port=8470)

    async def rules_are(self, *expected: tuple[str, int]) -> None:
        """Wait until the rules lead from these (source, port)."""
        for _ in range(500):
            if self.rules.applied and sorted((lead.source, lead.port) for lead in self.rules.applied[-1]) == sorted(expected):
                return
            await asyncio.sleep(0.01)
        pytest.fail(f"{self.rules.applied}")


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host()
    yield made
    await made.roles.close()


def task(arn: str = "app", *, network: str = "bridge", known: str = "NONE", role: bool = True) -> TaskState:
    container = ContainerPayload(name="c", image="i", essential=True)
    credentials = given().address if role else None
    payload = TaskPayload(arn=arn, desiredStatus="RUNNING", networkMode=network, containers=[container], roleCredentials=credentials)
    return TaskState(payload=payload, desired="RUNNING", known=known, containers=(ContainerState(name="c"),))


def seen(status: str = "running", place: Place | None = APP) -> ContainerObservation:
    return ContainerObservation(id="1", name="c", status=status, address=place.address if place else "", gateway=place.gateway if place else "")


async def test_a_container_is_led_from_its_start_to_its_end_and_its_task_served_until_it_stopped(host):
    host.roles.follow(task(), None)
    host.roles.take("app", "TaskApplication", given())
    host.roles.take("app", "TaskExecution", given(OTHER))
    host.roles.take("app", "TaskExecution", given(key="ASIApull"))
    assert host.registry.answer(OTHER, APP.address, host=False) is None  # never shown to an application
    host.roles.follow(task(), Launched("c", seen()))
    await host.rules_are((APP.address, 80), (APP.address, 8470))
    assert host.registry.answer(ID, APP.address, host=False).credentials == given()
    host.roles.follow(task(known="RUNNING"), Seen("c", seen("exited")))
    await host.rules_are()
    assert host.registry.answer(ID, APP.address, host=False) is None
    host.roles.follow(task(known="RUNNING"), Seen("c", seen()))  # started again
    await host.rules_are((APP.address, 80), (APP.address, 8470))
    host.roles.follow(task(known="RUNNING"), Gone("c"))
    await host.rules_are()
    host.roles.follow(task(known="RUNNING"), Seen("c", seen()))
    host.roles.follow(task(known="STOPPED"), None)
    assert host.registry.answer(ID, APP.address, host=False) is None  # at once, whatever the rules still say
    host.roles.take("app", "TaskApplication", given(key="ASIAlate"))
    await host.rules_are()


async def test_the_host_s_door_is_there_while_a_task_has_the_host_s_network(host):
    host.roles.follow(task(network="host"), None)
    await host.rules_are(("", 80), ("", 8470))
    assert {lead.to_address for lead in host.rules.applied[-1]} == {"127.0.0.1"}
    host.roles.follow(task(network="host", known="STOPPED"), None)
    await host.rules_are()


async def test_a_task_without_a_role_costs_nothing(host):
    host.roles.follow(task(role=False), Launched("c", seen()))
    await asyncio.sleep(0.05)
    assert host.rules.applied == []
    assert host.registry.at(APP.address) is None


async def test_rules_that_are_refused_are_tried_again(host, monkeypatch):
    monkeypatch.setattr("homeport.agent.attachments.credentials.RETRY_SECONDS", 0.02)
    host.rules.refusals = 2
    host.roles.follow(task(), None)
    host.roles.follow(task(), Launched("c", seen()))
    await host.rules_are((APP.address, 80), (APP.address, 8470))


async def test_a_host_that_cannot_set_rules_does_not_offer_roles_and_the_end_takes_them_away(host):
    host.rules.refusals = 1
    assert not await host.roles.start()
    assert await host.roles.start()
    assert host.rules.applied == [()]  # what an earlier life left is gone
    host.roles.follow(task(), None)
    host.roles.follow(task(), Launched("c", seen()))
    await host.rules_are((APP.address, 80), (APP.address, 8470))
    await host.roles.close()
    assert host.rules.applied[-1] == ()


def test_what_an_agent_stores_of_a_task_has_nothing_secret():
    assert b"hush" not in encode(task()) and b"ASIA1" not in encode(task()) and ID.encode() in encode(task())


def test_docker_s_inspection_tells_a_container_s_own_address():
    document = {
        "Id": "1",
        "State": {"Status": "running"},
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2", "Gateway": "172.17.0.1"}}},
    }
    assert (_observation(document).address, _observation(document).gateway) == ("172.17.0.2", "172.17.0.1")
    document["NetworkSettings"]["Networks"] = {"host": {"IPAddress": "", "Gateway": ""}}
    assert (_observation(document).address, _observation(document).gateway) == ("", "")


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [("", 0), ("http://127.0.0.1:8470", 8470), ("https://a:9000,https://b:9001", 9000), ("https://a", 443), ("http://127.0.0.1", 8470)],
)
def test_containers_find_the_api_on_its_own_port_unless_credentials_are_there(endpoint, port):
    assert AgentSettings(endpoint=endpoint, region="r", access_key_id="a", secret_access_key="s").container_api_port == port
