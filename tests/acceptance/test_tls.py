"""Three servers that speak TLS on an etcd that does: they know each other by certificates, nobody else is taken for one, and a leader may die.

One installation for all tests of the module, about half a minute.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from acceptance.conftest import clear, logs
from acceptance.harness import IMAGE, Installation, free_port, until
from botocore.config import Config

from homeport.api import origin
from homeport.iam import sigv4

TARGET = "AmazonEC2ContainerServiceV20141113."


@pytest.fixture(scope="module")
def three(docker_engine: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:  # noqa: ARG001 - needed running
    directory = tmp_path_factory.mktemp("homeport")
    made = Installation(directory, free_port(), ca_file=directory / "tls" / "ca.pem")
    try:
        started = subprocess.CompletedProcess[str]([], 1, "", "not started")
        with contextlib.suppress(subprocess.CalledProcessError):
            started = made.up("--servers", "3", "--tls")
        assert started.returncode == 0, logs(made)
        yield made
    finally:
        clear(made)


def client(three: Installation, number: int) -> Any:
    return boto3.client(
        "ecs",
        endpoint_url=f"https://127.0.0.1:{three.port + number}",
        aws_access_key_id=three.access_key_id,
        aws_secret_access_key=three.secret_access_key,
        region_name=three.region,
        verify=str(three.ca_file),
        config=Config(retries={"mode": "standard", "total_max_attempts": 10}, read_timeout=30),
    )


def members(three: Installation) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(three.homeport("server", "status", "--json").stdout)
    return found


def trusting(three: Installation, own: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(three.ca_file))
    if own is not None:
        context.load_cert_chain(own)
    return context


def test_the_shell_is_told_whom_to_trust_and_the_agent_of_this_machine_knows(three, unique):
    told = three.homeport("env").stdout
    assert f"AWS_CA_BUNDLE='{three.ca_file}'" in told and f"AWS_ENDPOINT_URL='https://127.0.0.1:{three.port}'" in told
    assert three.aws("ecs", "list-container-instances")["containerInstanceArns"]
    three.ecs.register_task_definition(
        family=unique, containerDefinitions=[{"name": "c", "image": IMAGE, "memory": 16, "command": ["sleep", "600"], "stopTimeout": 2}]
    )
    task = three.ecs.run_task(taskDefinition=unique)["tasks"][0]["taskArn"]
    assert until(lambda: three.ecs.describe_tasks(tasks=[task])["tasks"][0]["lastStatus"] == "RUNNING")
    three.stop(task)


def test_the_leader_dies_and_the_others_go_on_and_call_each_other(three, unique):
    leader = members(three)["leader"]
    os.kill(three.pid(leader), signal.SIGKILL)
    left = [number for number in range(3) if f"server-{number + 1}" != leader]
    began = time.monotonic()
    for number in left:  # at least one of the two sends it on to the other
        client(three, number).create_cluster(clusterName=f"{unique}-{number}")
    assert time.monotonic() - began < 10
    for number in left:
        assert {arn.rpartition("/")[2] for arn in client(three, number).list_clusters()["clusterArns"]} >= {f"{unique}-{each}" for each in left}
    assert f"started {leader}" in three.up("--servers", "3").stderr
    told = members(three)
    assert all(member["answers"] and member["address"].startswith("https://") for member in told["members"]), told


def answer(three: Installation, number: int, body: bytes, headers: dict[str, str], *, path: str = "/", own: Path | None = None) -> tuple[int, str]:
    """(status, code) of a request that is signed with the root key."""
    port = three.port + number
    host = f"127.0.0.1:{port}"
    covered = {name.lower().encode(): value.encode() for name, value in {"Host": host, **headers}.items()}
    request = sigv4.Request("POST", path.encode(), b"", covered, hashlib.sha256(body).hexdigest())
    keys = sigv4.Credentials(three.access_key_id, three.secret_access_key, three.region)
    signed = sigv4.sign(request, keys, time.time())
    # What a server adds when it sends a call on, sealed with the root key's secret, which here was stolen.
    sealed = origin.sealed(three.secret_access_key, signed["Authorization"].encode(), "10.1.1.1", secure=True)
    forged = {"X-Homeport-Forwarded": "server-2", "X-Homeport-Origin": sealed} if path == "/" else {}
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=trusting(three, own))
    try:
        connection.request("POST", path, body, {"Host": host, **headers, **signed, **forged})
        response = connection.getresponse()
        code = re.search(r'"__type":"(\w+)"', response.read().decode("utf-8", "replace"))
        return response.status, code[1] if code else ""
    finally:
        connection.close()


def test_nobody_is_taken_for_a_server_without_a_servers_certificate_even_with_the_root_key(three, unique):
    leader = next(number for number in range(3) if f"server-{number + 1}" == members(three)["leader"])
    call = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"{TARGET}CreateCluster"}
    body = json.dumps({"clusterName": unique}).encode()
    certificates = {name: three.data_dir / "tls" / f"{name}.pem" for name in ("etcd-1", "etcd-client")}
    server = three.data_dir / "server-2" / "tls" / "server.pem"
    for own in (None, *certificates.values()):  # of our authority, but no server's
        assert answer(three, leader, body, call, own=own) == (400, "AccessDeniedException")
        for path in ("/homeport/command", "/homeport/reports", "/homeport/journal"):
            assert answer(three, leader, b"", {}, path=path, own=own) == (400, "AccessDeniedException"), path
    assert not any(arn.endswith(unique) for arn in three.ecs.list_clusters()["clusterArns"])
    assert answer(three, leader, body, call, own=server) == (200, "")
    assert answer(three, leader, b"?", {}, path="/homeport/journal", own=server) == (400, "SerializationException")
    assert answer(three, leader, b"", {}, path="/homeport/servers") == (200, "")  # what `server status` asks
    assert "root key" in three.homeport("key", "status").stdout.lower()


def test_etcd_takes_nobody_without_a_certificate_neither_as_a_client_nor_as_a_member(three):
    group = json.loads((three.data_dir / "group.json").read_text())
    own = three.data_dir / "tls" / "etcd-client.pem"

    def health(port: int, context: ssl.SSLContext) -> int:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status
        finally:
            connection.close()

    for member in group["etcd"]:
        assert health(member["port"], trusting(three, own)) == 200
        for port in (member["port"], member["peer_port"]):
            with pytest.raises((ssl.SSLError, ConnectionResetError, http.client.RemoteDisconnected)):
                health(port, trusting(three))
            with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
                plain.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
                assert b" 200 " not in plain.recv(200)


def test_a_rolling_restart_and_a_new_start_stay_with_tls_and_the_store_is_read_while_all_stands(three):
    assert three.homeport("server", "restart").stderr.count("restarted") == 3
    assert all(member["answers"] for member in members(three)["members"])
    three.homeport("down")
    assert json.loads(three.homeport("journal", "verify", "--json").stdout)
    assert f"https://127.0.0.1:{three.port}" in three.up().stderr
    for number in range(3):
        place = urlsplit(client(three, number).meta.endpoint_url)
        assert place.scheme == "https" and client(three, number).list_clusters()["clusterArns"]
