"""Settings of the control plane, each with its unit, default and reason.

Owns: `Settings` and how they are read from text. Never reads a file or the environment by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import msgspec

from homeport.errors import HomeportError

AUDIT_WRITE_FAILURES: Final = ("hold", "refuse", "serve")


class UnknownSettingError(HomeportError):
    """A setting's name or value is not valid."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every named setting of the control plane. `homeport server --set NAME=VALUE` changes one."""

    encoded_authorization_messages: bool = False
    """Whether refusals bring an encoded message with the decision and the request's context, which DecodeAuthorizationMessage reads for a day.
    ECS and IAM bring none, EC2 does."""
    last_use_seconds: float = 300.0
    """How often the last use of one access key or role is written down at most; 0: never."""
    web_identity_local_issuers: str = ""
    """HOST or HOST:PORT with commas between them: issuers of web identities that may be called over plain HTTP, and at an address of this machine.
    Every other must have https and another address."""
    healthy_after_seconds: float = 40.0
    """How long a task without any health check must be RUNNING before it counts as healthy (ecs-reference 3.9)."""
    stopped_task_retention_seconds: float = 86_400.0
    """How long a STOPPED task stays visible. ECS promises one hour; users ask for more."""
    inactive_service_retention_seconds: float = 86_400.0
    """How long an INACTIVE service and its deployments stay visible (the services-inactive waiter needs some time)."""
    deployment_retention_seconds: float = 7_776_000.0
    """How long a finished deployment stays in the history of a service that lives on: 90 days, as ECS has it."""
    inactive_instance_retention_seconds: float = 3_600.0
    """How long a deregistered container instance stays describable."""
    idempotency_seconds: float = 86_400.0
    """How long a client token is remembered."""
    effect_retention_seconds: float = 300.0
    """How long the answer of a change is kept for the same call sent again: longer than SDKs go on trying."""
    start_throttle_base_seconds: float = 15.0
    """First delay of the launch throttle, after the third task in a row that never ran; doubles with each further one."""
    start_throttle_max_seconds: float = 1_620.0
    """Ceiling of the launch throttle: 27 minutes, as ECS has it."""
    crash_throttle_base_seconds: float = 0.5
    """First delay for a service whose tasks keep ending by themselves soon after they ran; doubles with each further round. ECS has no such brake,
    but its launches take many seconds where ours take a fraction of one."""
    crash_throttle_max_seconds: float = 60.0
    """Ceiling of that delay."""
    event_repeat_seconds: float = 21_600.0
    """A service event with the same cause is not written again within this time (6 h)."""
    heartbeat_seconds: float = 30.0
    """Time between two heartbeats to an agent; the upstream agent gives up after 60 s of silence."""
    agent_silence_seconds: float = 75.0
    """An agent that answered nothing for this long is disconnected."""
    session_max_seconds: float = 1_500.0
    """Age at which the server closes an agent's connection (the agent's own limit is 30 min)."""
    instance_session_seconds: float = 3_600.0
    """How long the credentials of a host's agent are good; it renews them when two thirds of that are over."""
    task_credentials_seconds: float = 21_600.0
    """How long the credentials of a task's roles hold (6 h, as ECS has it); new ones come after a third of it."""
    root_key_file: str = ""
    """Where the root key is that everything secret in the state hangs on; "": root.key in the data directory, made at first start."""
    root_key_command: str = ""
    """A program with arguments that prints the root key instead."""
    data_key_seconds: float = 7_776_000.0
    """After how long a new data key takes over, and seals everything anew: 90 days."""
    clock_skew_seconds: float = 300.0
    """How far a request's signing time may be from the server's clock."""
    body_bytes_max: int = 1_048_576
    """Largest request body."""
    request_throttling_factor: float = 0.0
    """Throttle requests at so many times ECS's rates (1: exactly those); 0: not at all, as one's own machine needs no such fence."""
    tls_names: str = ""
    """Further names and addresses, with commas between them, that the certificates of this installation's own authority are to have."""
    tls_certificate_seconds: float = 7_776_000.0
    """How long such a certificate counts: 90 days. It is renewed when less than a third of that is left."""
    tls_authority_seconds: float = 315_360_000.0
    """How long an authority counts that is made now: 10 years."""
    tls_take_authority: str = ""
    """SHA-256 of the authority that this server is to make the installation's though another one is noted: for when every copy of that one's key
    is lost. Its clients have to be given the new ca.pem."""
    tls_look_seconds: float = 10.0
    """How often a server looks whether a certificate is due or was replaced."""
    sweep_seconds: float = 10.0
    """Period in which every controller looks at every key of its own accord."""
    alarm_source: str = ""
    """Where the states of alarms are read that deployments watch: an http(s) URL or the path of a file; "": nowhere, so none can be enabled."""
    alarm_poll_seconds: float = 10.0
    """How often they are read while a deployment watches some."""
    hook_answer_seconds: float = 900.0
    """How long the URL of a lifecycle hook may take to answer one call: 15 minutes, as ECS gives a Lambda function."""
    journal_retention_seconds: float = 2_592_000.0
    """How long journal entries are kept: 30 days."""
    journal_bytes_max: int = 1_073_741_824
    """About how large the journal may get before its oldest entries go, whatever their age; 0: as large as the disk allows."""
    journal_etcd_entries: int = 10_000
    """With etcd: how many of the newest journal entries stay there though every server has them in its own file."""
    journal_etcd_retention_seconds: float = 172_800.0
    """With etcd: how long entries wait there for servers that do not copy them (2 days)."""
    journal_member_seconds: float = 86_400.0
    """With etcd: how long a server that is not seen any more counts as one that will come for its entries (1 day)."""
    journal_gap_patience_seconds: float = 600.0
    """With etcd: how long a server looks for entries that it missed before it goes on without them."""
    audit_retention_seconds: float = 31_622_400.0
    """How long records of the audit log are kept: 366 days, since PCI DSS asks for a year."""
    audit_bytes_max: int = 4_294_967_296
    """How large the audit log may get before its oldest files go, whatever their age; 0: as large as the disk allows."""
    audit_segment_bytes_max: int = 67_108_864
    """Size at which the audit log begins another file; retention removes whole files."""
    audit_pending_bytes_max: int = 33_554_432
    """Records that may wait in memory for the disk before calls wait, and are refused."""
    audit_write_failure: str = "hold"
    """What happens while the audit log cannot be written. hold: calls are served while their records find room in memory, then refused; refuse: they
    are refused at once; serve: they are served all the same, and what found no room is counted in the log."""
    audit_checkpoint_seconds: float = 300.0
    """How often a checkpoint of journal and audit log is signed, if there is something new."""
    audit_checkpoint_records: int = 10_000
    """So many new records bring one sooner."""
    provisioning_timeout_seconds: float = 1_800.0
    """How long a task waits as PROVISIONING for an instance of its capacity provider; ECS gives up after 10 to 30 minutes."""
    provisioning_tasks_max: int = 500
    """Tasks that may wait so in one cluster."""
    capacity_providers_per_cluster_max: int = 20
    """Capacity providers that one cluster may be associated with."""
    managed_scaling_seconds: float = 60.0
    """How often the size of each capacity provider with managed scaling is looked at; ECS does it every minute."""
    managed_draining_seconds_max: float = 172_800.0
    """How long managed draining holds an instance's end up: 48 h, as ECS has it."""
    instance_providers: str = ""
    """Who makes and ends the instances of capacity providers: NAME=WHERE with commas between them. WHERE is the absolute path of a program or an
    http(s) URL, NAME a capacity provider's or * for all others; ACCOUNT/NAME and ACCOUNT/* for those of another account than the first."""
    join_token_retention_seconds: float = 86_400.0
    """How long a join token is remembered after its expiry."""
    instance_identity_retention_seconds: float = 2_592_000.0
    """How long a host is remembered that renews no credentials and whose container instance is not registered (30 days)."""
    inactive_capacity_provider_retention_seconds: float = 3_600.0
    """How long a deleted capacity provider stays describable."""
    clusters_max: int = 10_000
    """Clusters per account."""
    services_per_cluster_max: int = 5_000
    """Services per cluster, those that still drain included."""
    tasks_per_service_max: int = 5_000
    """Desired count of one service."""
    container_instances_per_cluster_max: int = 5_000
    """Container instances per cluster, those that are not deregistered."""
    containers_per_task_definition_max: int = 10
    """Containers in one task definition."""
    task_definition_bytes_max: int = 65_536
    """Size of one revision of a task definition."""
    task_definition_revisions_max: int = 1_000_000
    """Revisions that one family may ever have; numbers are never used again."""
    tasks_per_run_max: int = 10
    """Tasks that one RunTask may start."""
    instances_per_start_max: int = 10
    """Container instances that one StartTask may name."""
    security_groups_max: int = 5
    """Security groups of one network configuration."""
    subnets_max: int = 16
    """Subnets of one network configuration."""
    gateways_per_cluster_max: int = 5
    """Gateways that one cluster may be associated with."""
    task_sets_per_service_max: int = 5
    """Task sets of one service, those that are being deleted among them."""
    custom_attributes_max: int = 10
    """Custom attributes per container instance."""
    tags_max: int = 50
    """Tags per resource."""
    accounts_max: int = 1_000
    """Accounts of the installation, closed ones included."""


QUOTAS: Final = (
    "capacity_providers_per_cluster_max",
    "clusters_max",
    "container_instances_per_cluster_max",
    "containers_per_task_definition_max",
    "custom_attributes_max",
    "gateways_per_cluster_max",
    "instances_per_start_max",
    "provisioning_tasks_max",
    "security_groups_max",
    "services_per_cluster_max",
    "subnets_max",
    "tags_max",
    "task_definition_bytes_max",
    "task_definition_revisions_max",
    "task_sets_per_service_max",
    "tasks_per_run_max",
    "tasks_per_service_max",
)
"""The settings that may have another value for one account: all of them whole numbers."""


def instance_providers_of(text: str) -> dict[str, str]:
    """The setting `instance_providers` by name. Raises UnknownSettingError for what is neither an absolute path nor an http(s) URL."""
    found: dict[str, str] = {}
    for part in filter(None, (item.strip() for item in text.split(","))):
        name, separator, where = part.partition("=")
        if not separator or not name or name in found or not where.startswith(("/", "http://", "https://")):
            raise UnknownSettingError(f"setting instance_providers: {part!r} is not NAME=/PROGRAM or NAME=http(s)://URL, each name once")
        found[name] = where
    return found


def local_issuers_of(text: str) -> frozenset[str]:
    """The setting `web_identity_local_issuers`: HOST or HOST:PORT, in lower case. Raises UnknownSettingError for anything else."""
    found = frozenset(part.strip().lower() for part in text.split(",") if part.strip())
    for each in found:
        if not all(character.isalnum() or character in ".-:" for character in each):
            raise UnknownSettingError(f"setting web_identity_local_issuers: {each!r} is not HOST or HOST:PORT")
    return found


def parse_settings(pairs: Iterable[str], base: Settings | None = None) -> Settings:
    """Settings with each `NAME=VALUE` of `pairs` put over `base` (default: the defaults).

    Raises UnknownSettingError for a name that is no setting, a value of the wrong type, and a number below 0 or without an end.
    """
    values: dict[str, object] = msgspec.structs.asdict(base or Settings())
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or name not in values:
            raise UnknownSettingError(f"{pair!r} is no setting; known are {', '.join(sorted(values))}")
        try:
            values[name] = msgspec.convert(text, type(values[name]), strict=False)
        except msgspec.ValidationError as error:
            raise UnknownSettingError(f"setting {name}: {error}") from None
        value = values[name]
        if isinstance(value, int | float) and not 0 <= value < math.inf:
            raise UnknownSettingError(f"setting {name}: {text} is no number from 0 on")
    instance_providers_of(str(values["instance_providers"]))
    if values["audit_write_failure"] not in AUDIT_WRITE_FAILURES:
        raise UnknownSettingError(f"setting audit_write_failure is one of {', '.join(AUDIT_WRITE_FAILURES)}")
    local_issuers_of(str(values["web_identity_local_issuers"]))
    return Settings(**values)  # type: ignore[arg-type]  # each value has the type of its default, checked above
