"""The control group of a task, in each variant; the files are ordinary ones here, and systemctl is a script that writes down its arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.agent.attachments.cgroup import CgroupError, LegacyCgroups, NoCgroups, SystemdCgroups, TaskCgroups, UnifiedCgroups, for_runtime
from homeport.agent.runtime.contract import RuntimeDescription

TASK = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("driver", "version", "variant"),
    [
        ("cgroupfs", 1, LegacyCgroups),
        ("cgroupfs", 2, UnifiedCgroups),
        ("systemd", 1, SystemdCgroups),
        ("systemd", 2, SystemdCgroups),
        ("none", 2, NoCgroups),
    ],
)
def test_the_variant_follows_the_runtime(driver: str, version: int, variant: type[TaskCgroups]) -> None:
    described = RuntimeDescription(version="", api_version="", cgroup_driver=driver, cgroup_version=version, cpus=1, memory_mib=1)
    assert type(for_runtime(described)) is variant


async def test_version_1(tmp_path: Path) -> None:
    groups = LegacyCgroups(tmp_path)
    assert groups.parent(TASK) == f"/ecs/{TASK}"
    await groups.create(TASK, cpu=1.5, memory_mib=64)
    cpu, memory = tmp_path / "cpu/ecs" / TASK, tmp_path / "memory/ecs" / TASK
    assert [(cpu / f"cpu.{name}").read_text() for name in ("shares", "cfs_period_us", "cfs_quota_us")] == ["1536", "100000", "150000"]
    assert (memory / "memory.limit_in_bytes").read_text() == str(64 * 1024 * 1024)


async def test_only_what_is_limited_is_made(tmp_path: Path) -> None:
    await LegacyCgroups(tmp_path).create(TASK, cpu=0, memory_mib=8)
    assert not (tmp_path / "cpu").exists()


async def test_version_2(tmp_path: Path) -> None:
    groups = UnifiedCgroups(tmp_path)
    assert groups.parent(TASK) == f"/ecs/{TASK}"
    await groups.create(TASK, cpu=0.25, memory_mib=64)
    group = tmp_path / "ecs" / TASK
    assert (tmp_path / "ecs/cgroup.subtree_control").read_text() == "+cpu +memory"
    assert [(group / name).read_text() for name in ("memory.max", "cpu.max", "cpu.weight")] == [str(64 * 1024 * 1024), "25000 100000", "25"]


async def test_removal_takes_the_group_in_every_hierarchy_and_no_other(tmp_path: Path) -> None:
    for hierarchy in ("cpu", "memory", "pids"):
        (tmp_path / hierarchy / "ecs" / TASK / "container").mkdir(parents=True)
    (tmp_path / "pids/ecs/other").mkdir()
    await LegacyCgroups(tmp_path).remove(TASK)
    await LegacyCgroups(tmp_path).remove(TASK)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.glob("*/ecs/*"))] == ["pids/ecs/other"]


async def test_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "systemctl"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n[ "$1" != stop ] || {{ echo no unit >&2; exit 1; }}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    groups = SystemdCgroups()
    assert groups.parent(TASK) == f"ecstasks-{TASK}.slice"
    await groups.create(TASK, cpu=0.5, memory_mib=64)
    await groups.remove(TASK)
    assert (tmp_path / "said").read_text().splitlines() == [
        f"start ecstasks-{TASK}.slice",
        f"set-property --runtime ecstasks-{TASK}.slice MemoryMax=67108864 CPUQuota=50% CPUWeight=50",
        f"stop ecstasks-{TASK}.slice",
    ]


async def test_failures_say_what_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory").write_text("a file, no directory")
    with pytest.raises(CgroupError, match="cannot be made"):
        await LegacyCgroups(tmp_path).create(TASK, cpu=0, memory_mib=8)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CgroupError, match="systemctl cannot be run"):
        await SystemdCgroups().create(TASK, cpu=0, memory_mib=8)
    with pytest.raises(CgroupError, match="driver is 'none'"):
        await NoCgroups("none").create(TASK, cpu=1, memory_mib=0)
