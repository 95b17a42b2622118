"""After a start of the agent and after each break in the connection: what the runtime really has.

Owns: the comparison of the engine's tasks with the runtime's containers, and the removal of containers that this agent made for a
task that it no longer knows. Never touches a container of another installation or of another agent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from homeport.agent.engine import config
from homeport.agent.engine.task import Event, Gone, Seen, TaskState
from homeport.agent.runtime.contract import ContainerListing, NoSuchObjectError, Runtime

_log = logging.getLogger(__name__)

Feed = Callable[[str, Event], None]


async def reconcile(*, runtime: Runtime, tasks: Mapping[str, TaskState], identity: config.Identity, feed: Feed) -> None:
    """Tell the machine, through `feed`, about every container whose state may have changed; remove orphans.

    `tasks` is the engine's live table, by ARN. Raises RuntimeUnavailableError when the connection breaks again.
    """
    expected = [(task.arn, item.name, item.runtime_id) for task in tasks.values() for item in task.containers if item.runtime_id is not None]
    listed = await runtime.list_containers({config.LABEL_INSTALLATION: identity.installation})
    seen = set()
    for listing in listed:
        arn, name = listing.labels.get(config.LABEL_TASK, ""), listing.labels.get(config.LABEL_CONTAINER, "")
        seen.add(listing.id)
        task = tasks.get(arn)
        if task is None:
            await _orphan(runtime, listing, identity)
        elif _matters(task, name, listing):
            await _look(runtime, arn, name, listing.id, feed)
    for arn, name, runtime_id in expected:
        if runtime_id not in seen and runtime_id is not None:
            await _look(runtime, arn, name, runtime_id, feed)


def _matters(task: TaskState, name: str, listing: ContainerListing) -> bool:
    """Whether an inspection can tell something new: not for a container that is known as stopped and is."""
    states: Iterable[str] = (item.known for item in task.containers if item.name == name)
    return any(known != "STOPPED" or listing.status == "running" for known in states)


async def _look(runtime: Runtime, arn: str, name: str, runtime_id: str, feed: Feed) -> None:
    try:
        observation = await runtime.inspect(runtime_id)
    except NoSuchObjectError:
        feed(arn, Gone(name))
    else:
        feed(arn, Seen(name, observation))


async def _orphan(runtime: Runtime, listing: ContainerListing, identity: config.Identity) -> None:
    """A container of this installation whose task is unknown: ours are removed, another agent's left alone."""
    if listing.labels.get(config.LABEL_AGENT) != identity.agent:
        _log.info("container %s belongs to another agent of this installation", listing.name)
        return
    _log.warning("container %s belongs to no task that this agent knows; it is removed", listing.name)
    await runtime.remove(listing.id)
