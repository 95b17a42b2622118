"""Calls the targets of lifecycle hooks: POST to a URL, or a one-off task; `planner/lifecycle_hook.py` says what the answers mean.

Owns: `HookRunner`, the calls (`HookCaller` and its implementation), the hooks' one-off tasks, and what was answered in the records of deployments.
Never moves a deployment: the deployment controller does, when it sees what is written here. It is no controller of the loop, since it asks something
outside of the store; it runs on the leader alone. What is to be called, and when, stands in the records, so another leader goes on where one ended.

A target may be called more than once for one run (a leader died before it wrote the answer down); `executionId` is then the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol

import msgspec

from homeport import log
from homeport.clock import Clock
from homeport.config import Settings
from homeport.errors import HomeportError, WatchLostError
from homeport.ids import Ids
from homeport.model import arn
from homeport.model.ecs import deployment as model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.deployment import Deployment, LifecycleHook
from homeport.model.ecs.service import PlacementConstraint, Service
from homeport.model.ecs.task import Task
from homeport.model.ecs.task_definition import TaskDefinition, task_definition_key
from homeport.model.record import Instant
from homeport.placement.index import PlacementIndex
from homeport.placement.reasons import Refusal
from homeport.placement.request import PlacementRequest
from homeport.planner import lifecycle_hook as planner
from homeport.planner.task import Placed, definition_document, new_task, stop
from homeport.store.store import Store
from homeport.store.table import Reader, Transaction
from homeport.store.tables import DEPLOYMENTS, SERVICES, TASK_DEFINITIONS, TASKS

NAME: Final = "hook"
ANSWER_BYTES_MAX: Final = 262_144
PAYLOAD_VARIABLE: Final = "HOMEPORT_HOOK"
"""Environment variable with the payload, in every container of a hook's task."""
RETRY_SECONDS: Final = 2.0
"""Before what could not be written down is tried again."""

_log: Final = log.logger("controllers.hook")


class HookCallError(HomeportError):
    """A hook's target gave no answer that could be read. `final`: it did answer, so it is not asked again."""

    def __init__(self, message: str, *, final: bool) -> None:
        super().__init__(message)
        self.final = final


class HookCaller(Protocol):
    """How URLs are called."""

    async def call(self, url: str, payload: dict[str, Any], *, within_seconds: float) -> Any:
        """The answer's JSON. Raises HookCallError."""
        ...


class HttpCaller:
    """POSTs the payload as JSON. 5xx, and no answer, may be tried again; another status than 2xx is an answer that says no."""

    def __init__(self, settings: Settings) -> None:
        self._seconds_max = settings.hook_answer_seconds

    async def call(self, url: str, payload: dict[str, Any], *, within_seconds: float) -> Any:
        """As `HookCaller`. Redirects are not followed."""
        import aiohttp  # few servers have a hook with a URL, and it takes 10 MB and a tenth of a second to load

        timeout_seconds = min(self._seconds_max, within_seconds)
        headers = {"Content-Type": "application/json", "User-Agent": "homeport"}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_seconds)) as session,
                session.post(url, data=msgspec.json.encode(payload), headers=headers, allow_redirects=False) as answer,
            ):
                content = b""
                async for chunk in answer.content.iter_any():
                    content += chunk
                    if len(content) > ANSWER_BYTES_MAX:
                        raise HookCallError(f"Its answer is longer than {ANSWER_BYTES_MAX} bytes.", final=True)
                if not 200 <= answer.status < 300:
                    raise HookCallError(f"It answered with status {answer.status}.", final=answer.status < 500)
        except TimeoutError:
            raise HookCallError(f"It did not answer within {timeout_seconds:.0f} s.", final=False) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise HookCallError(f"It could not be called: {error or type(error).__name__}", final=False) from None
        try:
            return msgspec.json.decode(content)
        except msgspec.DecodeError:
            raise HookCallError("Its answer is no JSON.", final=True) from None


def payload(region: str, deployment: Deployment, run: LifecycleHook) -> dict[str, Any]:
    """What a target is told: the fields that ECS gives a Lambda function, once under `executionDetails` and once beside it."""
    scope = (region, deployment.account, deployment.cluster, deployment.service)
    named = {arn.service_revision_arn(*scope, weight.service_revision_id): weight for weight in deployment.weights}
    details: dict[str, Any] = {
        "serviceArn": arn.service_arn(*scope),
        "targetServiceRevisionArn": arn.service_revision_arn(*scope, deployment.target_id),
        "testTrafficWeights": {name: weight.test for name, weight in named.items()} if any(item.test for item in named.values()) else {},
        "productionTrafficWeights": {name: weight.production for name, weight in named.items()},
    }
    told = {
        **details,
        "executionDetails": details,
        "executionId": run.id,
        "lifecycleStage": run.stage,
        "resourceArn": arn.service_deployment_arn(*scope, deployment.rollback_of or deployment.id),
        "isRollback": bool(deployment.rollback_of),
    }
    return told | ({"hookDetails": msgspec.json.decode(run.details)} if run.details else {})


class HookTasks:
    """Makes the one-off tasks of hooks whose target is a task definition."""

    def __init__(self, *, placement: PlacementIndex, ids: Ids) -> None:
        self._placement, self._ids = placement, ids

    def start(self, tx: Transaction, key: str, run: LifecycleHook, *, told: dict[str, Any]) -> None:
        """Make the one-off task of `run`, if an instance can take it; otherwise it is tried again."""
        deployment = _due(tx, key, run)
        service = tx.get(SERVICES, deployment.service_key) if deployment else None
        if deployment is None or service is None:
            return
        definition = tx.get(TASK_DEFINITIONS, _definition_key(service.account, run.target))
        if definition is None:
            _put(tx, key, run, planner.ended(run, f"{run.target} was deleted."))
            return
        found = self._placement.place(_request(service, definition))
        if isinstance(found, Refusal):
            _put(tx, key, run, planner.waiting(run, f"Its task cannot be placed: {found.summary()}", tx.now))
            return
        task = self._task((service, definition), run, instance_id=found.instance_id, told=told, now=tx.now)
        tx.put(TASKS, task)
        _put(tx, key, run, planner.begun(run, task.id))

    def _task(self, of: tuple[Service, TaskDefinition], run: LifecycleHook, *, instance_id: str, told: dict[str, Any], now: Instant) -> Task:
        service, definition = of
        placed = Placed(
            cluster=service.cluster,
            instance_id=instance_id,
            launch_type=service.launch_type or "EC2",
            group=f"family:{definition.family}",
            started_by=run.id,
        )
        environment = [{"name": PAYLOAD_VARIABLE, "value": msgspec.json.encode(told).decode()}]
        names = [item["name"] for item in definition_document(definition)["containerDefinitions"]]
        overrides = {"containerOverrides": [{"name": name, "environment": environment} for name in names]}
        return new_task(definition, placed, task_id=self._ids.hex(32), mint=self._ids.uuid, now=now, overrides=overrides)


class HookRunner:
    """Follows the store and does for every hook what is due. `run` until cancelled."""

    def __init__(self, store: Store, clock: Clock, *, caller: HookCaller, tasks: HookTasks, region: str) -> None:
        self._store, self._clock = store, clock
        self._caller, self._tasks, self._region = caller, tasks, region
        # What is being done now: (deployment's key, hook's id, what and when), so that a commit that says it again starts nothing.
        self._errands: dict[tuple[str, str, str], asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Run until cancelled or until the store is closed."""
        try:
            while True:
                watch = self._store.watch()
                try:
                    for deployment in await self._store.view_local(_with_hooks):
                        self._follow(deployment, None)
                    async for commit in watch:
                        for change in commit.changes:
                            if isinstance(change.after, Deployment) and change.after.hooks:
                                self._follow(change.after, change.before if isinstance(change.before, Deployment) else change.after)
                            elif isinstance(change.after, Task) and change.after.started_by.startswith("ecs-hook-"):
                                await self._follow_task(change.after)
                    return
                except WatchLostError:
                    _log.warning("the hooks fell behind the store; looking at all of them")
                finally:
                    watch.close()
        finally:
            for errand in self._errands.values():
                errand.cancel()

    def _follow(self, deployment: Deployment, before: Deployment | None) -> None:
        """See to the hooks of `deployment`; `before`: what it was, None where nobody looked at it until now."""
        ended = {run.id for run in before.hooks if not run.open} if before else set()
        for run in deployment.hooks:
            if run.open and run.target_type == model.AWS_LAMBDA and run.call_at:
                self._start(deployment, run, f"call {run.call_at}", partial(self._call, deployment.key, run))
            elif run.task_id and not run.open and run.id not in ended:
                self._start(deployment, run, "stop", partial(self._write, run.id, partial(_stop_task, deployment=deployment, run=run)))
            elif run.task_id and run.open and before is None:
                self._look(deployment, run)

    async def _follow_task(self, task: Task) -> None:
        if task.last_status != task_model.STOPPED:
            return
        for deployment in await self._store.view_local(_with_hooks):
            for run in deployment.hooks:
                if run.id == task.started_by and run.task_id == task.id and run.open:
                    self._look(deployment, run)

    def _look(self, deployment: Deployment, run: LifecycleHook) -> None:
        """Write down what came of the task of `run`, if it is over."""
        self._start(deployment, run, "look", partial(self._write, run.id, partial(_end, key=deployment.key, hook_id=run.id)))

    def _start(self, deployment: Deployment, run: LifecycleHook, what: str, errand: Callable[[], Awaitable[None]]) -> None:
        key = (deployment.key, run.id, what)
        if key in self._errands:
            return

        async def logged() -> None:
            try:
                await errand()
            except asyncio.CancelledError:
                raise
            except Exception:
                _log.exception("the hook %s could not be seen to", run.id)

        self._errands[key] = task = asyncio.create_task(logged())
        task.add_done_callback(lambda _: self._errands.pop(key, None))

    async def _write(self, hook_id: str, change: Callable[[Transaction], None]) -> None:
        """One transaction for a hook, again until the store takes it."""
        while True:
            try:
                await self._store.update(change, cause=f"controller/{NAME} {hook_id}")
                return
            except HomeportError as error:
                _log.warning("what became of a hook could not be written down and is tried again: %s", error)
            await self._clock.sleep(RETRY_SECONDS)

    async def _call(self, key: str, run: LifecycleHook) -> None:
        """Wait until `run` is due, call its target, and write down what came of it."""
        await self._clock.sleep(max(0.0, run.call_at - self._clock.now()))
        deployment = await self._store.view_local(lambda reader: _due(reader, key, run))
        if deployment is None:
            return
        told = payload(self._region, deployment, run)
        if not run.target.startswith(("http://", "https://")):
            await self._write(run.id, lambda tx: self._tasks.start(tx, key, run, told=told))
            return
        seconds = max(1.0, run.expires_at - self._clock.now())
        try:
            answer, trouble = await self._caller.call(run.target, told, within_seconds=seconds), None
        except HookCallError as error:
            answer, trouble = None, error

        def judged(now: float) -> LifecycleHook:
            if trouble is None:
                return planner.answered(run, answer, now)
            return planner.ended(run, str(trouble)) if trouble.final else planner.unanswered(run, str(trouble), now)

        await self._write(run.id, lambda tx: _put(tx, key, run, judged(tx.now)))


def _with_hooks(reader: Reader) -> list[Deployment]:
    return list(reader.find(DEPLOYMENTS, "hooks", "hooks"))


def _definition_key(account: str, target: str) -> str:
    """The key of the task definition that an ARN `…:task-definition/FAMILY:REVISION` names."""
    family, _, revision = target.rsplit("/", 1)[-1].partition(":")
    return task_definition_key(account, family, int(revision or 0))


def _request(service: Service, definition: TaskDefinition) -> PlacementRequest:
    return PlacementRequest(
        cluster_key=service.cluster_key,
        launch_type=service.launch_type or "EC2",
        cpu=definition.cpu,
        memory_mib=definition.memory_mib,
        host_ports=tuple((use.port, use.protocol) for use in definition.host_ports),
        required_attributes=definition.requires_attributes,
        constraints=tuple(PlacementConstraint(type="memberOf", expression=text) for text in definition.placement_constraints),
        group=f"family:{definition.family}",
        gpus=definition.gpus,
    )


def _due(reader: Reader, key: str, run: LifecycleHook) -> Deployment | None:
    """The deployment, if `run` is still what is waited for: nothing else became of it, and whatever ends a deployment ends its runs."""
    deployment = reader.get(DEPLOYMENTS, key)
    hooks = deployment.hooks if deployment else ()
    return deployment if any(item.id == run.id and item.open and item.call_at == run.call_at for item in hooks) else None


def _put(tx: Transaction, key: str, run: LifecycleHook, after: LifecycleHook) -> None:
    """Put `after` in the place of `run`, unless something else became of that meanwhile."""
    deployment = _due(tx, key, run)
    if deployment is None:
        return
    hooks = tuple(after if item.id == run.id else item for item in deployment.hooks)
    tx.put(DEPLOYMENTS, msgspec.structs.replace(deployment, hooks=hooks, updated_at=tx.now))


def _end(tx: Transaction, key: str, hook_id: str) -> None:
    """Write down what came of a hook's task, if it is over."""
    deployment = tx.get(DEPLOYMENTS, key)
    run = next((item for item in deployment.hooks if item.id == hook_id), None) if deployment else None
    if deployment is None or run is None or not run.open or not run.task_id:
        return
    task = tx.get(TASKS, f"{deployment.account}/{deployment.cluster}/{run.task_id}")
    if task is not None and task.last_status != task_model.STOPPED:
        return
    _put(tx, key, run, planner.ended(run, _failure(task)))


def _failure(task: Task | None) -> str:
    """Why the task of a hook did not succeed; "": each of its essential containers exited with 0."""
    if task is None:
        return "Its task is gone."
    for container in task.containers:
        if container.essential and container.exit_code != 0:
            code = "did not exit by itself" if container.exit_code is None else f"exited with {container.exit_code}"
            return f"Task {task.id}: container {container.name} {code}. {task.stopped_reason}".strip()
    return ""


def _stop_task(tx: Transaction, deployment: Deployment, run: LifecycleHook) -> None:
    """Nobody waits for the task of `run` any more."""
    task = tx.get(TASKS, f"{deployment.account}/{deployment.cluster}/{run.task_id}")
    if task is not None and task.desired_status != task_model.STOPPED:
        reason = f"The lifecycle hook {run.id} is over"
        tx.put(TASKS, stop(task, stop_code=task_model.SERVICE_SCHEDULER_INITIATED, reason=reason, now=tx.now))
