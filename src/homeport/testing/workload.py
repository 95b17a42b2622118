"""What users do in a simulation: services that come, change and go, tasks that are run and stopped, an operator who moves hosts about.

Owns: `Workload`, and the memory of what was acknowledged. Never touches a store, an agent or a host's inside:
everything goes through the API and over the network, with an SDK's retries. Every acknowledgement is checked against what is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from homeport.agent.client import CallFailedError, UnreachableError
from homeport.testing.births import expressions_of, suits
from homeport.testing.daemon_owner import ManagedDaemonOwner
from homeport.testing.definitions import (
    BREAKER_SHARE,
    DEFINITIONS,
    MEMBERS,
    MORE_WEB,
    PERCENTS,
    PROPAGATED,
    STEADY,
    STRATEGIES,
    UNSTEADY,
)
from homeport.testing.hosts import Host
from homeport.testing.invariants import Invariants
from homeport.testing.network import Ask, Link, Network
from homeport.testing.records import ACCOUNT
from homeport.testing.shifts import Approver, a_strategy
from homeport.testing.task_set_owner import TaskSetOwner
from homeport.testing.users import DaemonOwner, Labeller, Looker, Starter, Tagger, a_constraint
from homeport.testing.virtual_loop import Chance, ProcessClock

CLUSTER: Final = "default"
ATTEMPTS_MAX: Final = 30
RETRY_SECONDS: Final = 1.0
TIMEOUT_SECONDS: Final = 20.0
MANAGED_DAEMON_SHARE: Final = 0.4
"""Of all runs, those with a daemon."""
DAEMON_SHARE: Final = 0.4
"""Of all runs, those with a DAEMON service."""
TASK_SETS_SHARE: Final = 0.5
"""Of all runs, those in which somebody controls the deployments of a service himself."""
CONSTRAINED_SHARE: Final = 0.3
"""Of what is asked for, the part with a memberOf constraint."""


class Workload:
    """See the module. `run` does it until cancelled."""

    def __init__(
        self,
        *,
        network: Network,
        chance: Chance,
        clock: ProcessClock,
        invariants: Invariants,
        hosts: list[Host],
        note: Callable[[str], None],
        services: int,
    ) -> None:
        self._network = network
        self._chance = chance
        self._dice = chance.child("invocations")
        self.clock = clock
        self.invariants = invariants
        self.hosts = hosts
        self._note = note
        self._services = services
        self._addresses = hosts[0].settings.endpoint.split(",")
        self.link = Link("user")
        self.acknowledged = 0
        self.ran: dict[str, int] = {}
        """startedBy of each RunTask → how many tasks it may have made."""
        self.busy_hosts: set[str] = set()
        """Hosts that somebody is doing something to, by name."""

    # -- calls -----------------------------------------------------------------------------------------------------------

    async def call(self, operation: str, request: dict[str, Any], *, repeated: bool = False) -> dict[str, Any]:
        """One call as an SDK makes it: again after a 503 or when no answer came, every try under the same invocation id. Raises CallFailedError.

        Half of the calls with a client token have none, so that the token alone must see to it that they have one effect.
        """
        invocation = "" if "clientToken" in request and self._dice.happens(0.5) else self._dice.ids.hex(32)
        ask = Ask(operation=operation, body=msgspec.json.encode(request), invocation=invocation, repeated=repeated)
        for attempt in range(ATTEMPTS_MAX):
            ask = msgspec.structs.replace(ask, to=self._dice.pick(self._addresses))
            try:
                answer = await self._network.call(self.link, ask, timeout_seconds=TIMEOUT_SECONDS)
            except UnreachableError:
                pass
            except CallFailedError as error:
                if error.code != "ServerException":
                    self._note(f"{operation} refused: {error}")
                    raise
            else:
                self.acknowledged += 1
                return answer
            await self.clock.sleep(min(5.0, RETRY_SECONDS * (attempt + 1)))
        raise UnreachableError(f"{operation} did not come through in {ATTEMPTS_MAX} attempts")

    async def once(self, operation: str, request: dict[str, Any], dice: Chance) -> dict[str, Any]:
        """One try of a call, at any server. Raises UnreachableError when it got no answer, CallFailedError."""
        ask = Ask(operation=operation, body=msgspec.json.encode(request), to=dice.pick(self._addresses), repeated=False)
        return await self._network.call(self.link, ask, timeout_seconds=TIMEOUT_SECONDS)

    # -- people ----------------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """The cluster and the task definitions."""
        await self.call("CreateCluster", {"clusterName": CLUSTER})
        for family, containers in DEFINITIONS.items():
            await self.call("RegisterTaskDefinition", {"family": family, "containerDefinitions": containers, **MEMBERS.get(family, {})})
        for container in MORE_WEB:
            await self.call("RegisterTaskDefinition", {"family": "web", "containerDefinitions": [container]})

    async def run(self) -> None:
        """Everybody at once, until cancelled."""
        people = [self._owner(f"service{number}", self._chance.child(f"service{number}")) for number in range(self._services)]
        people += [self._runner(self._chance.child("runner")), self._operator(self._chance.child("operator"))]
        people += [user(self, self._chance.child(user.__name__)).run() for user in (Starter, Tagger, Labeller, Looker, Approver)]
        if self._chance.child("daemon").happens(DAEMON_SHARE):
            people.append(DaemonOwner(self, self._chance.child("daemon"), "daemon").run())
        if self._chance.child("managed daemon").happens(MANAGED_DAEMON_SHARE):
            people.append(ManagedDaemonOwner(self, self._chance.child("managed daemon"), "logs").run())
        if self._chance.child("task sets").happens(TASK_SETS_SHARE):
            people.append(TaskSetOwner(self, self._chance.child("task sets"), "sets").run())
        await asyncio.gather(*people)

    async def _owner(self, name: str, chance: Chance) -> None:
        """Somebody who has one service, changes it, and now and then deletes it."""
        await self.clock.sleep(chance.between(0.0, 20.0))
        while True:
            try:
                await self._create(name, chance)
                for _ in range(chance.number(3, 12)):
                    await self.clock.sleep(chance.wait(30.0))
                    await self._update(name, chance)
                await self.clock.sleep(chance.wait(30.0))
                await self._delete(name, chance)
            except UnreachableError:
                continue
            except CallFailedError as error:
                self.require_expected(error)
            await self.clock.sleep(chance.between(5.0, 30.0))

    @staticmethod
    def require_expected(error: CallFailedError) -> None:
        """Raise a refusal again, unless it is too early for a name that still drains: that is the answer that ECS gives."""
        if "Draining" not in error.message and "not idempotent" not in error.message and error.code != "ServiceNotActiveException":
            raise error

    @staticmethod
    def tagging(chance: Chance) -> dict[str, Any]:
        """Members of CreateService that are about tags."""
        tags = [{"key": "team", "value": chance.ids.hex(4)}] if chance.happens(0.5) else []
        return {"tags": tags, "propagateTags": chance.pick(PROPAGATED), "enableECSManagedTags": chance.happens(0.2)}

    def _definition(self, chance: Chance) -> str:
        family = chance.pick(UNSTEADY) if chance.happens(0.12) else chance.pick(STEADY)
        return f"{family}:{chance.number(1, 3)}" if family == "web" else f"{family}:1"

    def _breaker(self, chance: Chance) -> dict[str, Any]:
        if not chance.happens(BREAKER_SHARE):
            return {}
        return {"deploymentCircuitBreaker": {"enable": True, "rollback": chance.happens(0.7), "resetOnHealthyTask": chance.happens(0.7)}}

    def _was_deployed(self, name: str, definition: str) -> bool:
        """Whether a deployment of `definition` (FAMILY:REVISION) was made; its breaker may have put an older one back already."""
        deployments = self.invariants.records["deployments"].values()
        return any(item.service == name and f"{item.family}:{item.revision}" == definition for item in deployments)

    def durable_service(self, name: str) -> Any:
        """The durable record of a service; None when there is none."""
        return self.invariants.records["services"].get(f"{ACCOUNT}/{CLUSTER}/{name}")

    async def _create(self, name: str, chance: Chance) -> None:
        minimum, maximum = chance.pick(PERCENTS)
        request: dict[str, Any] = {
            "serviceName": name,
            "cluster": CLUSTER,
            "taskDefinition": self._definition(chance),
            "desiredCount": chance.number(0, 8),
            "clientToken": chance.ids.hex(20),
            "deploymentConfiguration": {"minimumHealthyPercent": minimum, "maximumPercent": maximum, **self._breaker(chance.child("breaker"))},
            "placementStrategy": chance.pick(STRATEGIES),
        }
        if chance.happens(0.2):
            request["placementConstraints"] = [{"type": "distinctInstance"}]
        further = chance.child("further")
        if further.happens(CONSTRAINED_SHARE):
            request["placementConstraints"] = [*request.get("placementConstraints", ()), a_constraint(further)]
        request["deploymentConfiguration"] |= a_strategy(chance.child("strategy"))
        request |= self.tagging(further)
        await self.call("CreateService", request, repeated=True)
        service = self.durable_service(name)
        right = service is not None and service.status == "ACTIVE" and service.desired_count == request["desiredCount"]
        self.invariants.acknowledged("CreateService", right, f"what is durable of {name} is {service}")
        answer = await self.call("DescribeServices", {"cluster": CLUSTER, "services": [name]})
        self.invariants.acknowledged("DescribeServices", not answer["failures"], f"it does not show {name}, which was created before")

    async def _update(self, name: str, chance: Chance) -> None:
        request: dict[str, Any] = {"cluster": CLUSTER, "service": name}
        kind = chance.pick(("scale", "scale", "definition", "force", "percent", "both", "members"))
        if kind in ("scale", "both"):
            request["desiredCount"] = chance.number(0, 10)
        if kind in ("definition", "both"):
            request["taskDefinition"] = self._definition(chance)
        if kind == "force":
            request["forceNewDeployment"] = True
        if kind == "percent":
            minimum, maximum = chance.pick(PERCENTS)
            request["deploymentConfiguration"] = {"minimumHealthyPercent": minimum, "maximumPercent": maximum}
        if kind == "members":
            request["propagateTags"] = chance.pick(PROPAGATED)
            request["placementConstraints"] = [a_constraint(chance)] if chance.happens(CONSTRAINED_SHARE) else []
        strategy = chance.child(f"strategy {len(self.invariants.made)}")
        if kind in ("definition", "force") and strategy.happens(0.2):
            request["deploymentConfiguration"] = {"strategy": "ROLLING", "lifecycleHooks": [], **a_strategy(strategy)}
        await self.call("UpdateService", request)
        service = self.durable_service(name)
        right = service is not None and service.desired_count == request.get("desiredCount", service.desired_count)
        right = right and request.get("propagateTags") in (None, service.propagate_tags)
        if service is not None and "taskDefinition" in request:
            right = right and self._was_deployed(name, request["taskDefinition"])
        self.invariants.acknowledged("UpdateService", right, f"what is durable of {name} is {service}")

    async def _delete(self, name: str, chance: Chance) -> None:
        force = chance.happens(0.5)
        if not force:
            await self.call("UpdateService", {"cluster": CLUSTER, "service": name, "desiredCount": 0})
        await self.delete_service(name, forced=force)

    async def delete_service(self, name: str, *, forced: bool) -> None:
        """Delete it; by force when that is not enough."""
        for force in (forced, True):
            try:
                await self.call("DeleteService", {"cluster": CLUSTER, "service": name, "force": force})
                break
            except CallFailedError as error:
                if error.code == "ServiceNotFoundException":
                    return  # an earlier attempt, whose answer was lost, has done it
                if force or "while deployments are active" not in error.message:
                    raise
        service = self.durable_service(name)
        self.invariants.acknowledged("DeleteService", service is None or service.status != "ACTIVE", f"{name} is {service and service.status}")

    async def _runner(self, chance: Chance) -> None:
        """Somebody who runs standalone tasks, and stops some of them."""
        while True:
            await self.clock.sleep(chance.wait(6.0))
            try:
                await self._run_some(chance)
            except UnreachableError:
                continue

    async def _run_some(self, chance: Chance) -> None:
        count, marker = chance.number(1, 3), chance.ids.hex(24)
        family = chance.pick(("job", "job", "failing", "pulled", "port", "web", "unstartable"))
        self.ran[marker] = count
        request = {"cluster": CLUSTER, "taskDefinition": family, "count": count, "startedBy": marker}
        if chance.happens(0.5):
            request["clientToken"] = marker  # without it the invocation alone must see to it that the call has one effect
        further = chance.child("further")
        constraints = [a_constraint(further)] if further.happens(CONSTRAINED_SHARE) else []
        answer = await self.call("RunTask", {**request, "placementConstraints": constraints}, repeated=True)
        arns = [task["taskArn"] for task in answer["tasks"]]
        self.check_made("RunTask", arns, [item["expression"] for item in constraints])
        if arns and (family not in ("job", "failing", "unstartable") or chance.happens(0.3)):
            self.stop_later(arns, chance.child(marker))

    def check_made(self, operation: str, arns: list[str], expressions: Sequence[str]) -> None:
        """Tasks that a call told of are durable, and were made on instances that suit `expressions` and their definition's."""
        invariants = self.invariants
        invariants.acknowledged(operation, all(invariants.was_made(arn) for arn in arns), f"of {arns} not all are durable")
        for arn in arns:
            task, instance = invariants.task(arn), invariants.birthplace(arn)
            if task is not None and instance is not None:
                wanted = [*expressions, *expressions_of(invariants.records, task, ())]
                invariants.acknowledged(operation, suits(instance, wanted), f"{arn} was put on an instance that does not suit {wanted}")

    def stop_later(self, arns: list[str], chance: Chance) -> None:
        """Stop tasks in a while."""
        asyncio.get_running_loop().create_task(self._stop_later(arns, chance))

    async def _stop_later(self, arns: list[str], chance: Chance) -> None:
        await self.clock.sleep(chance.wait(20.0))
        for arn in arns:
            try:
                answer = await self.call("DescribeTasks", {"cluster": CLUSTER, "tasks": [arn]})
                if answer["failures"]:
                    self.invariants.acknowledged("DescribeTasks", self.invariants.task(arn) is None, f"it does not show {arn}, which is durable")
                    continue
                await self.call("StopTask", {"cluster": CLUSTER, "task": arn, "reason": "no longer wanted"})
            except UnreachableError:
                continue
            except CallFailedError as error:
                if "was not found" not in error.message:  # forgotten between the two calls
                    raise
            task = self.invariants.task(arn)
            self.invariants.acknowledged("StopTask", task is None or task.desired_status == "STOPPED", f"what is durable of it is {task}")

    # -- the operator ----------------------------------------------------------------------------------------------------

    async def _operator(self, chance: Chance) -> None:
        """Somebody who drains hosts and takes them back, or takes them out and installs them anew."""
        while True:
            await self.clock.sleep(chance.wait(25.0))
            host = chance.pick(self.hosts)
            if host.lost or not host.instance_arn or host.name in self.busy_hosts:
                continue
            self.busy_hosts.add(host.name)
            try:
                if chance.happens(0.75):
                    await self._drain(host, chance)
                else:
                    self._note(f"operator replaces {host.name}")
                    await self.deregister(host.instance_arn)
                    await self.clock.sleep(chance.between(0.0, 10.0))
                    await host.reinstall()
            except UnreachableError:
                continue
            finally:
                self.busy_hosts.discard(host.name)

    async def _drain(self, host: Host, chance: Chance) -> None:
        for status in ("DRAINING", "ACTIVE"):
            arn = host.instance_arn
            answer = await self.call("UpdateContainerInstancesState", {"cluster": CLUSTER, "containerInstances": [arn], "status": status})
            if answer["failures"]:
                return
            record = self.durable_instance(arn)
            right = record is not None and record.status == status
            self.invariants.acknowledged("UpdateContainerInstancesState", right, f"{arn} is {record and record.status}, not {status}")
            await self.clock.sleep(chance.between(10.0, 60.0))

    def durable_instance(self, arn: str) -> Any:
        """The durable record of an instance; None when there is none."""
        return self.invariants.records["container_instances"].get(f"{ACCOUNT}/{CLUSTER}/{arn.rpartition('/')[2]}")

    async def deregister(self, arn: str) -> None:
        """Take an instance out, whatever runs on it."""
        await self.call("DeregisterContainerInstance", {"cluster": CLUSTER, "containerInstance": arn, "force": True})
        record = self.durable_instance(arn)
        right = record is None or record.status == "INACTIVE"
        self.invariants.acknowledged("DeregisterContainerInstance", right, f"{arn} is {record and record.status}")
