"""Somebody in a simulation who keeps a daemon: puts instances into its capacity provider, makes it, updates it, now and then with what never starts.

Owns: `ManagedDaemonOwner`. Never touches a store: it calls through the workload, and checks every acknowledgement against what is durable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from homeport.agent.client import CallFailedError, UnreachableError
from homeport.model.ecs.container_instance import CAPACITY_PROVIDER_ATTRIBUTE
from homeport.testing.definitions import DEFINITIONS
from homeport.testing.records import ACCOUNT, REGION
from homeport.testing.virtual_loop import Chance

if TYPE_CHECKING:
    from homeport.testing.workload import Workload

CLUSTER: Final = "default"
PROVIDER: Final = "edge"
FAMILIES: Final = ("web", "slow-to-stop", "checked", "missing")
"""Families of task definitions whose containers daemons have too; the last one never starts."""
_ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/infrastructure"
MANAGED: Final = {
    "infrastructureRoleArn": _ROLE,
    "instanceLaunchTemplate": {
        "ec2InstanceProfileArn": f"arn:aws:iam::{ACCOUNT}:instance-profile/instances",
        "networkConfiguration": {"subnets": ["subnet-1"]},
    },
}
"""One of managed instances, which is its cluster's from the start."""
PERCENTS: Final = (0.0, 25.0, 50.0, 100.0)
_TOO_EARLY: Final = ("being deleted", "not idempotent", "not ACTIVE", "not found")


class ManagedDaemonOwner:
    """See the module."""

    def __init__(self, workload: Workload, chance: Chance, name: str) -> None:
        self._workload = workload
        self._chance = chance
        self._name = name
        self._arn = f"arn:aws:ecs:{REGION}:{ACCOUNT}:daemon/{CLUSTER}/{name}"

    async def run(self) -> None:
        """Do it until cancelled."""
        workload, chance = self._workload, self._chance
        await self._prepare()
        while True:
            await workload.clock.sleep(chance.between(0.0, 20.0))
            try:
                await self._create()
                for _ in range(chance.number(2, 6)):
                    await workload.clock.sleep(chance.wait(40.0))
                    if chance.happens(0.5):
                        await self._update()
                    else:
                        await self._move()
                await workload.clock.sleep(chance.wait(40.0))
                await workload.call("DeleteDaemon", {"daemonArn": self._arn})
                daemon = self._durable()
                workload.invariants.acknowledged("DeleteDaemon", daemon is None or daemon.status == "DELETE_IN_PROGRESS", f"it is {daemon}")
            except UnreachableError:
                continue
            except CallFailedError as error:
                if not any(words in error.message for words in _TOO_EARLY):
                    raise

    async def _prepare(self) -> None:
        """The capacity provider with most hosts in it, and the daemon task definitions."""
        workload = self._workload
        while True:
            try:
                for family in FAMILIES:
                    request = {"family": family, "containerDefinitions": DEFINITIONS[family]}
                    await workload.call("RegisterDaemonTaskDefinition", request, repeated=True)
                provider = {"name": PROVIDER, "cluster": CLUSTER, "managedInstancesProvider": MANAGED}
                await workload.call("CreateCapacityProvider", provider, repeated=True)
            except UnreachableError:
                continue
            break
        for host in workload.hosts:
            if self._chance.happens(0.7):
                await self._label(host.instance_arn, inside=True)

    async def _move(self) -> None:
        """Put one host into the capacity provider, or take it out."""
        await self._label(self._chance.pick(self._workload.hosts).instance_arn, inside=self._chance.happens(0.7))

    async def _label(self, arn: str, *, inside: bool) -> None:
        if not arn:
            return
        attribute = {"name": CAPACITY_PROVIDER_ATTRIBUTE, "targetId": arn, **({"value": PROVIDER} if inside else {})}
        try:
            await self._workload.call(
                "PutAttributes" if inside else "DeleteAttributes", {"cluster": CLUSTER, "attributes": [attribute]}, repeated=True
            )
        except UnreachableError:
            return
        except CallFailedError as error:
            if error.code != "TargetNotFoundException":  # it was deregistered meanwhile
                raise

    def _durable(self) -> Any:
        return self._workload.invariants.records["daemons"].get(f"{ACCOUNT}/{CLUSTER}/{self._name}")

    def _spec(self) -> dict[str, Any]:
        chance = self._chance
        family = FAMILIES[-1] if chance.happens(0.2) else chance.pick(FAMILIES[:-1])
        return {"daemonTaskDefinitionArn": f"{family}:1", "capacityProviderArns": [PROVIDER], "critical": chance.happens(0.5)}

    async def _create(self) -> None:
        chance, spec = self._chance, self._spec()
        request = {
            "daemonName": self._name,
            "clusterArn": CLUSTER,
            "clientToken": chance.ids.hex(20),
            "deploymentConfiguration": {"drainPercent": chance.pick(PERCENTS), "bakeTimeInMinutes": chance.pick((0, 0, 1))},
            **spec,
        }
        await self._workload.call("CreateDaemon", request, repeated=True)
        daemon = self._durable()
        right = daemon is not None and daemon.status == "ACTIVE"
        self._workload.invariants.acknowledged("CreateDaemon", right, f"what is durable of {self._name} is {daemon}")

    async def _update(self) -> None:
        spec = self._spec()
        answer = await self._workload.call("UpdateDaemon", {"daemonArn": self._arn, **spec}, repeated=True)
        deployment_id = answer["deploymentArn"].rpartition("/")[2]
        deployments = self._workload.invariants.records["daemon_deployments"]
        right = f"{ACCOUNT}/{CLUSTER}/{self._name}/{deployment_id}" in deployments
        self._workload.invariants.acknowledged("UpdateDaemon", right, f"its deployment {deployment_id} is not durable")
