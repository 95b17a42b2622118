"""How a service's controller shares tasks out between capacity providers, and takes them back.

Owns: what the arithmetic of `placement/capacity.py` counts: the tasks of one revision that are wanted RUNNING. Never starts or stops a task.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence

from homeport.model.ecs import task as task_model
from homeport.model.ecs.capacity_provider import Strategy
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Task
from homeport.placement.capacity import giving_provider, next_provider
from homeport.store.table import Reader
from homeport.store.tables import CAPACITY_PROVIDERS, TASKS


def service_tasks(reader: Reader, service: Service) -> list[Task]:
    """The live tasks of `service` that are wanted RUNNING."""
    return [task for task in reader.find(TASKS, "service_live", service.key) if task.desired_status == task_model.RUNNING]


class Share:
    """The providers of the next tasks of a deployment, each counted as it is given out."""

    def __init__(self, reader: Reader, service: Service, deployment: Deployment, *, waiting_max: int) -> None:
        self._reader, self._service, self._waiting_max = reader, service, waiting_max
        self._strategy = service.capacity_provider_strategy
        tasks = service_tasks(reader, service) if self._strategy else ()
        self._counts = Counter(task.capacity_provider for task in tasks if task.deployment_id == deployment.target_id)

    def next(self) -> str:
        """The next task's provider; "" for a service without a strategy."""
        if not self._strategy:
            return ""
        provider = next_provider(self._strategy, self._counts)
        self._counts[provider] += 1
        return provider

    def may_wait(self, provider: str) -> bool:
        """Whether one more task may wait as PROVISIONING until `provider` has an instance for it."""
        found = self._reader.get(CAPACITY_PROVIDERS, f"{self._service.account}/{provider}") if provider else None
        if found is None or not found.managed_scaling.enabled:
            return False
        return self._reader.count(TASKS, "cluster_last", f"{self._service.cluster_key}/{task_model.PROVISIONING}") < self._waiting_max


def in_turn(strategy: Strategy, victims: Sequence[Task], tasks: Iterable[Task]) -> list[Task]:
    """`victims` (in placement's order) so that the provider that has most beyond its share always gives next.

    `tasks`: the service's. Of those that are no victims only the RUNNING ones count: what is still starting goes before them.
    """
    asked = {task.key for task in victims}
    deployments = {task.deployment_id for task in victims}
    counted = (task for task in tasks if task.key in asked or (task.last_status == task_model.RUNNING and task.deployment_id in deployments))
    counts = Counter(task.capacity_provider for task in counted)
    waiting: dict[str, deque[Task]] = defaultdict(deque)
    for task in victims:
        waiting[task.capacity_provider].append(task)
    ordered: list[Task] = []
    while len(ordered) < len(victims):
        provider = giving_provider(strategy, {name: counts[name] for name, tasks_of in waiting.items() if tasks_of})
        ordered.append(waiting[provider].popleft())
        counts[provider] -= 1
    return ordered
