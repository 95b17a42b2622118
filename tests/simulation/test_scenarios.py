"""What deployments, breakers, daemons, drains and losses look like, moment by moment, against golden files.

Each scenario is a whole control plane in memory on a virtual clock, driven by calls of the API, with simulated agents: a task runs 1 s after it was
made and ends 2 s after it was told to. A timeline has a line for every moment at which a count, a deployment or the events changed.

`HOMEPORT_WRITE_GOLDEN=1 ./dev test tests/simulation/test_scenarios.py` writes the files anew; read what changed in them before you commit it.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from homeport.api.ecs.operations import OPERATIONS
from homeport.model.ecs.capacity_provider import InstanceSize
from homeport.model.ecs.container_instance import CAPACITY_PROVIDER_ATTRIBUTE, Attribute
from homeport.model.ecs.deployment import Deployment
from homeport.store.tables import CAPACITY_PROVIDERS, CONTAINER_INSTANCES, DAEMON_DEPLOYMENTS, DEPLOYMENTS, SERVICE_EVENTS, TASK_SETS, TASKS
from homeport.testing import records
from homeport.testing.cell import MemoryCell
from homeport.testing.machines import SimulatedMachines

GOLDEN = Path(__file__).with_name("golden")
ZONE = "ecs.availability-zone"
_NUMBERED = re.compile(r"[0-9a-f]{32}|(?<=ecs-svc/)\d{15,20}")


class Scenario:
    """A cell and the timeline of its service `web`."""

    def __init__(self, cell: MemoryCell) -> None:
        self.cell = cell
        self.lines: list[str] = []
        self._started_at = cell.clock.now()
        self._numbers: dict[str, str] = {}
        self._events = 0
        self._last: list[str] = []
        self._following: list[asyncio.Task[None]] = []

    async def _follow_stages(self) -> None:
        """Write down every lifecycle stage that a deployment comes to and what becomes of its hooks, at the commit itself."""
        async for commit in self.cell.store.watch():
            for change in commit.changes:
                after, before = change.after, change.before
                if isinstance(after, Deployment) and after.lifecycle_stage:
                    known = before if isinstance(before, Deployment) else None
                    self.lines.extend(self._stage(known, after))

    def _stage(self, before: Deployment | None, after: Deployment) -> Iterator[str]:
        rows = self.cell.store._contents["deployments"].rows.values()
        revision_of = {row.record.target_id: row.record.revision for row in rows}
        if before is None or before.lifecycle_stage != after.lifecycle_stage:
            weights = sorted((revision_of[item.service_revision_id], item.production, item.test) for item in after.weights)
            told = ", ".join(f"web:{number} {production:g}" + (f" (test {test:g})" if test else "") for number, production, test in weights)
            yield f"{self._now():>7}  {'back to ' if after.rollback_of else ''}web:{after.revision} {after.lifecycle_stage}" + (told and f": {told}")
        known = {run.id: run.status for run in before.hooks} if before else {}
        for run in after.hooks:
            if known.get(run.id) != run.status:
                yield f"{self._now():>7}  hook {run.target or run.target_type} of {run.stage} {run.status}"

    @classmethod
    async def open(cls, *, zones: str, cpu: int = 4096) -> Scenario:
        """A cluster with an instance for each letter of `zones`, and the task definitions web:1 and web:2."""
        cell = await MemoryCell.open(seed="scenario")
        await cell.put(records.cluster(), records.task_definition(), records.task_definition(revision=2))
        made = cls(cell)
        for zone in zones:
            await made.join(zone, cpu=cpu)
        cell.start()
        made._following.append(asyncio.create_task(made._follow_stages()))
        await cell.clock.settle()
        return made

    async def join(self, zone: str, *, cpu: int = 4096) -> None:
        """One instance more."""
        number = 1 + len(await self.cell.all(CONTAINER_INSTANCES))
        await self.cell.put(records.container_instance(id=f"{number:032x}", cpu=cpu, attributes=(Attribute(name=ZONE, value=zone),)))

    async def call(self, operation: str, **request: Any) -> Any:
        """One call of the API; it stands in the timeline."""
        given = {name: value for name, value in request.items() if name not in ("containerInstances", "containerInstance")}
        self.lines.append(f"{self._now():>7}  {operation} {self._shown(str(given))}" if given else f"{self._now():>7}  {operation}")
        return await self.cell.call(operation, OPERATIONS[operation], request)

    async def lose_zone(self, zone: str) -> None:
        """Every instance of the zone is gone for good."""
        for instance in await self.cell.all(CONTAINER_INSTANCES):
            if instance.attribute(ZONE) == zone and instance.status != "INACTIVE":
                await self.call("DeregisterContainerInstance", containerInstance=instance.id, force=True)

    async def drain(self, count: int) -> None:
        """The first `count` instances drain."""
        ids = sorted(instance.id for instance in await self.cell.all(CONTAINER_INSTANCES) if instance.status == "ACTIVE")[:count]
        await self.call("UpdateContainerInstancesState", containerInstances=ids, status="DRAINING")

    async def run(self, seconds: float) -> None:
        """Let time pass, and write down what changes."""
        clock = self.cell.clock
        until = clock.now() + seconds
        await clock.settle()
        await self._look()
        while (deadline := clock.next_deadline) is not None and deadline <= until:
            await clock.jump()
            await self._look()
        await clock.advance(max(0.0, until - clock.now()))

    def _now(self) -> str:
        return f"{self.cell.clock.now() - self._started_at:.0f} s"

    def _shown(self, text: str) -> str:
        """`text` with every id as a letter and the number of its first appearance."""

        def short(found: re.Match[str]) -> str:
            kind = "t" if len(found[0]) == 32 else "d"
            known = [name for name in self._numbers.values() if name[0] == kind]
            return self._numbers.setdefault(found[0], f"{kind}{1 + len(known)}")

        return _NUMBERED.sub(short, text)

    async def _look(self) -> None:
        state = await self._state()
        told = await self._told()
        if state != self._last or told:
            self.lines.append(f"{self._now():>7}  {'  '.join(state)}")
            self.lines.extend(f"{'':>9}{message}" for message in told)
            self._last = state

    async def _state(self) -> list[str]:
        tasks = [task for task in await self.cell.all(TASKS) if task.service == "web" and task.last_status != "STOPPED"]
        zone_of = {instance.id: instance.attribute(ZONE) for instance in await self.cell.all(CONTAINER_INSTANCES)}
        state = []
        for revision in sorted({task.revision for task in tasks}):
            of_it = [task for task in tasks if task.revision == revision]
            counted = Counter("stopping" if task.desired_status == "STOPPED" else task.last_status.lower() for task in of_it)
            state.append(
                f"web:{revision} "
                + ", ".join(f"{counted[name]} {name}" for name in ("running", "pending", "provisioning", "stopping") if counted[name])
            )
        placed = [task for task in tasks if task.desired_status == "RUNNING" and task.container_instance_id]
        zones = Counter(zone_of[task.container_instance_id] for task in placed)
        state.append("zones " + " ".join(f"{zone}{zones[zone]}" for zone in sorted({str(zone) for zone in zone_of.values()})))
        deployments = sorted(await self.cell.all(DEPLOYMENTS), key=lambda item: item.created_at)
        state += [f"[web:{item.revision} {item.status} {item.rollout_state}]" for item in deployments if item.status != "INACTIVE"]
        sets = sorted(await self.cell.all(TASK_SETS), key=lambda item: item.created_at)
        state += [f"[web:{item.revision} {item.status} {item.scale:g} % {item.stability_status}]" for item in sets]
        return state + await self._pools()

    async def _pools(self) -> list[str]:
        instances = await self.cell.all(CONTAINER_INSTANCES)
        state = []
        for provider in await self.cell.all(CAPACITY_PROVIDERS):
            counted = Counter(item.status for item in instances if item.capacity_provider == provider.name)
            there = " ".join(f"{counted[name]} {name}" for name in ("ACTIVE", "DRAINING") if counted[name])
            state.append(f"{provider.name}: {there or 'empty'}, {provider.scaling.reservation:g} %, wants {provider.scaling.desired}")
        return state

    async def _told(self) -> list[str]:
        events = sorted(await self.cell.all(SERVICE_EVENTS), key=lambda event: event.number)
        fresh = [event.message for event in events if event.number >= self._events]
        self._events = max((event.number + 1 for event in events), default=0)
        return [self._shown(_brief(message)) for message in fresh]


def _brief(message: str) -> str:
    """An event with no more than three of its task ids."""
    head, *ids = re.split(r"(?=\(task [0-9a-f]{32}\))", message)
    return head + "".join(ids[:3]) + (f" … of {len(ids)}." if len(ids) > 3 else "")


async def _service(scenario: Scenario, count: int, **members: Any) -> None:
    await scenario.call("CreateService", serviceName="web", taskDefinition="web:1", desiredCount=count, **members)
    await scenario.run(120)


def _bounds(lower: int, upper: int, **more: Any) -> dict[str, Any]:
    return {"deploymentConfiguration": {"minimumHealthyPercent": lower, "maximumPercent": upper, **more}}


async def rolling_50_100() -> Scenario:
    """Within what runs: half goes first, then half comes."""
    scenario = await Scenario.open(zones="abc")
    await _service(scenario, 4, **_bounds(50, 100))
    await scenario.call("UpdateService", service="web", taskDefinition="web:2")
    await scenario.run(300)
    return scenario


async def rolling_100_200() -> Scenario:
    """All new ones come, then all old ones go."""
    scenario = await Scenario.open(zones="abc")
    await _service(scenario, 4, **_bounds(100, 200))
    await scenario.call("UpdateService", service="web", taskDefinition="web:2")
    await scenario.run(300)
    return scenario


async def rolling_stuck() -> Scenario:
    """The percentages forbid every step, until they are changed."""
    scenario = await Scenario.open(zones="abc")
    await _service(scenario, 2, **_bounds(100, 100))
    await scenario.call("UpdateService", service="web", taskDefinition="web:2")
    await scenario.run(60)
    await scenario.call("UpdateService", service="web", **_bounds(50, 100))
    await scenario.run(300)
    return scenario


async def breaker_with_rollback() -> Scenario:
    """Every task of the new revision fails to start: the breaker sees it and goes back."""
    scenario = await Scenario.open(zones="abc")
    await _service(scenario, 4, **_bounds(50, 200, deploymentCircuitBreaker={"enable": True, "rollback": True}))
    scenario.cell.agents.failure = "CannotPullContainerError: no such image"
    scenario.cell.agents.failing = {2}
    await scenario.call("UpdateService", service="web", taskDefinition="web:2")
    await scenario.run(600)
    return scenario


async def zone_loss_during_a_deployment() -> Scenario:
    """A third of the instances is lost while the new revision comes up."""
    scenario = await Scenario.open(zones="aabbcc")
    await _service(scenario, 6, **_bounds(50, 150))
    await scenario.call("UpdateService", service="web", taskDefinition="web:2")
    await scenario.run(20)
    await scenario.lose_zone("a")
    await scenario.run(400)
    return scenario


async def rebalancing_after_a_zone_returns() -> Scenario:
    """A lost zone's tasks run elsewhere; when the zone is back they are spread again without going below the desired count."""
    scenario = await Scenario.open(zones="abc")
    await _service(scenario, 6)
    await scenario.lose_zone("c")
    await scenario.run(120)
    scenario.lines.append(f"{scenario._now():>7}  an instance joins in zone c")
    await scenario.join("c")
    await scenario.run(400)
    return scenario


async def daemon_on_a_hundred_instances() -> Scenario:
    """One task on each of 100 instances; one joins; an update under 80 %; ten drain."""
    scenario = await Scenario.open(zones="ab" * 50)
    await scenario.call("CreateService", serviceName="web", taskDefinition="web:1", schedulingStrategy="DAEMON", **_bounds(80, 100))
    await scenario.run(120)
    scenario.lines.append(f"{scenario._now():>7}  an instance joins in zone b")
    await scenario.join("b")
    await scenario.run(120)
    await scenario.call("UpdateService", service="web", taskDefinition="web:2")
    await scenario.run(600)
    await scenario.drain(10)
    await scenario.run(120)
    return scenario


class DaemonScenario(Scenario):
    """The timeline of the daemon `logs` on the instances of the capacity provider `edge`, beside a service `web`."""

    @classmethod
    async def of(cls, instances: int) -> DaemonScenario:
        """A cluster with so many instances, and the daemon task definitions logs:1 to logs:3."""
        cell = await MemoryCell.open(seed="scenario")
        await cell.put(records.cluster(), records.task_definition())
        made = cls(cell)
        for number in range(instances):
            await made.join_edge(number + 1)
        cell.start()
        group = {"autoScalingGroupArn": "group"}
        await cell.call("CreateCapacityProvider", OPERATIONS["CreateCapacityProvider"], {"name": "edge", "autoScalingGroupProvider": group})
        associated = {"cluster": "default", "capacityProviders": ["edge"], "defaultCapacityProviderStrategy": []}
        await cell.call("PutClusterCapacityProviders", OPERATIONS["PutClusterCapacityProviders"], associated)
        for revision in (1, 2, 3):
            container = {"name": "agent", "image": f"agent:{revision}", "cpu": 128, "memory": 128}
            request = {"family": "logs", "containerDefinitions": [container]}
            await cell.call("RegisterDaemonTaskDefinition", OPERATIONS["RegisterDaemonTaskDefinition"], request)
        return made

    async def join_edge(self, number: int) -> None:
        """One instance more of the capacity provider."""
        attributes = (Attribute(name=CAPACITY_PROVIDER_ATTRIBUTE, value="edge"),)
        await self.cell.put(records.container_instance(id=f"{number:032x}", cpu=4096, attributes=attributes))

    async def _state(self) -> list[str]:
        tasks = [task for task in await self.cell.all(TASKS) if task.last_status != "STOPPED"]
        state = []
        for revision in sorted({task.revision for task in tasks if task.daemon}):
            of_it = [task for task in tasks if task.daemon and task.revision == revision]
            counted = Counter("stopping" if task.desired_status == "STOPPED" else task.last_status.lower() for task in of_it)
            state.append(f"logs:{revision} " + ", ".join(f"{counted[name]} {name}" for name in ("running", "pending", "stopping") if counted[name]))
        web = Counter("stopping" if task.desired_status == "STOPPED" else task.last_status.lower() for task in tasks if task.service)
        state.append("web " + ", ".join(f"{web[name]} {name}" for name in ("running", "pending", "stopping") if web[name]) if web else "no web")
        deployments = sorted(await self.cell.all(DAEMON_DEPLOYMENTS), key=lambda item: item.created_at)
        newest = deployments[-1] if deployments else None
        return [*state, *([f"[{newest.status}, step {newest.steps}, {newest.circuit_breaker.failure_count} failed]"] if newest else ["[none]"])]


async def daemon_deployment_with_rollback() -> Scenario:
    """A daemon on 100 instances comes before a service; one joins; an update by tenths with bake time; a bad one goes back; one is lost; deletion."""
    scenario = await DaemonScenario.of(100)
    spec = {"daemonTaskDefinitionArn": "logs:1", "capacityProviderArns": ["edge"]}
    made = await scenario.call("CreateDaemon", daemonName="logs", **spec, deploymentConfiguration={"drainPercent": 10.0, "bakeTimeInMinutes": 1})
    await scenario.call("CreateService", serviceName="web", taskDefinition="web:1", desiredCount=50)
    await scenario.run(180)
    scenario.lines.append(f"{scenario._now():>7}  an instance joins")
    await scenario.join_edge(101)
    await scenario.run(60)
    where = {"daemonArn": made["daemonArn"]}
    await scenario.call("UpdateDaemon", **where, **(spec | {"daemonTaskDefinitionArn": "logs:2"}))
    await scenario.run(1500)
    scenario.cell.agents.failure = "CannotPullContainerError: no such image"
    scenario.cell.agents.failing = {3}
    await scenario.call("UpdateDaemon", **where, **(spec | {"daemonTaskDefinitionArn": "logs:3"}))
    await scenario.run(600)
    lost = min((task for task in await scenario.cell.all(TASKS) if task.daemon and task.last_status == "RUNNING"), key=lambda task: task.instance_key)
    scenario.lines.append(f"{scenario._now():>7}  the daemon ends on one instance")
    await scenario.cell.report(lost, "STOPPED")
    await scenario.run(60)
    await scenario.call("DeleteDaemon", **where)
    await scenario.run(60)
    return scenario


async def drain_of_a_third_of_the_fleet() -> Scenario:
    """Three of nine instances drain: their tasks are replaced before they go, within both bounds."""
    scenario = await Scenario.open(zones="abcabcabc")
    await _service(scenario, 18, **_bounds(90, 110))
    await scenario.drain(3)
    await scenario.run(600)
    return scenario


async def scale_in_past_protected_tasks() -> Scenario:
    """Protected tasks stay until their protection ends."""
    scenario = await Scenario.open(zones="abc")
    await _service(scenario, 4)
    protected = sorted(task.id for task in await scenario.cell.all(TASKS))[:3]
    await scenario.call("UpdateTaskProtection", cluster="default", tasks=protected, protectionEnabled=True, expiresInMinutes=2)
    await scenario.call("UpdateService", service="web", desiredCount=1)
    await scenario.run(300)
    return scenario


async def stop_with_rollback() -> Scenario:
    """A deployment on its way is called back."""
    scenario = await Scenario.open(zones="abc")
    await _service(scenario, 4, **_bounds(50, 150))
    await scenario.call("UpdateService", service="web", taskDefinition="web:2")
    await scenario.run(10)
    listed = await scenario.cell.call("ListServiceDeployments", OPERATIONS["ListServiceDeployments"], {"service": "web", "status": ["IN_PROGRESS"]})
    arn = listed["serviceDeployments"][0]["serviceDeploymentArn"]
    await scenario.cell.call("StopServiceDeployment", OPERATIONS["StopServiceDeployment"], {"serviceDeploymentArn": arn, "stopType": "ROLLBACK"})
    scenario.lines.append(f"{scenario._now():>7}  StopServiceDeployment")
    await scenario.run(300)
    return scenario


async def managed_scaling() -> Scenario:
    """A pool from nothing to what a service needs, down to what is left of it, and past a machine that is taken away. Two tasks fill a machine."""
    scenario = await Scenario.open(zones="")
    machines = SimulatedMachines(scenario.cell.store, scenario.cell.clock, size=InstanceSize(cpu=256, memory_mib=1024))
    scenario.cell.scale({"pool": machines})
    group = {"autoScalingGroupArn": "group", "managedScaling": {"status": "ENABLED", "instanceWarmupPeriod": 120}}
    await scenario.call("CreateCapacityProvider", name="pool", autoScalingGroupProvider=group)
    await scenario.call("PutClusterCapacityProviders", cluster="default", capacityProviders=["pool"], defaultCapacityProviderStrategy=[])
    strategy = [{"capacityProvider": "pool"}]
    await scenario.call("CreateService", serviceName="web", taskDefinition="web:1", desiredCount=9, capacityProviderStrategy=strategy)
    await scenario.run(900)
    await scenario.call("UpdateService", service="web", desiredCount=3)
    await scenario.run(2400)
    scenario.lines.append(f"{scenario._now():>7}  a machine is taken away")
    machines.machines[next(iter(machines.machines))] = True
    await scenario.run(600)
    return scenario


async def external_controller_driving_two_task_sets() -> Scenario:
    """Blue at 100 percent; green comes up in steps, becomes PRIMARY, and blue goes in steps, with a drain and a scale-out on the way."""
    scenario = await Scenario.open(zones="abc")
    where = {"cluster": "default", "service": "web"}
    await scenario.call("CreateService", serviceName="web", desiredCount=5, deploymentController={"type": "EXTERNAL"})
    blue = (await scenario.call("CreateTaskSet", **where, taskDefinition="web:1", scale={"value": 100.0, "unit": "PERCENT"}))["taskSet"]["id"]
    await scenario.call("UpdateServicePrimaryTaskSet", **where, primaryTaskSet=blue)
    await scenario.run(60)
    green = (await scenario.call("CreateTaskSet", **where, taskDefinition="web:2", scale={"value": 25.0, "unit": "PERCENT"}))["taskSet"]["id"]
    await scenario.run(60)
    await scenario.drain(1)
    await scenario.run(120)
    await scenario.call("UpdateService", service="web", desiredCount=6)
    await scenario.run(60)
    await scenario.call("UpdateTaskSet", **where, taskSet=green, scale={"value": 100.0})
    await scenario.run(60)
    await scenario.call("UpdateServicePrimaryTaskSet", **where, primaryTaskSet=green)
    for percent in (50.0, 0.0):
        await scenario.call("UpdateTaskSet", **where, taskSet=blue, scale={"value": percent})
        await scenario.run(60)
    await scenario.call("DeleteTaskSet", **where, taskSet=blue)
    await scenario.run(60)
    await scenario.call("DeleteService", service="web", force=True)
    await scenario.run(60)
    return scenario


async def task_set_that_fails_to_start() -> Scenario:
    """Green has an image that nobody can pull: it is tried ever more rarely, blue goes on, and green is taken away by force."""
    scenario = await Scenario.open(zones="abc")
    where = {"cluster": "default", "service": "web"}
    await scenario.call("CreateService", serviceName="web", desiredCount=3, deploymentController={"type": "EXTERNAL"})
    await scenario.call("CreateTaskSet", **where, taskDefinition="web:1", scale={"value": 100.0, "unit": "PERCENT"})
    await scenario.run(60)
    scenario.cell.agents.failure = "CannotPullContainerError: no such image"
    scenario.cell.agents.failing = {2}
    green = (await scenario.call("CreateTaskSet", **where, taskDefinition="web:2", scale={"value": 50.0, "unit": "PERCENT"}))["taskSet"]["id"]
    await scenario.run(120)
    await scenario.call("DeleteTaskSet", **where, taskSet=green, force=True)
    await scenario.run(120)
    return scenario


URL = "http://100.64.0.1/check"


async def _shifted(strategy: str, *hooks: dict[str, Any], **members: Any) -> Scenario:
    """web:1 is deployed; then an update to web:2 begins, with `hooks`."""
    scenario = await Scenario.open(zones="abc")
    await _service(scenario, 2, deploymentConfiguration={"strategy": strategy, "bakeTimeInMinutes": 5, **members})
    await scenario.call("UpdateService", service="web", taskDefinition="web:2", deploymentConfiguration={"lifecycleHooks": list(hooks)})
    return scenario


async def blue_green() -> Scenario:
    """All traffic moves at once; blue goes after the bake time."""
    scenario = await _shifted("BLUE_GREEN", {"hookTargetArn": URL, "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"]})
    await scenario.run(600)
    return scenario


async def linear() -> Scenario:
    """Traffic moves in steps of 40 %; a blue task is lost on the way and replaced."""
    scenario = await _shifted("LINEAR", linearConfiguration={"stepPercent": 40.0, "stepBakeTimeInMinutes": 1})
    await scenario.run(70)
    lost = next(task for task in await scenario.cell.all(TASKS) if task.revision == 1)
    scenario.lines.append(f"{scenario._now():>7}  a task of web:1 is lost")
    await scenario.cell.report(lost, "STOPPED")
    await scenario.run(900)
    return scenario


async def canary() -> Scenario:
    """A tenth of the traffic moves and waits for somebody's word; the whole of it moves after that."""
    pause = {
        "targetType": "PAUSE",
        "lifecycleStages": ["PRE_PRODUCTION_TRAFFIC_SHIFT"],
        "timeoutConfiguration": {"timeoutInMinutes": 5, "action": "CONTINUE"},
    }
    scenario = await _shifted("CANARY", pause, canaryConfiguration={"canaryPercent": 10.0, "canaryBakeTimeInMinutes": 2})
    await scenario.run(60)
    (waiting,) = [run for item in await scenario.cell.all(DEPLOYMENTS) for run in item.hooks if run.status == "AWAITING_ACTION"]
    listed = await scenario.cell.call("ListServiceDeployments", OPERATIONS["ListServiceDeployments"], {"service": "web", "status": ["IN_PROGRESS"]})
    arn = listed["serviceDeployments"][0]["serviceDeploymentArn"]
    scenario.lines.append(f"{scenario._now():>7}  ContinueServiceDeployment")
    request = {"serviceDeploymentArn": arn, "hookId": waiting.id}
    await scenario.cell.call("ContinueServiceDeployment", OPERATIONS["ContinueServiceDeployment"], request)
    await scenario.run(1200)
    return scenario


async def canary_whose_hook_fails() -> Scenario:
    """A check of the second step fails: the traffic goes back to blue, which was there all the time, and green goes."""
    scenario = await _shifted(
        "CANARY",
        {"hookTargetArn": URL, "lifecycleStages": ["PRODUCTION_TRAFFIC_SHIFT"]},
        canaryConfiguration={"canaryPercent": 10.0, "canaryBakeTimeInMinutes": 2},
    )
    weights: list[float] = []

    def answer(payload: dict[str, Any]) -> dict[str, str]:
        weights.append(payload["productionTrafficWeights"][payload["targetServiceRevisionArn"]])
        return {"hookStatus": "FAILED" if len(weights) == 2 else "SUCCEEDED"}

    scenario.cell.hook_targets.answers[URL] = answer
    await scenario.run(600)
    assert weights == [10.0, 100.0, 100.0], "the third call is the rollback's"
    return scenario


SCENARIOS: tuple[Callable[[], Awaitable[Scenario]], ...] = (
    rolling_50_100,
    rolling_100_200,
    rolling_stuck,
    breaker_with_rollback,
    stop_with_rollback,
    zone_loss_during_a_deployment,
    rebalancing_after_a_zone_returns,
    daemon_on_a_hundred_instances,
    daemon_deployment_with_rollback,
    drain_of_a_third_of_the_fleet,
    scale_in_past_protected_tasks,
    managed_scaling,
    external_controller_driving_two_task_sets,
    task_set_that_fails_to_start,
    blue_green,
    linear,
    canary,
    canary_whose_hook_fails,
)


@pytest.mark.parametrize("make", SCENARIOS, ids=lambda make: make.__name__)
async def test_a_scenario_goes_as_written(make: Callable[[], Awaitable[Scenario]]) -> None:
    scenario = await make()
    try:
        timeline = "\n".join([f"# {make.__doc__}", *scenario.lines]) + "\n"
    finally:
        for following in scenario._following:
            following.cancel()
        await scenario.cell.close()
    path = GOLDEN / f"{make.__name__}.txt"
    if os.environ.get("HOMEPORT_WRITE_GOLDEN"):
        path.write_text(timeline)
    assert timeline == path.read_text()
