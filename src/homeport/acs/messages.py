"""The messages of the agent communication service (ACS) and of telemetry (TCS), and their envelope.

Owns: the types, named as the upstream agent's wire names them, and `encode`/`decode` of the envelope {"type": …, "message": {…}}.
Never sends anything and never decides what to send. Sources: agent-protocol.md sections 5 to 7 (facts of the public agent's wire).
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeport.model.secret import hides


class Message(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A message; its class name is the envelope's `type`. Members are in the wire's spelling.

    A member left out means its zero value to the upstream agent, so every member whose default is not zero is required here.
    """


class VersionInfo(Message, kw_only=True):
    """Versions of an agent."""

    agentHash: str = ""
    agentVersion: str = ""
    dockerVersion: str = ""


class HeartbeatMessage(Message, kw_only=True):
    """Server → agent, at least every 60 s."""

    messageId: str = ""
    healthy: bool


class HeartbeatAckRequest(Message, kw_only=True):
    """Agent → server: answer to a heartbeat."""

    messageId: str = ""


class PortMapping(Message, kw_only=True):
    """A container's port. hostPort 0: the agent chooses."""

    containerPort: int = 0
    hostPort: int = 0
    protocol: str
    containerPortRange: str = ""
    bindIP: str = ""


class MountPoint(Message, kw_only=True):
    """A volume of the task at a path of the container."""

    sourceVolume: str = ""
    containerPath: str = ""
    readOnly: bool = False


class VolumeFrom(Message, kw_only=True):
    """All mounts of another container."""

    sourceContainer: str = ""
    readOnly: bool = False


class Dependency(Message, kw_only=True):
    """This container waits for `containerName` to reach `condition` (START, COMPLETE, SUCCESS, HEALTHY)."""

    containerName: str = ""
    condition: str = ""


class DockerConfig(Message, kw_only=True):
    """Docker's own forms as JSON strings: `config` is merged over Config, `hostConfig` over HostConfig."""

    config: str = ""
    hostConfig: str = ""
    version: str = ""


class RestartPolicy(Message, kw_only=True):
    """Restarts made by the agent."""

    enabled: bool = False
    ignoredExitCodes: list[int] = msgspec.field(default_factory=list)
    restartAttemptPeriod: int = 0


class ContainerPayload(Message, kw_only=True):
    """A container of a task, as the agent is to make it."""

    name: str
    image: str
    essential: bool
    cpu: int = 0
    memory: int = 0
    command: list[str] = msgspec.field(default_factory=list)
    entryPoint: list[str] = msgspec.field(default_factory=list)
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    portMappings: list[PortMapping] = msgspec.field(default_factory=list)
    mountPoints: list[MountPoint] = msgspec.field(default_factory=list)
    volumesFrom: list[VolumeFrom] = msgspec.field(default_factory=list)
    links: list[str] = msgspec.field(default_factory=list)
    dependsOn: list[Dependency] = msgspec.field(default_factory=list)
    startTimeout: int = 0
    stopTimeout: int = 0
    dockerConfig: DockerConfig | None = None
    healthCheckType: str = ""
    """`docker` (lower case) when dockerConfig.config has a Healthcheck."""
    restartPolicy: RestartPolicy | None = None
    containerArn: str = ""
    overrides: str = ""


class HostVolume(Message, kw_only=True):
    """A path of the host; "" means a volume of the task's lifetime."""

    sourcePath: str = ""


class DockerVolume(Message, kw_only=True):
    """A Docker volume."""

    scope: str
    autoprovision: bool = False
    driver: str
    driverOpts: dict[str, str] = msgspec.field(default_factory=dict)
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class VolumePayload(Message, kw_only=True):
    """A volume of a task. `type`: host or docker."""

    name: str
    type: str
    host: HostVolume | None = None
    dockerVolumeConfiguration: DockerVolume | None = None


class Association(Message, kw_only=True):
    """A device of the instance that containers of a task get; the only type here is `gpu`, and `name` its id."""

    name: str
    type: str
    containers: list[str] = msgspec.field(default_factory=list)


@hides("secretAccessKey", "sessionToken")
class RoleCredentials(Message, kw_only=True):
    """Temporary credentials of one role of a task. What holds them prints without what is secret in them."""

    credentialsId: str = ""
    """The last part of /v2/credentials/ID; the same for as long as the task lives."""
    roleArn: str = ""
    accessKeyId: str = ""
    secretAccessKey: str = ""
    sessionToken: str = ""
    expiration: str = ""
    """2026-01-31T12:00:00Z."""

    @property
    def address(self) -> RoleCredentials:
        """Only what may be stored: id and role."""
        return RoleCredentials(credentialsId=self.credentialsId, roleArn=self.roleArn)

    def __repr__(self) -> str:
        return f"RoleCredentials({self.roleArn!r}, {self.accessKeyId!r}, until {self.expiration!r})"


class TaskPayload(Message, kw_only=True):
    """A task to run (desiredStatus RUNNING) or to stop (STOPPED; `arn` suffices)."""

    arn: str
    desiredStatus: str
    family: str = ""
    version: str = ""
    taskClusterArn: str = ""
    containers: list[ContainerPayload] = msgspec.field(default_factory=list)
    volumes: list[VolumePayload] = msgspec.field(default_factory=list)
    networkMode: str = ""
    cpu: float = 0.0
    """vCPU of the whole task; 0 means no limit."""
    memory: int = 0
    """MiB of the whole task; 0 means no limit."""
    launchType: str = ""
    serviceName: str = ""
    group: str = ""
    pidMode: str = ""
    ipcMode: str = ""
    overrides: str = ""
    associations: list[Association] = msgspec.field(default_factory=list)
    roleCredentials: RoleCredentials | None = None
    executionRoleCredentials: RoleCredentials | None = None


class PayloadMessage(Message, kw_only=True):
    """Server → agent: tasks to run or stop."""

    messageId: str
    clusterArn: str
    containerInstanceArn: str
    seqNum: int = 0
    generatedAt: int = 0
    """Milliseconds since the epoch."""
    tasks: list[TaskPayload] = msgspec.field(default_factory=list)


class IAMRoleCredentialsMessage(Message, kw_only=True):
    """Server → agent: new credentials in the place of those with the same id. `roleType`: TaskApplication or TaskExecution."""

    messageId: str = ""
    taskArn: str = ""
    roleType: str = ""
    roleCredentials: RoleCredentials | None = None


class IAMRoleCredentialsAckRequest(Message, kw_only=True):
    """Agent → server: the credentials of that id are in its hands, from a payload or by themselves."""

    messageId: str = ""
    credentialsId: str = ""
    expiration: str = ""


class AckRequest(Message, kw_only=True):
    """Agent → server: the message was accepted."""

    cluster: str = ""
    containerInstance: str = ""
    messageId: str = ""


class NackRequest(Message, kw_only=True):
    """Agent → server: the message was refused."""

    cluster: str = ""
    containerInstance: str = ""
    messageId: str = ""
    reason: str = ""


class TaskIdentifier(Message, kw_only=True):
    """A task and the status that it is wanted in."""

    taskArn: str = ""
    desiredStatus: str = ""
    taskClusterArn: str = ""


class TaskManifestMessage(Message, kw_only=True):
    """Server → agent: every task that this instance is to hold. `timeline` is greater than every earlier seqNum and timeline."""

    messageId: str
    clusterArn: str
    containerInstanceArn: str
    generatedAt: int = 0
    timeline: int = 0
    tasks: list[TaskIdentifier] = msgspec.field(default_factory=list)


class TaskStopVerificationMessage(Message, kw_only=True):
    """Agent → server: tasks that the agent holds and the manifest does not have."""

    messageId: str = ""
    stopCandidates: list[TaskIdentifier] = msgspec.field(default_factory=list)


class TaskStopVerificationAck(Message, kw_only=True):
    """Server → agent: of the candidates, those really to stop."""

    messageId: str = ""
    generatedAt: int = 0
    stopTasks: list[TaskIdentifier] = msgspec.field(default_factory=list)


class StateReport(Message, kw_only=True):
    """One report of an agent, on its control connection: what it would otherwise call the ECS API with."""

    number: int
    """The agent's, unique in its connection."""
    operation: str
    """SubmitTaskStateChange or SubmitContainerStateChange."""
    request: msgspec.Raw
    """The operation's request, as in the API."""


class RefusedReport(Message, kw_only=True):
    """A report that was not taken, with the error that the API would have answered."""

    number: int
    code: str
    message: str = ""


class StateReportsOffer(Message, kw_only=True):
    """Server → agent, first in a connection whose query asked for it: reports may come here. Homeport's own, as are the two below."""

    waitingMax: int
    """Reports without an answer that the server keeps for this connection; what is over that is refused."""


class StateReportsRequest(Message, kw_only=True):
    """Agent → server: reports, none of which needs another of the same message to have been taken."""

    reports: list[StateReport] = msgspec.field(default_factory=list)


class StateReportsAck(Message, kw_only=True):
    """Server → agent: reports that are durable, and reports that were refused."""

    taken: list[int] = msgspec.field(default_factory=list)
    refused: list[RefusedReport] = msgspec.field(default_factory=list)


class ContainerHealth(Message, kw_only=True):
    """Health of one container, over telemetry."""

    containerName: str = ""
    healthStatus: str = ""
    statusSince: float = 0.0
    statusMessage: str = ""


class TaskHealth(Message, kw_only=True):
    """Health of the containers of one task."""

    taskArn: str = ""
    taskDefinitionFamily: str = ""
    taskDefinitionVersion: str = ""
    containers: list[ContainerHealth] = msgspec.field(default_factory=list)


class PublishMetadata(Message, kw_only=True):
    """Head of every telemetry message of the agent."""

    cluster: str = ""
    containerInstance: str = ""
    idle: bool = False
    fin: bool = False
    messageId: str = ""
    requestId: str = ""


class PublishHealthRequest(Message, kw_only=True):
    """Agent → server: container health."""

    metadata: PublishMetadata | None = None
    tasks: list[TaskHealth] = msgspec.field(default_factory=list)
    timestamp: float = 0.0


class PublishMetricsRequest(Message, kw_only=True):
    """Agent → server: metrics; their samples are not stored yet."""

    metadata: PublishMetadata | None = None
    taskMetrics: list[Any] = msgspec.field(default_factory=list)
    timestamp: float = 0.0


class InstanceStatus(Message, kw_only=True):
    """Status of one part of an instance, for example of its container runtime."""

    type: str = ""
    status: str = ""
    lastUpdated: float = 0.0
    lastStatusChange: float = 0.0


class PublishInstanceStatusRequest(Message, kw_only=True):
    """Agent → server: instance status."""

    metadata: PublishMetadata | None = None
    statuses: list[InstanceStatus] = msgspec.field(default_factory=list)
    timestamp: float = 0.0


class AckPublishMetric(Message, kw_only=True):
    """Server → agent."""

    message: str = "ok"


class AckPublishHealth(Message, kw_only=True):
    """Server → agent."""

    message: str = "ok"


class AckPublishInstanceStatus(Message, kw_only=True):
    """Server → agent."""

    message: str = "ok"


class _Envelope(msgspec.Struct):
    type: str
    message: msgspec.Raw = msgspec.Raw(b"{}")


MESSAGES: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        HeartbeatMessage,
        HeartbeatAckRequest,
        PayloadMessage,
        IAMRoleCredentialsMessage,
        IAMRoleCredentialsAckRequest,
        AckRequest,
        NackRequest,
        TaskManifestMessage,
        TaskStopVerificationMessage,
        TaskStopVerificationAck,
        StateReportsOffer,
        StateReportsRequest,
        StateReportsAck,
        PublishHealthRequest,
        PublishMetricsRequest,
        PublishInstanceStatusRequest,
        AckPublishMetric,
        AckPublishHealth,
        AckPublishInstanceStatus,
    )
}

_envelope_decoder = msgspec.json.Decoder(_Envelope)
_decoders = {name: msgspec.json.Decoder(kind, strict=False) for name, kind in MESSAGES.items()}
_encoder = msgspec.json.Encoder()


def encode(message: Message) -> bytes:
    """The envelope of `message` as JSON."""
    return _encoder.encode({"type": type(message).__name__, "message": message})


def decode(frame: bytes | str) -> Message | None:
    """The message in `frame`, or None for a type that is not known (both ends ignore those).

    Raises msgspec.DecodeError (ValidationError among them) when the frame is no envelope or its message has wrong types.
    """
    envelope = _envelope_decoder.decode(frame)
    decoder = _decoders.get(envelope.type)
    return None if decoder is None else decoder.decode(envelope.message)
