"""Clients write and read through three servers on an etcd of three, while servers and members are killed and paused; then the history is checked.

Owns: `soak`, its workload, its faults and its checker. `./dev soak` runs it for ten minutes, a test for one.

What is checked, with every key written by one client and read by all:

- No acknowledged write is lost, and no read is stale: a read that began after a write was acknowledged tells that write or a later one. Reads never
  go back either: one that began after another had ended tells nothing older.
- One effect: a client repeats a call under the same invocation id, at whichever server, until it is acknowledged. A repeat of RegisterTaskDefinition
  that had an effect of its own would leave a gap in the revisions; a repeat of a tag's old value that came late would be a read from the past.
- At the end all three servers tell the same, and the journal's chain of hashes is whole.
"""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import json
import os
import random
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from tests.integration.etcd_members import EtcdMembers, Member, etcd_members, free_ports

from homeport.cli.group import ELECTION_MILLISECONDS, HEARTBEAT_MILLISECONDS

ROOT = Path(__file__).resolve().parents[2]
WRITERS = 4
READERS = 4
CALL_SECONDS = 10.0
"""How long a client waits for one server before it asks another."""
SETTLE_SECONDS = 40.0
"""How long three servers and members may take until all serve again."""
PAUSE_SECONDS = 10.0
OWN_ETCD_OPTIONS = (f"--heartbeat-interval={HEARTBEAT_MILLISECONDS}", f"--election-timeout={ELECTION_MILLISECONDS}")
"""How `up --servers` times its own etcd."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One acknowledged call. Times are monotonic seconds."""

    key: str
    number: int
    """What was written or read; the writer counts."""
    began: float
    ended: float
    server: int
    write: bool


class Servers:
    """Three server processes on one etcd."""

    def __init__(self, directory: Path, store: str, *, tls: bool = False) -> None:
        self.directory = directory
        self.store = store
        self.tls = tls
        self.ports = free_ports(3)
        self.processes: list[subprocess.Popen[bytes] | None] = [None, None, None]
        self.paused: set[int] = set()

    def command(self, number: int, *arguments: str) -> list[str]:
        """`homeport ARGUMENTS` on the machine of server `number`."""
        del number
        return [sys.executable, "-m", "homeport", *arguments]

    def start(self, number: int, *more: str) -> None:
        """Start server `number`, with more options."""
        name = f"soak-{number}"
        arguments = ["server", "--data-dir", str(self.directory), "--port", str(self.ports[number]), *(["--tls"] if self.tls else [])]
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[number] = subprocess.Popen(
                self.command(number, *arguments, "--store", self.store, "--name", name, "--account-id", "123456789012", *more),
                env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, number: int) -> None:
        """kill -9."""
        process, self.processes[number] = self.processes[number], None
        if process is not None:
            process.kill()
            process.wait()

    def signal(self, number: int, what: signal.Signals) -> None:
        """SIGSTOP, SIGCONT, SIGTERM."""
        process = self.processes[number]
        if process is not None:
            process.send_signal(what)

    def connection(self, number: int, seconds: float) -> http.client.HTTPConnection:
        """A connection to server `number`, not made yet; each wait of it lasts `seconds` at most."""
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.ports[number], timeout=seconds, context=self.trust())
        return http.client.HTTPConnection("127.0.0.1", self.ports[number], timeout=seconds)

    def trust(self) -> ssl.SSLContext:
        """What a client is told with `--ca-file`. Raises OSError before the first start."""
        return ssl.create_default_context(cafile=str(self.directory / "tls" / "ca.pem"))

    def health(self, number: int) -> dict[str, Any] | None:
        """What the server says of itself, None when it does not."""
        try:
            connection = self.connection(number, 1.0)
        except OSError:  # it has made no certificate yet
            return None
        try:
            connection.request("GET", "/health")
            found: dict[str, Any] = json.loads(connection.getresponse().read())
            return found
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def leader(self) -> int | None:
        """The number of the server that says it leads."""
        for number in range(3):
            found = self.health(number)
            if found is not None and found["leader"] == found["server"]:
                return number
        return None

    def credentials(self) -> dict[str, str]:
        """The root key."""
        found: dict[str, str] = json.loads((self.directory / "soak-0" / "credentials.json").read_text())
        return found

    def stop(self) -> None:
        """End all."""
        for number in range(3):
            self.signal(number, signal.SIGCONT)
            self.kill(number)


class UnavailableError(Exception):
    """The server did not acknowledge the call; it may have been done."""


class Client:
    """A client of all servers with connections of its own. For one thread.

    A faithful one asks its own server first: when a server is paused, those of the others tell how long changes had to wait. Any other
    asks a server by chance each time, and so is soon held up by the paused one, as its wakening must not do harm.
    """

    def __init__(self, servers: Servers, seed: int, *, faithful: bool = False, keys: dict[str, str] | None = None) -> None:
        self._home: int | None = seed % 3 if faithful else None
        keys = keys or servers.credentials()
        self._servers = servers
        self._signer = SigV4Auth(Credentials(keys["access_key_id"], keys["secret_access_key"]), "ecs", keys["region"])
        self._connections: dict[int, http.client.HTTPConnection] = {}
        self._random = random.Random(seed)

    def until_acknowledged(self, operation: str, stop: Callable[[], bool], **parameters: Any) -> tuple[dict[str, Any], float, int] | None:
        """(answer, when the acknowledged try began, server); the same call again and again at any server. None when told to stop first."""
        invocation = str(uuid.uuid4())
        server = self._home or 0
        while True:
            if self._home is None:
                server = self._random.randrange(3)
            began = time.monotonic()
            try:
                return self.call(server, operation, invocation, **parameters), began, server
            except UnavailableError:
                if stop():
                    return None
                server = (server + 1) % 3
                time.sleep(self._random.uniform(0.02, 0.1))

    def call(self, server: int, operation: str, invocation: str = "", seconds: float = CALL_SECONDS, **parameters: Any) -> dict[str, Any]:
        """One try at one server. Raises UnavailableError; any answer but 200 and 503 is a mistake."""
        body = json.dumps(parameters).encode()
        request = AWSRequest("POST", f"http://127.0.0.1:{self._servers.ports[server]}/", data=body)
        request.headers["Content-Type"] = "application/x-amz-json-1.1"
        request.headers["X-Amz-Target"] = f"AmazonEC2ContainerServiceV20141113.{operation}"
        if invocation:
            request.headers["amz-sdk-invocation-id"] = invocation
        self._signer.add_auth(request)
        connection = self._connections.pop(server, None) or self._servers.connection(server, seconds)
        try:
            connection.request("POST", "/", body, dict(request.headers))
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise UnavailableError from error
        self._connections[server] = connection
        if answer.status == 503:
            raise UnavailableError(content.decode())
        if answer.status != 200:
            raise AssertionError(f"{operation} at server {server}: {answer.status} {content.decode()}")
        decoded: dict[str, Any] = json.loads(content)
        return decoded

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Workload:
    """Writers and readers, and what they saw."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self.steps: list[Step] = []
        self.revisions: dict[str, list[int]] = {}
        self.failures: list[str] = []
        self.refused = 0
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self.arns: dict[str, str] = {}

    def start(self) -> None:
        """Make the keys (tags of clusters), then write and read."""
        with Client(self.servers, 0) as client:
            for writer in range(WRITERS):
                made = client.until_acknowledged("CreateCluster", lambda: False, clusterName=f"key-{writer}")
                assert made is not None
                self.arns[f"key-{writer}"] = made[0]["cluster"]["clusterArn"]
        works: list[Callable[[], None]] = [lambda w=writer: self._as(w, self._write, f"key-{w}") for writer in range(WRITERS)]  # type: ignore[misc]
        works += [lambda r=reader: self._as(100 + r, self._read, r) for reader in range(READERS)]  # type: ignore[misc]
        works.append(lambda: self._as(200, self._register, "family"))
        self._threads = [threading.Thread(target=self._guarded, args=(work,), daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every call come to its end."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)

    def wait_for_write_after(self, instant: float) -> None:
        """Return when a write that began then or later was acknowledged."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while not any(step.write and step.began >= instant for step in self.steps[-200:]):
            assert time.monotonic() < deadline and not self.failures, f"no write is acknowledged any more {self.failures}"
            time.sleep(0.01)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.failures.append(f"{type(error).__name__}: {error}")

    def _as(self, seed: int, work: Callable[[Client, Any], None], subject: Any) -> None:
        with Client(self.servers, seed, faithful=seed < 3) as client:
            work(client, subject)

    def _write(self, client: Client, key: str) -> None:
        number = 0
        while not self._stopping.is_set():
            number += 1
            began = time.monotonic()
            done = client.until_acknowledged(
                "TagResource", self._stopping.is_set, resourceArn=self.arns[key], tags=[{"key": "n", "value": str(number)}]
            )
            if done is None:
                return
            self.steps.append(Step(key, number, began, time.monotonic(), done[2], True))

    def _read(self, client: Client, seed: int) -> None:
        chance = random.Random(seed)
        while not self._stopping.is_set():
            key = f"key-{chance.randrange(WRITERS)}"
            done = client.until_acknowledged("ListTagsForResource", self._stopping.is_set, resourceArn=self.arns[key])
            if done is None:
                return
            value = next((int(tag["value"]) for tag in done[0]["tags"] if tag["key"] == "n"), 0)
            self.steps.append(Step(key, value, done[1], time.monotonic(), done[2], False))

    def _register(self, client: Client, family: str) -> None:
        revisions = self.revisions.setdefault(family, [])
        while not self._stopping.is_set():
            definition = [{"name": "a", "image": f"i:{len(revisions)}", "memory": 8}]
            done = client.until_acknowledged("RegisterTaskDefinition", self._stopping.is_set, family=family, containerDefinitions=definition)
            if done is None:
                return
            revisions.append(done[0]["taskDefinition"]["revision"])
            time.sleep(0.02)


def faults(servers: Servers, members: EtcdMembers) -> dict[str, Callable[[], Callable[[], None]]]:
    """Name → does harm, and gives what mends it."""

    def kill_server(leading: bool) -> Callable[[], None]:
        leader = servers.leader()
        victims = [number for number in range(3) if (number == leader) == leading]
        victim = random.choice(victims or [0])
        servers.kill(victim)
        return lambda: servers.start(victim)

    def kill_member(leading: bool) -> Callable[[], None]:
        victim = random.choice([member for member in members.members if leads(member) == leading] or members.members)
        victim.kill()
        return lambda: _start_member(victim)

    def kill_both() -> Callable[[], None]:
        mend = [kill_server(True), kill_member(True)]
        return lambda: [each() for each in mend] and None  # type: ignore[func-returns-value]

    def pause(*, server: bool, member: bool) -> Callable[[], None]:
        """Both at once is what the others see of a machine that is cut off: it does not refuse, it is silent."""
        signals: list[Callable[[signal.Signals], None]] = []
        if server:
            leader = servers.leader() or 0
            signals.append(lambda what: servers.signal(leader, what))
        if member:
            signals.append(random.choice([each for each in members.members if leads(each)] or members.members).signal)
        for each in signals:
            each(signal.SIGSTOP)
        time.sleep(PAUSE_SECONDS)
        return lambda: [each(signal.SIGCONT) for each in signals] and None  # type: ignore[func-returns-value]

    def stop_leader() -> Callable[[], None]:
        victim = servers.leader() or 0
        servers.signal(victim, signal.SIGTERM)
        process = servers.processes[victim]
        if process is not None:
            process.wait(20)
        return lambda: servers.start(victim)

    return {
        "kill -9 of the leader": lambda: kill_server(True),
        "kill -9 of a follower": lambda: kill_server(False),
        "kill -9 of etcd's leader": lambda: kill_member(True),
        "kill -9 of an etcd follower": lambda: kill_member(False),
        "kill -9 of both leaders": kill_both,
        f"SIGSTOP of the leader for {PAUSE_SECONDS:.0f} s": lambda: pause(server=True, member=False),
        f"SIGSTOP of etcd's leader for {PAUSE_SECONDS:.0f} s": lambda: pause(server=False, member=True),
        f"SIGSTOP of both leaders for {PAUSE_SECONDS:.0f} s": lambda: pause(server=True, member=True),
        "SIGTERM of the leader": stop_leader,
    }


def leads(member: Member) -> bool:
    """Whether `member` is etcd's leader."""
    try:
        with urllib.request.urlopen(f"{member.endpoint}/metrics", timeout=1) as answer:
            return b"\netcd_server_is_leader 1" in answer.read()
    except OSError:
        return False


def _start_member(member: Member) -> None:
    member.start()
    member.wait()


def wait_until_whole(servers: Servers) -> None:
    """Return when every server answers and names the same leader."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        found = [servers.health(number) for number in range(3)]
        leaders = {each["leader"] for each in found if each is not None}
        if all(found) and len(leaders) == 1 and leaders != {""}:
            return
        assert time.monotonic() < deadline, f"the servers are not whole again: {found}"
        time.sleep(0.05)


def check(steps: list[Step], revisions: dict[str, list[int]]) -> list[str]:
    """Every broken promise in the history."""
    problems = [
        f"{family}: acknowledged revisions are {found[:20]}…" for family, found in revisions.items() if found != list(range(1, len(found) + 1))
    ]
    for key in sorted({step.key for step in steps}):
        problems += _check_key(key, [step for step in steps if step.key == key])
    return problems


def _check_key(key: str, steps: list[Step]) -> Iterator[str]:
    """Walk the ends in order; what is known at an end binds every step that began later."""
    reads = sorted((step for step in steps if not step.write), key=lambda step: step.began)
    ended = sorted(steps, key=lambda step: step.ended)
    begun = sorted((step for step in steps if step.write), key=lambda step: step.began)
    newest, position, started = 0, 0, 0
    highest_begun = 0
    for read in reads:
        while position < len(ended) and ended[position].ended < read.began:
            newest = max(newest, ended[position].number)
            position += 1
        while started < len(begun) and begun[started].began <= read.ended:
            highest_begun = max(highest_begun, begun[started].number)
            started += 1
        if read.number < newest:
            yield f"{key}: server {read.server} told {read.number} at {read.began:.3f}, though {newest} had been acknowledged or told before"
        if read.number > highest_begun + 1:  # the last write may not have been acknowledged, and then is not in the history
            yield f"{key}: server {read.server} told {read.number}, which nobody had written"


def gaps(steps: list[Step]) -> tuple[float, float]:
    """(longest time without an acknowledged write, when it began)."""
    ends = sorted(step.ended for step in steps if step.write)
    return max(((later - earlier, earlier) for earlier, later in zip(ends, ends[1:], strict=False)), default=(0.0, 0.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a soak does."""

    seconds: float
    """How long; every fault is done once if there is time."""
    seed: int = 1
    only: str = ""
    """The faults whose name has this in it."""
    etcd_options: tuple[str, ...] = OWN_ETCD_OPTIONS


def soak(directory: Path, plan: Plan, *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Do what `plan` says; the report. Raises AssertionError when a promise was broken."""
    random.seed(plan.seed)
    with etcd_members(directory / "etcd", 3, options=plan.etcd_options) as members:
        servers = Servers(directory, "etcd://" + ",".join(endpoint.partition("//")[2] for endpoint in members.endpoints))
        try:
            for number in range(3):
                servers.start(number)
            wait_until_whole(servers)
            workload = Workload(servers)
            workload.start()
            harms = {name: harm for name, harm in faults(servers, members).items() if plan.only in name}
            report = _harm(servers, workload, harms, seconds=plan.seconds, say=say)
            workload.stop()
            assert not workload.failures, workload.failures
            problems = check(workload.steps, workload.revisions) + compare(servers, workload)
            servers.stop()
            problems += verify_journal(servers)
            gap, _ = gaps(workload.steps)
            report |= {
                "writes": sum(step.write for step in workload.steps),
                "reads": sum(not step.write for step in workload.steps),
                "registrations": sum(map(len, workload.revisions.values())),
                "longest_write_gap_seconds": round(gap, 2),
                "problems": problems,
            }
        finally:
            servers.stop()
    return report


def _harm(
    servers: Servers, workload: Workload, harms: dict[str, Callable[[], Callable[[], None]]], *, seconds: float, say: Callable[[str], None]
) -> dict[str, Any]:
    began = time.monotonic()
    rounds: list[dict[str, Any]] = []
    order: list[str] = []
    while time.monotonic() - began < seconds:
        order = order or list(harms)
        name = order.pop(0)
        time.sleep(1.0)
        start = time.monotonic()
        mend = harms[name]()
        time.sleep(random.uniform(2.0, 5.0) if "SIGSTOP" not in name else 0.0)
        mend()
        wait_until_whole(servers)
        end = time.monotonic()
        workload.wait_for_write_after(end)
        during = [step for step in list(workload.steps) if step.ended >= start - 1]
        gap, _ = gaps(during)
        rounds.append({"fault": name, "seconds": round(end - start, 1), "write_gap_seconds": round(gap, 2)})
        say(f"{time.monotonic() - began:6.1f} s  {name}: longest time without an acknowledged write {gap:.2f} s")
        assert not workload.failures, workload.failures
    return {"seconds": round(time.monotonic() - began, 1), "rounds": rounds, "faults": _by_fault(rounds)}


def _by_fault(rounds: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """How often each fault was done, and the write gaps around it."""
    found: dict[str, list[float]] = {}
    for each in rounds:
        found.setdefault(each["fault"], []).append(each["write_gap_seconds"])
    return {
        name: {"times": len(gaps), "median_write_gap_seconds": statistics.median(gaps), "longest_write_gap_seconds": max(gaps)}
        for name, gaps in found.items()
    }


def compare(servers: Servers, workload: Workload) -> list[str]:
    """At the end every server tells the last acknowledged value or a later one, and all the same."""
    problems = []
    with Client(servers, 1) as client:
        for key, arn in workload.arns.items():
            told = []
            for server in range(3):
                tags = client.call(server, "ListTagsForResource", resourceArn=arn)["tags"]
                told.append(next((int(tag["value"]) for tag in tags if tag["key"] == "n"), 0))
            acknowledged = max((step.number for step in workload.steps if step.key == key and step.write), default=0)
            if len(set(told)) != 1 or told[0] < acknowledged:
                problems.append(f"{key}: the servers tell {told}, acknowledged was {acknowledged}")
    return problems


def verify_journal(servers: Servers) -> list[str]:
    """The chain of hashes, walked by the command line."""
    command = servers.command(0, "journal", "verify", "--store", servers.store, "--data-dir", str(servers.directory))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False, timeout=120)
    return [] if done.returncode == 0 else [f"the journal: {done.stdout}{done.stderr}"]


def main() -> int:
    """`./dev soak [--minutes N]`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", metavar="TEXT", help="only the faults with this in their name")
    parser.add_argument("--etcd-defaults", action="store_true", help="time etcd's elections as it does by default, not as `up --servers` does")
    options = parser.parse_args()
    etcd_options = () if options.etcd_defaults else OWN_ETCD_OPTIONS
    plan = Plan(seconds=options.minutes * 60, seed=options.seed, only=options.only, etcd_options=etcd_options)
    with tempfile.TemporaryDirectory(prefix="homeport-soak-") as directory:
        report = soak(Path(directory), plan)
    print(json.dumps(report, indent=2))
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
