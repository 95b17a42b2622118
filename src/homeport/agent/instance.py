"""This host as a container instance: what it has, what it can, and its registration.

Owns: the resources and attributes of RegisterContainerInstance and the instance's ARN in the local journal. Never advertises what the agent cannot
do: placement believes every attribute. Sources: agent-protocol.md sections 4.2 and 9.
"""

from __future__ import annotations

import logging
import platform
from typing import Any, Final

import homeport
from homeport.agent.backoff import Backoff
from homeport.agent.client import Caller, CallFailedError
from homeport.agent.runtime.contract import RuntimeDescription
from homeport.agent.session import INSTANCE_KIND, TIMELINE_KEY
from homeport.agent.settings import AgentSettings
from homeport.agent.state import State
from homeport.errors import HomeportError
from homeport.iam.host import Host
from homeport.ids import Ids
from homeport.model.ecs.container_instance import CAPACITY_PROVIDER_ATTRIBUTE

ARN_KEY: Final = "arn"
IDENTITY_KEY: Final = "identity"
"""Which host the ARN was given to."""

API_CAPABILITY: Final = "com.amazonaws.ecs.capability.docker-remote-api.1."
API_CAPABILITY_FLOOR: Final = 17
LOG_DRIVER_CAPABILITY: Final = "com.amazonaws.ecs.capability.logging-driver."
PRIVILEGED_CAPABILITY: Final = "com.amazonaws.ecs.capability.privileged-container"
EXTERNAL_CAPABILITY: Final = "ecs.capability.external"
ENGINE_CAPABILITIES: Final = (
    "ecs.capability.container-health-check",
    "ecs.capability.container-ordering",
    "ecs.capability.container-restart-policy",
    "ecs.capability.docker-plugin.local",
    "ecs.capability.full-sync",
    "ecs.capability.network.container-port-range",
    "ecs.capability.pid-ipc-namespace-sharing",
    "ecs.capability.task-cpu-mem-limit",
)
"""What the engine does, whatever Docker it has."""
HONOURED_LOG_DRIVERS: Final = ("fluentd", "gelf", "journald", "json-file", "none", "splunk", "syslog")
"""Log drivers of the ECS API whose options pass through as they are; advertised where the runtime has them."""

TYPE_CHANGE: Final = "type changes are not supported"
"""Part of the message by which the control plane says that this host cannot take its old name again."""
_ARCHITECTURES: Final = {"aarch64": "arm64"}

_log = logging.getLogger(__name__)


class RegistrationRefusedError(HomeportError):
    """The control plane will not take this host, and asking again will not help."""


def saved_arn(state: State) -> str:
    """The ARN that an earlier life of this agent was given, or ""."""
    return (state.get(INSTANCE_KIND, ARN_KEY) or b"").decode()


def forget(state: State) -> None:
    """Drop the saved ARN and what was counted under it: the next registration makes a new instance."""
    state.delete(INSTANCE_KIND, ARN_KEY)
    state.delete(INSTANCE_KIND, TIMELINE_KEY)


def attributes(settings: AgentSettings, runtime: RuntimeDescription, *, machine: str) -> dict[str, str]:
    """Every attribute of this host but the user's own: name to value ("" for a capability). `machine` as the kernel names it."""
    _, _, minor = runtime.api_version.partition(".")
    names = [f"{API_CAPABILITY}{number}" for number in range(API_CAPABILITY_FLOOR, int(minor or 0) + 1)]
    drivers = settings.available_logging_drivers or [name for name in HONOURED_LOG_DRIVERS if name == "none" or name in runtime.log_drivers]
    names += [LOG_DRIVER_CAPABILITY + driver for driver in drivers]
    names += ENGINE_CAPABILITIES
    if not settings.disable_privileged:
        names.append(PRIVILEGED_CAPABILITY)
    if settings.external:
        names.append(EXTERNAL_CAPABILITY)
    provider = {CAPACITY_PROVIDER_ATTRIBUTE: settings.capacity_provider} if settings.capacity_provider else {}
    return (
        dict.fromkeys(names, "")
        | provider
        | {
            "ecs.os-type": "linux",
            "ecs.os-family": "LINUX",
            "ecs.cpu-architecture": _ARCHITECTURES.get(machine, machine),
            "ecs.availability-zone": settings.zone or f"{settings.region}a",
            "ecs.instance-type": settings.instance_type or f"host.{runtime.cpus}x{runtime.memory_mib}",
        }
    )


def registration(settings: AgentSettings, runtime: RuntimeDescription, *, arn: str, token: str, machine: str) -> dict[str, Any]:
    """The body of RegisterContainerInstance; with `arn` the host registers again under its old name.

    User's attributes and tags go along only the first time: later they are the API's to change.
    """
    memory = (settings.memory_mib or runtime.memory_mib) - settings.reserved_memory_mib
    described = attributes(settings, runtime, machine=machine)
    request: dict[str, Any] = {
        "cluster": settings.cluster,
        "clientToken": token,
        "totalResources": [
            {"name": "CPU", "type": "INTEGER", "integerValue": settings.cpu or 1024 * runtime.cpus},
            {"name": "MEMORY", "type": "INTEGER", "integerValue": memory},
            {"name": "PORTS", "type": "STRINGSET", "stringSetValue": [str(port) for port in settings.reserved_ports]},
            {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": [str(port) for port in settings.reserved_ports_udp]},
        ],
        "versionInfo": {"agentVersion": homeport.__version__, "agentHash": "homeport", "dockerVersion": f"DockerVersion: {runtime.version}"},
    }
    if settings.gpu_ids:
        request["platformDevices"] = [{"id": gpu, "type": "GPU"} for gpu in settings.gpu_ids]
    if arn:
        request["containerInstanceArn"] = arn
    else:
        described |= dict(settings.instance_attributes)
        if settings.instance_tags:
            request["tags"] = [{"key": key, "value": value} for key, value in settings.instance_tags]
        if settings.instance_id:
            request["instanceIdentityDocument"] = f'{{"instanceId":"{settings.instance_id}"}}'
    request["attributes"] = [{"name": name, "value": value} if value else {"name": name} for name, value in described.items()]
    return request


class Registration:
    """Registers this host until it succeeds."""

    capabilities: tuple[str, ...] = ()
    """What this host has found out that it can do beside what every host does; to be set before `register`."""

    def __init__(self, *, client: Caller, state: State, settings: AgentSettings, backoff: Backoff, ids: Ids, host: Host | None = None) -> None:
        """`host`: the one that this machine joined as, None with other credentials."""
        self._host = host
        self._client = client
        self._state = state
        self._settings = settings
        self._backoff = backoff
        self._ids = ids

    async def register(self, runtime: RuntimeDescription) -> str:
        """Register, keep the ARN, and return it. Tries for as long as the control plane may yet agree.

        Raises RegistrationRefusedError when it never will.
        """
        self._forget_anothers()
        failures = 0
        token = self._ids.uuid()
        while True:
            arn = saved_arn(self._state)
            request = registration(self._settings, runtime, arn=arn, token=token, machine=platform.machine())
            request["attributes"] += [{"name": name} for name in self.capabilities]
            try:
                answer = await self._client.call("RegisterContainerInstance", request)
            except CallFailedError as error:
                await self._after_refusal(error, arn)
                token = self._ids.uuid()
            except HomeportError as error:
                _log.info("this host could not be registered yet: %s", error)
            else:
                return await self._keep(answer, arn)
            failures += 1
            await self._backoff.wait(failures)

    def _forget_anothers(self) -> None:
        """The saved ARN is good for the host that got it, and for the one that joined to go on as it."""
        if self._host is None:
            return
        before = (self._state.get(INSTANCE_KIND, IDENTITY_KEY) or b"").decode()
        if before != self._host.identity and saved_arn(self._state) not in ("", self._host.instance_arn):
            _log.warning("this machine joined anew and is not %s any more", saved_arn(self._state))
            forget(self._state)
        self._state.put(INSTANCE_KIND, IDENTITY_KEY, self._host.identity.encode())

    async def _keep(self, answer: dict[str, Any], arn: str) -> str:
        # A host that registers again keeps its name, whatever the answer says.
        given = arn or str(answer["containerInstance"]["containerInstanceArn"])
        self._state.put(INSTANCE_KIND, ARN_KEY, given.encode())
        await self._state.sync()
        _log.info("registered as %s", given)
        return given

    async def _after_refusal(self, error: CallFailedError, arn: str) -> None:
        """Return when another attempt makes sense; raise RegistrationRefusedError otherwise."""
        if TYPE_CHANGE in error.message:
            raise RegistrationRefusedError(error.message) from error
        if arn and error.code in ("ClientException", "InvalidParameterException"):
            _log.warning("%s is not this host's name any more, it registers anew: %s", arn, error)
            forget(self._state)
        elif error.code == "ClusterNotFoundException" and self._settings.cluster == "default":
            await self._client.call("CreateCluster", {"clusterName": "default"})
        elif error.code in ("ClientException", "InvalidParameterException"):
            raise RegistrationRefusedError(error.message) from error
        else:
            _log.warning("this host could not be registered yet: %s", error)
