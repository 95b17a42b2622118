"""The highest hard limits that a container runtime on this machine can give.

Owns: reading them from /proc, for the process that listens on the runtime's socket or else for our own.
Never changes a limit. runc sets a container's limits with the capabilities of its parents: without CAP_SYS_RESOURCE it
fails with "error setting rlimit" on anything above the inherited hard limit (engines.md section 0).
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from homeport.agent.runtime.contract import ResourceLimits

_CAP_SYS_RESOURCE = 24

_ULIMIT_NAMES = {
    "Max cpu time": "cpu",
    "Max file size": "fsize",
    "Max data size": "data",
    "Max stack size": "stack",
    "Max core file size": "core",
    "Max resident set": "rss",
    "Max processes": "nproc",
    "Max open files": "nofile",
    "Max locked memory": "memlock",
    "Max address space": "as",
    "Max file locks": "locks",
    "Max pending signals": "sigpending",
    "Max msgqueue size": "msgqueue",
    "Max nice priority": "nice",
    "Max realtime priority": "rtprio",
    "Max realtime timeout": "rttime",
}
"""Lines of /proc/<pid>/limits and the ulimit names of the ECS API."""


def socket_owner(path: str) -> int | None:
    """Process id of the program that listens on the unix socket at `path`; None when it cannot be told."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(path)
            pid = int(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
    except OSError:
        return None
    return pid or None


def process_limits(pid: int | None) -> ResourceLimits:
    """What the process `pid` (None or unreadable: this one) can give its children; no limits when it has CAP_SYS_RESOURCE."""
    for directory in (Path("/proc") / str(pid or "self"), Path("/proc/self")):
        try:
            status, table = (directory / "status").read_text(), (directory / "limits").read_text()
        except OSError:
            continue
        return ResourceLimits() if _may_raise(status) else ResourceLimits(hard=_parse(table))
    return ResourceLimits()


def _may_raise(status: str) -> bool:
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)
    return False


def _parse(table: str) -> dict[str, int]:
    hard: dict[str, int] = {}
    for line in table.splitlines():
        name = _ULIMIT_NAMES.get(line[:26].strip())
        fields = line[26:].split()
        if name and len(fields) > 1 and fields[1] != "unlimited":
            hard[name] = int(fields[1])
    return hard
