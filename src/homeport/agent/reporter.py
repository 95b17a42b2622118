"""Carries the engine's reports to the control plane until each is acknowledged.

Owns: one queue per task, its copy in the local journal, and the retries of SubmitTaskStateChange, which goes over the control connection when that
takes it (report_line.py), else over HTTP. At least once: a report may arrive twice, never out of its task's order. Never makes or changes a report,
and never gives up on one that the control plane may still take.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from homeport.agent.backoff import Backoff
from homeport.agent.client import Caller, CallFailedError
from homeport.agent.engine.report import ContainerReport, TaskReport
from homeport.agent.report_line import ReportLine
from homeport.agent.settings import AgentSettings
from homeport.agent.state import State
from homeport.errors import HomeportError

KIND: Final = "report"
"""Kind of the reports in the local journal; the key is their number."""

OPERATION: Final = "SubmitTaskStateChange"
DROPPED: Final = frozenset({"InvalidParameterException"})
"""Errors that say: this report will never be taken (agent-protocol.md 4.4)."""

_log = logging.getLogger(__name__)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(TaskReport)


class Reporter:
    """`report` takes a report, in order of events; delivery goes on in the background between `start` and `close`."""

    def __init__(self, *, client: Caller, state: State, settings: AgentSettings, backoff: Backoff, acknowledged: Callable[[str, str], None]) -> None:
        """`acknowledged(arn, status)` is called once the control plane has a report of that status."""
        self._client = client
        self._state = state
        self._settings = settings
        self._backoff = backoff
        self._acknowledged = acknowledged
        self._queues: dict[str, deque[tuple[str, TaskReport]]] = {}
        self._deliveries: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(settings.report_pool_max)
        self._line: ReportLine | None = None
        self._started = False
        self._number = 0
        for number, value in state.load(KIND).items():
            report = _decoder.decode(value)
            self._queues.setdefault(report.arn, deque()).append((number, report))
            self._number = max(self._number, int(number))

    @property
    def waiting(self) -> int:
        """Reports that are not acknowledged yet."""
        return sum(len(queue) for queue in self._queues.values())

    def use(self, line: ReportLine) -> None:
        """Send reports over `line` from now on, for as long as it is open."""
        self._line = line

    def start(self) -> None:
        """Deliver what the last life of the agent left, and from now on every report at once."""
        self._started = True
        for arn in tuple(self._queues):
            self._deliver_soon(arn)

    def report(self, report: TaskReport) -> None:
        """Take a report: it is in the journal when this returns. One that only repeats what waits already is passed over."""
        waiting = self._queues.get(report.arn)
        if waiting and waiting[-1][1] == report:
            return
        self._number += 1
        number = f"{self._number:016d}"
        try:
            self._state.put(KIND, number, _encoder.encode(report))
        except OSError:  # it is still told, unless this agent ends before
            _log.exception("task %s: %s could not be written to the local journal", report.arn, report.status)
        self._queues.setdefault(report.arn, deque()).append((number, report))
        if self._started:
            self._deliver_soon(report.arn)

    async def close(self) -> None:
        """Stop delivering; what is not acknowledged stays in the journal."""
        self._started = False
        deliveries = tuple(self._deliveries.values())
        for delivery in deliveries:
            delivery.cancel()
        await asyncio.gather(*deliveries, return_exceptions=True)

    def _deliver_soon(self, arn: str) -> None:
        if arn not in self._deliveries:
            self._deliveries[arn] = asyncio.get_running_loop().create_task(self._deliver(arn))

    async def _deliver(self, arn: str) -> None:
        """Send one task's reports, one after the other, until none is left."""
        failures = 0
        try:
            while queue := self._queues.get(arn):
                number, report = queue[0]
                if not await self._submit(report):
                    failures += 1
                    await self._backoff.wait(failures)
                    continue
                if failures:
                    self._backoff.nudge()
                failures = 0
                queue.popleft()
                self._forget(number)
                if not queue:
                    del self._queues[arn]
                self._acknowledged(arn, report.status)
        finally:
            del self._deliveries[arn]

    def _forget(self, number: str) -> None:
        try:
            self._state.delete(KIND, number)
        except OSError:  # then it is told once more after the next start, which does no harm
            _log.exception("report %s could not be taken out of the local journal", number)

    async def _submit(self, report: TaskReport) -> bool:
        """Send one report; return whether it is done with."""
        try:
            await self._send(request_of(report, cluster=self._settings.cluster))
        except CallFailedError as error:
            if error.code in DROPPED:
                _log.error("task %s: its %s is not taken by the control plane and is dropped: %s", report.arn, report.status, error)
                return True
            _log.warning("task %s: %s could not be reported and is tried again: %s", report.arn, report.status, error)
            return False
        except HomeportError as error:
            _log.info("task %s: %s could not be reported and is tried again: %s", report.arn, report.status, error)
            return False
        _log.info("task %s: reported %s", report.arn, report.status)
        return True

    async def _send(self, request: dict[str, Any]) -> None:
        line = self._line
        if line is not None and line.open:
            await line.submit(OPERATION, request)
            return
        async with self._slots:
            await self._client.call(OPERATION, request)


def request_of(report: TaskReport, *, cluster: str) -> dict[str, Any]:
    """The body of SubmitTaskStateChange."""
    request: dict[str, Any] = {"cluster": cluster, "task": report.arn, "status": report.status, "reason": report.reason}
    times = {"pullStartedAt": report.pull_started_at, "pullStoppedAt": report.pull_stopped_at, "executionStoppedAt": report.execution_stopped_at}
    request |= {name: instant for name, instant in times.items() if instant is not None}
    if report.containers:
        request["containers"] = [_container(container) for container in report.containers]
    return request


def _container(report: ContainerReport) -> dict[str, Any]:
    container: dict[str, Any] = {"containerName": report.name, "status": report.status}
    told = {"runtimeId": report.runtime_id, "exitCode": report.exit_code, "reason": report.reason, "imageDigest": report.image_digest}
    container |= {name: value for name, value in told.items() if value is not None}
    if report.network_bindings:
        container["networkBindings"] = [
            {"bindIP": binding.bind_ip, "containerPort": binding.container_port, "hostPort": binding.host_port, "protocol": binding.protocol}
            for binding in report.network_bindings
        ]
    return container
