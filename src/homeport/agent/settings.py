"""Settings of the agent, each with its unit, default and the environment variable that sets it.

Owns: `AgentSettings` and how it is read from an environment. Never reads the process's environment by itself: `main.py` hands it in.
The variables are those of the upstream agent wherever it has one, so that a host's configuration file keeps its meaning.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from homeport.errors import HomeportError
from homeport.model.secret import hides
from homeport.tls.names import is_loopback

DEFAULT_RESERVED_PORTS: Final = (22, 2375, 2376, 51678, 51679)
"""TCP ports that no task may take: ssh, Docker, and the agent's own (ecs-reference 3.3)."""

CREDENTIALS_PORT: Final = 80
"""Where containers ask for credentials at 169.254.170.2."""
ELSEWHERE_PORT: Final = 8470
"""Where the API is there when its own port is that one."""
PULL_BEHAVIORS: Final = ("default", "always", "once", "prefer-cached")


class AgentSettingsError(HomeportError):
    """An environment variable has a value that the agent cannot use. The message names both."""


@hides("secret_access_key", "session_token")
class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an agent is told from outside."""

    endpoint: str
    """URL of the control plane's ECS API, for example http://127.0.0.1:8470, or the URLs of several servers with commas between them.
    HOMEPORT_ENDPOINTS, else ECS_BACKEND_HOST, else AWS_ENDPOINT_URL_ECS, else AWS_ENDPOINT_URL."""
    region: str
    """Region of the signatures. AWS_REGION, else AWS_DEFAULT_REGION, else us-east-1."""
    access_key_id: str = ""
    """AWS_ACCESS_KEY_ID; "" for a host that joined."""
    secret_access_key: str = ""
    """AWS_SECRET_ACCESS_KEY."""
    session_token: str = ""
    """AWS_SESSION_TOKEN, for temporary credentials."""
    identity: str = ""
    """File of the host that this machine joined as: its own credentials, in place of keys. HOMEPORT_IDENTITY."""
    ca_file: str = ""
    """Whom to trust at an https endpoint: a file of certificates, read again when it changes; "" for the system's. HOMEPORT_CA_FILE, else
    AWS_CA_BUNDLE."""
    cluster: str = "default"
    """Name or ARN of the cluster to join. ECS_CLUSTER."""
    data_dir: str = "/var/lib/homeport/agent"
    """Directory of the local state; one agent per directory. ECS_DATADIR."""
    docker_host: str = "unix:///var/run/docker.sock"
    """Docker's socket. DOCKER_HOST."""
    installation_id: str = ""
    """Value of the label `homeport.installation` on every container made here, and what tells ours from another's. HOMEPORT_INSTALLATION."""
    zone: str = ""
    """Availability zone of this host; "" means the region's first, for example us-east-1a. HOMEPORT_ZONE."""
    capacity_provider: str = ""
    """Name of the capacity provider that this host belongs to. HOMEPORT_CAPACITY_PROVIDER."""
    instance_type: str = ""
    """Value of ecs.instance-type; "" means a name made of cores and memory. HOMEPORT_INSTANCE_TYPE."""
    instance_id: str = ""
    """What the API shows as ec2InstanceId; "" leaves the choice to the control plane. HOMEPORT_INSTANCE_ID."""
    instance_attributes: tuple[tuple[str, str], ...] = ()
    """Custom attributes, sent at registration. ECS_INSTANCE_ATTRIBUTES: a JSON object of strings."""
    instance_tags: tuple[tuple[str, str], ...] = ()
    """Tags, sent at the first registration. ECS_CONTAINER_INSTANCE_TAGS: a JSON object of strings."""
    external: bool = False
    """Advertise ecs.capability.external: only tasks of launch type EXTERNAL come here. ECS_EXTERNAL."""
    gpu_ids: tuple[str, ...] = ()
    """Ids of this host's GPUs that tasks may have, as `nvidia-smi -L` shows them. HOMEPORT_GPU_IDS: with commas between them."""
    cpu: int = 0
    """CPU units to register; 0 means 1024 for each core. HOMEPORT_CPU."""
    memory_mib: int = 0
    """MiB to register, before `reserved_memory_mib`; 0 means the host's memory. HOMEPORT_MEMORY."""
    reserved_memory_mib: int = 0
    """MiB kept from tasks. ECS_RESERVED_MEMORY."""
    reserved_ports: tuple[int, ...] = DEFAULT_RESERVED_PORTS
    """TCP ports kept from tasks; replaces the default list. ECS_RESERVED_PORTS: a JSON list."""
    reserved_ports_udp: tuple[int, ...] = ()
    """UDP ports kept from tasks. ECS_RESERVED_PORTS_UDP: a JSON list."""
    dynamic_host_port_range: tuple[int, int] | None = None
    """First and last port for dynamic host ports; None means the kernel's ephemeral range. ECS_DYNAMIC_HOST_PORT_RANGE: FIRST-LAST."""
    available_logging_drivers: tuple[str, ...] = ()
    """Log drivers to advertise; () means those that Docker has. ECS_AVAILABLE_LOGGING_DRIVERS: a JSON list."""
    disable_privileged: bool = False
    """Refuse privileged containers by not advertising the capability. ECS_DISABLE_PRIVILEGED."""
    enable_task_iam_role: bool = True
    """Give tasks with a role their credentials, where nft can be used. ECS_ENABLE_TASK_IAM_ROLE."""
    image_pull_behavior: str = "prefer-cached"
    """default (pull, else what is here), always, once, prefer-cached (a local image starts without any network). ECS_IMAGE_PULL_BEHAVIOR."""
    image_pull_timeout_seconds: float = 7_200.0
    """Longest pull. ECS_IMAGE_PULL_TIMEOUT."""
    image_pull_inactivity_seconds: float = 60.0
    """Longest silence in a pull. ECS_IMAGE_PULL_INACTIVITY_TIMEOUT."""
    container_stop_timeout_seconds: float = 30.0
    """From the stop signal to SIGKILL, unless the container says otherwise. ECS_CONTAINER_STOP_TIMEOUT."""
    container_start_timeout_seconds: float = 180.0
    """Longest start of a container. ECS_CONTAINER_START_TIMEOUT."""
    container_create_timeout_seconds: float = 240.0
    """Longest creation of a container. ECS_CONTAINER_CREATE_TIMEOUT."""
    container_cleanup_seconds: float = 10_800.0
    """From the acknowledged STOPPED to the removal of the containers (3 h). ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION."""
    start_pool_max: int = 4
    """Containers being created or started at one time: more only makes each slower. HOMEPORT_START_POOL."""
    report_pool_max: int = 10
    """Tasks whose state is being submitted at one time (the upstream agent's number). HOMEPORT_REPORT_POOL."""
    silence_seconds: float = 60.0
    """A connection on which nothing came for this long (and up to twice, by chance) is given up. HOMEPORT_SILENCE."""
    ping_seconds: float = 8.0
    """Where there is another server to go to, a control connection on which nothing came for this long is pinged, and given up when half as long
    later there is no answer. HOMEPORT_PING."""
    call_timeout_seconds: float = 42.0
    """Longest API call (the upstream agent's round trip limit). HOMEPORT_CALL_TIMEOUT."""
    inactive_wait_seconds: float = 3_600.0
    """How long a deregistered instance's agent waits before it asks again (the upstream agent's hour). HOMEPORT_INACTIVE_WAIT."""
    backoff_base_seconds: float = 0.25
    """First delay after a failed connection; grows by half each time. HOMEPORT_BACKOFF_BASE."""
    backoff_max_seconds: float = 10.0
    """Longest delay between two attempts: how late an agent may notice that the control plane is back. HOMEPORT_BACKOFF_MAX."""

    @property
    def container_api_port(self) -> int:
        """Where containers with a role find the API at 169.254.170.2: its own port, of the first server named; 0 without an endpoint."""
        if not self.endpoint:
            return 0
        place = urlsplit(self.endpoint.split(",")[0])
        port = place.port or (443 if place.scheme == "https" else 80)
        return port if port != CREDENTIALS_PORT else ELSEWHERE_PORT

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Every server's URL, the one to begin with first: which that is depends on the instance, so that a fleet spreads."""
        given = self.endpoint.split(",")
        seed = hashlib.sha256(f"{self.instance_id} {self.data_dir}".encode()).digest()
        start = int.from_bytes(seed[:4], "big") % len(given)
        return (*given[start:], *given[:start])


_DURATION_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)")


def parse_duration(text: str) -> float:
    """Seconds of a duration as the upstream agent's variables have it ("1m30s", "500ms"); a bare number is seconds.

    Raises ValueError.
    """
    if re.fullmatch(r"\d+(\.\d*)?", text):
        return float(text)
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration (for example 30s, 3h)")
    return sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1", "t"):
        return True
    if text.lower() in ("false", "0", "f", ""):
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def _integer(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError("a whole number is needed")
    return int(text)


def _count(text: str) -> int:
    if _integer(text) < 1:
        raise ValueError("at least 1 is needed")
    return int(text)


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    decoded = json.loads(text)
    if not isinstance(decoded, dict):
        raise ValueError("a JSON object is needed")
    return tuple((str(name), str(value)) for name, value in decoded.items())


def _ports(text: str) -> tuple[int, ...]:
    decoded = json.loads(text)
    if not isinstance(decoded, list):
        raise ValueError("a JSON list is needed")
    return tuple(int(port) for port in decoded)


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _names(text: str) -> tuple[str, ...]:
    decoded = json.loads(text)
    if not isinstance(decoded, list):
        raise ValueError("a JSON list is needed")
    return tuple(str(name) for name in decoded)


def _port_range(text: str) -> tuple[int, int]:
    first, separator, last = text.partition("-")
    if not separator or not 0 < int(first) <= int(last) <= 65_535:
        raise ValueError("FIRST-LAST with ports from 1 to 65535 is needed")
    return int(first), int(last)


def _pull_behavior(text: str) -> str:
    if text not in PULL_BEHAVIORS:
        raise ValueError(f"one of {', '.join(PULL_BEHAVIORS)} is needed")
    return text


def _endpoint(text: str) -> str:
    # The upstream agent takes a host without a scheme as https.
    given = [part.strip() for part in text.split(",") if part.strip()]
    if not given:
        raise ValueError("a URL is needed, or several with commas between them")
    return ",".join((part if "://" in part else f"https://{part}").rstrip("/") for part in given)


def _refuse_in_the_clear(endpoint: str) -> None:
    """What goes between server and agent, credentials of tasks among it, never leaves this machine without TLS. Raises AgentSettingsError."""
    for url in endpoint.split(","):
        place = urlsplit(url)
        if place.scheme != "https" and not (place.scheme == "http" and is_loopback(place.hostname or "")):
            raise AgentSettingsError(f"{url}: to other machines the agent speaks https only")


_VARIABLES: Final = (
    ("AWS_ENDPOINT_URL", "endpoint", _endpoint),
    ("AWS_ENDPOINT_URL_ECS", "endpoint", _endpoint),
    ("ECS_BACKEND_HOST", "endpoint", _endpoint),
    ("HOMEPORT_ENDPOINTS", "endpoint", _endpoint),
    ("AWS_DEFAULT_REGION", "region", str),
    ("AWS_REGION", "region", str),
    ("AWS_ACCESS_KEY_ID", "access_key_id", str),
    ("AWS_SECRET_ACCESS_KEY", "secret_access_key", str),
    ("AWS_SESSION_TOKEN", "session_token", str),
    ("HOMEPORT_IDENTITY", "identity", str),
    ("AWS_CA_BUNDLE", "ca_file", str),
    ("HOMEPORT_CA_FILE", "ca_file", str),
    ("ECS_CLUSTER", "cluster", str),
    ("ECS_DATADIR", "data_dir", str),
    ("DOCKER_HOST", "docker_host", str),
    ("HOMEPORT_INSTALLATION", "installation_id", str),
    ("HOMEPORT_ZONE", "zone", str),
    ("HOMEPORT_CAPACITY_PROVIDER", "capacity_provider", str),
    ("HOMEPORT_INSTANCE_TYPE", "instance_type", str),
    ("HOMEPORT_INSTANCE_ID", "instance_id", str),
    ("ECS_INSTANCE_ATTRIBUTES", "instance_attributes", _pairs),
    ("ECS_CONTAINER_INSTANCE_TAGS", "instance_tags", _pairs),
    ("ECS_EXTERNAL", "external", _boolean),
    ("HOMEPORT_GPU_IDS", "gpu_ids", _words),
    ("HOMEPORT_CPU", "cpu", _integer),
    ("HOMEPORT_MEMORY", "memory_mib", _integer),
    ("ECS_RESERVED_MEMORY", "reserved_memory_mib", _integer),
    ("ECS_RESERVED_PORTS", "reserved_ports", _ports),
    ("ECS_RESERVED_PORTS_UDP", "reserved_ports_udp", _ports),
    ("ECS_DYNAMIC_HOST_PORT_RANGE", "dynamic_host_port_range", _port_range),
    ("ECS_AVAILABLE_LOGGING_DRIVERS", "available_logging_drivers", _names),
    ("ECS_ENABLE_TASK_IAM_ROLE", "enable_task_iam_role", _boolean),
    ("ECS_DISABLE_PRIVILEGED", "disable_privileged", _boolean),
    ("ECS_IMAGE_PULL_BEHAVIOR", "image_pull_behavior", _pull_behavior),
    ("ECS_IMAGE_PULL_TIMEOUT", "image_pull_timeout_seconds", parse_duration),
    ("ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", "image_pull_inactivity_seconds", parse_duration),
    ("ECS_CONTAINER_STOP_TIMEOUT", "container_stop_timeout_seconds", parse_duration),
    ("ECS_CONTAINER_START_TIMEOUT", "container_start_timeout_seconds", parse_duration),
    ("ECS_CONTAINER_CREATE_TIMEOUT", "container_create_timeout_seconds", parse_duration),
    ("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "container_cleanup_seconds", parse_duration),
    ("HOMEPORT_START_POOL", "start_pool_max", _count),
    ("HOMEPORT_REPORT_POOL", "report_pool_max", _count),
    ("HOMEPORT_SILENCE", "silence_seconds", parse_duration),
    ("HOMEPORT_PING", "ping_seconds", parse_duration),
    ("HOMEPORT_CALL_TIMEOUT", "call_timeout_seconds", parse_duration),
    ("HOMEPORT_INACTIVE_WAIT", "inactive_wait_seconds", parse_duration),
    ("HOMEPORT_BACKOFF_BASE", "backoff_base_seconds", parse_duration),
    ("HOMEPORT_BACKOFF_MAX", "backoff_max_seconds", parse_duration),
)
"""Variable, field, reader; a later row wins over an earlier one for the same field."""


def from_environment(environment: Mapping[str, str]) -> AgentSettings:
    """The settings that `environment` gives; an empty variable counts as absent. With HOMEPORT_IDENTITY no key is needed, and none is looked at.

    Raises AgentSettingsError when a value cannot be read, or when the endpoint or a key is missing.
    """
    values: dict[str, object] = {"region": "us-east-1"}
    for variable, field, reader in _VARIABLES:
        text = environment.get(variable, "").strip()
        if not text:
            continue
        try:
            values[field] = reader(text)
        except ValueError as error:
            raise AgentSettingsError(f"{variable}={text}: {error}") from None
    needed = (("endpoint", "ECS_BACKEND_HOST"), ("access_key_id", "AWS_ACCESS_KEY_ID"), ("secret_access_key", "AWS_SECRET_ACCESS_KEY"))
    for field, variable in needed:
        if field not in values and (field == "endpoint" or "identity" not in values):
            raise AgentSettingsError(f"{variable} is not set")
    _refuse_in_the_clear(str(values["endpoint"]))
    return AgentSettings(**values)  # type: ignore[arg-type]  # each reader gives its field's type
