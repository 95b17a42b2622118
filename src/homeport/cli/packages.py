"""Debian packages that the command line needs: installs what is missing when it may, else says exactly what to type.

Owns: `Need` and the list of needs. Never removes or upgrades a package, and never asks for a password.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from homeport.cli.terminal import CommandError, Terminal

SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRESS_SECONDS: Final = 10.0
POLICY: Final = Path("/usr/sbin/policy-rc.d")


@dataclasses.dataclass(frozen=True, slots=True)
class Need:
    """A program, and the packages that bring it."""

    program: str
    packages: tuple[str, ...]
    reason: str


DOCKER: Final = Need("dockerd", ("docker.io", "apparmor", "ca-certificates", "iptables"), "Docker Engine runs the containers")
NFT: Final = Need("nft", ("nftables",), "nftables keeps the containers' address range on this machine")
ETCD: Final = Need("etcd", ("etcd-server",), "etcd keeps the state of several servers")

FOR_TESTS: Final = (
    DOCKER,
    NFT,
    Need("ip", ("iproute2",), "tests build networks of their own"),
    ETCD,
    Need("openssl", ("openssl",), "tests make certificates"),
)


def find_program(name: str) -> str | None:
    """The program's path, looked for where system programs are too."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


def systemd_runs() -> bool:
    """Whether systemd is this machine's first process."""
    return Path("/run/systemd/system").is_dir()


def ensure(needs: Sequence[Need], terminal: Terminal, environ: Mapping[str, str]) -> None:
    """Return with every program of `needs` there.

    Raises CommandError, naming the command to type, where it may not install.
    """
    missing = [need for need in needs if find_program(need.program) is None]
    if not missing:
        return
    packages = [package for need in missing for package in need.packages]
    command = "apt-get install -y --no-install-recommends " + " ".join(packages)
    why = "; ".join(f"{need.program} is missing ({need.reason})" for need in missing)
    if os.getuid() != 0 or environ.get("HOMEPORT_NO_INSTALL") or find_program("apt-get") is None:
        raise CommandError(f"{why}. Install it with: sudo {command}")
    terminal.say(f"{why}: installing {' '.join(packages)} (a minute or two) ...")
    _apt(["update", "-q"], terminal, environ)
    _apt(command.split()[1:], terminal, environ)
    still = [need.program for need in missing if find_program(need.program) is None]
    if still:
        raise CommandError(f"after {command} there is still no {', '.join(still)}")


def _apt(arguments: Sequence[str], terminal: Terminal, environ: Mapping[str, str]) -> None:
    """Run apt-get; says every now and then that it still runs."""
    with _services_kept_down(), tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            ["apt-get", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
        began = terminal.clock.monotonic()
        said = began
        while process.poll() is None:
            terminal.pause(0.1)
            if terminal.clock.monotonic() > said + PROGRESS_SECONDS:
                said = terminal.clock.monotonic()
                terminal.say(f"  apt-get {arguments[0]} is at work ({said - began:.0f} s) ...")
        if process.returncode != 0:
            output.seek(0)
            raise CommandError(f"apt-get {' '.join(arguments)} failed:\n{output.read()[-2000:]}")


@contextlib.contextmanager
def _services_kept_down() -> Iterator[None]:
    """No package's start script starts its daemon: without systemd we start it ourselves, with our options (policy-rc.d, Debian policy 9.3.3)."""
    if systemd_runs() or POLICY.exists():
        yield
        return
    try:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def download(package: str, directory: Path, terminal: Terminal) -> Path | None:
    """Unpack a Debian package below `directory` without installing it (needs no root); the folder, or None when it cannot be had."""
    if find_program("apt-get") is None or find_program("dpkg-deb") is None:
        return None
    terminal.say(f"fetching Debian's {package} (not installed, only unpacked into {directory}) ...")
    directory.mkdir(parents=True, exist_ok=True)
    for attempt in (["download", package], ["update", "-q"], ["download", package]):
        if attempt[0] == "update" and os.getuid() != 0:
            continue
        done = subprocess.run(["apt-get", *attempt], cwd=directory, capture_output=True, stdin=subprocess.DEVNULL, check=False)
        archive = next(iter(sorted(directory.glob(f"{package}_*.deb"))), None)
        if attempt[0] == "download" and done.returncode == 0 and archive is not None:
            unpacked = subprocess.run(["dpkg-deb", "-x", str(archive), str(directory / package)], capture_output=True, check=False)
            return directory / package if unpacked.returncode == 0 else None
    return None
