"""Docker Engine on this machine: there and answering when `ensure_engine` returns.

Owns: finding, installing and starting dockerd, the address range of one that we start, and the rule that keeps the range from leaving this machine.
Never touches a Docker that already runs, never stops one.
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from homeport.cli.containers import DEFAULT_HOST, DockerError, DockerSocket
from homeport.cli.packages import DOCKER, NFT, ensure, find_program, systemd_runs
from homeport.cli.terminal import CommandError, Terminal

RANGE: Final = ipaddress.IPv4Network("100.64.0.0/10")
"""Shared address space (RFC 6598): unlike Docker's usual 172.17.0.0/16 it is no private network that a user may be connected to."""
BRIDGE: Final = "100.127.0.1/16"
POOL: Final = "base=100.126.0.0/16,size=24"
START_SECONDS_MAX: Final = 60.0
GUARD_TABLE: Final = "homeport_guard"


def ensure_engine(terminal: Terminal, environ: Mapping[str, str], log: Path) -> subprocess.Popen[bytes] | None:
    """Return when Docker answers; with the daemon's process if it had to be started here, else None. `log` is where that one writes.

    Raises CommandError with what is missing and what to type.
    """
    docker = DockerSocket(environ.get("DOCKER_HOST") or DEFAULT_HOST)
    if _answers(docker):
        return None
    if os.getuid() == 0 or find_program(DOCKER.program) is None:
        ensure([DOCKER], terminal, environ)
    if _answers(docker):
        return None
    if docker.path != DEFAULT_HOST.removeprefix("unix://"):
        raise DockerError(f"no Docker answers at {docker.path} (DOCKER_HOST)")
    if os.getuid() != 0:
        how = "systemctl start docker" if systemd_runs() else "./homeport prepare"
        raise CommandError(f"Docker is installed but does not run. Start it with: sudo {how}")
    started = None if systemd_runs() else _start_daemon(terminal, environ, log)
    if started is None:
        terminal.say("starting Docker (systemctl start docker) ...")
        done = subprocess.run(["systemctl", "start", "docker"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise CommandError(f"systemctl start docker failed: {done.stderr.strip()}; see: journalctl -u docker")
    _wait(docker, terminal, started, log)
    return started


def _answers(docker: DockerSocket) -> bool:
    try:
        docker.version()
    except PermissionError:
        raise DockerError(f"this user may not use Docker's socket {docker.path}; type: sudo usermod -aG docker $USER, and log in again") from None
    except OSError:
        return False
    return True


def _start_daemon(terminal: Terminal, environ: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start dockerd itself: own session, none of our descriptors."""
    options = ["--log-level", "warn"]
    if (taken := _range_in_use()) is None:
        ensure([NFT], terminal, environ)
        guard_range()
        options += ["--bip", BRIDGE, "--default-address-pool", POOL]
    else:
        terminal.say(f"the range {RANGE} is used by {taken} here, so Docker keeps its own addresses")
    terminal.say(f"starting Docker (there is no systemd here; its log is {log}) ...")
    log.parent.mkdir(parents=True, exist_ok=True)
    path = f"{environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"
    with log.open("ab") as output:
        return subprocess.Popen(
            [find_program(DOCKER.program) or DOCKER.program, *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={**environ, "PATH": path},
            start_new_session=True,
        )


def _wait(docker: DockerSocket, terminal: Terminal, started: subprocess.Popen[bytes] | None, log: Path) -> None:
    deadline = terminal.deadline(START_SECONDS_MAX)
    while not _answers(docker):
        if started is not None and started.poll() is not None:
            lines = log.read_text(errors="replace").splitlines()[-8:]
            raise DockerError("dockerd ended at once; its last words:\n" + "\n".join(f"  {line}" for line in lines))
        if terminal.is_past(deadline):
            raise DockerError(f"Docker does not answer after {START_SECONDS_MAX:.0f} s; see {log if started else 'journalctl -u docker'}")
        terminal.pause(0.1)


def _routes() -> list[tuple[str, ipaddress.IPv4Network]]:
    """(interface, destination) of the kernel's IPv4 routes."""
    routes = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        destination, mask = (int.from_bytes(bytes.fromhex(fields[column]), "little") for column in (1, 7))
        routes.append((fields[0], ipaddress.IPv4Network((destination, mask.bit_count()))))
    return routes


def _range_in_use() -> str | None:
    """The interface that already has addresses of the range (a carrier's or a VPN's), or None. Docker's own bridges do not count."""
    for interface, network in _routes():
        if network.prefixlen > 0 and network.overlaps(RANGE) and not interface.startswith(("docker", "br-")):
            return interface
    return None


def guard_range() -> None:
    """Let no packet for the containers' range leave by the interfaces of the default route. Safe to repeat; stays until the next boot."""
    uplinks = sorted({interface for interface, network in _routes() if network.prefixlen == 0})
    rules = "".join(f'        oifname "{uplink}" ip daddr {RANGE} drop\n' for uplink in uplinks)
    chains = "".join(
        f"    chain {name} {{\n        type filter hook {name} priority filter; policy accept;\n{rules}    }}\n" for name in ("output", "forward")
    )
    table = f"table inet {GUARD_TABLE} {{\n{chains}}}\n"
    script = f"table inet {GUARD_TABLE} {{ }}\nflush table inet {GUARD_TABLE}\n{table}"
    done = subprocess.run([find_program("nft") or "nft", "-f", "-"], input=script, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandError(f"the rule that keeps {RANGE} on this machine cannot be set: {done.stderr.strip()}")
