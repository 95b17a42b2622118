"""A whole replicated installation on one machine: the etcd members and servers that `up --servers N` starts.

Owns: `Group` (DATA_DIR/group.json: how many, on which ports, for good) and what each member is started with. Never starts the agent, never keeps a
program running: see `up.py`.
"""

from __future__ import annotations

import argparse
import http.client
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from homeport.cli import programs
from homeport.cli.client import Api
from homeport.cli.installation import DataDirectory, LocalCredentials
from homeport.cli.packages import ETCD, ensure, find_program
from homeport.cli.terminal import CommandError, Terminal
from homeport.config import parse_settings

HOST: Final = "127.0.0.1"
FILE: Final = "group.json"
AUTHORITY: Final = "ca.pem"
ETCD_CLIENT: Final = "etcd-client.pem"
"""In the directory of the authority: what the servers show to their own etcd."""
SERVERS_MAX: Final = 7
START_SECONDS_MAX: Final = 60.0
POLL_SECONDS: Final = 0.05
ETCD_PORT_STEP: Final = 20
"""From a server's port to those of its etcd: clients at +20, the other members at +30, while nobody else has them."""
TXN_OPERATIONS: Final = 10_000
REQUEST_BYTES: Final = 8_388_608
SPACE_BYTES: Final = 8_589_934_592
HISTORY: Final = "5m"
"""What our own etcd allows in a Txn, a request and in all, and how much of its history it keeps."""
HEARTBEAT_MILLISECONDS: Final = 50
ELECTION_MILLISECONDS: Final = 500
"""How our own etcd times its leader: half of its defaults, since its members are one machine's. An election of etcd's gives every lease its whole
time and one election timeout more, so this counts twice in how long changes wait when both leaders are lost at once."""


class EtcdMember(msgspec.Struct, frozen=True):
    """One etcd process."""

    name: str
    port: int
    peer_port: int


class Group(msgspec.Struct, frozen=True):
    """What `up --servers N` decided at its first run."""

    port: int
    """Of the first server; the others have the next ones."""
    etcd: tuple[EtcdMember, ...]
    token: str
    """Tells this etcd cluster from others."""
    etcd_tls: bool = False
    """Whether the members of etcd speak TLS, and only to who has a certificate of the installation's authority; groups of before do not."""
    tls: bool = False
    """Whether the servers speak https."""

    @property
    def servers(self) -> tuple[tuple[str, int], ...]:
        """(name, port) of every server."""
        return tuple((f"server-{number + 1}", self.port + number) for number in range(len(self.etcd)))

    @property
    def scheme(self) -> str:
        """Of the servers' URLs."""
        return "https" if self.tls else "http"

    def store_of(self, directory: Path) -> str:
        """The servers' `--store`, in an installation of that data directory."""
        members = ",".join(f"{HOST}:{member.port}" for member in self.etcd)
        own = DataDirectory(directory).tls / ETCD_CLIENT
        files = f"&ca={quote(str(own.parent / AUTHORITY))}&cert={quote(str(own))}&key={quote(str(own))}" if self.etcd_tls else ""
        return f"etcd://{members}?max-txn-ops={TXN_OPERATIONS}&max-request-bytes={REQUEST_BYTES}{files}"

    @property
    def ports(self) -> tuple[int, ...]:
        """Every TCP port of the group."""
        return (*(port for _, port in self.servers), *(member.port for member in self.etcd), *(member.peer_port for member in self.etcd))


def kept_group(directory: DataDirectory) -> Group | None:
    """The group of an installation that has one."""
    try:
        return msgspec.json.decode((directory.path / FILE).read_bytes(), type=Group)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise CommandError(f"{directory.path / FILE} is damaged: {error}") from None


def group_of(directory: DataDirectory, *, servers: int | None, port: int | None, default_port: int, tls: bool = False) -> Group | None:
    """The group that `up` is to run: the one that there is, else a new one of `servers`; None for a single server.

    `tls`: its servers speak https from now on. Raises CommandError when another number or port is asked for than there is.
    """
    kept = kept_group(directory)
    if kept is not None:
        if servers is not None and servers != len(kept.etcd):
            raise CommandError(f"this installation has {len(kept.etcd)} servers, not {servers}; the number is fixed at the first start")
        if port is not None and port != kept.port:
            raise CommandError(f"this installation's servers are on ports from {kept.port} on, which is fixed at the first start")
        return kept if kept.tls or not tls else _with_tls(kept, directory)
    if servers is None:
        return None
    if not 1 <= servers <= SERVERS_MAX or servers % 2 == 0:
        raise CommandError(f"--servers is an odd number up to {SERVERS_MAX}: a majority must be left when one is lost")
    first = port or default_port
    ports = _ports(first, servers)
    etcd = tuple(EtcdMember(f"etcd-{number + 1}", ports[number], ports[servers + number]) for number in range(servers))
    made = Group(port=first, etcd=etcd, token=f"homeport-{directory.instance_id()}-{ports[0]}", etcd_tls=True, tls=tls)
    _write(directory.path / FILE, msgspec.json.format(msgspec.json.encode(made)))
    return made


def _with_tls(group: Group, directory: DataDirectory) -> Group:
    """The same group, whose servers speak https from now on. Raises CommandError while one that does not runs."""
    if running := [name for name, _ in group.servers if programs.find(directory, name) is not None]:
        raise CommandError(f"{', '.join(running)} speak plain HTTP; stop them first: ./homeport down")
    made = msgspec.structs.replace(group, tls=True)
    _write(directory.path / FILE, msgspec.json.format(msgspec.json.encode(made)))
    return made


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    temporary.write_bytes(content)
    temporary.replace(path)


def _ports(first: int, count: int) -> list[int]:
    """Two ports for each etcd member: near the servers', or wherever some are free."""
    wanted = [first + ETCD_PORT_STEP + number for number in range(count)] + [first + ETCD_PORT_STEP + 10 + number for number in range(count)]
    return wanted if all(port < 65_536 and _free(port) for port in wanted) else _any_ports(2 * count)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _any_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class Starter:
    """Starts members of the group, and waits for them."""

    def __init__(self, group: Group, options: argparse.Namespace, directory: DataDirectory, terminal: Terminal, environ: Mapping[str, str]) -> None:
        self.group = group
        self._options = options
        self._directory = directory
        self._terminal = terminal
        self._environ = environ

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start the member of that name."""
        for member in self.group.etcd:
            if member.name == name:
                return self.start_etcd(member)
        return self.start_server(name, dict(self.group.servers)[name])

    def start_etcd(self, member: EtcdMember) -> subprocess.Popen[bytes]:
        """Start one etcd member with what its directory holds."""
        ensure([ETCD], self._terminal, self._environ)
        scheme = "https" if self.group.etcd_tls else "http"
        client, peer = f"{scheme}://{HOST}:{member.port}", f"{scheme}://{HOST}:{member.peer_port}"
        arguments = {
            "name": member.name,
            "data-dir": str(self._directory.path / member.name),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": ",".join(f"{each.name}={scheme}://{HOST}:{each.peer_port}" for each in self.group.etcd),
            "initial-cluster-token": self.group.token,
            "max-txn-ops": str(TXN_OPERATIONS),
            "max-request-bytes": str(REQUEST_BYTES),
            "quota-backend-bytes": str(SPACE_BYTES),
            "auto-compaction-mode": "periodic",
            "auto-compaction-retention": HISTORY,
            "heartbeat-interval": str(HEARTBEAT_MILLISECONDS),
            "election-timeout": str(ELECTION_MILLISECONDS),
            "logger": "zap",
            "log-level": "warn",
            **(self._certify(member) if self.group.etcd_tls else {}),
        }
        program = find_program(ETCD.program) or ETCD.program
        # The upstream program also reads ETCD_… from its environment, which may be meant for another one.
        environ = {name: value for name, value in self._environ.items() if not name.startswith("ETCD_")}
        return programs.start_foreign(
            self._directory, member.name, [program, *(f"--{name}={value}" for name, value in arguments.items())], environ=environ
        )

    def _certify(self, member: EtcdMember) -> dict[str, str]:
        """etcd's options for certificates of the installation's authority, made or renewed now: clients and other members need one of it as well.

        While servers run they renew these; etcd reads the files again by itself.
        """
        from homeport.tls import files
        from homeport.tls.authority import Wanted

        directory, now = self._directory.tls, self._terminal.clock.now()
        settings = parse_settings(self._options.settings if hasattr(self._options, "settings") else ())
        authority = files.ensure_authority(directory, now=now, seconds=settings.tls_authority_seconds)
        own = directory / f"{member.name}.pem"
        for path, names in ((own, ("localhost", HOST)), (directory / ETCD_CLIENT, ())):
            wanted = Wanted(subject=path.stem, names=names)
            files.ensure_certificate(path, wanted, authority, now=now, seconds=settings.tls_certificate_seconds)
        ca = str(directory / AUTHORITY)
        shown = {"cert-file": str(own), "key-file": str(own), "trusted-ca-file": ca, "client-cert-auth": "true"}
        return shown | {f"peer-{name}": value for name, value in shown.items()}

    def wait_for_etcd(self, processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
        """Return when every member that runs serves. Raises CommandError."""
        deadline = self._terminal.deadline(START_SECONDS_MAX)
        for member in self.group.etcd:
            while not self._is_healthy(member.port):
                self._require(member.name, processes.get(member.name), deadline)
                self._terminal.pause(POLL_SECONDS)

    def start_server(self, name: str, port: int) -> subprocess.Popen[bytes]:
        """Start one server."""
        arguments = [
            "--data-dir",
            str(self._directory.path),
            "--port",
            str(port),
            "--store",
            self.group.store_of(self._directory.path),
            "--own-etcd",
            "--name",
            name,
        ]
        for option, value in (("--account-id", self._options.account_id), ("--region", self._options.region)):
            if value:
                arguments += [option, value]
        if self.group.tls:
            arguments.append("--tls")
        for setting in self._options.settings:
            arguments += ["--set", setting]
        return programs.start(self._directory, name, arguments, environ=self._environ, command="server")

    def wait_for_servers(self, processes: Mapping[str, subprocess.Popen[bytes]]) -> LocalCredentials:
        """Return when every server answers a signed call. Raises CommandError."""
        deadline = self._terminal.deadline(START_SECONDS_MAX)
        for name, port in self.group.servers:
            while True:
                credentials = DataDirectory(self._directory.path / name).credentials()
                if credentials is not None and credentials.port == port and Api(credentials, self._terminal.clock).answers():
                    break
                self._require(name, processes.get(name), deadline)
                self._terminal.pause(POLL_SECONDS)
        credentials = self._directory.known_credentials()
        _write(self._directory.path / "credentials.json", msgspec.json.format(msgspec.json.encode(credentials)))
        return credentials

    def copy_from_sqlite(self) -> None:
        """A single server's state, if this data directory has one, becomes the group's. Raises CommandError."""
        state, done = self._directory.path / "homeport.sqlite", self._directory.path / "homeport.sqlite.copied"
        if not state.exists() or done.exists():
            return
        if programs.find(self._directory, "server") is not None:
            raise CommandError("a single server runs on this data directory; stop it first: ./homeport down")
        self._terminal.say(f"copying the state of {state.name} to etcd ...")
        command = [sys.executable, "-P", "-m", "homeport", "store", "copy", "--data-dir", str(self._directory.path)]
        copied = subprocess.run(
            [*command, "--from", f"sqlite:{state}", "--to", self.group.store_of(self._directory.path)],
            env=programs.environment_of(self._environ),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if copied.returncode != 0:
            raise CommandError(f"the state could not be copied: {copied.stderr.strip()}")
        done.touch()

    def _is_healthy(self, port: int) -> bool:
        connection = http.client.HTTPConnection(HOST, port, timeout=2.0)
        if self.group.etcd_tls:
            from homeport.tls.contexts import client_context

            directory = self._directory.tls
            context = client_context((directory / AUTHORITY).read_text(encoding="ascii"), own=directory / ETCD_CLIENT)
            connection = http.client.HTTPSConnection(HOST, port, timeout=2.0, context=context)
        try:
            connection.request("GET", "/health")
            return b'"true"' in connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _require(self, name: str, process: subprocess.Popen[bytes] | None, deadline: float) -> None:
        ended = process.poll() is not None if process else programs.find(self._directory, name) is None
        if ended or self._terminal.is_past(deadline):
            what = "ended" if ended else f"does not serve after {START_SECONDS_MAX:.0f} s"
            raise CommandError(f"{name} {what}; its last words:\n{programs.log_tail(self._directory, name)}")
