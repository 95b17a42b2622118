"""RegisterContainerInstance: a host's agent says what the host has.

Owns: how a registration becomes a `ContainerInstance` record. Never opens a session: the instance is ACTIVE at once and takes tasks when its
agent has connected to the dispatcher.
Sources: ecs-reference 3.3, agent-protocol 4.2 (the upstream agent ends itself when an attribute does not come back with its value).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from homeport.api import idempotency, own_instance
from homeport.api.call import Call
from homeport.api.ecs import cluster as cluster_api
from homeport.api.ecs import lookup, quota
from homeport.api.ecs.attribute import check_attribute
from homeport.api.ecs.container_instance_json import container_instance_json
from homeport.api.ecs.tag_rules import tags_of
from homeport.errors import ClientError, InvalidParameterError
from homeport.model.ecs import container_instance as model
from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.container_instance import Attribute, ContainerInstance
from homeport.model.iam.instance_identity import InstanceIdentity
from homeport.model.record import Tags
from homeport.store.table import Transaction
from homeport.store.tables import CONTAINER_INSTANCES, INSTANCE_IDENTITIES

AVAILABILITY_ZONE: Final = "ecs.availability-zone"
CLIENT_TOKEN_LENGTH_MAX: Final = 64
RESERVED_PORTS_MAX: Final = 100
ATTRIBUTES_MAX: Final = 500
"""More attributes in one registration than any agent has (the upstream one advertises about 60)."""
ATTRIBUTE_LENGTH_MAX: Final = 128
AGENT_PREFIXES: Final = ("ecs.", "com.amazonaws.ecs.", model.CAPACITY_PROVIDER_ATTRIBUTE)
"""Names that start so are the agent's; any other attribute was chosen by a user (ECS_INSTANCE_ATTRIBUTES) and counts as custom."""

_PORT = re.compile(r"[0-9]{1,5}")

TYPE_CHANGE: Final = "Container instance type changes are not supported."
"""The upstream agent looks for this sentence and then ends for good."""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What one registration says of the host, checked."""

    cpu: int
    memory_mib: int
    tcp_ports: tuple[int, ...]
    udp_ports: tuple[int, ...]
    attributes: tuple[Attribute, ...]
    tags: Tags
    gpu_ids: tuple[str, ...]
    platform_devices: bytes
    ec2_instance_id: str
    """From the identity document, or ""."""
    agent_version: str
    agent_hash: str
    docker_version: str

    @property
    def external(self) -> bool:
        """Whether the agent says that it runs outside EC2."""
        return any(attribute.name == model.EXTERNAL_CAPABILITY for attribute in self.attributes)


async def register_container_instance(call: Call, request: Any) -> dict[str, Any]:
    """RegisterContainerInstance: a new instance, or with `containerInstanceArn` the known one with new resources and attributes.

    A host that joined is one instance: while that is registered, it is the one that its host registers again, named or not.
    Makes the cluster `default` if it is wanted and missing. Raises ClusterNotFoundError for another unknown cluster.
    """
    # The agent's own interface has a token that the public model lacks; the front door passes it on when it knows it.
    token: str | None = getattr(request, "clientToken", None)
    idempotency.check_token(token, length_max=CLIENT_TOKEN_LENGTH_MAX)
    host = _host(call, request)
    fresh_id, fresh_machine = call.ids.hex(32), call.ids.hex(17)

    def register(tx: Transaction) -> dict[str, Any]:
        host_identity = own_instance.require_known(tx, call.session)
        cluster = _cluster(tx, call, request.cluster)
        once = idempotency.Once(call=call, scope=cluster.key, token=token, request=request)
        seen = once.recall(tx)
        instance = tx.get(CONTAINER_INSTANCES, seen.resources[0]) if seen is not None else None
        if instance is None:
            reference = request.containerInstanceArn or _registered(tx, host_identity)
            if reference:
                instance = _again(tx, call, cluster, reference, host)
            else:
                quota.refuse_more_instances(tx, call, cluster.key)
                instance = _first(tx, call, cluster, host, identity=(fresh_id, fresh_machine))
            tx.put(CONTAINER_INSTANCES, instance)
            once.remember(tx, (instance.key,))
            _bind(tx, host_identity, instance)
        return container_instance_json(tx, call.region, instance, include=("TAGS",))

    return {"containerInstance": await call.update(register)}


def _registered(tx: Transaction, identity: InstanceIdentity | None) -> str:
    """Id of the instance that a host is already, "" when it is none."""
    known = tx.get(CONTAINER_INSTANCES, identity.instance) if identity is not None and identity.instance else None
    return known.id if known is not None and known.status != model.INACTIVE else ""


def _bind(tx: Transaction, identity: InstanceIdentity | None, instance: ContainerInstance) -> None:
    """From now on the host's credentials are good for this instance."""
    if identity is not None and identity.instance != instance.key:
        tx.put(INSTANCE_IDENTITIES, msgspec.structs.replace(identity, instance=instance.key))


def _cluster(tx: Transaction, call: Call, reference: str | None) -> Cluster:
    if lookup.cluster_name(call, reference) == lookup.DEFAULT_CLUSTER:
        return cluster_api.default_cluster(tx, call)
    return lookup.cluster_of(tx, call, reference)


def _first(tx: Transaction, call: Call, cluster: Cluster, host: Host, *, identity: tuple[str, str]) -> ContainerInstance:
    """A new instance. `identity`: 32 digits for its id and 17 for the machine's, drawn outside the transaction."""
    machine = host.ec2_instance_id or ("mi-" if host.external else "i-") + identity[1]
    blank = ContainerInstance(
        account=call.account,
        cluster=cluster.name,
        id=identity[0],
        ec2_instance_id=machine,
        status=model.ACTIVE,
        registered_at=tx.now,
        cpu=0,
        memory_mib=0,
        version=0,
    )
    zone = Attribute(name=AVAILABILITY_ZONE, value=f"{call.region}a")
    return _with_host(blank, host, _merge(host.attributes, (zone,)), host.tags)


def _again(tx: Transaction, call: Call, cluster: Cluster, reference: str, host: Host) -> ContainerInstance:
    """The known instance as its host is now. Attributes that a user put stay, and so does the zone when the agent names none."""
    known = tx.get(CONTAINER_INSTANCES, lookup.container_instance_key(call, cluster, reference))
    if known is None or known.status == model.INACTIVE:
        raise ClientError("The container instance is not registered any more. Remove the agent's saved state to register this host anew.")
    if (known.launch_type == "EXTERNAL") != host.external:
        raise ClientError(TYPE_CHANGE)
    kept = tuple(attribute for attribute in known.attributes if attribute.custom or attribute.name == AVAILABILITY_ZONE)
    return _with_host(known, host, _merge(host.attributes, kept), host.tags or known.tags)


def _merge(first: Sequence[Attribute], further: Sequence[Attribute]) -> tuple[Attribute, ...]:
    """`first`, and of `further` what `first` has no attribute of that name for."""
    names = {attribute.name for attribute in first}
    return (*first, *(attribute for attribute in further if attribute.name not in names))


def _with_host(instance: ContainerInstance, host: Host, attributes: tuple[Attribute, ...], tags: Tags) -> ContainerInstance:
    return msgspec.structs.replace(
        instance,
        cpu=host.cpu,
        memory_mib=host.memory_mib,
        reserved_tcp_ports=host.tcp_ports,
        reserved_udp_ports=host.udp_ports,
        attributes=attributes,
        agent_version=host.agent_version,
        agent_hash=host.agent_hash,
        docker_version=host.docker_version,
        gpu_ids=host.gpu_ids,
        platform_devices=host.platform_devices,
        tags=tags,
        version=instance.version + 1,
    )


def _host(call: Call, request: Any) -> Host:
    resources = {resource.name: resource for resource in request.totalResources or ()}
    versions = request.versionInfo
    devices = request.platformDevices or ()
    return Host(
        cpu=_amount(resources, "CPU"),
        memory_mib=_amount(resources, "MEMORY"),
        tcp_ports=_ports(resources, "PORTS"),
        udp_ports=_ports(resources, "PORTS_UDP"),
        attributes=_attributes(request.attributes or (), custom_max=call.settings.custom_attributes_max),
        tags=tags_of(request.tags, tags_max=call.settings.tags_max),
        gpu_ids=tuple(dict.fromkeys(device.id for device in devices if device.type == "GPU")),
        platform_devices=msgspec.json.encode(devices) if devices else b"",
        ec2_instance_id=_machine(request.instanceIdentityDocument),
        agent_version=(versions and versions.agentVersion) or "",
        agent_hash=(versions and versions.agentHash) or "",
        docker_version=(versions and versions.dockerVersion) or "",
    )


def _amount(resources: dict[str, Any], name: str) -> int:
    resource = resources.get(name)
    value = (resource.integerValue or resource.longValue or 0) if resource is not None else 0
    if value <= 0:
        raise InvalidParameterError(f"totalResources must have {name} with a positive integerValue.")
    return int(value)


def _ports(resources: dict[str, Any], name: str) -> tuple[int, ...]:
    texts = (resources[name].stringSetValue or ()) if name in resources else ()
    if len(texts) > RESERVED_PORTS_MAX:
        raise InvalidParameterError(f"totalResources may have at most {RESERVED_PORTS_MAX} ports in {name}.")
    if not all(_PORT.fullmatch(text) and 0 < int(text) < 65536 for text in texts):
        raise InvalidParameterError(f"totalResources has something in {name} that is no port.")
    return tuple(sorted({int(text) for text in texts}))


def _attributes(given: Sequence[Any], *, custom_max: int) -> tuple[Attribute, ...]:
    """Every attribute with its value, in the order given; of two with one name the later counts. A user's own keep to the rules of PutAttributes."""
    if len(given) > ATTRIBUTES_MAX:
        raise InvalidParameterError(f"A container instance may register at most {ATTRIBUTES_MAX} attributes.")
    attributes: dict[str, Attribute] = {}
    for item in given:
        value = item.value or ""
        if not item.name or len(item.name) > ATTRIBUTE_LENGTH_MAX or len(value) > ATTRIBUTE_LENGTH_MAX:
            raise InvalidParameterError(f"Attribute names and values may have at most {ATTRIBUTE_LENGTH_MAX} characters: {item.name}")
        custom = not item.name.startswith(AGENT_PREFIXES)
        if custom:
            check_attribute(item.name, value)
        attributes[item.name] = Attribute(name=item.name, value=value, custom=custom)
    if sum(attribute.custom for attribute in attributes.values()) > custom_max:
        raise InvalidParameterError(f"A container instance can have at most {custom_max} custom attributes.")
    return tuple(attributes.values())


def _machine(document: str | None) -> str:
    """`instanceId` of an EC2 identity document, or "" when there is none (outside EC2 the agent sends an empty text)."""
    if not document:
        return ""
    try:
        identity = msgspec.json.decode(document, type=dict[str, Any])
    except msgspec.DecodeError:
        return ""
    found = identity.get("instanceId")
    return found if isinstance(found, str) else ""
