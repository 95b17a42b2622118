"""What must hold after every commit, whatever happens: the rules of the architecture as checks over records.

Owns: `Invariants`, `Violation`, and its own copy of what is durable. Never trusts the code that it checks: the arithmetic is written down again.
It is handed every durable commit in order, every acknowledgement that a client got and every container that starts; the first violation
is kept and ends the simulation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from homeport.config import Settings
from homeport.model.arn import parse_arn
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import RANK, Task
from homeport.model.record import Record
from homeport.placement.index import PlacementIndex
from homeport.store.store import Store
from homeport.store.table import Change, Commit, Reader
from homeport.store.tables import TABLES
from homeport.testing.births import Births, lost_attributes
from homeport.testing.daemon_rules import daemon_problem
from homeport.testing.departures import Departures
from homeport.testing.field_owners import AGENT_REPORTS, CREATORS, DELETERS, OWNERS, actor_of
from homeport.testing.shifts import side_problem, stage_problem, stands_side_by_side
from homeport.testing.task_set_rules import task_set_problem

_OCCUPYING: Final = RANK["RUNNING"]
_SERVICE_MOVES: Final = {("ACTIVE", "DRAINING"), ("DRAINING", "INACTIVE"), ("INACTIVE", "ACTIVE")}
_DEPLOYMENT_MOVES: Final = {("PRIMARY", "ACTIVE"), ("PRIMARY", "INACTIVE"), ("ACTIVE", "INACTIVE")}
_ROLLOUT_MOVES: Final = {("IN_PROGRESS", "COMPLETED"), ("IN_PROGRESS", "FAILED")}
_OBSERVED: Final = {"": 0, "PENDING": 1, "RUNNING": 2, "STOPPED": 3}
_ONCE: Final = ("started_at", "stopped_at", "stopping_at", "pull_started_at", "pull_stopped_at", "execution_stopped_at", "healthy_since")
_LEFT: Final = ("DEREGISTERING", "INACTIVE")


class Violation(Exception):
    """An invariant does not hold."""


class Invariants:
    """See the module. `violated` is called once, with the first violation."""

    def __init__(self, *, settings: Settings, violated: Callable[[str], None]) -> None:
        self._healthy_after = settings.healthy_after_seconds
        self._remembered = settings.stopped_task_retention_seconds
        self._violated = violated
        self.revision = 0
        self._instant = 0.0
        self.records: dict[str, dict[str, Any]] = {table.name: {} for table in TABLES}
        """Table → key → record: what is durable, put together from the commits alone."""
        self._births = Births(self.records)
        self._departures = Departures(self.records, settings)
        self._observed: dict[tuple[str, str], list[list[Any]]] = {}
        self._on_instance: dict[str, dict[str, Task]] = {}
        self._of_service: dict[str, dict[str, Task]] = {}
        self._starts: dict[tuple[str, str], str] = {}
        self._not_told: dict[str, frozenset[str]] = {}
        self.made: dict[str, str] = {}
        """Every task that ever was durable, forgotten ones included: key → startedBy."""
        self.checked = 0
        """Commits looked at."""

    # -- the store -------------------------------------------------------------------------------------------------------

    def committed(self, commits: Sequence[Commit]) -> None:
        """Look at durable commits, in order."""
        for commit in commits:
            try:
                self._commit(commit)
            except Violation as violation:
                self._violated(f"{violation}  [revision {commit.revision}, caused by {commit.cause!r}]")
                return

    def opened(self, reader: Reader, revision: int) -> None:
        """A new life of the server has loaded the store: everything that was durable is there, and nothing went back.

        What was committed just before the crash, and never told, is taken over.
        """
        try:
            _require(revision >= self.revision, f"the store came back at revision {revision}; {self.revision} had been durable")
            for table in TABLES:
                self._take_over(table.name, {table.key(record): record for record in reader.scan(table)}, told=revision == self.revision)
        except Violation as violation:
            self._violated(str(violation))
        self.revision = revision

    def _take_over(self, table: str, found: dict[str, Any], *, told: bool) -> None:
        known = self.records[table]
        if told:
            for key in known.keys() | found.keys():
                _require(
                    known.get(key) == found.get(key),
                    f"{table} {key} is not after the restart what was durable before: {_differences(known.get(key), found.get(key))}",
                )
        for key in sorted(known.keys() | found.keys()):
            before, after = known.get(key), found.get(key)
            if before != after:
                change = Change(table, key, before, after)
                self._moves(change)
                self._apply(change, actor="")

    def _commit(self, commit: Commit) -> None:
        self.checked += 1
        _require(commit.revision == self.revision + 1, f"the watch jumps from revision {self.revision} to {commit.revision}")
        _require(commit.now > self._instant, f"time runs backwards: {commit.now} after {self._instant}")
        self.revision, self._instant = commit.revision, commit.now
        actor = actor_of(commit.cause)
        services: dict[str, None] = {}
        instances: dict[str, None] = {}
        healthy = self._healthy_before(commit)
        born: list[Task] = []
        for change in commit.changes:
            known = self.records[change.table].get(change.key)
            _require(known == change.before, f"{change.table} {change.key}: the commit changes another record than the durable one")
            self._owners(change, actor)
            self._moves(change)
            if isinstance(change.before, Task) and change.after is None:
                age = commit.now - change.before.stopped_at
                _require(age >= self._remembered, f"task {change.before.id} was forgotten {age:.0f} s after its end")
            self._apply(change, actor=actor)
            record = change.after or change.before
            if isinstance(change.before, ContainerInstance) and isinstance(change.after, ContainerInstance) and actor == "RegisterContainerInstance":
                lost = lost_attributes(change.before, change.after)
                _require(not lost, f"registering instance {change.key} again took away what users had put: {sorted(lost)}")
            if isinstance(record, Task):
                if change.before is None:
                    born.append(record)
                if record.service:
                    services[record.service_key] = None
                if record.instance_key:
                    instances[record.instance_key] = None
            elif isinstance(record, ContainerInstance):
                instances[record.key] = None
                problem = self._departures.problem(change, actor, tasks=self._on_instance.get(record.key, {}).values(), now=commit.now)
                _require(not problem, problem)
        for task in born:
            problem = self._births.problem(task, actor, self.tasks_of(task.service_key) if task.service else ())
            _require(not problem, problem)
        problem = daemon_problem(self.records, self._on_instance, born)
        _require(not problem, problem)
        for key in instances:
            self._resources(key)
        if actor == "controller/task_set":
            for key in services:
                if (owner := self.records["services"].get(key)) is not None:
                    problem = task_set_problem(self.records, owner, self.tasks_of(key), born)
                    _require(not problem, problem)
        if actor == "controller/service":
            for key in services:
                self._bounds(key, commit, healthy.get(key, 0))

    def _healthy_before(self, commit: Commit) -> dict[str, int]:
        keys = {change.after.service_key for change in commit.changes if isinstance(change.after, Task) and change.after.service}
        return {key: self._healthy(key, commit.now) for key in keys}

    def _apply(self, change: Change, *, actor: str) -> None:
        """`actor` is "" where nobody knows who wrote."""
        if change.after is None:
            del self.records[change.table][change.key]
        else:
            self.records[change.table][change.key] = change.after
        for states in self._observed.get((change.table, change.key), ()):
            states.append(change.after)
        if isinstance(change.after, Task):
            self.made[change.key] = change.after.started_by
            self._see_end(change.before, change.after, actor)
        for task in (change.before, change.after):
            if isinstance(task, Task):
                live = task is change.after and task.last_status != "STOPPED"
                for group, place in ((self._on_instance, task.instance_key), (self._of_service, task.service_key)):
                    if place and live:
                        group.setdefault(place, {})[task.key] = task
                    elif place:
                        group.get(place, {}).pop(task.key, None)

    def _see_end(self, before: Record | None, after: Task, actor: str) -> None:
        """Remember of a task whose books are closed without its agent which containers that agent had not told the end of: they may run on
        (ecs-reference 3.3). The closed record does not tell: all its containers are STOPPED, and the reason may be an earlier stop's."""
        if not isinstance(before, Task) or before.last_status == "STOPPED" or after.last_status != "STOPPED" or actor in AGENT_REPORTS:
            return
        self._not_told[after.key] = frozenset(container.name for container in before.containers if container.status != "STOPPED")

    # -- one change ------------------------------------------------------------------------------------------------------

    def _owners(self, change: Change, actor: str) -> None:
        """Each field is changed by its owner only."""
        before, after = change.before, change.after
        what = f"{change.table} {change.key}"
        if before is None:
            creators = CREATORS.get(change.table)
            _require(creators is None or actor in creators, f"{what} was made by {actor}")
        elif after is None:
            deleters = DELETERS.get(change.table)
            _require(deleters is None or actor in deleters, f"{what} was deleted by {actor}")
        elif change.table in OWNERS and not (isinstance(before, Service) and before.status == "INACTIVE" and actor == "CreateService"):
            owners = OWNERS[change.table]
            for field in before.__struct_fields__:
                if getattr(before, field) != getattr(after, field):
                    _require(actor in owners.get(field, ()), f"{what}: {field} was changed by {actor}, whose field it is not")

    def _moves(self, change: Change) -> None:
        """States move only along their tables."""
        before, after = change.before, change.after
        if after is None:
            _require(not isinstance(before, Task) or before.last_status == "STOPPED", f"task {change.key} was forgotten before it was STOPPED")
            return
        if isinstance(after, Task):
            self._task_moves(before if isinstance(before, Task) else None, after)
        elif isinstance(after, ContainerInstance) and isinstance(before, ContainerInstance):
            legal = before.status == after.status or after.status in instance_model.TRANSITIONS[before.status]
            _require(legal, f"instance {after.id} went from {before.status} to {after.status}")
        elif isinstance(after, Service):
            _require(after.desired_count >= 0, f"service {after.name} has a desired count of {after.desired_count}")
            if isinstance(before, Service) and before.status != after.status:
                _require((before.status, after.status) in _SERVICE_MOVES, f"service {after.name} went from {before.status} to {after.status}")
        elif isinstance(after, Deployment) and isinstance(before, Deployment):
            _step((before.status, after.status), _DEPLOYMENT_MOVES, f"deployment {after.id}: status")
            _step((before.rollout_state, after.rollout_state), _ROLLOUT_MOVES, f"deployment {after.id}: rolloutState")
        if isinstance(after, Deployment):
            problem = stage_problem(before if isinstance(before, Deployment) else None, after)
            _require(not problem, problem)

    def _task_moves(self, before: Task | None, after: Task) -> None:
        name = f"task {after.id}"
        stopped = after.last_status == "STOPPED"
        _require(not stopped or after.desired_status == "STOPPED", f"{name} is STOPPED but wanted {after.desired_status}")
        _require(stopped == (after.stopped_at > 0), f"{name} is {after.last_status} with stoppedAt {after.stopped_at}")
        _require(not stopped or bool(after.stop_code), f"{name} is STOPPED without a stop code")
        expected = _shown(after)
        _require(after.last_status == expected, f"{name} shows {after.last_status}; wanted and seen add up to {expected}")
        if before is None:
            _require(after.desired_status == "RUNNING", f"{name} was made with desired status {after.desired_status}")
            return
        _require(RANK[after.last_status] >= RANK[before.last_status], f"{name} went back from {before.last_status} to {after.last_status}")
        _require(before.desired_status != "STOPPED" or after.desired_status == "STOPPED", f"{name}: desired status came back from STOPPED")
        _require(_OBSERVED[after.observed_status] >= _OBSERVED[before.observed_status], f"{name}: observed went back to {after.observed_status}")
        for field in _ONCE:
            _require(getattr(before, field) in (0.0, getattr(after, field)), f"{name}: {field} was written twice")
        if before.last_status == "STOPPED":
            same = msgspec.structs.replace(after, tags=before.tags) == before
            _require(same, f"{name} changed after it was STOPPED: {_differences(before, after)}")

    # -- sums ------------------------------------------------------------------------------------------------------------

    def _resources(self, instance_key: str) -> None:
        """No instance has more than it can hold, or a fixed port twice."""
        instance = self.records["container_instances"].get(instance_key)
        tasks = list(self._on_instance.get(instance_key, {}).values())
        if instance is None:
            _require(not tasks, f"instance {instance_key} does not exist and has {len(tasks)} live tasks")
            return
        for unit, held, there in (
            ("CPU units", sum(task.cpu for task in tasks), instance.cpu),
            ("MiB", sum(task.memory_mib for task in tasks), instance.memory_mib),
        ):
            _require(held <= there, f"instance {instance.id} has {there} {unit} and its tasks hold {held}")
        taken = {(port, "tcp") for port in instance.reserved_tcp_ports} | {(port, "udp") for port in instance.reserved_udp_ports}
        for task in tasks:
            for use in task.host_ports:
                _require(
                    (use.port, use.protocol) not in taken, f"port {use.port}/{use.protocol} of instance {instance.id} is held twice (task {task.id})"
                )
                taken.add((use.port, use.protocol))

    def _is_healthy(self, task: Task, now: float) -> bool:
        if task.last_status != "RUNNING" or task.desired_status != "RUNNING":
            return False
        if any(container.has_health_check and container.essential for container in task.containers):
            return task.health_status == "HEALTHY"
        return now - task.started_at >= self._healthy_after

    def _healthy(self, service_key: str, now: float) -> int:
        return sum(1 for task in self._of_service.get(service_key, {}).values() if self._is_healthy(task, now))

    def _bounds(self, key: str, commit: Commit, healthy_before: int) -> None:
        """The scheduler's own starts stay under the upper bound, its own stops leave the lower bound of healthy tasks."""
        service = self.records["services"].get(key)
        if service is None or service.status != "ACTIVE":
            return
        if service.scheduling_strategy == "DAEMON":
            self._one_each(service)
            return
        upper = service.desired_count * service.maximum_percent // 100
        lower = -(-service.desired_count * service.minimum_healthy_percent // 100)
        changed = [change for change in commit.changes if isinstance(change.after, Task) and change.after.service_key == key]
        primary = self._primary(key)
        if primary is not None and stands_side_by_side(primary):
            draining = {item.key for item in self.records["container_instances"].values() if item.status != "ACTIVE"}
            problem = side_problem(service, primary, tasks=self.tasks_of(key), changed=changed, draining=draining)
            _require(not problem, problem)
            return
        if any(change.before is None for change in changed):
            occupied = sum(1 for task in self._of_service.get(key, {}).values() if RANK[task.last_status] <= _OCCUPYING)
            _require(
                occupied <= upper,
                f"service {service.name}: the scheduler's start makes {occupied} RUNNING and PENDING tasks, over the upper bound of {upper}",
            )
            good = sum(1 for task in self._of_service.get(key, {}).values() if self._is_good(task))
            _require(
                good <= (upper if service.rebalancing else service.desired_count),
                f"service {service.name}: {good} good tasks of its PRIMARY deployment, {service.desired_count} desired",
            )
        stops = [c for c in changed if isinstance(c.before, Task) and isinstance(c.after, Task) and c.before.desired_status != c.after.desired_status]
        if stops:
            healthy = self._healthy(key, commit.now)
            enough = healthy >= lower or healthy >= healthy_before
            _require(
                enough, f"service {service.name}: the scheduler's stops leave {healthy} healthy tasks of {healthy_before}; the lower bound is {lower}"
            )

    def _primary(self, key: str) -> Deployment | None:
        deployments = self.records["deployments"].values()
        return next((item for item in deployments if item.service_key == key and item.status == "PRIMARY"), None)

    def _one_each(self, service: Service) -> None:
        """A daemon has at most one task that is wanted RUNNING on an instance."""
        wanted = [task.instance_key for task in self._of_service.get(service.key, {}).values() if task.desired_status == "RUNNING"]
        _require(len(wanted) == len(set(wanted)), f"daemon {service.name} has two tasks on one instance")

    def _is_good(self, task: Task) -> bool:
        """Wanted, of the PRIMARY deployment, not unhealthy, on an instance that stays: what the desired count is about."""
        deployments = self.records["deployments"].values()
        primary = any(
            item.status == "PRIMARY" and item.target_id == task.deployment_id for item in deployments if item.service_key == task.service_key
        )
        instance = self.records["container_instances"].get(task.instance_key)
        stays = instance is not None and instance.status == "ACTIVE"
        return task.desired_status == "RUNNING" and primary and stays and task.health_status != "UNHEALTHY"

    def tasks_of(self, service_key: str) -> list[Task]:
        """The service's durable tasks that are not STOPPED."""
        return list(self._of_service.get(service_key, {}).values())

    # -- clients and hosts -----------------------------------------------------------------------------------------------

    def acknowledged(self, operation: str, condition: bool, what: str) -> None:
        """A client was told that its call has had its effect. `condition` was worked out on `records` at that moment."""
        if not condition:
            self._violated(f"{operation} was acknowledged, but {what}")

    @contextlib.contextmanager
    def observing(self, table: str, key: str) -> Iterator[list[Any]]:
        """Every durable state that a record has meanwhile (None: it is not there): what a read that is asked and answered meanwhile may show."""
        states: list[Any] = [self.records[table].get(key)]
        observers = self._observed.setdefault((table, key), [])
        observers.append(states)
        try:
            yield states
        finally:
            observers.remove(states)
            if not observers:
                self._observed.pop((table, key), None)

    def task(self, arn: str) -> Task | None:
        """The durable task that an ARN names; None also for one that was forgotten."""
        found: Task | None = self.records["tasks"].get(_task_key(arn))
        return found

    def was_made(self, arn: str) -> bool:
        """Whether the task that an ARN names ever was durable."""
        return _task_key(arn) in self.made

    def is_forgotten(self, text: str) -> bool:
        """Whether `text` is the ARN of a task that was durable and is not any more."""
        key = _task_key(text)
        return key in self.made and key not in self.records["tasks"]

    def birthplace(self, arn: str) -> ContainerInstance | None:
        """The instance of a standalone task as it was when the task was made; None when its making was not seen."""
        return self._births.made_on.get(_task_key(arn))

    def container_started(self, host: str, task_arn: str, container: str) -> None:
        """A container began to run: it never did before, anywhere, and its task is not over."""
        earlier = self._starts.get((task_arn, container))
        if earlier is not None:
            self._violated(f"container {container} of {task_arn} runs a second time: on {host}, after {earlier}")
        self._starts[task_arn, container] = host
        task = self.task(task_arn)
        if not self.was_made(task_arn):
            self._violated(f"{host} runs a container of {task_arn}, which was never durable")
        elif task is not None and task.last_status == "STOPPED" and not self._closed_without_agent(task, container):
            self._violated(f"{host} starts container {container} of {task_arn}, which is STOPPED")

    def _closed_without_agent(self, task: Task, container: str) -> bool:
        """Whether the books of `task` were closed because its instance left, with the end of that container not told by then."""
        instance = self.records["container_instances"].get(task.instance_key)
        return (instance is None or instance.status in _LEFT) and container in self._not_told.get(task.key, ())

    # -- now and then ----------------------------------------------------------------------------------------------------

    def derived(self, store: Store, placement: PlacementIndex, *, indexes: bool = True) -> None:
        """Views that are kept beside the tables are what a rebuild from the tables gives; with `indexes` the tables' own as well."""
        rebuilt = PlacementIndex()
        for name in ("container_instances", "tasks", "services", "daemons"):
            for row in store._contents[name].rows.values():
                if not isinstance(row.record, Task) or row.record.last_status != "STOPPED":  # those hold nothing, and are most
                    rebuilt.change(name, None, row.record)
        if rebuilt.holdings() != placement.holdings():
            self._violated(f"placement's books differ from the records: {_first_difference(placement.holdings(), rebuilt.holdings())}")
        for table in TABLES if indexes else ():
            self._indexes(store, table)

    def _indexes(self, store: Store, table: Any) -> None:
        contents = store._contents[table.name]
        if list(contents.keys.walk("", "")) != sorted(contents.rows):
            self._violated(f"table {table.name}: its ordered keys differ from its rows")
        for name, extract in table.indexes.items():
            expected: dict[str, list[str]] = {}
            for key in sorted(contents.rows):
                for value in extract(contents.rows[key].record):
                    expected.setdefault(value, []).append(key)
            found = {value: list(members.walk("", "")) for value, members in contents.indexes[name].items()}
            if found != expected:
                self._violated(f"table {table.name}: index {name} differs from the records: {_first_difference(found, expected)}")


def _task_key(arn: str) -> str:
    parsed = parse_arn(arn)
    return f"{parsed.account}/{parsed.resource.removeprefix('task/')}" if parsed else ""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise Violation(message)


def _step(move: tuple[str, str], legal: set[tuple[str, str]], what: str) -> None:
    if move[0] != move[1]:
        _require(move in legal, f"{what} went from {move[0]} to {move[1]}")


def _shown(task: Task) -> str:
    """The last status that a task without attachments must show (ecs-reference 3.6)."""
    if task.observed_status == "STOPPED":
        return "STOPPED"
    if task.desired_status == "STOPPED":
        return "STOPPING" if task.container_instance_id else "STOPPED"
    if not task.container_instance_id:
        return "PROVISIONING"
    return "RUNNING" if task.observed_status == "RUNNING" else "PENDING"


def _differences(before: Record | None, after: Record | None) -> str:
    if before is None or after is None:
        return f"{'nothing' if before is None else 'a record'} became {'nothing' if after is None else 'a record'}"
    pairs = [(field, getattr(before, field), getattr(after, field)) for field in before.__struct_fields__]
    return ", ".join(f"{field} {one!r} → {other!r}" for field, one, other in pairs if one != other)


def _first_difference(found: Any, expected: Any) -> str:
    for key in sorted(found.keys() | expected.keys(), key=str):
        one, other = found.get(key), expected.get(key)
        if one != other:
            if isinstance(one, dict) and isinstance(other, dict):
                return f"{key}: {_first_difference(one, other)}"
            return f"{key}: {one!r} instead of {other!r}"
    return "nothing"
