"""Three server processes on a real etcd: what they refuse, what they do once, and where agents go."""

from __future__ import annotations

import asyncio
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.soak import Client, Servers, UnavailableError, leads, wait_until_whole
from tests.integration.etcd_members import EtcdMembers, etcd_members

from homeport.agent.main import Agent
from homeport.agent.settings import AgentSettings
from homeport.clock import SystemClock
from homeport.ids import Ids
from homeport.testing.runtime import FakeRuntime


class Group:
    """Servers and the etcd below them."""

    def __init__(self, servers: Servers, members: EtcdMembers) -> None:
        self.servers = servers
        self.members = members
        self._clients: list[Client] = []

    def client(self) -> Client:
        self._clients.append(Client(self.servers, 1))
        return self._clients[-1]

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    with etcd_members(tmp_path / "etcd", 3) as members:
        servers = Servers(tmp_path, "etcd://" + ",".join(endpoint.partition("//")[2] for endpoint in members.endpoints))
        try:
            for number in range(3):
                servers.start(number)
            wait_until_whole(servers)
            made = Group(servers, members)
            yield made
            made.close()
        finally:
            servers.stop()


def registered(answer: dict[str, Any]) -> int:
    return int(answer["taskDefinition"]["revision"])


def test_one_call_that_reaches_all_servers_at_once_has_one_effect(group):
    for number in range(1, 6):
        invocation, revisions = str(uuid.uuid4()), []
        definition = {"family": "web", "containerDefinitions": [{"name": "c", "image": f"i:{number}", "memory": 8}]}

        def send(server: int, invocation: str = invocation, definition: Any = definition, revisions: Any = revisions) -> None:
            revisions.append(registered(group.client().call(server, "RegisterTaskDefinition", invocation, **definition)))

        threads = [threading.Thread(target=send, args=(server,)) for server in (0, 1, 2, 0, 1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert revisions == [number] * 6


def test_without_a_majority_of_etcd_nothing_is_changed_or_told_and_503_says_so(group):
    client = group.client()
    client.call(0, "CreateCluster", clusterName="before")
    local = Servers(group.servers.directory / "local", group.servers.store)
    local.directory.mkdir()
    shutil.copy(group.servers.directory / "root.key", local.directory)
    local.start(0, "--reads", "local", "--name", "local")
    wait_until(lambda: local.health(0) is not None)
    for member in group.members.members[:2]:
        member.kill()
    for operation, parameters in (("CreateCluster", {"clusterName": "during"}), ("ListClusters", {})):
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="ServiceUnavailable"):
            client.call(1, operation, seconds=30, **parameters)
        assert time.monotonic() - began < 20
    # Its own copy, which may be stale, it tells.
    keys = group.servers.credentials()
    with Client(local, 1, keys=keys) as there:
        assert [arn.rpartition("/")[2] for arn in there.call(0, "ListClusters")["clusterArns"]] == ["before"]
    local.stop()
    for member in group.members.members[:2]:
        member.start()
    for member in group.members.members[:2]:
        member.wait()
    done = client.until_acknowledged("CreateCluster", lambda: False, clusterName="after")
    assert done is not None
    told = [{arn.rpartition("/")[2] for arn in client.call(server, "ListClusters")["clusterArns"]} for server in range(3)]
    assert told[0] == told[1] == told[2] >= {"before", "after"}


def test_a_silent_leader_is_deposed_only_when_etcd_has_given_its_lease_the_whole_time_anew(group):
    """By the lease alone, changes would wait for the election of etcd's leader and then once more as long as a lease lasts."""
    servers, members = group.servers, group.members.members

    def told_silent() -> bool:
        return any(b" is silent at " in (servers.directory / f"soak-{number}.log").read_bytes() for number in range(3))

    def pause_leader() -> int:
        leader = servers.leader()
        assert leader is not None
        servers.signal(leader, signal.SIGSTOP)
        return leader

    def led_by_another_than(leader: int) -> bool:
        return any(
            health is not None and health["leader"] == health["server"]
            for number in range(3)
            if number != leader and (health := servers.health(number))
        )

    leader = pause_leader()
    wait_until(lambda: led_by_another_than(leader))
    assert not told_silent()
    servers.signal(leader, signal.SIGCONT)
    wait_until_whole(servers)
    time.sleep(1)  # the leader was heard by both others
    leader, member = pause_leader(), next(member for member in members if leads(member))
    member.signal(signal.SIGSTOP)
    wait_until(lambda: led_by_another_than(leader))
    assert told_silent()
    other = (leader + 1) % 3
    assert group.client().call(other, "CreateCluster", clusterName="meanwhile")["cluster"]["status"] == "ACTIVE"
    member.signal(signal.SIGCONT)
    servers.signal(leader, signal.SIGCONT)
    wait_until_whole(servers)


def wait_until(condition: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


async def test_an_agent_moves_when_its_server_dies_and_is_missed_when_it_dies_with_it(group, tmp_path: Path):
    servers, clock = group.servers, SystemClock()
    keys = servers.credentials()
    settings = AgentSettings(
        endpoint=",".join(f"http://127.0.0.1:{port}" for port in servers.ports),
        region=keys["region"],
        access_key_id=keys["access_key_id"],
        secret_access_key=keys["secret_access_key"],
        data_dir=str(tmp_path / "agent"),
        instance_id="i-1",
    )
    stop = asyncio.Event()
    running = asyncio.create_task(Agent(settings, runtime=FakeRuntime(clock), clock=clock, ids=Ids()).run(stop))
    home = servers.ports.index(int(settings.endpoints[0].rpartition(":")[2]))
    others = [number for number in range(3) if number != home]

    def connection(server: int) -> Any:
        client = group.client()
        try:
            arns = client.call(server, "ListContainerInstances")["containerInstanceArns"]
            found = client.call(server, "DescribeContainerInstances", containerInstances=arns, include=["CONTAINER_INSTANCE_HEALTH"])
        except (AssertionError, UnavailableError):  # the cluster comes with the first registration
            return None
        instance = found["containerInstances"][0]
        details = instance["healthStatus"]["details"]
        return instance["agentConnected"] and next(item["lastStatusChange"] for item in details if item["type"] == "AGENT_CONNECTIVITY")

    async def eventually(condition: Any, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(condition):
            assert time.monotonic() < deadline, "it did not come true"
            await asyncio.sleep(0.1)

    await eventually(lambda: connection(others[0]), 15)
    before = connection(others[0])
    servers.kill(home)
    began = time.monotonic()
    await eventually(lambda: (connection(others[0]) or 0) > before, 10)
    assert time.monotonic() - began < 8
    # Now the agent and its server go at the same time: nobody is left to say that it went.
    stop.set()
    moved = servers.ports.index(int(settings.endpoints[1].rpartition(":")[2]))
    servers.kill(moved)
    await running
    left = next(number for number in range(3) if number not in (home, moved))
    await eventually(lambda: connection(left) is False, 40)
