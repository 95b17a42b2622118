"""How many signed API calls the server answers per CPU-second of its process.

Owns: the bench "api". A real server (`homeport server`, SQLite in a temporary directory) on 127.0.0.1; eight connections, each sending its next
request as soon as it has the answer to the last. Requests are signed once and sent again (a signature is good for five minutes), so that the client
costs little. CPU time is that of the server's process with all its threads. Never touches an existing installation.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import msgspec

from homeport.iam import sigv4

CONNECTIONS: Final = 8
SECONDS: Final = 4.0
"""Length of each measured run; the best of `RUNS` counts, since other programs on the machine only ever slow one down."""
RUNS: Final = 3
START_SECONDS_MAX: Final = 30.0
TASKS: Final = 10
KEY_ID, SECRET, REGION = "AKIABENCHBENCHBENCH0", "bench/secret", "us-east-1"
TARGET_PREFIX: Final = "AmazonEC2ContainerServiceV20141113."
BOUNDS: Final = {"ListClusters": (5_000, 8_000), "DescribeTasks of 10": (2_500, 5_000), "RegisterTaskDefinition, durable": (2_000, 4_000)}

CONTAINER: Final = {
    "name": "storefront",
    "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/shop/storefront:2026.11.24-7f3a9c1",
    "cpu": 16,
    "memory": 16,
    "essential": True,
    "command": ["serve", "--port", "8080"],
    "environment": [{"name": "STAGE", "value": "production"}, {"name": "REGION", "value": REGION}],
    "portMappings": [{"containerPort": 8080, "hostPort": 0, "protocol": "tcp"}],
    "dockerLabels": {"team": "checkout", "cost-center": "4711"},
    "logConfiguration": {"logDriver": "json-file", "options": {"max-size": "10m"}},
}
DEFINITION: Final = {"family": "storefront", "containerDefinitions": [CONTAINER, {**CONTAINER, "name": "metrics", "essential": False}]}


class Server(NamedTuple):
    """A running server."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """CPU time of the process so far: user and system, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def signed(self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> dict[str, str]:
        """The headers of a signed request for `target` (path and query)."""
        path, _, query = target.partition("?")
        covered = {"Host": f"127.0.0.1:{self.port}", **(headers or {})}
        request = sigv4.Request(
            method,
            path.encode(),
            query.encode(),
            {name.lower().encode(): value.encode() for name, value in covered.items()},
            hashlib.sha256(body).hexdigest(),
        )
        return {**covered, **sigv4.sign(request, sigv4.Credentials(KEY_ID, SECRET, REGION), time.time())}

    def request(self, operation: str, members: dict[str, Any]) -> bytes:
        """One call as it goes over the wire."""
        body = msgspec.json.encode(members)
        headers = self.signed("POST", "/", body, {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": TARGET_PREFIX + operation})
        headers |= {
            "User-Agent": "aws-cli/1.46.3 md/Botocore#1.44.5 lang/python#3.11.7",
            "Accept-Encoding": "identity",
            "Content-Length": str(len(body)),
        }
        return b"POST / HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n" + body

    def call(self, operation: str, members: dict[str, Any]) -> dict[str, Any]:
        """Make one call and return its answer; RuntimeError when it is refused."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(self.request(operation, members))
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            body: dict[str, Any] = msgspec.json.decode(answer.read())
        if answer.status != 200:
            raise RuntimeError(f"{operation}: {body}")
        return body


@contextlib.contextmanager
def serving(*more: str, directory_made: Callable[[Path], object] = lambda path: None) -> Iterator[Server]:
    """A server of our own, on a free port, ended afterwards; `more` options, and who is told its data directory before it starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    environment = {**os.environ, "HOMEPORT_ROOT_ACCESS_KEY_ID": KEY_ID, "HOMEPORT_ROOT_SECRET_ACCESS_KEY": SECRET}
    with tempfile.TemporaryDirectory(dir=os.environ.get("HOMEPORT_BENCH_DIR")) as directory, open(Path(directory, "server.out"), "w+b") as log:
        directory_made(Path(directory))
        command = [sys.executable, "-m", "homeport", "server", "--data-dir", directory, "--port", str(port), "--region", REGION, *more]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _wait_for(process, Path(directory), log)
            yield Server(port, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(process: subprocess.Popen[bytes], directory: Path, log: Any) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            log.seek(0)
            raise RuntimeError(f"the server ended with status {process.returncode}: {log.read().decode()}")
        log.seek(0)
        if b"serves at" in log.read() and (directory / "credentials.json").exists():
            return
        time.sleep(0.02)
    raise RuntimeError(f"the server did not answer within {START_SECONDS_MAX:g} s")


@contextlib.contextmanager
def running_tasks(server: Server) -> Iterator[list[str]]:
    """ARNs of running tasks, on an instance whose agent is a bare websocket that says nothing."""
    resources = [{"name": name, "type": "INTEGER", "integerValue": amount} for name, amount in (("CPU", 4096), ("MEMORY", 8192))]
    definition = server.call("RegisterTaskDefinition", DEFINITION)["taskDefinition"]
    attributes = [{"name": attribute["name"]} for attribute in definition["requiresAttributes"]]
    registered = server.call("RegisterContainerInstance", {"totalResources": resources, "attributes": attributes})
    instance = registered["containerInstance"]["containerInstanceArn"]
    query = {
        "clusterArn": "default",
        "containerInstanceArn": instance,
        "agentVersion": "1.99.0",
        "protocolVersion": "2",
        "sendCredentials": "false",
        "seqNum": "1",
    }
    target = f"/acs/ws?{urlencode(query)}"
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    with socket.create_connection(("127.0.0.1", server.port)) as agent:
        headers = {**server.signed("GET", target), **upgrade}
        agent.sendall(f"GET {target} HTTP/1.1\r\n".encode() + "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n")
        greeting = agent.recv(4096)
        if b" 101 " not in greeting.partition(b"\r\n")[0]:
            raise RuntimeError(f"the agent's websocket was refused: {greeting!r}")
        _wait_until_connected(server, instance)
        started = server.call("RunTask", {"taskDefinition": "storefront", "count": TASKS, "tags": [{"key": "team", "value": "checkout"}]})
        if started["failures"]:
            raise RuntimeError(f"the tasks were not placed: {started['failures']}")
        arns = [task["taskArn"] for task in started["tasks"]]
        for number, arn in enumerate(arns):
            _report_running(server, arn, 32768 + 2 * number)
        yield arns


def _wait_until_connected(server: Server, instance: str) -> None:
    for _ in range(200):
        if server.call("DescribeContainerInstances", {"containerInstances": [instance]})["containerInstances"][0]["agentConnected"]:
            return
        time.sleep(0.02)
    raise RuntimeError("the agent's websocket does not count as connected")


def _report_running(server: Server, arn: str, host_port: int) -> None:
    """What an agent says once both containers run."""
    now = time.time()
    containers = [
        {
            "containerName": container["name"],
            "status": "RUNNING",
            "runtimeId": hashlib.sha256(f"{arn}/{container['name']}".encode()).hexdigest(),
            "imageDigest": "sha256:" + "ab" * 32,
            "networkBindings": [{"bindIP": "0.0.0.0", "containerPort": 8080, "hostPort": host_port + offset, "protocol": "tcp"}],
        }
        for offset, container in enumerate(DEFINITION["containerDefinitions"])
    ]
    server.call(
        "SubmitTaskStateChange",
        {"cluster": "default", "task": arn, "status": "RUNNING", "pullStartedAt": now, "pullStoppedAt": now, "containers": containers},
    )


def load(port: int, request: bytes, seconds: float) -> int:
    """Send `request` over and over on all connections for `seconds`; how many good answers came. RuntimeError for any other answer."""
    poll = select.epoll()
    sockets = {connection.fileno(): connection for connection in (socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS))}
    missing = dict.fromkeys(sockets, 0)
    for descriptor, connection in sockets.items():
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(descriptor, select.EPOLLIN)
        connection.sendall(request)
    answered = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for descriptor, _ in poll.poll(1.0):
            data = sockets[descriptor].recv(1 << 18)
            missing[descriptor] = (missing[descriptor] or _length(data)) - len(data)
            if missing[descriptor] == 0:
                answered += 1
                sockets[descriptor].sendall(request)
    for connection in sockets.values():
        connection.close()
    poll.close()
    return answered


def _length(data: bytes) -> int:
    """Bytes of the whole answer whose beginning is `data`."""
    if not data.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"an answer was not good: {data[:500]!r}")
    start = data.index(b"content-length: ") + 16
    return data.index(b"\r\n\r\n") + 4 + int(data[start : data.index(b"\r", start)])


def measure(server: Server, request: bytes) -> tuple[float, float]:
    """(answers per CPU-second of the server, answers per second of wall time): the best of the runs."""
    load(server.port, request, 0.5)
    best = (0.0, 0.0)
    for _ in range(RUNS):
        cpu, wall = server.cpu_seconds(), time.monotonic()
        answered = load(server.port, request, SECONDS)
        best = max(best, (answered / (server.cpu_seconds() - cpu), answered / (time.monotonic() - wall)))
    return best


def run() -> list[dict[str, Any]]:
    """The rows of the bench."""
    rows = []
    with serving() as server, running_tasks(server) as arns:
        requests = {
            "ListClusters": server.request("ListClusters", {}),
            "DescribeTasks of 10": server.request("DescribeTasks", {"tasks": arns, "include": ["TAGS"]}),
            "RegisterTaskDefinition, durable": server.request("RegisterTaskDefinition", DEFINITION),
        }
        for case, request in requests.items():
            per_cpu, per_wall = measure(server, request)
            floor, target = BOUNDS[case]
            rows.append({"bench": "api", "case": case, "value": round(per_cpu), "unit": "calls per CPU-second", "floor": floor, "target": target})
            rows.append(
                {"bench": "api", "case": f"{case}, wall", "value": round(per_wall), "unit": "calls per second", "floor": None, "target": None}
            )
    return rows


if __name__ == "__main__":
    for line in run():
        print(msgspec.json.encode(line).decode())
