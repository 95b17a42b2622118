"""A user of a simulation who controls a service's deployments himself: makes, scales, promotes and deletes its task sets.

Owns: `TaskSetOwner`. Never touches a store: he calls through the workload, and checks every acknowledgement against what is durable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from homeport.agent.client import CallFailedError, UnreachableError
from homeport.testing.definitions import STEADY, STRATEGIES, UNSTEADY
from homeport.testing.virtual_loop import Chance

if TYPE_CHECKING:
    from homeport.testing.workload import Workload

CLUSTER = "default"
SCALES = (0.0, 10.0, 25.0, 33.3, 50.0, 100.0, 100.0)
_EXPECTED = ("exceeds the maximum limit", "Primary TaskSet cannot be deleted", "scaled above 0", "is draining")
"""Words of refusals that come when he does not look first."""


class TaskSetOwner:
    """Somebody who has one service with the EXTERNAL controller."""

    def __init__(self, workload: Workload, chance: Chance, name: str) -> None:
        self._workload = workload
        self._chance = chance
        self._name = name
        self._where = {"cluster": CLUSTER, "service": name}

    async def run(self) -> None:
        """Do it until cancelled."""
        workload, chance = self._workload, self._chance
        while True:
            await workload.clock.sleep(chance.between(0.0, 30.0))
            try:
                await self._create()
                for _ in range(chance.number(4, 14)):
                    await workload.clock.sleep(chance.wait(20.0))
                    await self._step()
                await workload.clock.sleep(chance.wait(20.0))
                await workload.delete_service(self._name, forced=chance.happens(0.5))
            except UnreachableError:
                continue
            except CallFailedError as error:
                if not any(words in error.message for words in _EXPECTED):
                    workload.require_expected(error)

    async def _create(self) -> None:
        chance = self._chance
        request: dict[str, Any] = {
            "serviceName": self._name,
            "cluster": CLUSTER,
            "desiredCount": chance.number(1, 8),
            "deploymentController": {"type": "EXTERNAL"},
            "clientToken": chance.ids.hex(20),
            "placementStrategy": chance.pick(STRATEGIES),
            **self._workload.tagging(chance),
        }
        await self._workload.call("CreateService", request, repeated=True)
        service = self._workload.durable_service(self._name)
        right = service is not None and service.status == "ACTIVE" and service.deployment_controller == "EXTERNAL"
        self._workload.invariants.acknowledged("CreateService", right, f"what is durable of {self._name} is {service}")

    def _sets(self) -> list[Any]:
        found = self._workload.invariants.records["task_sets"].values()
        return sorted((item for item in found if item.service == self._name), key=lambda item: item.id)

    async def _step(self) -> None:
        """One thing, whether or not it is allowed."""
        sets = self._sets()
        kind = self._chance.pick(("create", "scale", "scale", "scale", "promote", "delete", "desired")) if sets else "create"
        try:
            await {
                "create": self._create_set,
                "scale": self._scale,
                "promote": self._promote,
                "delete": self._delete,
                "desired": self._desired,
            }[kind]()
        except CallFailedError as error:
            gone = error.code == "TaskSetNotFoundException"  # a deletion has ended meanwhile
            if not gone and not any(words in error.message for words in _EXPECTED):
                raise

    async def _create_set(self) -> None:
        chance = self._chance
        family = chance.pick(UNSTEADY) if chance.happens(0.15) else chance.pick(STEADY)
        scale = chance.pick(SCALES)
        request = {
            **self._where,
            "taskDefinition": f"{family}:{chance.number(1, 3)}" if family == "web" else f"{family}:1",
            "scale": {"value": scale, "unit": "PERCENT"},
            "clientToken": chance.ids.hex(20),
            "externalId": chance.ids.hex(4),
        }
        made = (await self._workload.call("CreateTaskSet", request, repeated=True))["taskSet"]
        found = self._durable(made["id"])
        right = found is not None and found.external_id == request["externalId"] and found.scale == scale
        self._workload.invariants.acknowledged("CreateTaskSet", right, f"what is durable of {made['id']} is {found}")
        twins = [item for item in self._sets() if item.external_id == request["externalId"] and item.created_at == (found.created_at if found else 0)]
        self._workload.invariants.acknowledged("CreateTaskSet", len(twins) == 1, f"{len(twins)} sets were made of one call")

    def _durable(self, shown_id: str) -> Any:
        return next((item for item in self._sets() if item.shown_id == shown_id), None)

    async def _scale(self) -> None:
        chosen, scale = self._chance.pick(self._sets()), self._chance.pick(SCALES)
        request = {**self._where, "taskSet": chosen.shown_id, "scale": {"value": scale, "unit": "PERCENT"}}
        await self._workload.call("UpdateTaskSet", request)
        found = self._durable(chosen.shown_id)
        self._workload.invariants.acknowledged("UpdateTaskSet", found is not None and found.scale == scale, f"what is durable of it is {found}")

    async def _promote(self) -> None:
        chosen = self._chance.pick(self._sets())
        await self._workload.call("UpdateServicePrimaryTaskSet", {**self._where, "primaryTaskSet": chosen.shown_id})
        found, service = self._durable(chosen.shown_id), self._workload.durable_service(self._name)
        right = found is not None and found.status == "PRIMARY" and (service.family, service.revision) == (found.family, found.revision)
        self._workload.invariants.acknowledged("UpdateServicePrimaryTaskSet", right, f"what is durable of it is {found}, of its service {service}")

    async def _delete(self) -> None:
        chosen = self._chance.pick(self._sets())
        await self._workload.call("DeleteTaskSet", {**self._where, "taskSet": chosen.shown_id, "force": self._chance.happens(0.6)})
        found = self._durable(chosen.shown_id)
        right = found is None or found.status == "DRAINING"
        self._workload.invariants.acknowledged("DeleteTaskSet", right, f"what is durable of it is {found}")

    async def _desired(self) -> None:
        count = self._chance.number(0, 9)
        await self._workload.call("UpdateService", {**self._where, "desiredCount": count})
        service = self._workload.durable_service(self._name)
        right = service is not None and service.desired_count == count
        self._workload.invariants.acknowledged("UpdateService", right, f"what is durable of {self._name} is {service}")
