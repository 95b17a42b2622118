"""ExplainPlacement: why a task fits on an instance or not, what would free room, and the smallest change that would make it fit.

Owns: the handler and the form of its answer. Never writes; never decides: `placement` does, the very one that places.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from homeport.api.call import Call
from homeport.api.homeport.resource import Place, arn_of, meant
from homeport.api.homeport.task_set import next_set, waiting_on
from homeport.errors import InvalidParameterError, ResourceNotFoundError
from homeport.model import arn
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition, task_definition_key
from homeport.model.ecs.task_set import TaskSet
from homeport.placement import explanation
from homeport.placement.capacity import next_provider
from homeport.placement.constraints import MEMBER_OF
from homeport.placement.explanation import Remedy, remedies
from homeport.placement.reasons import Obstacle
from homeport.placement.request import Placement, PlacementRequest, placement_request
from homeport.planner.task import definition_document
from homeport.planner.task_set import stand_in
from homeport.store.table import Reader
from homeport.store.tables import CONTAINER_INSTANCES, DEPLOYMENTS, SERVICES, TASK_DEFINITIONS, TASK_SETS, TASKS
from homeport.store.task_definitions import definition_of

SHOWN_DEFAULT: Final = 100
REMEDIES_INSTANCES_MAX: Final = 200
"""So many instances, the closest ones, are tried with changes."""
CHANGES_MAX: Final = 20
STOP_SECONDS: Final = 30.0
"""From SIGTERM to SIGKILL of a container whose definition has no stopTimeout."""


_Tried = tuple[ContainerInstance, list[Task]]
"""An instance and the tasks on it."""


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is explained."""

    arn: str
    request: PlacementRequest
    task: Task | None = None
    task_set: TaskSet | None = None
    """The set that the task would be of."""
    waiting_on: tuple[str, ...] = ()


async def explain_placement(call: Call, request: Any) -> dict[str, Any]:
    """The answer of the module, of this moment. Raises ResourceNotFoundError, and InvalidParameterError for what is none of the three."""
    shown = request.maxResults or SHOWN_DEFAULT

    def look(reader: Reader) -> tuple[dict[str, Any], _Asked, list[_Tried]]:
        asked = _asked(reader, call, request)
        found = call.context.placement.place(asked.request)
        instances = _instances(reader, call, asked.request)
        answer: dict[str, Any] = {
            "resourceArn": asked.arn,
            "requirement": _requirement(asked.request),
            "waitingOn": list(asked.waiting_on),
            "containerInstances": [_instance_json(reader, call, *item) for item in instances[:shown]],
            "containerInstanceCount": len(instances),
        }
        if asked.task_set is not None:
            answer["taskSetArn"] = arn_of(call, Place(TASK_SETS, asked.task_set.key))
        if asked.task is not None and asked.task.container_instance_id:
            answer["containerInstanceArn"] = _instance_arn(call, asked.task.instance_key)
        if isinstance(found, Placement):
            return answer | {"wouldRunOn": _instance_arn(call, found.instance_key), "summary": "an instance can take the task"}, asked, []
        closest = instances[:REMEDIES_INSTANCES_MAX]
        return answer | {"summary": found.summary()}, asked, [(instance, _live(reader, instance)) for instance, _ in closest]

    answer, asked, tried = await call.view(look)
    # In a thread: an instance with many tasks takes tens of milliseconds, and the records are what they are.
    changes = await asyncio.to_thread(_changes, call, asked.request, tried)
    return answer | {"changes": changes} | ({"suggestedChange": changes[0]} if changes else {})


def _asked(reader: Reader, call: Call, request: Any) -> _Asked:
    for place in meant(reader, call, request.resource, request.cluster):
        record = reader.get(place.table, place.key)
        if isinstance(record, Service):
            return _of_service(reader, call, place, record)
        if isinstance(record, Task):
            return _of_task(reader, call, place, record)
        if isinstance(record, TaskSet) and (service := reader.get(SERVICES, record.service_key)) is not None:
            return _of_task_set(reader, call, place, service, record)
        if record is not None:
            raise InvalidParameterError(f"{request.resource} is neither a service nor a task set nor a task.")
    raise ResourceNotFoundError(f"There is no service, no task set and no task {request.resource}.")


def _definition(reader: Reader, account: str, family: str, revision: int) -> TaskDefinition | None:
    return reader.get(TASK_DEFINITIONS, task_definition_key(account, family, revision))


def _live_tasks(reader: Reader, service: Service) -> list[Task]:
    return [task for task in reader.find(TASKS, "service_live", service.key) if task.desired_status == task_model.RUNNING]


def _of_task_set(reader: Reader, call: Call, place: Place, service: Service, task_set: TaskSet | None) -> _Asked:
    """The next task of the set, or of a service that has none yet."""
    live = _live_tasks(reader, service)
    waiting = tuple(_waiting_on(reader, call, service, live))
    if task_set is None:
        return _Asked(arn=arn_of(call, place), request=placement_request(service, None), waiting_on=waiting)
    own, strategy = stand_in(service, task_set), task_set.capacity_provider_strategy
    counts = Counter(task.capacity_provider for task in live if task.deployment_id == task_set.id)
    definition = _definition(reader, own.account, own.family, own.revision)
    wanted = placement_request(own, definition, provider=next_provider(strategy, counts) if strategy else "")
    return _Asked(arn=arn_of(call, place), request=wanted, task_set=task_set, waiting_on=waiting)


def _of_service(reader: Reader, call: Call, place: Place, service: Service) -> _Asked:
    if service.has_task_sets:
        return _of_task_set(reader, call, place, service, next_set(reader, service, _live_tasks(reader, service)))
    live = _live_tasks(reader, service)
    definition = _definition(reader, service.account, service.family, service.revision)
    wanted = placement_request(service, definition, provider=_next_provider(reader, service, live))
    return _Asked(arn=arn_of(call, place), request=wanted, waiting_on=tuple(_waiting_on(reader, call, service, live)))


def _next_provider(reader: Reader, service: Service, live: Sequence[Task]) -> str:
    """The capacity provider whose turn it is; "" without a strategy."""
    strategy = service.capacity_provider_strategy
    if not strategy:
        return ""
    deployments = reader.find(DEPLOYMENTS, "service", service.key)
    primary = next((item for item in deployments if item.status == deployment_model.PRIMARY), None)
    return next_provider(strategy, Counter(task.capacity_provider for task in live if primary and task.deployment_id == primary.target_id))


def _waiting_on(reader: Reader, call: Call, service: Service, live: Sequence[Task]) -> list[str]:
    """What besides room decides whether another task is started now."""
    if service.status != service_model.ACTIVE:
        return [f"the service is {service.status} and starts nothing"]
    if service.has_task_sets:
        return list(waiting_on(reader, service, live, now=call.context.clock.now()))
    found = []
    for item in reader.find(DEPLOYMENTS, "service", service.key):
        if item.status != deployment_model.PRIMARY:
            continue
        if item.rollout_state == deployment_model.FAILED:
            found.append(f"the deployment {item.shown_id} failed and starts nothing more")
        if item.throttled_until > call.context.clock.now():
            found.append(f"the launch throttle, until {item.throttled_until:.0f}, after {item.failures_to_start or item.crashes} failed rounds")
        if sum(1 for task in live if task.deployment_id == item.target_id) >= service.desired_count:
            found.append(f"nothing: the service has the {service.desired_count} tasks that it wants")
    return found


def _of_task(reader: Reader, call: Call, place: Place, task: Task) -> _Asked:
    """The task as if it were to be placed now, as one more on what runs; constraints that RunTask was given are not kept with a task."""
    service = reader.get(SERVICES, task.service_key) if task.service else None
    definition = definition_of(reader, task)
    known = Service(
        account=task.account, cluster=task.cluster, name=task.service, status=service_model.ACTIVE, created_at=0.0, created_by="", desired_count=0,
        family=task.family, revision=task.revision, launch_type=task.launch_type,
    )  # fmt: skip
    wanted = placement_request(service or known, definition, provider=task.capacity_provider)
    wanted = msgspec.structs.replace(
        wanted,
        launch_type=task.launch_type or wanted.launch_type,
        cpu=task.cpu,
        memory_mib=task.memory_mib,
        gpus=task.gpus,
        group=task.group,
        service_key=task.service_key,
    )
    return _Asked(arn=arn_of(call, place), request=wanted, task=task)


def _instances(reader: Reader, call: Call, request: PlacementRequest) -> list[tuple[ContainerInstance, tuple[Obstacle, ...]]]:
    """Every instance that is not gone with its obstacles, the closest first: the fewest obstacles, then the smallest shortfall."""

    def closeness(item: tuple[ContainerInstance, tuple[Obstacle, ...]]) -> tuple[int, int, str]:
        instance, obstacles = item
        return len(obstacles), sum(max(0, obstacle.needed - obstacle.available) for obstacle in obstacles), instance.id

    records = (item for item in reader.scan(CONTAINER_INSTANCES, f"{request.cluster_key}/") if item.status != instance_model.INACTIVE)
    return sorted(((item, call.context.placement.obstacles(request, item.key)) for item in records), key=closeness)


def _instance_arn(call: Call, key: str) -> str:
    return arn_of(call, Place(CONTAINER_INSTANCES, key))


def _live(reader: Reader, instance: ContainerInstance) -> list[Task]:
    return list(reader.find(TASKS, "instance_live", instance.key))


def _instance_json(reader: Reader, call: Call, instance: ContainerInstance, obstacles: tuple[Obstacle, ...]) -> dict[str, Any]:
    stopping = [task for task in _live(reader, instance) if task.desired_status == task_model.STOPPED] if obstacles else []
    return {
        "containerInstanceArn": _instance_arn(call, instance.key),
        "fits": not obstacles,
        "obstacles": [_obstacle_json(obstacle) for obstacle in obstacles],
        "stoppingTasks": [_stopping_json(reader, call, task) for task in stopping],
    }


def _obstacle_json(obstacle: Obstacle) -> dict[str, Any]:
    counted = {"needed": obstacle.needed, "available": obstacle.available} if obstacle.needed else {}
    return {"reason": obstacle.reason, **counted, **({"detail": obstacle.detail} if obstacle.detail else {})}


def _stopping_json(reader: Reader, call: Call, task: Task) -> dict[str, Any]:
    definition = _definition(reader, task.account, task.family, task.revision)
    containers = definition_document(definition)["containerDefinitions"] if definition else ()
    longest = max((float(container.get("stopTimeout") or STOP_SECONDS) for container in containers), default=STOP_SECONDS)
    shown: dict[str, Any] = {"taskArn": _task_arn(call, task.key), "cpu": task.cpu, "memory": task.memory_mib}
    return shown | ({"killedAt": task.stopping_at + longest} if task.stopping_at else {})


def _task_arn(call: Call, key: str) -> str:
    return arn.task_arn(call.region, *key.split("/"))


def _requirement(request: PlacementRequest) -> dict[str, Any]:
    return {
        "cpu": request.cpu,
        "memory": request.memory_mib,
        "gpus": request.gpus,
        "hostPorts": [f"{port}/{protocol}" for port, protocol in request.host_ports],
        "attributes": list(request.required_attributes),
        "constraints": [item.expression if item.type == MEMBER_OF else item.type for item in request.constraints],
        "strategies": [f"{item.type}:{item.field}" if item.field else item.type for item in request.strategies],
    }


def _changes(call: Call, request: PlacementRequest, tried: Sequence[_Tried]) -> list[dict[str, Any]]:
    """What would make the task fit, the smallest change first."""
    found = [remedy for instance, tasks in tried for remedy in remedies(request, instance, tasks)]
    return [_remedy_json(call, request, remedy) for remedy in sorted(found, key=lambda remedy: remedy.order)[:CHANGES_MAX]]


def _remedy_json(call: Call, request: PlacementRequest, remedy: Remedy) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "kind": remedy.kind,
        "size": remedy.size,
        "description": _words(request, remedy),
        "containerInstanceArn": _instance_arn(call, remedy.instance_key),
    }
    if remedy.task_keys:
        shown["taskArns"] = [_task_arn(call, key) for key in remedy.task_keys]
    if remedy.attributes:
        shown["attributes"] = [f"{name}={value}" if value else name for name, value in remedy.attributes]
    if remedy.constraints:
        shown["constraints"] = list(remedy.constraints)
    if remedy.kind in (explanation.LOWER, explanation.ADD):
        shown |= {"cpu": remedy.cpu, "memory": remedy.memory_mib}
    return shown


def _words(request: PlacementRequest, remedy: Remedy) -> str:
    where = remedy.instance_key.rsplit("/", 1)[1]
    tasks, are = ("1 task", "is") if remedy.size == 1 else (f"{remedy.size} tasks", "are")
    words = {
        explanation.WAIT: f"wait until {tasks} that {are} stopping on {where} {are} gone",
        explanation.CONNECT: f"connect the agent of {where} again",
        explanation.ACTIVATE: f"set {where} ACTIVE again",
        explanation.ATTRIBUTES: f"put {', '.join('='.join(pair) for pair in remedy.attributes)} on {where}",
        explanation.LOWER: f"ask for {_amount(remedy)} instead of {_amount(request)}; {where} has them",
        explanation.STOP: f"stop {tasks} on {where} for good",
        explanation.CONSTRAINTS: f"drop {', '.join(remedy.constraints)}; {where} can take the task then",
        explanation.ADD: f"add an instance like {where}, with {_amount(remedy)}",
    }
    return words[remedy.kind]


def _amount(of: Remedy | PlacementRequest) -> str:
    return f"{of.cpu} CPU units and {of.memory_mib} MiB"
