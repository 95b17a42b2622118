"""What the engine tells about a task: the content of one SubmitTaskStateChange.

Owns: `TaskReport`, `ContainerReport` and `NetworkBinding`, in the terms of agent-protocol.md section 4.4.
Never sends anything: `agent/reporter.py` does, and answers with `Engine.acknowledged`.
"""

from __future__ import annotations

import msgspec

REASON_CHARACTERS_MAX = 1024
"""Longest reason that the wire takes."""


class NetworkBinding(msgspec.Struct, frozen=True):
    """A container's port as the host has it. `protocol`: tcp or udp."""

    bind_ip: str
    container_port: int
    host_port: int
    protocol: str


class ContainerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One container in a report. `status`: PENDING (only to carry a digest), RUNNING or STOPPED."""

    name: str
    status: str
    runtime_id: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    image_digest: str | None = None
    network_bindings: tuple[NetworkBinding, ...] = ()


class TaskReport(msgspec.Struct, frozen=True, kw_only=True):
    """One report about a task. `status`: PENDING, RUNNING or STOPPED. Times are seconds since the epoch; `reason` may be ""."""

    arn: str
    status: str
    reason: str = ""
    pull_started_at: float | None = None
    pull_stopped_at: float | None = None
    execution_stopped_at: float | None = None
    containers: tuple[ContainerReport, ...] = ()


def clipped(reason: str) -> str:
    """`reason` on one line and no longer than the wire takes."""
    line = " ".join(reason.split())
    return line if len(line) <= REASON_CHARACTERS_MAX else line[: REASON_CHARACTERS_MAX - 1] + "…"
