"""A service revision: what one version of a service consists of, kept as it was.

Owns: `ServiceRevision` and `RevisionContainer`. Never holds what may change without a deployment (desired count, tags, placement), nor how far a
deployment of it has come (`deployment.py`). Nothing of it changes but its digests, which are written once, when the first task tells them.
Source: ecs-reference 3.9.
"""

from __future__ import annotations

from homeport.model.record import Instant, Record


class RevisionContainer(Record, frozen=True, kw_only=True):
    """One container of a revision."""

    name: str
    image: str
    """As the task definition has it."""
    digest: str = ""
    """`sha256:…` that later tasks are held to; "" while none is known, or none is to be."""
    consistent: bool = True
    """Whether later tasks shall run the very image of the first (`versionConsistency`)."""
    note: str = ""
    """Why there is no digest, once that is known."""


class ServiceRevision(Record, frozen=True, kw_only=True):
    """A service revision. Its key is SERVICE_KEY/ID; the digits are those of the deployment that was made with it."""

    account: str
    cluster: str
    service: str
    id: str
    """19 digits."""
    created_at: Instant
    family: str
    revision: int
    """Family and revision of its task definition."""
    launch_type: str
    """EC2 or EXTERNAL; "" where a capacity provider strategy stands for it."""
    containers: tuple[RevisionContainer, ...] = ()
    document: bytes = b""
    """JSON object of the further members that belong to a revision, as the API shows them: networkConfiguration, loadBalancers, serviceRegistries,
    serviceConnectConfiguration, volumeConfigurations, vpcLatticeConfigurations, gatewayConnectors, platformVersion, platformFamily,
    capacityProviderStrategy, monitoring. One that is not there was not given."""
    pinned_at: Instant = 0.0
    """When its digests were written; 0.0: not yet, or no container is to be held to one."""

    @property
    def key(self) -> str:
        """ACCOUNT/CLUSTER/SERVICE/ID."""
        return f"{self.account}/{self.cluster}/{self.service}/{self.id}"

    @property
    def service_key(self) -> str:
        """ACCOUNT/CLUSTER/SERVICE."""
        return f"{self.account}/{self.cluster}/{self.service}"
