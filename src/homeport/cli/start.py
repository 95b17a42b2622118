"""Starting the programs of an installation and waiting until they serve.

Owns: the options and environments that a started program gets, and what "serves" means. Never keeps a program running: see `up.py`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from homeport.cli import programs
from homeport.cli.arguments import DEFAULT_PORT, SERVER
from homeport.cli.client import Api, ApiCallError, ApiUnreachableError, connection_to
from homeport.cli.group import kept_group
from homeport.cli.installation import DataDirectory, LocalCredentials
from homeport.cli.terminal import CommandError, Terminal
from homeport.iam.host import read as read_host
from homeport.model.record import Instant

SERVER_SECONDS_MAX: Final = 60.0
"""A store of a million records takes 7 s to load; a busy machine some times that."""
AGENT_SECONDS_MAX: Final = 60.0
GONE_SECONDS: Final = 5.0
"""An agent that runs and whose instance is missing for so long does not bring it back by itself."""
AGENT_POLL_SECONDS: Final = 0.05
JOIN_SECONDS: Final = 5.0
"""How long a server may take to say which installation it is of."""
CLUSTER: Final = "default"
ROOT_KEY_VARIABLES: Final = ("HOMEPORT_ROOT_ACCESS_KEY_ID", "HOMEPORT_ROOT_SECRET_ACCESS_KEY")
AGENT_RESERVED_PORTS: Final = (22, 2375, 2376, 51678, 51679)
TOKEN_VARIABLE: Final = "HOMEPORT_JOIN_TOKEN"
_KEY_VARIABLES: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_FOREIGN_VARIABLES: Final = (
    *_KEY_VARIABLES,
    TOKEN_VARIABLE,
    "AWS_PROFILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_ECS",
    "AWS_REGION",
    "HOMEPORT_ENDPOINTS",
    "HOMEPORT_CA_FILE",
    "AWS_CA_BUNDLE",
    *ROOT_KEY_VARIABLES,
)
"""What a user's shell may hold for another purpose and the local agent must not see."""


class InstanceGoneError(CommandError):
    """The agent runs, but its container instance is not there any more: it registers anew when it is started anew."""


class InstanceDrainingError(CommandError):
    """Everything runs, but this machine takes no tasks, because somebody drains it."""

    def __init__(self, arn: str) -> None:
        super().__init__(
            f"the programs run, but this machine's container instance is DRAINING and takes no tasks; to end that:\n"
            f"  aws ecs update-container-instances-state --status ACTIVE --container-instances {arn}"
        )


def port_of(options: argparse.Namespace, directory: DataDirectory) -> int:
    """The port to serve on: the one asked for, else the one used last, else the default."""
    if options.port is not None:
        return int(options.port)
    try:
        credentials = directory.credentials()
    except CommandError:
        return DEFAULT_PORT
    return credentials.port if credentials else DEFAULT_PORT


def start_server(options: argparse.Namespace, directory: DataDirectory, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the control plane with the options of `up` or `server`."""
    arguments = ["--data-dir", str(directory.path), "--port", str(port_of(options, directory))]
    for option in ("account_id", "region", "store", "name", "host", "advertise", "reads"):
        value = getattr(options, option, None)
        if value:
            arguments += [f"--{option.replace('_', '-')}", value]
    for option in ("tls_cert", "tls_key", "tls_ca"):
        if file := getattr(options, option, None):
            arguments += [f"--{option.replace('_', '-')}", str(file)]
    if options.tls or (options.command == "up" and _speaks_tls(directory)):
        arguments.append("--tls")
    for setting in options.settings:
        arguments += ["--set", setting]
    return programs.start(directory, getattr(options, "name", SERVER), arguments, environ=environ, command=SERVER)


def _speaks_tls(directory: DataDirectory) -> bool:
    """Whether the last server here did: `up` goes on as it was, and never back to plain HTTP by itself."""
    credentials = directory.credentials()
    return credentials is not None and credentials.endpoint.startswith("https:")


def wait_for_server(
    process: subprocess.Popen[bytes] | None, directory: DataDirectory, *, port: int, terminal: Terminal, name: str = SERVER
) -> LocalCredentials:
    """Return, with the root key, when the server answers a signed call on `port`; `name` is its own among several.

    Raises CommandError with the end of its log when it ends or takes too long.
    """
    deadline = terminal.deadline(SERVER_SECONDS_MAX)
    its_own = directory if name == SERVER else DataDirectory(directory.path / name)
    while True:
        credentials = its_own.credentials()
        if credentials is not None and credentials.port == port and Api(credentials, terminal.clock).answers():
            return credentials
        ended = process.poll() is not None if process else programs.find(directory, name) is None
        if ended or terminal.is_past(deadline):
            what = "ended" if ended else f"does not answer after {SERVER_SECONDS_MAX:.0f} s"
            raise CommandError(f"the control plane {what}; its last words:\n{programs.log_tail(directory, name)}")
        terminal.pause(programs.POLL_SECONDS)


def agent_environment(options: argparse.Namespace, directory: DataDirectory, environ: Mapping[str, str]) -> dict[str, str]:
    """What the agent is told: the local server's endpoint, or with `--endpoint` (or ECS_BACKEND_HOST) another one's, and which file its own
    credentials are in (`cli/join.py` puts them there). The root's key is never among it.

    Variables that the upstream agent knows and the caller set stay as they are; so do keys of the caller's, for a server elsewhere that this machine
    did not join. Raises CommandError when there is nothing to join.
    """
    given = {"ECS_CLUSTER": CLUSTER, "ECS_DATADIR": str(directory.agent), "HOMEPORT_INSTANCE_ID": directory.instance_id()}
    host = read_host(directory.host)
    local = directory.credentials()
    elsewhere = (
        getattr(options, "endpoint", None) or environ.get("ECS_BACKEND_HOST") or (host.endpoints if host is not None and local is None else "")
    )
    named = {"HOMEPORT_ZONE": options.zone, "HOMEPORT_CAPACITY_PROVIDER": options.capacity_provider}
    typed = {name: value for name, value in named.items() if value}
    if elsewhere:
        return {**given, **_elsewhere(elsewhere, options, directory, environ), **typed, "ECS_BACKEND_HOST": elsewhere}
    credentials = directory.known_credentials()
    group = kept_group(directory)
    given["ECS_RESERVED_PORTS"] = json.dumps([*AGENT_RESERVED_PORTS, *(group.ports if group else (credentials.port,))])
    kept = {name: value for name, value in environ.items() if name not in _FOREIGN_VARIABLES}
    return {
        **given,
        **kept,
        **typed,
        "ECS_BACKEND_HOST": ",".join(credentials.endpoints or (credentials.endpoint,)),
        "AWS_DEFAULT_REGION": credentials.region,
        "HOMEPORT_IDENTITY": str(directory.host),
        "HOMEPORT_INSTALLATION": credentials.installation_id,
        **({"HOMEPORT_CA_FILE": credentials.ca_file} if credentials.ca_file else {}),
    }


def _elsewhere(elsewhere: str, options: argparse.Namespace, directory: DataDirectory, environ: Mapping[str, str]) -> dict[str, str]:
    """What is particular to servers of another machine: the host that this machine joined as, or the caller's keys."""
    kept = {name: value for name, value in environ.items() if name not in (*ROOT_KEY_VARIABLES, TOKEN_VARIABLE)}
    named = getattr(options, "ca_file", None) or environ.get("HOMEPORT_CA_FILE")
    keys = bool(environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"))
    host = read_host(directory.host)
    if host is not None and (environ.get("HOMEPORT_IDENTITY") or not keys or set(elsewhere.split(",")) & set(host.endpoints.split(","))):
        pinned = directory.host_ca if directory.host_ca.exists() else ""
        own = {"HOMEPORT_IDENTITY": str(directory.host), "HOMEPORT_INSTALLATION": host.installation, "AWS_DEFAULT_REGION": host.region}
        trusted = {"HOMEPORT_CA_FILE": str(named or pinned)} if named or pinned else {}
        cluster = {} if environ.get("ECS_CLUSTER") else {"ECS_CLUSTER": host.cluster}
        return {**{name: value for name, value in kept.items() if name not in _KEY_VARIABLES}, **own, **trusted, **cluster}
    if not keys:
        raise CommandError(
            f"to join {elsewhere}, give a token (--join TOKEN; `homeport token create` makes one), or set {' and '.join(_KEY_VARIABLES[:2])}"
        )
    ca_file = named or environ.get("AWS_CA_BUNDLE")
    trusted = {"HOMEPORT_CA_FILE": str(ca_file)} if ca_file else {}
    installation = environ.get("HOMEPORT_INSTALLATION") or joined_installation(directory, elsewhere, str(ca_file or ""))
    return {**{name: value for name, value in kept.items() if name != "HOMEPORT_IDENTITY"}, **trusted, "HOMEPORT_INSTALLATION": installation}


def joined_installation(directory: DataDirectory, endpoints: str, ca_file: str = "") -> str:
    """The id of the installation at `endpoints` (comma-separated), asked for once and kept in the data directory; `ca_file`: whom to trust.

    Raises CommandError when none of them answers, or when what answers is no Homeport.
    """
    known = directory.joined()
    if known is not None:
        return known
    why = ""
    for endpoint in endpoints.split(","):
        connection = connection_to(endpoint, ca_file, timeout_seconds=JOIN_SECONDS)
        try:
            connection.request("GET", "/health")
            found = str(json.loads(connection.getresponse().read())["installationId"])
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
            why = f"{endpoint}: {error}"
            continue
        finally:
            connection.close()
        directory.join(found)
        return found
    raise CommandError(f"no server of an installation answers ({why})")


def start_agent(directory: DataDirectory, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the agent with the environment that `agent_environment` made."""
    return programs.start(directory, "agent", ["--data-dir", str(directory.path)], environ=environment)


def wait_for_agent(
    process: subprocess.Popen[bytes] | None, directory: DataDirectory, *, environment: Mapping[str, str], terminal: Terminal, since: Instant = 0.0
) -> dict[str, Any]:
    """Return, with the container instance, when this machine's instance is ACTIVE and its connection was made at or after `since`.

    A server that was killed remembers the connections of its life before for a while, so "connected" alone says little right after its start.
    Raises CommandError with the end of the agent's log when it ends or takes too long, InstanceDrainingError, and for an agent that ran before
    InstanceGoneError.
    """
    look = _finder(environment, directory, terminal)
    deadline, gone = terminal.deadline(AGENT_SECONDS_MAX), terminal.deadline(GONE_SECONDS)
    while True:
        instance = look()
        if instance is not None and instance["agentConnected"] and _connected_at(instance) >= since:
            if instance["status"] == "DRAINING":
                raise InstanceDrainingError(instance["containerInstanceArn"])
            return instance
        if process is None and instance is None and terminal.is_past(gone):
            raise InstanceGoneError("the agent runs, but this machine's container instance was deregistered")
        ended = process.poll() is not None if process else programs.find(directory, "agent") is None
        if ended or terminal.is_past(deadline):
            what = "ended" if ended else f"is not connected after {AGENT_SECONDS_MAX:.0f} s"
            raise CommandError(f"the agent {what}; its last words:\n{programs.log_tail(directory, 'agent')}")
        terminal.pause(AGENT_POLL_SECONDS)


def _finder(environment: Mapping[str, str], directory: DataDirectory, terminal: Terminal) -> Callable[[], dict[str, Any] | None]:
    """How to look at this machine's instance: with the root's key where the installation is this machine's, else as the agent itself may."""
    cluster, instance_id = environment["ECS_CLUSTER"], environment["HOMEPORT_INSTANCE_ID"]
    local = directory.credentials()
    if "HOMEPORT_IDENTITY" in environment and (local is None or local.installation_id != environment["HOMEPORT_INSTALLATION"]):
        return lambda: _of_host(environment, terminal)
    api = Api(local, terminal.clock) if local is not None and "HOMEPORT_IDENTITY" in environment else _api_of(environment, terminal)
    return lambda: this_instance(api, cluster, instance_id)


def _of_host(environment: Mapping[str, str], terminal: Terminal) -> dict[str, Any] | None:
    """The instance of the host that this machine joined as; None while there is none, or while its credentials are being renewed."""
    host = read_host(Path(environment["HOMEPORT_IDENTITY"]))
    if host is None:
        return None
    keys = {"AWS_ACCESS_KEY_ID": host.access_key_id, "AWS_SECRET_ACCESS_KEY": host.secret_access_key, "AWS_SESSION_TOKEN": host.session_token}
    try:
        told = _api_of({**environment, **keys, "AWS_REGION": host.region}, terminal).call("DescribeInstanceIdentity")["instanceIdentity"]
    except (ApiCallError, ApiUnreachableError):
        return None
    return told if "containerInstanceArn" in told else None


def this_instance(api: Api, cluster: str, instance_id: str) -> dict[str, Any] | None:
    """The container instance with that ec2InstanceId, ACTIVE or DRAINING, or None while there is none."""
    try:
        arns = [
            instance
            for status in ("ACTIVE", "DRAINING")
            for instance in api.listed("ListContainerInstances", "containerInstanceArns", cluster=cluster, status=status)
        ]
        found = api.described("DescribeContainerInstances", "containerInstances", arns, cluster=cluster, include=["CONTAINER_INSTANCE_HEALTH"])
    except (ApiCallError, ApiUnreachableError):
        return None  # the cluster comes with its first instance
    mine = [instance for instance in found if instance.get("ec2InstanceId") == instance_id]
    connected = [instance for instance in mine if instance["agentConnected"]]
    return next(iter(connected or mine), None)


def _connected_at(instance: Mapping[str, Any]) -> Instant:
    """When the agent's present connection was made, 0 when the answer does not tell."""
    if "connectedAt" in instance:
        return float(instance["connectedAt"])
    details = instance.get("healthStatus", {}).get("details", [])
    return max((item.get("lastStatusChange", 0.0) for item in details if item["type"] == "AGENT_CONNECTIVITY"), default=0.0)


def _api_of(environment: Mapping[str, str], terminal: Terminal) -> Api:
    given = environment.get("HOMEPORT_ENDPOINTS") or environment["ECS_BACKEND_HOST"]
    endpoints = tuple(part if urlsplit(part).scheme else f"https://{part}" for part in given.split(","))
    keys = LocalCredentials(
        endpoint=endpoints[0],
        endpoints=endpoints,
        access_key_id=environment["AWS_ACCESS_KEY_ID"],
        secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1",
        account_id="",
        installation_id="",
        ca_file=environment.get("HOMEPORT_CA_FILE", ""),
        session_token=environment.get("AWS_SESSION_TOKEN", ""),
    )
    return Api(keys, terminal.clock)
