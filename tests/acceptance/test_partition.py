"""The network between three machines is cut while clients of all three write and read: who has no majority says so, and nothing diverges.

Each machine is a network namespace with an etcd member and a whole server. A client's connection begins on the machine that it asks, so that no cut
keeps it from asking. About a minute.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance.soak import (
    OWN_ETCD_OPTIONS,
    Client,
    Servers,
    UnavailableError,
    Workload,
    check,
    compare,
    verify_journal,
    wait_until_whole,
)
from tests.integration.machines import CLIENT_PORT, Machine, switched

PORT = 8470
CLONE_NEWNET = 0x4000_0000
PROMISED_SECONDS = 8.0
SPARE_SECONDS = 4.0
"""For a busy machine: a bound that tells an answer from a call that hangs, not a measurement."""
LIBC = ctypes.CDLL(None, use_errno=True)


def enter(space: Path) -> None:
    """Have the sockets that this thread opens from now on belong to that network."""
    descriptor = os.open(space, os.O_RDONLY)
    try:
        if LIBC.setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {space}")
    finally:
        os.close(descriptor)


class ConnectionThere(http.client.HTTPSConnection):
    """A connection that begins in another network namespace."""

    space = ""

    def connect(self) -> None:
        # Kept open before it is left: the main thread's own entry in /proc shows wherever that thread is by then.
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            enter(Path(f"/run/netns/{self.space}"))
            try:
                super().connect()
            finally:
                enter(Path(f"/proc/self/fd/{home}"))
        finally:
            os.close(home)


class ServersThere(Servers):
    """A server on each machine."""

    def __init__(self, directory: Path, machines: list[Machine]) -> None:
        super().__init__(directory, "", tls=True)
        self.machines = machines
        self.ports = [PORT] * len(machines)

    def command(self, number: int, *arguments: str) -> list[str]:
        machine = self.machines[number]
        store = "etcd://" + ",".join(machine.etcd_endpoints(self.machines))
        command = [*machine.inside, *super().command(number, *(argument or store for argument in arguments))]
        return [*command, "--host", "0.0.0.0", "--advertise", f"https://{machine.address}:{PORT}"] if arguments[0] == "server" else command

    def connection(self, number: int, seconds: float) -> http.client.HTTPConnection:
        made = ConnectionThere("127.0.0.1", PORT, timeout=seconds, context=self.trust())
        made.space = self.machines[number].space
        return made

    def another(self, number: int) -> int:
        return (number + 1) % len(self.machines)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[ServersThere]:
    with switched(Machine, tmp_path) as machines:
        for machine in machines:
            machine.start_etcd(machines, *OWN_ETCD_OPTIONS)
        made = ServersThere(tmp_path, machines)
        try:
            for number in range(3):
                made.start(number)
            wait_until_whole(made)
            yield made
        finally:
            made.stop()


def refusal(servers: Servers, number: int, operation: str, **parameters: Any) -> tuple[str, float]:
    """(code of the 503 that server `number` answers, after how many seconds)."""
    began = time.monotonic()
    with Client(servers, 1) as client, pytest.raises(UnavailableError) as refused:
        client.call(number, operation, seconds=30, **parameters)
    assert refused.value.args, f"the connection broke: {refused.value.__cause__}"
    return json.loads(refused.value.args[0])["__type"].rpartition("#")[2], time.monotonic() - began


def is_silent(servers: Servers, number: int, arn: str) -> str:
    """Check that the server without a majority answers neither changes nor reads, in time; what was measured."""
    found: dict[str, tuple[str, float]] = {}
    calls: dict[str, dict[str, Any]] = {
        "TagResource": {"resourceArn": arn, "tags": [{"key": "cut", "value": "off"}]},
        "CreateCluster": {"clusterName": "cut-off"},
        "ListTagsForResource": {"resourceArn": arn},
        "ListClusters": {},
    }
    threads = [
        threading.Thread(target=lambda o=operation, p=parameters: found.update({o: refusal(servers, number, o, **p)}))  # type: ignore[misc]
        for operation, parameters in calls.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {operation: code for operation, (code, _) in found.items()} == dict.fromkeys(calls, "ServiceUnavailable")
    slowest = max(seconds for _, seconds in found.values())
    assert slowest < PROMISED_SECONDS + SPARE_SECONDS, found
    return f"503 after {slowest:.1f} s"


def cut(servers: ServersThere, workload: Workload, number: int, *, pull: Callable[[], object], push: Callable[[], object], case: str) -> None:
    """Cut server `number` off, see that it is silent and that the others go on, and heal."""
    began = time.monotonic()
    pull()
    workload.wait_for_write_after(time.monotonic())
    went_on = time.monotonic() - began
    told = is_silent(servers, number, workload.arns["key-0"])
    workload.wait_for_write_after(time.monotonic())
    assert not workload.failures, workload.failures
    push()
    wait_until_whole(servers)
    print(f"{case}: the majority went on after {went_on:.1f} s; the minority answered {told}; whole again after {time.monotonic() - began:.1f} s")


def contents(servers: Servers, number: int) -> dict[str, Any]:
    """Every record that the API shows, as that server tells it."""
    with Client(servers, 2) as client:
        clusters = client.call(number, "ListClusters")["clusterArns"]
        definitions, more = [], {}
        while more is not None:
            page = client.call(number, "ListTaskDefinitions", **more)
            definitions += page["taskDefinitionArns"]
            more = {"nextToken": page["nextToken"]} if page.get("nextToken") else None
        return {
            "clusters": client.call(number, "DescribeClusters", clusters=clusters, include=["TAGS", "SETTINGS", "CONFIGURATIONS"]),
            "definitions": [client.call(number, "DescribeTaskDefinition", taskDefinition=arn) for arn in definitions],
            "revision": (servers.health(number) or {})["revision"],
        }


def test_a_minority_is_silent_and_nothing_diverges(servers: ServersThere) -> None:
    workload = Workload(servers)
    workload.start()

    def plug(number: int, state: str) -> Callable[[], None]:
        return lambda: servers.machines[number].plug(state)

    def nft(number: int, *command: str) -> Callable[[], object]:
        machine = servers.machines[number]
        return lambda: subprocess.run([*machine.inside, "nft", *command], check=True, capture_output=True, text=True)

    leader = servers.leader()
    assert leader is not None
    cut(servers, workload, leader, pull=plug(leader, "down"), push=plug(leader, "up"), case="the leader in the minority")

    leader = servers.leader()
    assert leader is not None
    lonely = servers.another(leader)
    cut(servers, workload, lonely, pull=plug(lonely, "down"), push=plug(lonely, "up"), case="the leader in the majority")
    assert servers.leader() == leader, "nobody else had a reason to lead"

    rules = f"table inet cut {{ chain out {{ type filter hook output priority 0; tcp dport {CLIENT_PORT} drop; }}; }}"
    cut(
        servers,
        workload,
        leader,
        pull=nft(leader, rules),
        push=nft(leader, "delete", "table", "inet", "cut"),
        case="the leader's server cut from etcd",
    )

    workload.stop()
    assert not workload.failures, workload.failures
    assert check(workload.steps, workload.revisions) + compare(servers, workload) == []
    found = [contents(servers, number) for number in range(3)]
    assert found[0] == found[1] == found[2]
    assert len(found[0]["definitions"]) == len(workload.revisions["family"])
    names = {cluster["clusterName"] for cluster in found[0]["clusters"]["clusters"]}
    assert names == {f"key-{number}" for number in range(4)}, "what the minority refused was not done"
    local_reads(servers, workload.arns["key-0"])
    servers.stop()
    assert verify_journal(servers) == []


def local_reads(servers: ServersThere, arn: str) -> None:
    """A server with `--reads local` and no majority answers reads from its copy, and no changes."""
    number = servers.another(servers.leader() or 0)
    servers.signal(number, signal.SIGTERM)
    process = servers.processes[number]
    assert process is not None
    process.wait(20)
    servers.start(number, "--reads", "local")
    wait_until_whole(servers)
    with Client(servers, 3) as client:
        before = client.call(number, "ListTagsForResource", resourceArn=arn)["tags"]
        servers.machines[number].plug("down")
        time.sleep(1.0)
        changed = [{"key": "n", "value": "9999999"}]
        assert client.until_acknowledged("TagResource", lambda: False, resourceArn=arn, tags=changed) is not None
        assert client.call(number, "ListTagsForResource", resourceArn=arn)["tags"] == before, "its own copy, which may be stale"
        assert refusal(servers, number, "TagResource", resourceArn=arn, tags=changed)[0] == "ServiceUnavailable"
        servers.machines[number].plug("up")
        wait_until_whole(servers)
        deadline = time.monotonic() + 60
        while client.call(number, "ListTagsForResource", resourceArn=arn)["tags"] != changed:
            assert time.monotonic() < deadline
            time.sleep(0.1)
