"""What agents report: SubmitTaskStateChange, SubmitContainerStateChange, SubmitAttachmentStateChanges.

Owns: the three handlers, `Report`, and `keep`, the one way of a report into the store. Never tells an agent anything but that its report is durable.
Reports come at least once, may come late and out of order (agent-protocol: state reports); `planner.task.observed` makes that harmless.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from homeport.api import own_instance
from homeport.api.call import Call
from homeport.api.ecs import lookup
from homeport.errors import InvalidParameterError
from homeport.model.ecs import task as model
from homeport.model.ecs.task import NetworkBinding
from homeport.planner.task import Seen, observed
from homeport.store.table import Transaction
from homeport.store.tables import TASKS

INSTANT_MAX: Final = float(2**33)
"""The year 2242, in seconds since the epoch."""
_KNOWN = (model.PENDING, model.RUNNING, model.STOPPED)
# What agents say between PENDING and RUNNING, and after RUNNING, is told apart by wanted and seen states here.
_SAME_AS = {
    **dict.fromkeys(("NONE", "MANIFEST_PULLED", "PULLED", "CREATED", model.PROVISIONING, model.ACTIVATING), model.PENDING),
    **dict.fromkeys(("RESOURCES_PROVISIONED", model.DEACTIVATING, model.STOPPING), model.RUNNING),
    model.DEPROVISIONING: model.STOPPED,
}
REASON_CHARACTERS_MAX: Final = 1024
"""Longest reason of a container (the model's own words); of a task too."""


def _status(text: str | None) -> str:
    status = _SAME_AS.get(text or "", text or "")
    if status and status not in _KNOWN:
        raise InvalidParameterError(f"status {text!r} is not one of {', '.join(_KNOWN)}.")
    return status


def _instant(value: float | None) -> float:
    """An instant of a report, 0.0 when it has none. One that no calendar holds would make every later answer unreadable for SDKs."""
    if value is not None and not 0 <= value < INSTANT_MAX:
        raise InvalidParameterError(f"The timestamp {value!r} is out of range.")
    return value or 0.0


def _bindings(items: Any) -> tuple[NetworkBinding, ...]:
    return tuple(
        NetworkBinding(
            bind_ip=item.bindIP or "",
            container_port=item.containerPort or 0,
            host_port=item.hostPort or 0,
            protocol=item.protocol or "tcp",
            container_port_range=getattr(item, "containerPortRange", None) or "",
            host_port_range=getattr(item, "hostPortRange", None) or "",
        )
        for item in items or ()
    )


def _container(item: Any) -> dict[str, Any]:
    status = _status(item.status)
    return {
        "status": status,
        "runtime_id": item.runtimeId or "",
        # An exit code may come beside RUNNING (a container that ended at once); it is shown with the STOPPED that follows.
        "exit_code": item.exitCode if status == model.STOPPED else None,
        "reason": (item.reason or "")[:REASON_CHARACTERS_MAX],
        "image_digest": getattr(item, "imageDigest", None) or "",
        "network_bindings": _bindings(item.networkBindings),
    }


class Report(NamedTuple):
    """What one report says, checked as far as it can be without the store."""

    cluster: str | None
    """Name or ARN."""
    task: str
    """Id or ARN."""
    seen: Seen


def task_report(request: Any) -> Report:
    """What SubmitTaskStateChange says. Raises InvalidParameterError."""
    seen = Seen(
        status=_status(request.status),
        reason=(request.reason or "")[:REASON_CHARACTERS_MAX],
        containers={item.containerName or "": _container(item) for item in request.containers or ()},
        pull_started_at=_instant(request.pullStartedAt),
        pull_stopped_at=_instant(request.pullStoppedAt),
        execution_stopped_at=_instant(request.executionStoppedAt),
    )
    return _report(request, seen)


def container_report(request: Any) -> Report:
    """What SubmitContainerStateChange says. Raises InvalidParameterError."""
    return _report(request, Seen(containers={request.containerName or "": _container(request)}))


def _report(request: Any, seen: Seen) -> Report:
    if not request.task:
        raise InvalidParameterError("Task cannot be empty.")
    return Report(request.cluster, request.task, seen)


def keep(tx: Transaction, call: Call, report: Report, *, instance: str = "") -> None:
    """Write what `report` says, if it is news. Raises InvalidParameterError or ClusterNotFoundError, and has written nothing then.

    `instance`: key of the one instance whose tasks may be reported; "": of any, as ECS allows who may call for the cluster.
    """
    cluster = lookup.cluster_of(tx, call, report.cluster)
    task = tx.get(TASKS, lookup.task_key(call, cluster, report.task))
    # A STOPPED task is closed: an agent that registered anew may tell the end of what its former instance had, to no effect.
    if task is None or (instance not in ("", task.instance_key) and task.last_status != model.STOPPED):
        # InvalidParameterException makes the agent drop the report: there is nothing left that it could change.
        raise InvalidParameterError("The referenced task was not found.")
    tx.put(TASKS, observed(task, report.seen, tx.now))


async def submit_task_state_change(call: Call, request: Any) -> dict[str, Any]:
    """SubmitTaskStateChange: what the agent has seen of a task and its containers, made durable before the answer."""
    return await _submit(call, task_report(request))


async def submit_container_state_change(call: Call, request: Any) -> dict[str, Any]:
    """SubmitContainerStateChange: one container's state, as older agents report it."""
    return await _submit(call, container_report(request))


async def _submit(call: Call, report: Report) -> dict[str, Any]:
    await call.update(lambda tx: keep(tx, call, report, instance=own_instance.key_of(tx, call)))
    return {"acknowledgment": call.request_id}


async def submit_attachment_state_changes(call: Call, request: Any) -> dict[str, Any]:
    """SubmitAttachmentStateChanges: acknowledged for a cluster that exists; no attachment is made here yet, so none can change."""
    await call.view(lambda reader: lookup.cluster_of(reader, call, request.cluster))
    if request.attachments:
        raise InvalidParameterError(f"The attachment {request.attachments[0].attachmentArn} was not found.")
    return {"acknowledgment": call.request_id}
