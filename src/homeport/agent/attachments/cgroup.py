"""The control group that holds all containers of a task with task-level limits.

Owns: making, limiting and removing it, on cgroup v1 and v2, by file or through systemd, and the name that Docker takes as parent.
Never touches a group that it did not name after a task. Sources: agent-protocol.md 7.1 (names), engines.md section 4.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from pathlib import Path
from typing import Protocol

from homeport.agent.runtime.contract import RuntimeDescription
from homeport.errors import HomeportError

ROOT = Path("/sys/fs/cgroup")
PERIOD_MICROSECONDS = 100_000
SHARES_PER_CPU = 1024
WEIGHT_PER_CPU = 100


class CgroupError(HomeportError):
    """A task's control group could not be made. The message says which file refused."""


class TaskCgroups(Protocol):
    """Control groups of tasks. `cpu`: vCPUs, 0 for no limit; `memory_mib`: 0 for no limit."""

    def parent(self, task_id: str) -> str:
        """What Docker takes as CgroupParent."""
        ...

    async def create(self, task_id: str, *, cpu: float, memory_mib: int) -> None:
        """Make the group and set its limits; doing it again sets them again. Raises CgroupError."""
        ...

    async def remove(self, task_id: str) -> None:
        """Remove the group; nothing happens when it is gone or still in use."""
        ...


def for_runtime(description: RuntimeDescription, root: Path = ROOT) -> TaskCgroups:
    """The variant that the runtime's cgroup driver and version need."""
    if description.cgroup_driver == "systemd":
        return SystemdCgroups()
    if description.cgroup_driver != "cgroupfs":
        return NoCgroups(description.cgroup_driver)
    if description.cgroup_version >= 2:
        return UnifiedCgroups(root)
    return LegacyCgroups(root)


class NoCgroups:
    """A runtime without control groups (Docker's driver is `none` when it runs without root): task-level limits are refused."""

    def __init__(self, driver: str) -> None:
        self._driver = driver

    def parent(self, task_id: str) -> str:
        """None is set."""
        return ""

    async def create(self, task_id: str, *, cpu: float, memory_mib: int) -> None:
        """Raise CgroupError: a limit that nobody keeps must not be promised."""
        raise CgroupError(f"task-level cpu and memory cannot be limited: the container runtime's cgroup driver is {self._driver!r}")

    async def remove(self, task_id: str) -> None:
        """Nothing was made."""


class LegacyCgroups:
    """cgroup v1 with the cgroupfs driver: /ecs/<task id> in the cpu and memory hierarchies."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def parent(self, task_id: str) -> str:
        """/ecs/<task id>."""
        return f"/ecs/{task_id}"

    async def create(self, task_id: str, *, cpu: float, memory_mib: int) -> None:
        """mkdir and write; Docker makes the group in the other hierarchies by itself."""
        if memory_mib:
            group = _make(self._root / "memory" / "ecs" / task_id)
            with contextlib.suppress(CgroupError):
                _write(group / "memory.use_hierarchy", "1")  # fixed at 1 on newer kernels
            _write(group / "memory.limit_in_bytes", str(memory_mib * 1024 * 1024))
        if cpu:
            group = _make(self._root / "cpu" / "ecs" / task_id)
            _write(group / "cpu.shares", str(max(2, round(cpu * SHARES_PER_CPU))))
            _write(group / "cpu.cfs_period_us", str(PERIOD_MICROSECONDS))
            _write(group / "cpu.cfs_quota_us", str(max(1000, round(cpu * PERIOD_MICROSECONDS))))

    async def remove(self, task_id: str) -> None:
        """rmdir in every hierarchy."""
        for group in self._root.glob(f"*/ecs/{task_id}"):
            _remove(group)


class UnifiedCgroups:
    """cgroup v2 with the cgroupfs driver: /ecs/<task id>."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    def parent(self, task_id: str) -> str:
        """/ecs/<task id>."""
        return f"/ecs/{task_id}"

    async def create(self, task_id: str, *, cpu: float, memory_mib: int) -> None:
        """mkdir, let the controllers down the tree, write."""
        group = _make(self._root / "ecs" / task_id)
        for parent in (self._root, self._root / "ecs"):
            _write(parent / "cgroup.subtree_control", "+cpu +memory")
        if memory_mib:
            _write(group / "memory.max", str(memory_mib * 1024 * 1024))
        if cpu:
            _write(group / "cpu.weight", str(min(10_000, max(1, round(cpu * WEIGHT_PER_CPU)))))
            _write(group / "cpu.max", f"{max(1000, round(cpu * PERIOD_MICROSECONDS))} {PERIOD_MICROSECONDS}")

    async def remove(self, task_id: str) -> None:
        """rmdir."""
        _remove(self._root / "ecs" / task_id)


class SystemdCgroups:
    """The systemd driver (v1 or v2): the slice ecstasks-<task id>.slice, whose limits systemd sets."""

    def parent(self, task_id: str) -> str:
        """ecstasks-<task id>.slice; systemd nests it under ecstasks.slice."""
        return f"ecstasks-{task_id}.slice"

    async def create(self, task_id: str, *, cpu: float, memory_mib: int) -> None:
        """`systemctl start` and `set-property --runtime`."""
        slice_name = self.parent(task_id)
        properties = []
        if memory_mib:
            properties.append(f"MemoryMax={memory_mib * 1024 * 1024}")
        if cpu:
            properties += [f"CPUQuota={max(1, round(cpu * 100))}%", f"CPUWeight={min(10_000, max(1, round(cpu * WEIGHT_PER_CPU)))}"]
        await _systemctl("start", slice_name)
        await _systemctl("set-property", "--runtime", slice_name, *properties)

    async def remove(self, task_id: str) -> None:
        """`systemctl stop`; its runtime properties go with it."""
        with contextlib.suppress(CgroupError):
            await _systemctl("stop", self.parent(task_id))


def _make(group: Path) -> Path:
    try:
        group.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CgroupError(f"the task's control group {group} cannot be made: {error.strerror}") from error
    return group


def _write(file: Path, value: str) -> None:
    try:
        file.write_text(value)
    except OSError as error:
        raise CgroupError(f"{file} does not take {value}: {error.strerror}") from error


def _remove(group: Path) -> None:
    # Docker leaves the groups of removed containers to runc, which has removed them by then; what is left is ours.
    for child in sorted((item for item in group.glob("*") if item.is_dir()), reverse=True) if group.is_dir() else ():
        _remove(child)
    try:
        group.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY):
            raise CgroupError(f"the task's control group {group} cannot be removed: {error.strerror}") from error


async def _systemctl(*arguments: str) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            "systemctl", *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise CgroupError(f"systemctl cannot be run: {error.strerror}") from error
    _, problem = await process.communicate()
    if process.returncode:
        raise CgroupError(f"systemctl {arguments[0]} failed: {problem.decode(errors='replace').strip()}")
