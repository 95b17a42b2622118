"""Forgets what has been kept long enough: the only part that deletes records; `planner/retention.py` has the rules.

Owns: the deletion of tasks, services with their events and deployments, container instances, hosts, client tokens, join tokens, kept answers and
task definitions.
Never deletes what something else still refers to. The journal has a retention of its own, in the store.

Its keys are kinds of record. An activation deletes a portion and asks for the next at once when there is more.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from homeport.config import Settings
from homeport.controllers.loop import Activation
from homeport.model.ecs.container_instance import INACTIVE
from homeport.model.record import Record
from homeport.planner.retention import is_over
from homeport.store.table import Change, Reader, Table, Transaction
from homeport.store.tables import (
    CAPACITY_PROVIDERS,
    CONTAINER_INSTANCES,
    DAEMON_DEPLOYMENTS,
    DAEMON_REVISIONS,
    DAEMON_TASK_DEFINITIONS,
    DAEMONS,
    DEPLOYMENTS,
    EFFECT_MINUTES,
    EFFECTS,
    IDEMPOTENCY_TOKENS,
    INSTANCE_IDENTITIES,
    JOIN_TOKENS,
    SERVICE_EVENTS,
    SERVICE_REVISIONS,
    SERVICES,
    TASK_DEFINITIONS,
    TASK_SETS,
    TASKS,
)

NAME: Final = "retention"
DELETES_MAX: Final = 90
"""Records deleted in one activation; under a transaction's 100."""
PERIOD_SECONDS_MAX: Final = 60.0
"""How late a record may be forgotten. Looking for old records goes over all of a kind, so it is not done at every sweep."""

_REFERRING: Final[tuple[tuple[Table[Any], str], ...]] = ((TASKS, "definition_live"), (DEPLOYMENTS, "definition"), (TASK_SETS, "definition"))
"""What keeps a task definition that was deleted: tables and their indexes by FAMILY:REVISION."""

R = TypeVar("R", bound=Record)

Deletion = tuple[Table[Any], str]


class RetentionController:
    """The controller of retention; its keys are kinds of record."""

    name = NAME

    def __init__(self, *, settings: Settings) -> None:
        self._settings = settings
        self._kinds: dict[str, Callable[[Reader, float], Iterator[Deletion]]] = {
            "tasks": self._tasks,
            "services": self._services,
            "deployments": self._deployments,
            "container_instances": self._instances,
            "capacity_providers": self._capacity_providers,
            "idempotency_tokens": self._tokens,
            "join_tokens": self._join_tokens,
            "instance_identities": self._instance_identities,
            "task_definitions": self._task_definitions,
            "daemon_deployments": self._daemon_deployments,
            "daemon_task_definitions": self._daemon_task_definitions,
            "effects": self._effects,
        }
        # When each kind was last gone over without anything left to delete. Only a brake: forgetting it costs one look more.
        self._clean_at: dict[str, float] = {}

    def keys_of(self, change: Change) -> Iterable[str]:
        """None: time makes records old, not changes."""
        return ()

    def keys(self, reader: Reader) -> Iterable[str]:
        """The kinds."""
        return tuple(self._kinds)

    @property
    def period_seconds(self) -> float:
        """The time between two looks at a kind: a tenth of the shortest retention, at most `PERIOD_SECONDS_MAX`."""
        settings = self._settings
        shortest = min(
            settings.stopped_task_retention_seconds,
            settings.inactive_service_retention_seconds,
            settings.inactive_instance_retention_seconds,
            settings.idempotency_seconds,
            settings.deployment_retention_seconds,
        )
        return min(PERIOD_SECONDS_MAX, shortest / 10)

    def activate(self, tx: Transaction, key: str) -> Activation:
        """Delete a portion of the kind `key`."""
        if tx.now < self._clean_at.get(key, 0.0) + self.period_seconds:
            return Activation()
        found = list(itertools.islice(self._kinds[key](tx, tx.now), DELETES_MAX))
        for table, record_key in found:
            tx.delete(table, record_key)
        if len(found) == DELETES_MAX:
            return Activation(mark=((NAME, key),))
        self._clean_at[key] = tx.now
        return Activation()

    def _over(self, records: Iterable[R], now: float) -> Iterator[R]:
        return (record for record in records if is_over(record, self._settings, now))

    def _tasks(self, reader: Reader, now: float) -> Iterator[Deletion]:
        return ((TASKS, task.key) for task in self._over(reader.find(TASKS, "stopped", "stopped"), now))

    def _services(self, reader: Reader, now: float) -> Iterator[Deletion]:
        """Events, deployments and revisions before their service, so that a service that is still there says that there may be some."""
        for service in self._over(reader.scan(SERVICES), now):
            yield from ((SERVICE_EVENTS, event.key) for event in reader.find(SERVICE_EVENTS, "service", service.key))
            yield from ((DEPLOYMENTS, item.key) for item in reader.find(DEPLOYMENTS, "service", service.key))
            yield from ((SERVICE_REVISIONS, item.key) for item in reader.find(SERVICE_REVISIONS, "service", service.key))
            yield SERVICES, service.key

    def _deployments(self, reader: Reader, now: float) -> Iterator[Deletion]:
        return ((DEPLOYMENTS, item.key) for item in self._over(reader.scan(DEPLOYMENTS), now))

    def _instances(self, reader: Reader, now: float) -> Iterator[Deletion]:
        for instance in self._over(reader.scan(CONTAINER_INSTANCES), now):
            if not reader.count(TASKS, "instance_live", instance.key):
                yield CONTAINER_INSTANCES, instance.key

    def _capacity_providers(self, reader: Reader, now: float) -> Iterator[Deletion]:
        return ((CAPACITY_PROVIDERS, provider.key) for provider in self._over(reader.scan(CAPACITY_PROVIDERS), now))

    def _tokens(self, reader: Reader, now: float) -> Iterator[Deletion]:
        return ((IDEMPOTENCY_TOKENS, token.key) for token in self._over(reader.scan(IDEMPOTENCY_TOKENS), now))

    def _join_tokens(self, reader: Reader, now: float) -> Iterator[Deletion]:
        return ((JOIN_TOKENS, token.id) for token in self._over(reader.scan(JOIN_TOKENS), now))

    def _instance_identities(self, reader: Reader, now: float) -> Iterator[Deletion]:
        for identity in self._over(reader.scan(INSTANCE_IDENTITIES), now):
            instance = reader.get(CONTAINER_INSTANCES, identity.instance)
            if instance is None or instance.status == INACTIVE:
                yield INSTANCE_IDENTITIES, identity.id

    def _effects(self, reader: Reader, now: float) -> Iterator[Deletion]:
        """By the minute in which they were made, so that those that stay are not looked at."""
        kept_minutes = int(self._settings.effect_retention_seconds // 60) + 2
        this_minute = int(now // 60)
        for minute in range(this_minute + 1 - EFFECT_MINUTES, this_minute + 1 - kept_minutes + 2):
            found = reader.find(EFFECTS, "minute", str(minute % EFFECT_MINUTES))
            yield from ((EFFECTS, effect.key) for effect in self._over(found, now))

    def _daemon_deployments(self, reader: Reader, now: float) -> Iterator[Deletion]:
        """Deployments that are over, but for the newest one of a daemon that is there; then the revisions that neither it nor a deployment has."""
        for item in self._over(reader.scan(DAEMON_DEPLOYMENTS), now):
            daemon = reader.get(DAEMONS, item.daemon_key)
            if daemon is None or daemon.deployment_id != item.id:
                yield DAEMON_DEPLOYMENTS, item.key
        for key, revisions in itertools.groupby(reader.scan(DAEMON_REVISIONS), lambda revision: revision.daemon_key):
            daemon = reader.get(DAEMONS, key)
            kept = {daemon.revision_id, daemon.completed_revision_id} if daemon else set()
            for deployment in reader.find(DAEMON_DEPLOYMENTS, "daemon", key):
                kept.update((deployment.revision_id, deployment.target_id, *deployment.source_revision_ids))
            yield from ((DAEMON_REVISIONS, revision.key) for revision in revisions if revision.id not in kept)

    def _daemon_task_definitions(self, reader: Reader, now: float) -> Iterator[Deletion]:
        return ((DAEMON_TASK_DEFINITIONS, item.key) for item in self._over(reader.find(DAEMON_TASK_DEFINITIONS, "status", "DELETED"), now))

    def _task_definitions(self, reader: Reader, now: float) -> Iterator[Deletion]:
        for definition in self._over(reader.scan(TASK_DEFINITIONS), now):
            reference = f"{definition.account}/{definition.family}:{definition.revision}"
            if not any(reader.count(table, index, reference) for table, index in _REFERRING):
                yield TASK_DEFINITIONS, definition.key
