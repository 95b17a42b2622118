"""An agent's credentials as a host: when they are due, that they are kept, and whose ARN is saved under them."""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from homeport.agent import proof as agent_proof
from homeport.agent.backoff import Backoff
from homeport.agent.credentials import Credentials, NotJoinedError
from homeport.agent.instance import ARN_KEY, Registration, saved_arn
from homeport.agent.session import INSTANCE_KIND
from homeport.agent.settings import AgentSettings
from homeport.agent.state import State
from homeport.iam import host as host_file
from homeport.iam import proof
from homeport.iam.host import Host, HostFileError
from homeport.ids import Ids
from homeport.virtual_clock import VirtualClock

KEY = proof.new_key()


def host(clock: VirtualClock, **changes: Any) -> Host:
    now = clock.now()
    made = Host(
        installation="0123456789abcdef",
        endpoints="http://127.0.0.1:1",
        token_id="abcdefghij12",
        private_key=KEY,
        identity="hi-1",
        access_key_id="ASIA1",
        secret_access_key="s1",
        session_token="t1",
        issued_at=now,
        expires_at=now + 60,
    )
    return msgspec.structs.replace(made, **changes)


def answer(clock: VirtualClock, trusted: str = "") -> dict[str, Any]:
    now = clock.now()
    keys = {"accessKeyId": "ASIA2", "secretAccessKey": "s2", "sessionToken": "t2", "issuedAt": now, "expiresAt": now + 60}
    told = {"identityId": "hi-1", "accountId": "123456789012", "region": "us-east-1", "cluster": "default", "roleArn": "arn:aws:iam::1:role/r"}
    return {**told, "trustedCertificates": trusted, "credentials": keys}


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def path(tmp_path, clock) -> Path:
    host_file.write(tmp_path / "host.json", host(clock))
    return tmp_path / "host.json"


def settings(path: Path, **more: Any) -> AgentSettings:
    return AgentSettings(endpoint="http://127.0.0.1:1", region="us-east-1", identity=str(path), **more)


async def test_they_are_due_after_two_thirds_of_their_time_and_survive_a_restart(path, clock):
    credentials = Credentials(settings(path), clock)
    assert (credentials.keys.access_key_id, credentials.token, credentials.renewable) == ("ASIA1", "t1", True)
    assert credentials.due_seconds() == pytest.approx(40)
    await clock.advance(61)
    assert credentials.due_seconds() < 0
    await credentials.take(answer(clock))
    assert credentials.due_seconds() == pytest.approx(40)
    again = Credentials(settings(path), clock)
    assert (again.keys.secret_access_key, again.token) == ("s2", "t2")
    assert again.host is not None
    assert (again.host.private_key, again.host.installation) == (KEY, "0123456789abcdef")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_whom_to_trust_follows_the_servers_where_the_token_said_it(path, clock):
    own = path.with_name("ca.pem")
    own.write_text("old")
    await Credentials(settings(path, ca_file=str(own)), clock).take(answer(clock, "old and new"))
    assert own.read_text() == "old and new"
    foreign = path.with_name("company.pem")
    foreign.write_text("theirs")
    await Credentials(settings(path, ca_file=str(foreign)), clock).take(answer(clock, "new"))
    assert (own.read_text(), foreign.read_text()) == ("old and new", "theirs")
    await Credentials(settings(path, ca_file=str(own)), clock).take(answer(clock))
    assert own.read_text() == "old and new", "a server that says nothing takes nothing away"


async def test_a_proof_is_made_by_another_process_and_holds(path, clock):
    request = await Credentials(settings(path), clock).request()
    text = proof.text(proof.RENEW, installation="0123456789abcdef", subject="hi-1", instant_ms=request["instantMs"])
    assert proof.holds(proof.public_of(KEY), text, base64.b64decode(request["proof"]))
    with pytest.raises(agent_proof.ProofError, match="is gone"):
        await agent_proof.signed(str(path.with_name("none")), b"x")


async def test_what_is_no_host(path, clock):
    with pytest.raises(NotJoinedError, match="--join"):
        Credentials(settings(path.with_name("none")), clock)
    host_file.write(path, host(clock, identity=""))
    with pytest.raises(NotJoinedError):
        Credentials(settings(path), clock)
    path.write_text("{")
    with pytest.raises(HostFileError, match=str(path)):
        Credentials(settings(path), clock)


async def test_given_keys_are_never_due(clock):
    given = AgentSettings(endpoint="http://127.0.0.1:1", region="us-east-1", access_key_id="a", secret_access_key="b")
    credentials = Credentials(given, clock)
    assert (credentials.renewable, credentials.due_seconds()) == (False, float("inf"))


class Plane:
    """Takes registrations."""

    def __init__(self) -> None:
        self.named: list[str] = []

    async def call(self, operation: str, request: Any) -> dict[str, Any]:
        assert operation == "RegisterContainerInstance"
        self.named.append(request.get("containerInstanceArn", ""))
        return {"containerInstance": {"containerInstanceArn": request.get("containerInstanceArn", "fresh")}}


@pytest.mark.parametrize(
    ("saved", "joined_for", "named"),
    [
        ("", "", ["", "fresh"]),
        ("mine", "", ["", "fresh"]),  # joined anew: what was saved is another host's
        ("mine", "mine", ["mine", "mine"]),  # joined to go on as that one
    ],
)
async def test_a_saved_arn_is_the_host_s_that_it_was_given_to(tmp_path, clock, saved, joined_for, named):
    from homeport.agent.runtime.contract import RuntimeDescription

    runtime = RuntimeDescription(version="24.0", api_version="1.41", cgroup_driver="cgroupfs", cgroup_version=1, cpus=2, memory_mib=4096)
    state, plane = State.open(tmp_path), Plane()
    if saved:
        state.put(INSTANCE_KIND, ARN_KEY, saved.encode())
    own = settings(tmp_path / "host.json")
    for _ in range(2):  # and after a restart
        registration = Registration(
            client=plane,
            state=state,
            settings=own,
            backoff=Backoff(own, clock=clock, ids=Ids(1)),
            ids=Ids(1),
            host=host(clock, instance_arn=joined_for),
        )
        await registration.register(runtime)
    assert plane.named == named
    assert saved_arn(state) == named[-1]
    state.close()
