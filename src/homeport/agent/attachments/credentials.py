"""A task's role, from what the control plane sends to what its containers can ask for.

Owns: `TaskRoles`: it follows the engine's tasks, keeps the registry, the doors and the rules in step with the containers that run, and takes all
of it away when a task is over. Never decides about a task, and never writes a credential anywhere.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from homeport.acs.messages import RoleCredentials
from homeport.agent.engine.task import Event, Gone, Launched, Seen, TaskState
from homeport.agent.metadata.credentials import Place, Registry
from homeport.agent.metadata.door import Doors
from homeport.agent.metadata.rules import Lead, Rules, RulesError
from homeport.agent.runtime.contract import ContainerObservation
from homeport.agent.session import TASK_ROLE
from homeport.agent.settings import CREDENTIALS_PORT
from homeport.clock import Clock

CAPABILITIES: Final = ("com.amazonaws.ecs.capability.task-iam-role", "com.amazonaws.ecs.capability.task-iam-role-network-host")
RETRY_SECONDS: Final = 2.0
LOOPBACK: Final = "127.0.0.1"

_log = logging.getLogger(__name__)


class TaskRoles:
    """One per agent; `close` it at the end."""

    def __init__(self, *, registry: Registry, doors: Doors, rules: Rules, clock: Clock, api_port: int) -> None:
        """`api_port`: where on 169.254.170.2 containers find the API; 0: nowhere."""
        self._registry = registry
        self._doors = doors
        self._rules = rules
        self._clock = clock
        self._api_port = api_port
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._applied: tuple[Lead, ...] = ()

    async def start(self) -> bool:
        """Take away what an earlier life left. Whether this host can give tasks roles: only then may it say so."""
        try:
            await self._rules.apply(())
        except RulesError as error:
            _log.warning("tasks with a role cannot run here: %s", error)
            return False
        return True

    async def close(self) -> None:
        """Close the doors and take the rules away."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        await self._doors.close()
        if self._applied:
            try:
                await self._rules.apply(())
            except RulesError as error:
                _log.warning("the rules for containers could not be taken away: %s", error)

    def take(self, task_arn: str, role_type: str, given: RoleCredentials) -> None:
        """Credentials that came from the control plane. Those of an execution role are not kept: nothing that would use them is built yet."""
        if role_type == TASK_ROLE and not self._registry.put(task_arn, given):
            _log.debug("credentials came for %s, which is over or not here", task_arn)

    def follow(self, task: TaskState, event: Event | None) -> None:
        """A task as it is now, after `event`."""
        given = task.payload.roleCredentials
        if given is None:
            return
        if task.known == "STOPPED":
            changed = self._registry.forget(task.arn)
        else:
            host = task.payload.networkMode == "host"
            before = self._registry.hosts
            self._registry.hold(task.arn, given.credentialsId, given.roleArn, host=host)
            changed = self._registry.hosts != before
            if not host:
                changed |= self._follow_container(task.arn, event)
        if changed:
            self._apply_soon()

    def _follow_container(self, task_arn: str, event: Event | None) -> bool:
        match event:
            case Launched(name=name, observation=seen) | Seen(name=name, observation=seen):
                return self._registry.place(task_arn, name, _place(seen))
            case Gone(name=name):
                return self._registry.place(task_arn, name, None)
        return False

    # -- rules -----------------------------------------------------------------------------------------------------------

    def _apply_soon(self) -> None:
        self._changed.set()
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        """Bring doors and rules in step with the registry, all that changed meanwhile at one stroke."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._apply()
            except (OSError, RulesError) as error:
                _log.error("containers cannot be led to their credentials, this is tried again: %s", error)
                await self._clock.sleep(RETRY_SECONDS)
                self._changed.set()

    async def _apply(self) -> None:
        leads: list[Lead] = []
        for place in self._registry.places:
            leads += await self._leads(place.address, place.gateway)
        if self._registry.hosts:
            leads += await self._leads("", LOOPBACK)
        wanted = tuple(leads)
        if wanted != self._applied:
            await self._rules.apply(wanted)
            self._applied = wanted

    async def _leads(self, source: str, door: str) -> list[Lead]:
        ports = await self._doors.open(door, host=not source)
        leads = [Lead(source, CREDENTIALS_PORT, door, ports.credentials)]
        return [*leads, Lead(source, self._api_port, door, ports.api)] if self._api_port else leads


def _place(seen: ContainerObservation) -> Place | None:
    return Place(seen.address, seen.gateway) if seen.running and seen.address and seen.gateway else None
