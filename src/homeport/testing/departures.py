"""What must hold of an instance at the commit in which managed scaling lets it go.

Owns: `Departures`, its own memory of when instances began to drain. Never trusts what the provider's record says of it (ecs-reference 3.2).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from homeport.config import Settings
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.task import Task
from homeport.store.table import Change

Records = dict[str, dict[str, Any]]

_SCALING: Final = "controller/capacity"


class Departures:
    """Looks at every change of an instance."""

    def __init__(self, records: Records, settings: Settings) -> None:
        """`records`: table → key → durable record, as they are after the change that is looked at."""
        self._records = records
        self._longest = settings.managed_draining_seconds_max
        self._since: dict[str, float] = {}

    def problem(self, change: Change, actor: str, *, tasks: Collection[Task], now: float) -> str:
        """What is wrong with a change of an instance that has the live `tasks`; "" when nothing."""
        before, after = change.before, change.after
        if not isinstance(before, ContainerInstance) or not isinstance(after, ContainerInstance) or before.status == after.status:
            return ""
        if after.status == "DRAINING":
            self._since[change.key] = now
        if after.status != "INACTIVE" or actor != _SCALING:
            return ""
        provider = self._records["capacity_providers"].get(f"{after.account}/{after.capacity_provider}")
        if provider is None or not provider.managed_draining:
            return ""
        if before.status != "DRAINING":
            return f"instance {after.id} of {provider.name}, which has managed draining, ended without having drained"
        if tasks and now - self._since[change.key] < self._longest:
            return (
                f"instance {after.id} of {provider.name} ended with {len(tasks)} tasks, {now - self._since[change.key]:.0f} s after it began to drain"
            )
        return ""
