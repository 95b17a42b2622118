"""A host that joined, for real: server on a port, agent with credentials of its own, sessions of some seconds. 15 s in all."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from integration.installation import ACCOUNT, Installation

from homeport.agent.credentials import NotJoinedError
from homeport.cli.client import Api, ApiCallError, ApiUnreachableError, ask_unsigned
from homeport.cli.installation import DataDirectory, LocalCredentials
from homeport.cli.join import join
from homeport.cli.terminal import CommandError, Terminal
from homeport.clock import SystemClock
from homeport.iam import host as host_file
from homeport.iam.host import Host

SESSION_SECONDS = 3


class Site:
    """An installation, and a machine that may join it."""

    def __init__(self, installation: Installation, directory: Path) -> None:
        self.installation = installation
        self.directory = DataDirectory(directory)
        self.endpoint = installation.agent_settings.endpoint
        self.root = LocalCredentials(
            endpoint=self.endpoint,
            access_key_id="AKIDEXAMPLE",
            secret_access_key="secret",
            region="us-east-1",
            account_id=ACCOUNT,
            installation_id="",
        )

    async def own(self, operation: str, **members: Any) -> dict[str, Any]:
        """One of our own operations, by the root."""
        return await asyncio.to_thread(lambda: Api(self.root, SystemClock()).call(operation, **members))

    async def join(self, **members: Any) -> Host:
        text = (await self.own("CreateJoinToken", **members))["token"]
        return await self.join_with(text)

    async def join_with(self, text: str) -> Host:
        terminal = Terminal(SystemClock())
        return await asyncio.to_thread(lambda: join(self.directory, text, endpoints=[self.endpoint], ca_file="", terminal=terminal))

    async def start_agent(self, **settings: Any) -> None:
        await self.installation.start_agent(access_key_id="", secret_access_key="", identity=str(self.directory.host), **settings)

    def host(self) -> Host:
        found = host_file.read(self.directory.host)
        assert found is not None
        return found

    async def identity(self) -> dict[str, Any]:
        return (await self.own("DescribeInstanceIdentity", identityId=self.host().identity))["instanceIdentity"]


@pytest.fixture
async def site(tmp_path):
    async with Installation(tmp_path, settings=(f"instance_session_seconds={SESSION_SECONDS}",)) as made:
        yield Site(made, tmp_path)


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    async def holds() -> bool:
        return condition()

    await _eventually(holds, seconds)


async def _eventually(condition: Callable[[], Awaitable[bool]], seconds: float) -> None:
    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    while not await condition():
        assert clock.monotonic() < deadline
        await clock.sleep(0.05)


async def test_an_agent_renews_its_credentials_under_a_running_task_and_after_a_long_time_off(site):
    first = await site.join()
    assert stat.S_IMODE(site.directory.host.stat().st_mode) == 0o600
    await site.start_agent()
    task = await site.installation.run_task()
    await site.installation.reaches(task, "RUNNING")
    connected = (await site.identity())["connectedAt"]
    seen = {first.access_key_id}

    def renewed_twice() -> bool:
        seen.add(site.host().access_key_id)
        return len(seen) > 2

    await until(renewed_twice)
    assert site.host().private_key == first.private_key
    assert (await site.identity())["connectedAt"] == connected, "a renewal disturbs no connection"
    await site.installation.call("StopTask", task=task)
    await site.installation.reaches(task, "STOPPED")
    await site.installation.stop_agent()
    await asyncio.sleep(SESSION_SECONDS + 0.5)
    before = site.host()
    assert before.expires_at < SystemClock().now()
    await site.start_agent()
    assert site.host().access_key_id != before.access_key_id
    (instance,) = await site.installation.instances()
    assert (await site.identity())["containerInstanceArn"] == instance["containerInstanceArn"]


async def test_a_revoked_host_is_disconnected_stays_so_and_its_tasks_run_on(site, caplog):
    await site.join()
    await site.start_agent(backoff_base_seconds=0.05, backoff_max_seconds=0.1)
    task = await site.installation.run_task()
    running = await site.installation.reaches(task, "RUNNING")
    await site.own("RevokeInstanceIdentity", identityId=site.host().identity)

    async def away() -> bool:
        return not await site.installation.connected()

    await site.installation.eventually(away)
    await asyncio.sleep(1.0)
    assert await away()
    tried = [record for record in caplog.records if record.getMessage().startswith("the control connection: AccessDenied")]
    assert len(tried) <= 2, "it does not go on knocking"
    assert running["containers"][0]["runtimeId"] in site.installation.runtime.containers
    await site.installation.stop_agent()
    # It joins again as the instance that it was, whose task is still its own.
    (instance,) = await site.installation.instances()
    await site.join(containerInstance=instance["containerInstanceArn"])
    await site.start_agent()
    assert [each["containerInstanceArn"] for each in await site.installation.instances()] == [instance["containerInstanceArn"]]
    assert (await site.installation.task(task))["lastStatus"] == "RUNNING"


async def test_a_proof_that_a_server_has_seen_already_is_followed_by_a_newer_one(site, monkeypatch):
    """As when a server passed the call on, and the answer of the one that did it was lost."""
    text = (await site.own("CreateJoinToken"))["token"]
    sent: list[dict[str, Any]] = []

    def sends_it_twice(endpoint: str, operation: str, request: dict[str, Any], *, ca_file: str) -> dict[str, Any]:
        sent.append(request)
        if len(sent) == 1:
            ask_unsigned(endpoint, operation, request, ca_file=ca_file)
        return ask_unsigned(endpoint, operation, request, ca_file=ca_file)

    monkeypatch.setattr("homeport.cli.join.ask_unsigned", sends_it_twice)
    assert (await site.join_with(text)).identity
    assert [each["publicKey"] for each in sent] == [sent[0]["publicKey"]] * 2


async def test_credentials_that_the_installation_does_not_know_are_replaced_at_once(site):
    """As after the installation's session keys were replaced, or an older state was restored."""
    host = await site.join()
    host_file.write(site.directory.host, msgspec.structs.replace(host, session_token=host.session_token.replace("A", "B"), expires_at=2e9))
    await site.start_agent()
    assert site.host().access_key_id != host.access_key_id


async def test_a_machine_that_joins_anew_is_another_instance_and_takes_up_nothing_of_the_old_one(site):
    await site.join()
    await site.start_agent()
    (old,) = await site.installation.instances()
    await site.installation.stop_agent()
    await site.join()
    await site.start_agent()
    arns = {each["containerInstanceArn"] for each in await site.installation.instances()}
    assert len(arns) == 2
    assert (await site.identity())["containerInstanceArn"] in arns - {old["containerInstanceArn"]}


async def test_what_a_machine_is_told_when_it_may_not_join(site):
    text = (await site.own("CreateJoinToken"))["token"]
    other = Site(site.installation, site.installation.directory / "other")
    await other.join_with(text)
    with pytest.raises(CommandError, match="used up"):
        await site.join_with(text)
    with pytest.raises(CommandError, match="no join token"):
        await site.join_with("nonsense")
    with pytest.raises(NotJoinedError):
        await site.start_agent()


async def test_a_join_whose_answer_was_lost_costs_no_token(site, monkeypatch):
    text = (await site.own("CreateJoinToken"))["token"]
    lost: list[str] = []

    def loses_the_first_answer(endpoint: str, operation: str, request: dict[str, Any], *, ca_file: str) -> dict[str, Any]:
        answer = ask_unsigned(endpoint, operation, request, ca_file=ca_file)
        if not lost:
            lost.append(answer["identityId"])
            raise ApiUnreachableError("the cable was pulled")
        return answer

    monkeypatch.setattr("homeport.cli.join.ask_unsigned", loses_the_first_answer)
    assert (await site.join_with(text)).identity == lost[0]
    (shown,) = (await site.own("ListJoinTokens"))["joinTokens"]
    assert (shown["status"], shown["usesLeft"]) == ("USED", 0)


async def test_the_account_s_root_key_is_nowhere_near_the_agent(site):
    await site.join()
    kept = json.loads(site.directory.host.read_text())
    assert "AKIDEXAMPLE" not in json.dumps(kept)
    with pytest.raises(ApiCallError, match="AccessDenied"):
        credentials = LocalCredentials(
            endpoint=site.endpoint,
            access_key_id=kept["access_key_id"],
            secret_access_key=kept["secret_access_key"],
            session_token=kept["session_token"],
            region="us-east-1",
            account_id=ACCOUNT,
            installation_id="",
        )
        await asyncio.to_thread(lambda: Api(credentials, SystemClock()).call("ListClusters"))
