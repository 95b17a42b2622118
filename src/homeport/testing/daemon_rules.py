"""What must hold of daemons, after every commit and at rest, written down again beside the code that it checks.

Owns: `daemon_problem` (after a commit), `daemons_at_rest`. Never trusts the planner, nor what placement keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.task import Task
from homeport.placement.daemons import managed_request
from homeport.placement.index import PlacementIndex
from homeport.placement.reasons import Refusal

Records = dict[str, dict[str, Any]]

_TERMINAL: Final = ("SUCCESSFUL", "STOPPED", "ROLLBACK_SUCCESSFUL", "ROLLBACK_FAILED")


def daemon_problem(records: Records, on_instance: dict[str, dict[str, Task]], born: Sequence[Task]) -> str:
    """What is wrong with daemons after a commit that made the tasks `born`; "" when nothing. `on_instance`: the live tasks of each instance."""
    for task in born:
        here = on_instance.get(task.instance_key, {}).values()
        if task.daemon:
            if sum(other.daemon_key == task.daemon_key for other in here) > 1:
                return f"daemon {task.daemon} has two tasks on instance {task.container_instance_id}"
            continue
        service = records["services"].get(task.service_key) if task.service else None
        if service is not None and service.scheduling_strategy == "DAEMON":
            continue
        instance = records["container_instances"].get(task.instance_key)
        for daemon in records["daemons"].values():
            runs = any(other.daemon_key == daemon.key and other.last_status == "RUNNING" == other.desired_status for other in here)
            if instance is not None and not runs and _comes_first(daemon, instance):
                return f"task {task.id} was made on instance {instance.id} before the critical daemon {daemon.name} runs there"
    return ""


def _comes_first(daemon: Daemon, instance: ContainerInstance) -> bool:
    share = daemon.share
    if share is None or not daemon.critical or instance.capacity_provider not in daemon.capacity_providers:
        return False
    return share.cpu <= instance.cpu and share.memory_mib <= instance.memory_mib


def daemons_at_rest(records: Records, tasks: Iterable[Task], placement: PlacementIndex) -> Iterable[str]:
    """A daemon runs once on every ACTIVE instance of its capacity providers, unless it has no room there; and elsewhere only on an instance that
    drains and has other tasks left, as the task that it had there.

    `tasks`: those that are not STOPPED.
    """
    live = list(tasks)
    for daemon in records["daemons"].values():
        deployment = records["daemon_deployments"][f"{daemon.key}/{daemon.deployment_id}"]
        if daemon.status != "ACTIVE":
            yield f"daemon {daemon.name} is still {daemon.status}"
            continue
        if deployment.status == "STOPPED":
            continue
        if deployment.status not in _TERMINAL and not deployment.status_reason:
            yield f"the deployment {deployment.id} of daemon {daemon.name} is still {deployment.status}"
        yield from _places(records, daemon, live, placement)
    for task in live:
        if task.daemon and task.daemon_key not in records["daemons"]:
            yield f"task {task.id} is left of daemon {task.daemon}, which is gone"


def _places(records: Records, daemon: Daemon, tasks: Sequence[Task], placement: PlacementIndex) -> Iterable[str]:
    own = {task.instance_key: task for task in tasks if task.daemon_key == daemon.key and task.desired_status == "RUNNING"}
    others = {task.instance_key for task in tasks if not task.daemon}
    for key, instance in records["container_instances"].items():
        task = own.get(key)
        wanted = instance.status == "ACTIVE" and instance.capacity_provider in daemon.capacity_providers
        if task is not None and not wanted:
            if instance.status != "DRAINING" or key not in others:
                yield f"daemon {daemon.name} still has a task on instance {instance.id}"
        elif task is not None and task.deployment_id != daemon.revision_id:
            yield f"daemon {daemon.name} still has an older task on instance {instance.id}"
        elif task is None and wanted and instance.agent_connected and _has_room(daemon, key, placement):
            yield f"daemon {daemon.name} has no task on instance {instance.id}, which could take one"


def _has_room(daemon: Daemon, instance_key: str, placement: PlacementIndex) -> bool:
    return daemon.share is not None and not isinstance(placement.place_on(managed_request(daemon, daemon.share), instance_key), Refusal)
