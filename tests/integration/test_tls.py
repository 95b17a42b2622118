"""Servers that speak TLS, as processes, on sockets: who is let in, what is refused, and that nothing of a rotation is felt.

The machines of the first tests are network namespaces with addresses of 100.64.0.0/10. Half a minute in all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from tests.integration.machines import ROOT, Machine, switched

from homeport.agent.client import EcsClient, UnreachableError
from homeport.agent.main import Agent
from homeport.agent.settings import AgentSettings
from homeport.clock import SystemClock
from homeport.ids import Ids
from homeport.testing.runtime import FakeRuntime
from homeport.tls import files
from homeport.tls.authority import Wanted

PORT = 8470
AWS = str(Path(sys.executable).parent / "aws")
CALLS = """
import boto3, sys
from botocore.config import Config
ecs = boto3.client("ecs", config=Config(retries={"total_max_attempts": 1}))
print(ecs.create_cluster(clusterName="over-tls")["cluster"]["status"])
found = ecs.discover_poll_endpoint()
print(found["endpoint"], found["telemetryEndpoint"])
"""


class Process:
    """A server of its own data directory."""

    def __init__(self, directory: Path, *arguments: str, inside: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.log = directory.parent / f"{directory.name}.log"
        self._command = [*inside, sys.executable, "-m", "homeport", "server", "--data-dir", str(directory), *arguments]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Process:
        with self.log.open("ab") as log:
            environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
            self.process = subprocess.Popen(self._command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: "serves at" in self.log.read_text() or self.process is None or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    @property
    def known(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "credentials.json").read_text())
        return found

    @property
    def ca(self) -> Path:
        return self.directory / "tls" / "ca.pem"

    def environment(self, ca_file: Path | None = None) -> dict[str, str]:
        """What `homeport env` prints."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ENDPOINT_URL": self.known["endpoint"],
            "AWS_ACCESS_KEY_ID": self.known["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": self.known["secret_access_key"],
            "AWS_DEFAULT_REGION": self.known["region"],
            "AWS_CA_BUNDLE": str(ca_file or self.ca),
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_PAGER": "",
        }


def wait_until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stranger(directory: Path) -> Path:
    """The certificate of another authority than ours."""
    files.ensure_authority(directory, now=time.time(), seconds=3600)
    return directory / "ca.pem"


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts servers on this machine's loopback."""
    made: list[Process] = []

    def start(*arguments: str) -> Process:
        made.append(Process(tmp_path / f"server-{len(made)}", "--port", str(free_port()), *arguments))
        return made[-1].start()

    yield start
    for process in made:
        process.stop()


def place(server: Process) -> tuple[str, int]:
    host, _, port = server.known["endpoint"].removeprefix("https://").rpartition(":")
    return host, int(port)


# -- from one machine to another ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Machine]]:
    """A server on one machine, and another machine."""
    directory = tmp_path_factory.mktemp("tls")
    with switched(Machine, directory, 2) as (here, there):
        server = Process(directory / "data", "--tls", "--host", here.address, "--port", str(PORT), inside=tuple(here.inside)).start()
        try:
            yield server, there
        finally:
            server.stop()


def run(machine: Machine, *command: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*machine.inside, *command], check=False, capture_output=True, text=True, timeout=60, env=environ)


def test_boto3_and_the_aws_cli_of_another_machine_come_in_with_nothing_but_the_bundle(machines):
    server, there = machines
    done = run(there, sys.executable, "-c", CALLS, environ=server.environment())
    assert done.stdout.splitlines() == ["ACTIVE", f"https://100.64.7.1:{PORT}/acs/ https://100.64.7.1:{PORT}/tcs/"], done.stderr
    told = run(there, AWS, "ecs", "list-clusters", "--output", "text", environ=server.environment())
    assert told.stdout.strip().endswith("cluster/over-tls"), told.stderr


def test_a_policy_that_asks_for_tls_is_met(machines):
    server, there = machines
    policy = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": "ecs:*", "Resource": "*"},
                {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
                {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"NotIpAddress": {"aws:SourceIp": "100.64.7.2/32"}}},
            ],
        }
    )
    made = (
        "import boto3, sys; iam = boto3.client('iam'); iam.create_user(UserName='careful');"
        "iam.put_user_policy(UserName='careful', PolicyName='p', PolicyDocument=sys.argv[1]);"
        "key = iam.create_access_key(UserName='careful')['AccessKey'];"
        "ecs = boto3.client('ecs', aws_access_key_id=key['AccessKeyId'], aws_secret_access_key=key['SecretAccessKey']);"
        "print(ecs.create_cluster(clusterName='carefully')['cluster']['status'])"
    )
    done = run(there, sys.executable, "-c", made, policy, environ=server.environment())
    assert done.stdout.strip() == "ACTIVE", done.stderr


def test_another_machine_is_refused_nothing_by_accident_and_comes_in_by_no_other_way(machines, tmp_path):
    server, there = machines
    wrong = run(there, AWS, "ecs", "list-clusters", environ=server.environment(stranger(tmp_path)))
    assert wrong.returncode and "SSL validation failed" in wrong.stderr and "CERTIFICATE_VERIFY_FAILED" in wrong.stderr
    plain = server.environment() | {"AWS_ENDPOINT_URL": server.known["endpoint"].replace("https:", "http:")}
    refused = run(there, AWS, "ecs", "list-clusters", environ=plain)
    assert refused.returncode and "clusterArns" not in refused.stdout, "plain HTTP was answered on the TLS port"
    by_name = server.environment() | {"AWS_ENDPOINT_URL": f"https://other.invalid:{PORT}"}
    curl = ["curl", "-sS", "--cacert", str(server.ca), "--resolve", f"other.invalid:{PORT}:100.64.7.1", f"https://other.invalid:{PORT}/health"]
    assert "no alternative certificate subject name matches" in run(there, *curl, environ=by_name).stderr


def test_who_listens_for_others_in_plain_http_does_not_start(tmp_path):
    for arguments in (["--host", "0.0.0.0"], ["--host", "100.64.7.1"], ["--advertise", "http://100.64.7.1:8470"]):
        done = subprocess.run(
            [sys.executable, "-m", "homeport", "server", "--data-dir", str(tmp_path / "data"), "--port", str(free_port()), *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        )
        assert done.returncode == 1 and ("--tls" in done.stderr or "https" in done.stderr), done.stderr
    assert not (tmp_path / "data" / "homeport.sqlite").exists()


# -- what a listener answers, byte by byte ------------------------------------------------------------------------------


def test_downgrades_are_refused(local):
    server = local("--tls")
    with socket.create_connection(place(server), timeout=10) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := plain.recv(4096):
                answer += piece
    assert b"HTTP/" not in answer and b"location" not in answer.lower()

    def connect(version: ssl.TLSVersion, ciphers: str) -> str | None:
        context = ssl.create_default_context(cafile=str(server.ca))
        context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, version
        context.set_ciphers(ciphers)
        with socket.create_connection(place(server), timeout=10) as raw, context.wrap_socket(raw, server_hostname=place(server)[0]) as wrapped:
            return wrapped.version()

    assert connect(ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM") == "TLSv1.2"
    with pytest.warns(DeprecationWarning), pytest.raises((ssl.SSLError, ConnectionResetError)):
        connect(ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        connect(ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    # Somebody else's client certificate is no reason to be let in as nobody.
    directory = stranger(server.directory.parent / "stranger").parent
    foreign = directory / "client.pem"
    wanted = Wanted(subject="server-1", names=("127.0.0.1",), server="server-1")
    files.ensure_certificate(foreign, wanted, files.authority_in(directory), now=time.time(), seconds=3600)
    context = ssl.create_default_context(cafile=str(server.ca))
    context.load_cert_chain(foreign)
    with (
        pytest.raises((ssl.SSLError, ConnectionResetError)),
        socket.create_connection(place(server), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped,
    ):
        wrapped.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wrapped.recv(1) == b""
        raise ssl.SSLError("closed without an answer")


def test_certificates_from_files_are_shown_taken_anew_and_not_given_back_when_broken(local, tmp_path):
    ours = stranger(tmp_path / "corporate")
    authority, given = files.authority_in(ours.parent), ours.parent / "web.pem"

    def give(seconds: float, ago: float = 0.0) -> str:
        made = authority.issue(Wanted(subject="web", names=("127.0.0.1",)), now=time.time() - ago, seconds=seconds)
        (ours.parent / "web.key").write_bytes(made.key)
        files.write(given, made.certificate)
        return str(int(files.certificate_in(given).serial_number))

    def shown() -> str:
        context = ssl.create_default_context(cafile=str(ours))
        with socket.create_connection(place(server), timeout=10) as raw, context.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped:
            return str(int(str(wrapped.getpeercert()["serialNumber"]), 16))  # type: ignore[index]

    first = give(3600)
    server = local("--tls-cert", str(given), "--tls-key", str(ours.parent / "web.key"), "--tls-ca", str(ours), "--set", "tls_look_seconds=0.1")
    assert server.known["ca_file"] == str(ours)
    assert shown() == first
    second = give(3600)
    wait_until(lambda: shown() == second)
    given.write_bytes(b"broken")
    wait_until(lambda: "stay as they are" in server.log.read_text())
    assert shown() == second
    give(60, ago=120)

    def expired() -> bool:
        try:
            shown()
        except ssl.SSLCertVerificationError as error:
            return "expired" in str(error)
        return False

    wait_until(expired)  # the server shows what it was given, whose renewal it is; a client refuses it


# -- rotation -----------------------------------------------------------------------------------------------------------


def test_a_thousand_calls_and_an_open_conversation_feel_nothing_of_rotations_and_of_another_authority(local, tmp_path):
    server = local("--tls", "--set", "tls_certificate_seconds=3", "--set", "tls_look_seconds=0.1")
    trusted = tmp_path / "trusted.pem"  # a client's own copy
    shutil.copy(server.ca, trusted)
    failures: list[str] = []
    done: list[float] = []
    stopping = threading.Event()

    def work() -> None:
        while not stopping.is_set():
            ecs = boto3.client(
                "ecs",
                endpoint_url=server.known["endpoint"],
                aws_access_key_id=server.known["access_key_id"],
                aws_secret_access_key=server.known["secret_access_key"],
                region_name=server.known["region"],
                verify=str(trusted),
                config=Config(retries={"total_max_attempts": 1}),
            )
            for _ in range(20):  # on one connection
                try:
                    ecs.list_clusters()
                except Exception as error:
                    failures.append(repr(error))
                done.append(time.monotonic())

    def serial() -> str:
        context = ssl.create_default_context(cafile=str(trusted))
        with socket.create_connection(place(server), timeout=10) as raw, context.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped:
            return str(wrapped.getpeercert()["serialNumber"])  # type: ignore[index]

    threads = [threading.Thread(target=work) for _ in range(2)]
    with conversation(server, trusted) as connected_since:
        before = connected_since()
        for thread in threads:
            thread.start()
        try:
            serials = {serial()}
            directory = server.ca.parent
            for _ in range(3):
                wait_until(lambda: serial() not in serials)
                serials.add(serial())
            files.prepare_next(directory, now=time.time(), seconds=3600)
            shutil.copy(server.ca, trusted)  # as an operator hands it out between the two steps
            time.sleep(0.5)
            new = files.switch_to_next(directory)
            wait_until(lambda: files.certificate_in(directory / "server.pem").issuer == new.certificate.subject)
            wait_until(lambda: serial() not in serials)
            time.sleep(0.5)
            files.forget_old(directory)
            wait_until(lambda: len(done) >= 1000)
        finally:
            stopping.set()
            for thread in threads:
                thread.join(30)
        assert not failures, failures[:3]
        assert connected_since() == before, "the agent's connection was broken"


@contextlib.contextmanager
def conversation(server: Process, ca_file: Path) -> Iterator[Callable[[], float]]:
    """An agent that is connected; gives when its connection was made."""
    clock = SystemClock()
    settings = AgentSettings(
        endpoint=server.known["endpoint"],
        region=server.known["region"],
        access_key_id=server.known["access_key_id"],
        secret_access_key=server.known["secret_access_key"],
        data_dir=str(server.directory.parent / "agent"),
        instance_id="i-1",
        ca_file=str(ca_file),
    )
    loop, stop, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def live() -> None:
        running = asyncio.create_task(Agent(settings, runtime=FakeRuntime(clock), clock=clock, ids=Ids()).run(stop))
        ready.set()
        await running

    thread = threading.Thread(target=loop.run_until_complete, args=(live(),))
    thread.start()
    ready.wait(10)

    def since() -> float:
        async def ask() -> float:
            client = EcsClient(settings, clock)
            try:
                arns = (await client.call("ListContainerInstances", {}))["containerInstanceArns"]
                wanted = {"containerInstances": arns, "include": ["CONTAINER_INSTANCE_HEALTH"]}
                found = (await client.call("DescribeContainerInstances", wanted))["containerInstances"][0]
            finally:
                await client.close()
            details = found["healthStatus"]["details"]
            return (
                float(next(item["lastStatusChange"] for item in details if item["type"] == "AGENT_CONNECTIVITY")) if found["agentConnected"] else 0.0
            )

        return asyncio.run(ask())

    def connected() -> float:
        try:
            return since()
        except Exception:  # the cluster comes with the first registration
            return 0.0

    try:
        wait_until(connected)
        yield since
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


def test_an_agent_goes_nowhere_else_than_where_its_authority_sends_it(local, tmp_path):
    server = local("--tls")
    known = server.known

    async def ask(**settings: Any) -> Any:
        given = {"endpoint": known["endpoint"], "region": known["region"], "access_key_id": known["access_key_id"]}
        client = EcsClient(AgentSettings(**given, secret_access_key=known["secret_access_key"], **settings), SystemClock())
        try:
            found = await client.call("DiscoverPollEndpoint", {})
            with pytest.raises(UnreachableError, match="speaks TLS"):
                await client.connect(found["endpoint"].replace("https:", "http:"), {})
            return found["endpoint"]
        finally:
            await client.close()

    assert asyncio.run(ask(ca_file=str(server.ca))).startswith("https://127.0.0.1:")
    with pytest.raises(UnreachableError, match="certificate verify failed"):
        asyncio.run(ask(ca_file=str(stranger(tmp_path / "stranger"))))
    with pytest.raises(UnreachableError, match="certificate verify failed"):
        asyncio.run(ask())
