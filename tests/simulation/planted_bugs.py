"""Typical bugs, each planted by itself in the product: the simulator must find every one.

Run as a program, `python -m tests.simulation.planted_bugs NAME SEEDS`: plants the bug and simulates seeds from 1 on until one fails.
Each bug is one that a reviewer could miss: a comparison left out, a step forgotten, an order turned round.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import msgspec
from tests.simulation import planted_server_bugs

from homeport.agent.engine.engine import Engine
from homeport.agent.reporter import Reporter
from homeport.api import idempotency, invocation
from homeport.controllers import retention, service_tasks
from homeport.controllers import service as service_controller
from homeport.controllers.loop import Loop
from homeport.dispatcher import liveness
from homeport.dispatcher.session import Session
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import task as task_model
from homeport.placement import daemons
from homeport.placement.constraints import Demand
from homeport.placement.fleet import Fleet
from homeport.planner import daemon_deployment as daemon_planner
from homeport.planner import lifecycle_hook, side_by_side
from homeport.planner import service as service_planner
from homeport.planner import task as task_planner
from homeport.planner import task_set as task_set_planner
from homeport.store import store, watch
from homeport.store.tables import CONTAINER_INSTANCES, SERVICES
from homeport.testing.world import Options, Outcome, simulate

OPTIONS = Options(minutes=5.0, agents=12, services=5)

Plant = Callable[[], None]


def _replace(owner: Any, name: str, planted: Any) -> None:
    """Put `planted` in the place of what is there; an error when nothing is, so that no bug is planted where nobody passes."""
    getattr(owner, name)
    setattr(owner, name, planted)


def acknowledge_before_durable() -> None:
    """The store answers without waiting for its backend."""

    def outcome(self: Any, loop: Any) -> Any:
        answered = loop.create_future()
        answered.set_result(None)
        return answered

    _replace(store._Group, "outcome", outcome)


def keep_failed_transactions() -> None:
    """A failed commit is told to its callers, but the newest of its transactions is not undone in memory."""
    right = store.Store._take_back

    def take_back(self: Any, *arguments: Any) -> Any:
        groups = ([self._flying] if self._flying is not None else []) + list(self._waiting)
        if groups and groups[-1].transactions:
            groups[-1].transactions.pop()
        return right(self, *arguments)

    _replace(store.Store, "_take_back", take_back)


def lose_the_second_commit_of_a_batch() -> None:
    """A watch is told only the first of several commits that became durable together."""
    right = watch.Watch.offer
    _replace(watch.Watch, "offer", lambda self, commits: right(self, list(commits)[:1]))


def forget_a_release() -> None:
    """What a task held on its instance is not given back when it ends with others."""
    right = Fleet.release

    def release(self: Any, node: Any, holding: Any) -> None:
        if node.tasks != 3:
            right(self, node, holding)

    _replace(Fleet, "release", release)


def place_without_looking_at_memory() -> None:
    """Placement asks for one MiB, whatever the task needs."""
    right = Demand.__init__

    def init(self: Any, request: Any, *others: Any, **named: Any) -> None:
        right(self, msgspec.structs.replace(request, memory_mib=min(1, request.memory_mib)), *others, **named)

    _replace(Demand, "__init__", init)


def place_without_looking_at_ports() -> None:
    """Placement takes no notice of fixed host ports."""
    right = Demand.__init__

    def init(self: Any, request: Any, *others: Any, **named: Any) -> None:
        right(self, msgspec.structs.replace(request, host_ports=()), *others, **named)

    _replace(Demand, "__init__", init)


def place_without_looking_at_memberships() -> None:
    """Placement takes no notice of memberOf constraints."""
    right = Demand.__init__

    def init(self: Any, request: Any, *others: Any, **named: Any) -> None:
        kept = tuple(item for item in request.constraints if item.type != "memberOf")
        right(self, msgspec.structs.replace(request, constraints=kept), *others, **named)

    _replace(Demand, "__init__", init)


def propagate_no_tags_of_the_service() -> None:
    """A service's tags are taken for those of its task definition."""
    right = service_tasks.task_tags

    def task_tags(service: Any, definition: Any) -> Any:
        return right(msgspec.structs.replace(service, tags=definition.tags), definition)

    _replace(service_tasks, "task_tags", task_tags)


def register_again_without_custom_attributes() -> None:
    """An instance that registers again loses what users put on it."""
    from homeport.api.ecs import container_instance_registration as registration

    right = registration._merge

    def merge(first: Any, further: Any) -> Any:
        return right(first, [attribute for attribute in further if not attribute.custom])

    _replace(registration, "_merge", merge)


def count_only_running_tasks() -> None:
    """The upper bound forgets tasks that are still PENDING."""
    right = service_planner.standing

    def standing(view: Any, *others: Any) -> Any:
        running = sum(1 for task in view.tasks if task.last_status == task_model.RUNNING)
        return msgspec.structs.replace(right(view, *others), occupied=running)

    _replace(service_planner, "standing", standing)


def stop_old_tasks_at_once() -> None:
    """The lower bound is taken for zero."""
    right = service_planner.bounds
    _replace(service_planner, "bounds", lambda service: msgspec.structs.replace(right(service), lower=0))


def leave_tasks_on_draining_instances() -> None:
    """A draining instance is taken for one that stays."""
    _replace(service_controller, "_drains", lambda instance: instance is None)


def remember_no_client_token() -> None:
    """The effect of a call is stored without its client token."""
    _replace(idempotency.Once, "remember", lambda *arguments, **named: None)


def do_a_retried_call_again() -> None:
    """What a call did is not looked up under its invocation id when it comes again."""
    _replace(invocation.Invocation, "once", lambda self, function: function)


def take_reports_of_ended_tasks() -> None:
    """A late report still changes a task that is STOPPED."""
    from homeport.api.ecs import state_change

    right = task_planner.observed

    def observed(task: Any, seen: Any, now: float) -> Any:
        if task.last_status != task_model.STOPPED:
            return right(task, seen, now)
        return msgspec.structs.replace(task, observed_reason="late", version=task.version + 1)

    _replace(state_change, "observed", observed)


def forget_the_shown_status() -> None:
    """A report is stored, but the status that users read does not follow."""
    from homeport.api.ecs import state_change

    right = task_planner.observed

    def observed(task: Any, seen: Any, now: float) -> Any:
        after = right(task, seen, now)
        return msgspec.structs.replace(after, last_status=task.last_status) if seen.status == "RUNNING" else after

    _replace(state_change, "observed", observed)


def end_whatever_session_there_is() -> None:
    """The end of a session does not ask whether it is still the instance's."""
    right = liveness.ended

    def ended(tx: Any, key: str, *, session_id: str) -> Any:
        instance = tx.get(CONTAINER_INSTANCES, key)
        current = instance.session.id if instance is not None and instance.session is not None else session_id
        return right(tx, key, session_id=current)

    _replace(liveness, "ended", ended)


def send_nothing_after_a_reconnect() -> None:
    """A new session sends only what changes from now on."""

    async def synchronise(self: Any) -> None:
        """The comparison is left out."""

    _replace(Session, "_synchronise", synchronise)


def give_up_reports() -> None:
    """A report that could not be delivered at once is dropped."""
    right = Reporter._submit

    async def submit(self: Any, report: Any) -> bool:
        await right(self, report)
        return True

    _replace(Reporter, "_submit", submit)


def forget_tasks_over_a_restart() -> None:
    """The engine starts without the tasks of its last life."""
    right = Engine.start

    async def start(self: Any) -> None:
        for arn in list(self._state.load("task")):
            self._state.delete("task", arn)
        await right(self)

    _replace(Engine, "start", start)


def tell_after_storing() -> None:
    """The engine stores that it has told before it tells: a crash between the two loses the report."""
    right = Engine.feed

    def feed(self: Any, arn: str, event: Any) -> None:
        told, report = [], self._report
        self._report = told.append
        try:
            right(self, arn, event)
        finally:
            self._report = report
        for item in told:
            report(item)

    _replace(Engine, "feed", feed)


def forget_tasks_by_their_age() -> None:
    """Retention counts from a task's start instead of its end."""
    right = retention.is_over

    def is_over(record: Any, settings: Any, now: float) -> bool:
        if isinstance(record, task_model.Task) and record.started_at:
            record = msgspec.structs.replace(record, stopped_at=record.started_at)
        return right(record, settings, now)

    _replace(retention, "is_over", is_over)


def never_sweep() -> None:
    """The controllers look only at what changes while they run."""

    async def mark_all(self: Any) -> None:
        """The marking of every key is left out."""

    _replace(Loop, "_mark_all", mark_all)


def write_another_owners_field() -> None:
    """The service's controller also writes the count that only users may change."""
    right = service_tasks.ServiceTasks.set_failure

    def set_failure(self: Any, tx: Any, key: str, message: str) -> None:
        right(self, tx, key, message)
        service = tx.get(SERVICES, key)
        if message and service is not None and service.desired_count > 1:
            tx.put(SERVICES, msgspec.structs.replace(service, desired_count=service.desired_count - 1))

    _replace(service_tasks.ServiceTasks, "set_failure", set_failure)


def round_a_share_down() -> None:
    """A task set gets one task less where its percentage gives no whole number."""
    _replace(task_set_planner, "computed_desired_count", lambda desired_count, scale: int(desired_count * scale // 100))


def start_a_daemon_beside_its_last_task() -> None:
    """A daemon's next task does not wait until the one before is gone."""
    right = daemon_planner._Choice.starts

    def starts(self: Any) -> Any:
        self._live = set(self._kept)
        return right(self)

    _replace(daemon_planner._Choice, "starts", starts)


def place_before_a_critical_daemon_runs() -> None:
    """An instance keeps no more than the share of a critical daemon that does not run there."""
    _replace(daemons.Whole, "keeps", lambda self, node: False)


def keep_the_tasks_of_a_deleted_set() -> None:
    """The record of a deleted task set goes at once, its tasks run on."""
    right = task_set_planner._retire
    _replace(task_set_planner, "_retire", lambda view: right(msgspec.structs.replace(view, tasks=())))


def take_blue_down_while_it_bakes() -> None:
    """A deployment that shifts traffic is rolled from its bake time on, as if CLEAN_UP had come."""
    right = side_by_side.applies

    def applies(view: Any) -> bool:
        return right(view) and view.primary.lifecycle_stage != "BAKE_TIME"

    _replace(side_by_side, "applies", applies)


def pass_hooks_by() -> None:
    """A stage does not wait for its hooks."""
    _replace(lifecycle_hook, "passed", lambda deployment: True)


def start_green_before_its_stage() -> None:
    """Green's tasks start with the deployment."""
    _replace(deployment_model, "BEFORE_GREEN", frozenset())


BUGS: dict[str, Plant] = {
    plant.__name__: plant
    for plant in (
        acknowledge_before_durable,
        keep_failed_transactions,
        lose_the_second_commit_of_a_batch,
        forget_a_release,
        place_without_looking_at_memory,
        place_without_looking_at_ports,
        place_without_looking_at_memberships,
        propagate_no_tags_of_the_service,
        register_again_without_custom_attributes,
        count_only_running_tasks,
        stop_old_tasks_at_once,
        leave_tasks_on_draining_instances,
        remember_no_client_token,
        do_a_retried_call_again,
        take_reports_of_ended_tasks,
        forget_the_shown_status,
        end_whatever_session_there_is,
        send_nothing_after_a_reconnect,
        give_up_reports,
        forget_tasks_over_a_restart,
        tell_after_storing,
        forget_tasks_by_their_age,
        never_sweep,
        write_another_owners_field,
        round_a_share_down,
        keep_the_tasks_of_a_deleted_set,
        take_blue_down_while_it_bakes,
        pass_hooks_by,
        start_green_before_its_stage,
        start_a_daemon_beside_its_last_task,
        place_before_a_critical_daemon_runs,
    )
}


BUGS |= planted_server_bugs.BUGS

NOTHING = "nothing"
"""Instead of a bug's name: plants none."""
FAULTS: dict[str, tuple[str, ...]] = {"tell_after_storing": ("agent-crash-at-step",), **planted_server_bugs.FAULTS}
"""Bugs that only one kind of fault shows, now and then: that kind alone, so that a few seeds suffice."""


def hunt(name: str, seeds: int) -> Outcome | None:
    """The first of the seeds that fails with the bug `name`, or None."""
    several = name in planted_server_bugs.BUGS
    options = msgspec.structs.replace(OPTIONS, faults=FAULTS.get(name), servers=3 if several else None)
    for seed in range(1, seeds + 1):
        outcome = simulate(seed, options)
        if outcome.violation:
            return outcome
    return None


if __name__ == "__main__":
    if sys.argv[1] != NOTHING:
        BUGS[sys.argv[1]]()
    caught = hunt(sys.argv[1], int(sys.argv[2]))
    if caught is None:
        sys.exit("not caught")
    print(f"seed {caught.seed}: {caught.violation}")
