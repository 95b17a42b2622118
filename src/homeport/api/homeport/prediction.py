"""PredictChanges and PredictServiceUpdate: what would happen, found out by letting it happen on a copy.

Owns: the two handlers, what of the state is copied, and the form of the answers. Never writes to the state; never computes an outcome by itself:
the controllers and the placement that act do, in a fork (`homeport.forecast`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from homeport.api.call import Call, Fork
from homeport.api.ecs import lookup, service
from homeport.api.homeport.hypothesis import apply
from homeport.api.homeport.resource import Place, arn_of
from homeport.api.protocol import model as protocol
from homeport.errors import ClientError, InvalidParameterError
from homeport.model import arn
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs import task_set as task_set_model
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.model.forecast import EVENT, GONE, RUNNING, START, STOP, Agents, Moment
from homeport.model.record import Record
from homeport.store.table import Reader, Table
from homeport.store.tables import (
    CAPACITY_PROVIDERS,
    CLUSTERS,
    CONTAINER_INSTANCES,
    DAEMON_DEPLOYMENTS,
    DAEMON_REVISIONS,
    DAEMON_TASK_DEFINITION_FAMILIES,
    DAEMON_TASK_DEFINITIONS,
    DAEMONS,
    DEPLOYMENTS,
    RULES,
    SERVICE_REVISIONS,
    SERVICES,
    TASK_DEFINITION_FAMILIES,
    TASK_DEFINITIONS,
    TASK_SETS,
    TASKS,
)

SECONDS_DEFAULT: Final = 3600
RECORDS_MAX: Final = 50_000
"""A larger cluster is not copied: it would take a server's memory and a core for minutes."""
SEED: Final = "forecast"
"""Of the copy's ids: the same question has the same answer."""

_AN_ID = re.compile(r"\b[0-9a-f]{32}\b|(?<=ecs-svc/)\d+")

Forked = tuple[Table[Any], Record]
Question = Callable[[Fork], Awaitable[dict[str, Any]]]


async def predict_changes(call: Call, request: Any) -> dict[str, Any]:
    """What becomes of a cluster's tasks after hypothetical changes; see the model of the service for the members."""
    hypotheses = list(request.changes)
    cluster = await call.view(lambda reader: lookup.cluster_of(reader, call, request.cluster))

    async def ask(fork: Fork) -> dict[str, Any]:
        before = await fork.view(lambda reader: _census(reader, cluster.key))
        forked = dataclasses.replace(call, context=fork.context)
        await fork.update(lambda tx: apply(tx, forked, cluster=cluster, hypotheses=hypotheses))
        started_at = fork.now
        settled = await fork.run(_seconds(request))
        after = await fork.view(lambda reader: _census(reader, cluster.key))
        return {
            "settled": settled,
            "afterSeconds": fork.changed_at - started_at,
            "services": [_service_json(call, item, before, after) for item in after.services],
            "containerInstances": [_instance_json(call, key, before, after) for key in sorted({*before.instances, *after.instances})],
            "placements": [_placement_json(call, task, before) for task in after.tasks.values()],
            "steps": [_step_json(call, moment, started_at, before) for moment in fork.moments],
        }

    return await _asked(call, request, cluster.key, ask)


async def predict_service_update(call: Call, request: Any) -> dict[str, Any]:
    """The steps of an UpdateService, as `request` would make it; see the model of the service for the members."""
    decoded = protocol.load("ecs").operations["UpdateService"].decode(msgspec.json.encode(_document(request.request)))
    cluster = await call.view(lambda reader: lookup.cluster_of(reader, call, decoded.cluster))
    key = lookup.service_key(call, cluster, decoded.service)

    async def ask(fork: Fork) -> dict[str, Any]:
        before = await fork.view(lambda reader: _census(reader, cluster.key))
        started_at = fork.now
        await service.update_service(dataclasses.replace(call, context=fork.context, invocation=None), decoded)
        settled = await fork.run(_seconds(request))
        after = await fork.view(lambda reader: reader.get(SERVICES, key))
        outcome, message = await fork.view(lambda reader: _outcome(reader, after, fork.moments, settled=settled))
        mine = [moment for moment in fork.moments if f"{cluster.key}/{moment.service}" == key]
        return {
            "serviceArn": arn_of(call, Place(SERVICES, key)),
            "outcome": outcome,
            "message": before.real(message),
            "afterSeconds": fork.changed_at - started_at,
            **_extremes([task for task in before.tasks.values() if task.service_key == key], mine),
            "steps": [_step_json(call, moment, started_at, before) for moment in fork.moments],
        }

    return await _asked(call, request, cluster.key, ask)


def _document(given: Any) -> Any:
    if not isinstance(given, dict):
        raise InvalidParameterError("request must be the request of an UpdateService.")
    return given


def _seconds(request: Any) -> float:
    return float(SECONDS_DEFAULT if request.seconds is None else request.seconds)


async def _asked(call: Call, request: Any, cluster_key: str, question: Question) -> dict[str, Any]:
    """The answer of `question` on a copy, found in a thread with an event loop of its own, so that this server goes on serving."""
    maker = call.context.fork
    if maker is None:
        raise ClientError("This server makes no predictions.")
    records = await call.view(lambda reader: list(_copied(reader, call.account, cluster_key)))
    defaults = Agents()
    agents = Agents(
        start_seconds=defaults.start_seconds if request.startSeconds is None else float(request.startSeconds),
        stop_seconds=defaults.stop_seconds if request.stopSeconds is None else float(request.stopSeconds),
    )

    async def answer() -> dict[str, Any]:
        fork = await maker(call.context, records, agents=agents, seed=SEED)
        try:
            return await question(fork)
        finally:
            await fork.close()

    return await asyncio.to_thread(_run, answer)


def _run(answer: Callable[[], Any]) -> dict[str, Any]:
    # asyncio's own loop, since virtual time must see whether anything can run; the server may run on another kind.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        found: dict[str, Any] = runner.run(answer())
    return found


def _copied(reader: Reader, account: str, cluster_key: str) -> Iterator[Forked]:
    """All of the cluster that decides what happens in it; raises ClientError when that is too much."""
    for number, forked in enumerate(_records(reader, account, cluster_key)):
        if number >= RECORDS_MAX:
            raise ClientError(f"The cluster has more than {RECORDS_MAX} records; predictions are made for smaller ones.")
        yield forked


def _records(reader: Reader, account: str, cluster_key: str) -> Iterator[Forked]:
    cluster = reader.get(CLUSTERS, cluster_key)
    if cluster is not None:
        yield CLUSTERS, cluster
    yield from ((CAPACITY_PROVIDERS, record) for record in reader.scan(CAPACITY_PROVIDERS, f"{account}/"))
    yield from ((TASK_DEFINITION_FAMILIES, record) for record in reader.scan(TASK_DEFINITION_FAMILIES, f"{account}/"))
    yield from ((TASK_DEFINITIONS, record) for record in reader.scan(TASK_DEFINITIONS, f"{account}/"))
    for instance in reader.scan(CONTAINER_INSTANCES, f"{cluster_key}/"):
        if instance.status != instance_model.INACTIVE:
            yield CONTAINER_INSTANCES, instance
    for known in reader.scan(SERVICES, f"{cluster_key}/"):
        if known.status != service_model.INACTIVE:
            yield SERVICES, known
            yield from ((DEPLOYMENTS, record) for record in reader.find(DEPLOYMENTS, "service", known.key))
            yield from ((SERVICE_REVISIONS, record) for record in reader.find(SERVICE_REVISIONS, "service", known.key))
            yield from ((TASK_SETS, record) for record in reader.find(TASK_SETS, "service", known.key))
    for table, prefix in ((table, account if table in _OF_ACCOUNT else cluster_key) for table in (*_OF_ACCOUNT, *_OF_DAEMONS)):
        yield from ((table, record) for record in reader.scan(table, f"{prefix}/"))
    for task in reader.scan(TASKS, f"{cluster_key}/"):
        if task.last_status != task_model.STOPPED:
            yield TASKS, task


_OF_ACCOUNT: Final[tuple[Table[Any], ...]] = (DAEMON_TASK_DEFINITION_FAMILIES, DAEMON_TASK_DEFINITIONS, RULES)
_OF_DAEMONS: Final[tuple[Table[Any], ...]] = (DAEMONS, DAEMON_DEPLOYMENTS, DAEMON_REVISIONS)


class _Census(msgspec.Struct, frozen=True):
    """A cluster at one moment."""

    services: list[Service]
    tasks: dict[str, Task]
    """Those wanted RUNNING, by key."""
    running: Counter[str]
    """Key of a service → its RUNNING ones of them."""
    instances: dict[str, tuple[int, int, int]]
    """Key → tasks on it, free CPU units, free MiB."""
    ids: frozenset[str]
    """Of tasks, instances, deployments, service revisions and task sets."""

    def real(self, text: str) -> str:
        """`text` with the word new in the place of every id that exists in the prediction only."""
        return _AN_ID.sub(lambda found: found[0] if found[0] in self.ids else "new", text)


def _census(reader: Reader, cluster_key: str) -> _Census:
    live = [task for task in reader.scan(TASKS, f"{cluster_key}/") if task.last_status != task_model.STOPPED]
    on: dict[str, list[Task]] = defaultdict(list)
    for task in live:
        on[task.instance_key].append(task)
    instances = {
        item.key: (
            len(on[item.key]),
            item.cpu - sum(task.cpu for task in on[item.key]),
            item.memory_mib - sum(task.memory_mib for task in on[item.key]),
        )
        for item in reader.scan(CONTAINER_INSTANCES, f"{cluster_key}/")
        if item.status != instance_model.INACTIVE
    }
    services = [item for item in reader.scan(SERVICES, f"{cluster_key}/") if item.status != service_model.INACTIVE]
    wanted = {task.key: task for task in live if task.desired_status != task_model.STOPPED}
    running = Counter(task.service_key for task in wanted.values() if task.last_status == task_model.RUNNING)
    ids = {task.id for task in live} | {key.rsplit("/", 1)[1] for key in instances}
    for item in reader.scan(DEPLOYMENTS, f"{cluster_key}/"):
        ids |= {item.id, item.target_id}
    ids |= {item.id for item in reader.scan(TASK_SETS, f"{cluster_key}/")}
    return _Census(services, wanted, running, instances, frozenset(ids))


def _service_json(call: Call, item: Service, before: _Census, after: _Census) -> dict[str, Any]:
    shown = {
        "serviceArn": arn_of(call, Place(SERVICES, item.key)),
        "desiredCount": item.desired_count,
        "runningBefore": before.running[item.key],
        "runningAfter": after.running[item.key],
    }
    return shown | ({"refusal": before.real(item.placement_failure)} if item.placement_failure else {})


def _instance_json(call: Call, key: str, before: _Census, after: _Census) -> dict[str, Any]:
    shown: dict[str, Any] = {"containerInstanceArn": arn_of(call, Place(CONTAINER_INSTANCES, key))}
    if key in before.instances:
        shown["tasksBefore"] = before.instances[key][0]
    if key in after.instances:
        shown["tasksAfter"], shown["cpuFree"], shown["memoryFree"] = after.instances[key]
    return shown


def _placement_json(call: Call, task: Task, before: _Census) -> dict[str, Any]:
    shown = {"group": task.group}
    if task.instance_key:
        shown["containerInstanceArn"] = arn_of(call, Place(CONTAINER_INSTANCES, task.instance_key))
    return shown | ({"taskArn": arn_of(call, Place(TASKS, task.key))} if task.key in before.tasks else {})


def _step_json(call: Call, moment: Moment, started_at: float, before: _Census) -> dict[str, Any]:
    shown: dict[str, Any] = {"atSeconds": round(moment.at - started_at, 3), "kind": moment.kind}
    if moment.service:
        shown["group"] = f"service:{moment.service}"
    if moment.kind == EVENT:
        return shown | {"message": before.real(moment.reason)}
    shown["taskDefinitionArn"] = arn.task_definition_arn(call.region, call.account, moment.family, moment.revision)
    if moment.instance_key:
        shown["containerInstanceArn"] = arn_of(call, Place(CONTAINER_INSTANCES, moment.instance_key))
    if moment.key in before.tasks:
        shown["taskArn"] = arn_of(call, Place(TASKS, moment.key))
    return shown | ({"message": before.real(moment.reason)} if moment.reason else {})


def _outcome(reader: Reader, after: Service | None, moments: Sequence[Moment], *, settled: bool) -> tuple[str, str]:
    """(COMPLETED, STUCK or UNFINISHED, on what)."""
    if after is None:
        return "STUCK", "the service is gone"
    if after.has_task_sets:
        return _outcome_of_sets(reader, after, settled=settled)
    deployments = [item for item in reader.find(DEPLOYMENTS, "service", after.key) if item.status != deployment_model.INACTIVE]
    primary = next((item for item in deployments if item.status == deployment_model.PRIMARY), None)
    tasks = [task for task in reader.find(TASKS, "service_live", after.key) if task.desired_status == task_model.RUNNING]
    done = len(deployments) == 1 and primary is not None and primary.rollout_state == deployment_model.COMPLETED
    if done and len(tasks) == after.desired_count:
        return "COMPLETED", primary.rollout_state_reason if primary else ""
    if after.placement_failure:
        return "STUCK", after.placement_failure
    told = next((moment.reason for moment in reversed(moments) if moment.kind == EVENT and "unable" in moment.reason), "")
    return ("STUCK" if settled or told else "UNFINISHED"), told or (primary.rollout_state_reason if primary else "")


def _outcome_of_sets(reader: Reader, after: Service, *, settled: bool) -> tuple[str, str]:
    unsteady = [item for item in reader.find(TASK_SETS, "service", after.key) if item.stability_status != task_set_model.STEADY_STATE]
    if not unsteady:
        return "COMPLETED", "every task set is in the steady state"
    told = after.placement_failure or f"the task set {unsteady[0].shown_id} is {unsteady[0].stability_status}"
    return ("STUCK" if settled or after.placement_failure else "UNFINISHED"), told


def _extremes(tasks: Sequence[Task], moments: Sequence[Moment]) -> dict[str, int]:
    """The most that the service holds on the way, and the fewest tasks of it that run and are to stay."""
    held = {task.key: (task.cpu, task.memory_mib) for task in tasks}
    running = {task.key for task in tasks if task.last_status == task_model.RUNNING}
    cpu, memory_mib = 0, 0  # beyond what is held now
    most, cpu_peak, memory_peak, least = len(held), 0, 0, len(running)
    for moment in moments:
        if moment.kind == START:
            held[moment.key] = (moment.cpu, moment.memory_mib)
            cpu, memory_mib = cpu + moment.cpu, memory_mib + moment.memory_mib
        elif moment.kind == RUNNING:
            running.add(moment.key)
        elif moment.kind in (STOP, GONE):
            running.discard(moment.key)
        if moment.kind == GONE:
            freed = held.pop(moment.key, (0, 0))
            cpu, memory_mib = cpu - freed[0], memory_mib - freed[1]
        most, least = max(most, len(held)), min(least, len(running))
        cpu_peak, memory_peak = max(cpu_peak, cpu), max(memory_peak, memory_mib)
    return {"tasksMost": most, "cpuPeak": cpu_peak, "memoryPeak": memory_peak, "runningLeast": least}
