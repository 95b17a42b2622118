"""Further users of a simulation: who starts tasks on chosen instances, keeps a daemon, tags, labels instances, looks.

Owns: `Starter`, `DaemonOwner`, `Tagger`, `Labeller`, `Looker`. Never touches a store: they call through the workload, and check every acknowledgement
against what is durable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from homeport.agent.client import CallFailedError, UnreachableError
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.testing.births import EXPRESSIONS
from homeport.testing.definitions import DAEMON_EXPRESSIONS, DAEMON_PERCENTS, DAEMONS, RACK, RACKS
from homeport.testing.records import ACCOUNT, REGION
from homeport.testing.virtual_loop import Chance

if TYPE_CHECKING:
    from homeport.testing.workload import Workload

CLUSTER = "default"


class Starter:
    """Somebody who starts tasks on instances of his choice (StartTask)."""

    def __init__(self, workload: Workload, chance: Chance) -> None:
        self._workload = workload
        self._chance = chance

    async def run(self) -> None:
        """Do it until cancelled."""
        while True:
            await self._workload.clock.sleep(self._chance.wait(25.0))
            try:
                await self._start()
            except UnreachableError:
                continue

    async def _start(self) -> None:
        workload, chance = self._workload, self._chance
        arns = sorted({arn for _ in range(chance.number(1, 3)) if (arn := chance.pick(workload.hosts).instance_arn)})
        if not arns:
            return
        marker, family = chance.ids.hex(24), chance.pick(("job", "job", "port", "web", "racked", "failing"))
        workload.ran[marker] = len(arns)
        request = {"cluster": CLUSTER, "taskDefinition": family, "containerInstances": arns, "startedBy": marker}
        answer = await workload.call("StartTask", request, repeated=True)
        tasks = answer["tasks"]
        told = [task["containerInstanceArn"] for task in tasks] + [failure["arn"] for failure in answer["failures"]]
        workload.invariants.acknowledged("StartTask", sorted(told) == arns, f"of {arns} it tells of {told}")
        workload.check_made("StartTask", [task["taskArn"] for task in tasks], ())
        if tasks and family not in ("job", "failing"):
            workload.stop_later([task["taskArn"] for task in tasks], chance.child(marker))


class DaemonOwner:
    """Somebody who has one DAEMON service, changes it, and now and then deletes it."""

    def __init__(self, workload: Workload, chance: Chance, name: str) -> None:
        self._workload = workload
        self._chance = chance
        self._name = name

    async def run(self) -> None:
        """Do it until cancelled."""
        workload, chance = self._workload, self._chance
        while True:
            await workload.clock.sleep(chance.between(5.0, 60.0))
            try:
                await self._create()
                for _ in range(chance.number(1, 5)):
                    await workload.clock.sleep(chance.wait(60.0))
                    await self._update()
                await workload.clock.sleep(chance.wait(60.0))
                await workload.delete_service(self._name, forced=chance.happens(0.5))
            except UnreachableError:
                continue
            except CallFailedError as error:
                workload.require_expected(error)

    def _constraints(self) -> list[dict[str, str]]:
        expression = self._chance.pick(DAEMON_EXPRESSIONS)
        return [{"type": "memberOf", "expression": expression}] if expression else []

    async def _create(self) -> None:
        chance = self._chance
        request: dict[str, Any] = {
            "serviceName": self._name,
            "cluster": CLUSTER,
            "schedulingStrategy": "DAEMON",
            "taskDefinition": chance.pick(DAEMONS),
            "clientToken": chance.ids.hex(20),
            "placementConstraints": self._constraints(),
            "deploymentConfiguration": {"minimumHealthyPercent": chance.pick(DAEMON_PERCENTS), "maximumPercent": 100},
            **self._workload.tagging(chance),
        }
        await self._workload.call("CreateService", request, repeated=True)
        service = self._workload.durable_service(self._name)
        right = service is not None and service.status == "ACTIVE" and service.scheduling_strategy == "DAEMON"
        self._workload.invariants.acknowledged("CreateService", right, f"what is durable of {self._name} is {service}")

    async def _update(self) -> None:
        request: dict[str, Any] = {"cluster": CLUSTER, "service": self._name}
        kind = self._chance.pick(("definition", "constraints", "constraints", "force"))
        if kind == "definition":
            request["taskDefinition"] = self._chance.pick(DAEMONS)
        elif kind == "constraints":
            request["placementConstraints"] = self._constraints()
        else:
            request["forceNewDeployment"] = True
        await self._workload.call("UpdateService", request)
        service = self._workload.durable_service(self._name)
        wanted = [item["expression"] for item in request.get("placementConstraints", ())]
        right = kind != "constraints" or (service is not None and [item.expression for item in service.placement_constraints] == wanted)
        self._workload.invariants.acknowledged("UpdateService", right, f"what is durable of {self._name} is {service}")


class Tagger:
    """Somebody who tags services, tasks and instances, and takes tags away again. Nobody else changes the tag `owner`."""

    def __init__(self, workload: Workload, chance: Chance) -> None:
        self._workload = workload
        self._chance = chance

    async def run(self) -> None:
        """Do it until cancelled."""
        while True:
            await self._workload.clock.sleep(self._chance.wait(15.0))
            table, kind = self._chance.pick((("services", "service"), ("tasks", "task"), ("container_instances", "container-instance")))
            keys = sorted(self._workload.invariants.records[table])
            if not keys:
                continue
            key = self._chance.pick(keys)
            arn = f"arn:aws:ecs:{REGION}:{ACCOUNT}:{kind}/{key.partition('/')[2]}"
            try:
                await self._tag(table, key, arn)
            except UnreachableError:
                continue
            except CallFailedError as error:
                if error.code != "ResourceNotFoundException":  # it went meanwhile
                    raise

    async def _tag(self, table: str, key: str, arn: str) -> None:
        workload, value = self._workload, self._chance.ids.hex(8)
        made = _made_at(workload.invariants.records[table].get(key))
        await workload.call("TagResource", {"resourceArn": arn, "tags": [{"key": "owner", "value": value}]}, repeated=True)
        self._check("TagResource", table, key, made=made, value=value)
        if self._chance.happens(0.5):
            await workload.call("UntagResource", {"resourceArn": arn, "tagKeys": ["owner"]}, repeated=True)
            self._check("UntagResource", table, key, made=made, value=None)

    def _check(self, operation: str, table: str, key: str, *, made: float, value: str | None) -> None:
        record = self._workload.invariants.records[table].get(key)
        # StopTask takes a task's tags away.
        gone = record is None or _made_at(record) != made or (table == "tasks" and record.desired_status == "STOPPED")
        tags = () if record is None else record.tags
        right = gone or dict(tags).get("owner") == value
        self._workload.invariants.acknowledged(operation, right, f"the durable tags of {key} are {tags}, not owner={value}")


def _made_at(record: Any) -> float:
    return float(getattr(record, "created_at", 0.0) or getattr(record, "registered_at", 0.0)) if record is not None else 0.0


class Labeller:
    """The operator's hand that says in which rack an instance is (PutAttributes, DeleteAttributes). Nobody else does."""

    def __init__(self, workload: Workload, chance: Chance) -> None:
        self._workload = workload
        self._chance = chance

    async def run(self) -> None:
        """Do it until cancelled: most hosts at first, one now and then later."""
        hosts = list(self._workload.hosts)
        while True:
            await self._workload.clock.sleep(self._chance.wait(1.0 if hosts else 15.0))
            host = hosts.pop() if hosts else self._chance.pick(self._workload.hosts)
            if not host.instance_arn:
                continue
            try:
                await self._label(host.instance_arn, self._chance.pick(RACKS) if self._chance.happens(0.8) else "")
            except UnreachableError:
                continue
            except CallFailedError as error:
                if error.code != "TargetNotFoundException":  # it was deregistered meanwhile
                    raise

    async def _label(self, arn: str, rack: str) -> None:
        attribute = {"name": RACK, "targetId": arn, **({"value": rack} if rack else {})}
        operation = "PutAttributes" if rack else "DeleteAttributes"
        await self._workload.call(operation, {"cluster": CLUSTER, "attributes": [attribute]}, repeated=True)
        record = self._workload.durable_instance(arn)
        held = {item.name: item.value for item in record.attributes}.get(RACK, "") if record is not None else rack
        self._workload.invariants.acknowledged(operation, held == rack, f"{arn} is durably in rack {held!r}, not {rack!r}")


class Looker:
    """Somebody who looks at services and tasks, at any server: what he is shown was so at a moment between his question and its answer."""

    def __init__(self, workload: Workload, chance: Chance) -> None:
        self._workload = workload
        self._chance = chance

    async def run(self) -> None:
        """Do it until cancelled."""
        while True:
            await self._workload.clock.sleep(self._chance.wait(3.0))
            try:
                await self._look(*self._chance.pick((("services", _a_service), ("tasks", _a_task))))
            except UnreachableError:
                continue

    async def _look(self, table: str, shown_as: Callable[[Any], Any]) -> None:
        invariants = self._workload.invariants
        keys = sorted(invariants.records[table])
        if not keys:
            return
        key = self._chance.pick(keys)
        operation = "DescribeServices" if table == "services" else "DescribeTasks"
        request = {"cluster": CLUSTER, table: [key.rpartition("/")[2]]}
        with invariants.observing(table, key) as states:
            answer = await self._workload.once(operation, request, self._chance)
        shown = shown_as(answer[table][0]) if answer[table] else None
        were = [None if state is None else shown_as(state) for state in states]
        invariants.acknowledged(operation, shown in were, f"{key} is shown as {shown}, and meanwhile it was {were}")


def _a_service(shown: Any) -> Any:
    if isinstance(shown, Service):
        return shown.status, shown.desired_count, "" if shown.has_task_sets else f"{shown.family}:{shown.revision}"
    external = shown["deploymentController"]["type"] == "EXTERNAL"  # its definition is its task sets'
    return shown["status"], shown["desiredCount"], "" if external else shown["taskDefinition"].rpartition("/")[2]


def _a_task(shown: Any) -> Any:
    if isinstance(shown, Task):
        return shown.desired_status, shown.last_status
    return shown["desiredStatus"], shown["lastStatus"]


def a_constraint(chance: Chance) -> dict[str, str]:
    """A memberOf constraint."""
    return {"type": "memberOf", "expression": chance.pick(tuple(EXPRESSIONS))}
