"""How many tasks of a service run and are on their way, as the API counts them.

Owns: `Counts`. Never stores a count.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from homeport.model.ecs import task as task_model
from homeport.model.ecs.service import Service
from homeport.store.table import Reader
from homeport.store.tables import TASKS

PENDING: Final = (task_model.PROVISIONING, task_model.PENDING, task_model.ACTIVATING)
"""The states that `pendingCount` counts."""


class Counts:
    """RUNNING and pending tasks of one service, in all and per deployment or task set."""

    def __init__(self, reader: Reader, service: Service) -> None:
        self._running: Counter[str] = Counter()
        self._pending: Counter[str] = Counter()
        for task in reader.find(TASKS, "service_live", service.key):
            if task.last_status == task_model.RUNNING:
                self._running[task.deployment_id] += 1
            elif task.last_status in PENDING:
                self._pending[task.deployment_id] += 1

    def running(self, deployment_id: str = "") -> int:
        """RUNNING tasks of the deployment or task set, or of the whole service."""
        return self._running[deployment_id] if deployment_id else self._running.total()

    def pending(self, deployment_id: str = "") -> int:
        """Tasks on their way to RUNNING, of the deployment or task set, or of the whole service."""
        return self._pending[deployment_id] if deployment_id else self._pending.total()
