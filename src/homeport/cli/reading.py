"""`homeport list KIND` and `homeport describe RESOURCE`, now or `--at` an earlier moment.

Owns: which operations of the API each needs, and how the answers are shown. Never changes anything; never renders the past by itself: the API
answers what it would have answered then.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from homeport.cli.client import Api, ApiCallError
from homeport.cli.installation import DataDirectory, LocalCredentials
from homeport.cli.moment import Moment, instant_text
from homeport.cli.terminal import CommandError, Terminal, table
from homeport.clock import Clock

_ID = re.compile(r"[0-9a-f]{32}")
_REVISION = re.compile(r"\S+:\d+")


class PastApi(Api):
    """The API as it was: every call asks about the same revision."""

    def __init__(self, credentials: LocalCredentials, clock: Clock, *, moment: Moment) -> None:
        super().__init__(credentials, clock)
        self._moment = moment.parameters(clock.now())
        self.revision = 0
        """The revision that is shown, after the first call."""
        self.instant = 0.0

    def call(self, operation: str, /, **parameters: Any) -> dict[str, Any]:
        """What the operation would have answered then."""
        told = super().call("DescribeAt", operation=operation, request=parameters, **self._moment)
        self.revision, self.instant = told["revision"], told.get("instant", 0.0)
        self._moment = {"revision": self.revision}
        answer: dict[str, Any] = told["answer"]
        return answer


def api_of(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> Api:
    """The API of the present, or of the moment that was asked for."""
    credentials = DataDirectory(options.data_dir).credentials_of(environ)
    return PastApi(credentials, terminal.clock, moment=options.at) if options.at else Api(credentials, terminal.clock)


def list_resources(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """`homeport list KIND`."""
    api = api_of(options, terminal, environ)
    found = _LISTS[options.kind](api, options)
    if options.json:
        terminal.show(json.dumps(found, indent=2))
        return 0
    header, row = _COLUMNS[options.kind]
    _say_when(api, terminal)
    terminal.show("\n".join(table(header, [tuple(str(cell) for cell in row(item)) for item in found]) or [f"no {options.kind}"]))
    return 0


def describe(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """`homeport describe RESOURCE`."""
    api = api_of(options, terminal, environ)
    found = next(_described(api, options.resource, options.cluster), None)
    if found is None:
        raise CommandError(f"there is no {options.resource}" + (f" at revision {api.revision}" if isinstance(api, PastApi) else ""))
    if options.json:
        terminal.show(json.dumps(found, indent=2))
    else:
        _say_when(api, terminal)
        terminal.show("\n".join(_lines(found)))
    return 0


def _say_when(api: Api, terminal: Terminal) -> None:
    if isinstance(api, PastApi):
        terminal.say(f"as of revision {api.revision}" + (f", made {instant_text(api.instant)}" if api.instant else ""))


# ---------------------------------------------------------------------------------------------------------------- lists


def _clusters(api: Api, options: argparse.Namespace) -> list[dict[str, Any]]:
    arns = [options.cluster] if options.cluster else api.listed("ListClusters", "clusterArns")
    return api.described("DescribeClusters", "clusters", arns, include=["TAGS"])


def _scopes(api: Api, options: argparse.Namespace) -> list[str]:
    return [options.cluster] if options.cluster else api.listed("ListClusters", "clusterArns")


def _services(api: Api, options: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    for cluster in _scopes(api, options):
        arns = api.listed("ListServices", "serviceArns", cluster=cluster)
        found += api.described("DescribeServices", "services", arns, batch=10, cluster=cluster, include=["TAGS"])
    return found


def _task_sets(api: Api, options: argparse.Namespace) -> list[dict[str, Any]]:
    return [item for service in _services(api, options) for item in service.get("taskSets", ())]


def _tasks(api: Api, options: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    for cluster in _scopes(api, options):
        arns = api.listed("ListTasks", "taskArns", cluster=cluster)
        if options.all:
            arns += api.listed("ListTasks", "taskArns", cluster=cluster, desiredStatus="STOPPED")
        found += api.described("DescribeTasks", "tasks", arns, cluster=cluster, include=["TAGS"])
    return found


def _instances(api: Api, options: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    for cluster in _scopes(api, options):
        arns = api.listed("ListContainerInstances", "containerInstanceArns", cluster=cluster)
        found += api.described("DescribeContainerInstances", "containerInstances", arns, cluster=cluster, include=["TAGS"])
    return found


def _task_definitions(api: Api, options: argparse.Namespace) -> list[dict[str, Any]]:
    statuses = ("ACTIVE", "INACTIVE") if options.all else ("ACTIVE",)
    return [
        {"taskDefinitionArn": arn, "status": status}
        for status in statuses
        for arn in api.listed("ListTaskDefinitions", "taskDefinitionArns", status=status)
    ]


def _daemons(api: Api, options: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    for cluster in _scopes(api, options):
        arns = [item["daemonArn"] for item in api.listed("ListDaemons", "daemonSummariesList", clusterArn=cluster)]
        found += [api.call("DescribeDaemon", daemonArn=arn)["daemon"] for arn in arns]
    return found


def _daemon_task_definitions(api: Api, options: argparse.Namespace) -> list[dict[str, Any]]:
    return api.listed("ListDaemonTaskDefinitions", "daemonTaskDefinitions", status="ALL" if options.all else "ACTIVE")


def _capacity_providers(api: Api, options: argparse.Namespace) -> list[dict[str, Any]]:
    scope = {"cluster": options.cluster} if options.cluster else {}
    found = api.listed("DescribeCapacityProviders", "capacityProviders", include=["TAGS"], **scope)
    return _with_capacity(api, found)


def _with_capacity(api: Api, providers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`providers` as the API describes them, each with what managed scaling sees; of the past only the history tells that."""
    if isinstance(api, PastApi):
        return providers
    capacities = {item["capacityProviderName"]: item for item in api.call("DescribeCapacity")["capacities"]}
    return [{**item, **({"capacity": capacities[item["name"]]} if item["name"] in capacities else {})} for item in providers]


def _reservation(item: Mapping[str, Any]) -> tuple[str, str]:
    """N/M of the last sample and CapacityProviderReservation, as a list shows them."""
    capacity = item.get("capacity", {})
    if "capacityProviderReservation" not in capacity:
        return str(capacity.get("registeredInstances", "")), ""
    return f"{capacity['instances']}, {capacity['instancesNeeded']} needed", f"{capacity['capacityProviderReservation']:g} %"


def _express_gateway_services(api: Api, options: argparse.Namespace) -> list[dict[str, Any]]:
    arns = [
        arn for cluster in _scopes(api, options) for arn in api.listed("ListServices", "serviceArns", cluster=cluster, resourceManagementType="ECS")
    ]
    return [api.call("DescribeExpressGatewayService", serviceArn=arn, include=["TAGS"])["service"] for arn in arns]


def _gateways(api: Api, options: argparse.Namespace) -> list[dict[str, Any]]:
    scope = {"cluster": options.cluster} if options.cluster else {}
    associations = api.listed("ListGatewayClusterAssociations", "gatewayClusterAssociations", **scope)
    return [
        {**gateway, "clusterArns": clusters}
        for gateway in api.listed("ListGateways", "gateways")
        if (clusters := [item["clusterArn"] for item in associations if item["gatewayArn"] == gateway["gatewayArn"]]) or not options.cluster
    ]


_LISTS: Final = {
    "clusters": _clusters,
    "services": _services,
    "task-sets": _task_sets,
    "tasks": _tasks,
    "instances": _instances,
    "task-definitions": _task_definitions,
    "daemons": _daemons,
    "daemon-task-definitions": _daemon_task_definitions,
    "capacity-providers": _capacity_providers,
    "gateways": _gateways,
    "express-gateway-services": _express_gateway_services,
}
_COLUMNS: Final[dict[str, Any]] = {
    "clusters": (
        ("CLUSTER", "STATUS", "INSTANCES", "SERVICES", "RUNNING", "PENDING"),
        lambda item: (
            item["clusterName"],
            item["status"],
            item["registeredContainerInstancesCount"],
            item["activeServicesCount"],
            item["runningTasksCount"],
            item["pendingTasksCount"],
        ),
    ),
    "services": (
        ("SERVICE", "CLUSTER", "STATUS", "DESIRED", "RUNNING", "PENDING", "TASK DEFINITION"),
        lambda item: (
            item["serviceName"],
            _last(item["clusterArn"]),
            item["status"],
            item["desiredCount"],
            item["runningCount"],
            item["pendingCount"],
            _last(item.get("taskDefinition", "")),
        ),
    ),
    "task-sets": (
        ("TASK SET", "SERVICE", "STATUS", "SCALE", "DESIRED", "RUNNING", "PENDING", "STABILITY", "TASK DEFINITION"),
        lambda item: (
            item["id"],
            _last(item["serviceArn"]),
            item["status"],
            f"{item['scale']['value']:g} %",
            item["computedDesiredCount"],
            item["runningCount"],
            item["pendingCount"],
            item["stabilityStatus"],
            _last(item["taskDefinition"]),
        ),
    ),
    "tasks": (
        ("TASK", "CLUSTER", "GROUP", "STATUS", "WANTED", "TASK DEFINITION"),
        lambda item: (
            _last(item["taskArn"]),
            _last(item["clusterArn"]),
            item.get("group", ""),
            item["lastStatus"],
            item["desiredStatus"],
            _last(item["taskDefinitionArn"]),
        ),
    ),
    "instances": (
        ("INSTANCE", "STATUS", "AGENT", "RUNNING", "PENDING"),
        lambda item: (
            _last(item["containerInstanceArn"]),
            item["status"],
            "connected" if item["agentConnected"] else "away",
            item["runningTasksCount"],
            item["pendingTasksCount"],
        ),
    ),
    "capacity-providers": (
        ("CAPACITY PROVIDER", "STATUS", "AUTO SCALING GROUP", "INSTANCES", "RESERVATION"),
        lambda item: (item["name"], item["status"], item.get("autoScalingGroupProvider", {}).get("autoScalingGroupArn", ""), *_reservation(item)),
    ),
    "express-gateway-services": (
        ("EXPRESS SERVICE", "CLUSTER", "STATUS", "IMAGE OR TASK DEFINITION"),
        lambda item: (item["serviceName"], item["cluster"], item["status"]["statusCode"], _runs(item["activeConfigurations"][0])),
    ),
    "gateways": (
        ("GATEWAY", "STATUS", "CLUSTERS"),
        lambda item: (item["name"], item["status"], ", ".join(_last(arn) for arn in item["clusterArns"])),
    ),
    "daemons": (
        ("DAEMON", "CLUSTER", "STATUS", "RUNNING", "CAPACITY PROVIDERS"),
        lambda item: (
            _last(item["daemonArn"]),
            _last(item["clusterArn"]),
            item["status"],
            sum(revision["totalRunningCount"] for revision in item["currentRevisions"]),
            ", ".join(dict.fromkeys(_last(part["arn"]) for revision in item["currentRevisions"] for part in revision["capacityProviders"])),
        ),
    ),
    "daemon-task-definitions": (("DAEMON TASK DEFINITION", "STATUS"), lambda item: (_last(item["arn"]), item["status"])),
    "task-definitions": (("TASK DEFINITION", "STATUS"), lambda item: (_last(item["taskDefinitionArn"]), item["status"])),
}


def _runs(configuration: dict[str, Any]) -> str:
    return configuration.get("primaryContainer", {}).get("image") or _last(configuration.get("taskDefinitionArn", ""))


def _last(arn: str) -> str:
    return arn.rpartition("/")[2]


# ------------------------------------------------------------------------------------------------------------- describe


def _described(api: Api, resource: str, cluster: str | None) -> Iterator[dict[str, Any]]:
    """What `resource` can mean, the likeliest first: an ARN, KIND/NAME, KIND/CLUSTER/NAME, a name, an id, or the first characters of an id."""
    kind, _, name = (resource.split(":", 5)[-1] if resource.startswith("arn:") else resource).partition("/")
    if not name:
        yield from _bare(api, resource, cluster)
        return
    if kind == "task-set":
        yield from _task_set(api, name, cluster)
        return
    if kind not in _DESCRIBES:
        raise CommandError(f"{resource} is none of {', '.join(f'{known}/…' for known in (*_DESCRIBES, 'task-set'))}")
    scope, _, inner = name.rpartition("/")
    yield from _ask(api, kind, inner, scope or cluster)
    if kind == "service":
        yield from _ask(api, "express-gateway-service", inner, scope or cluster)


def _bare(api: Api, resource: str, cluster: str | None) -> Iterator[dict[str, Any]]:
    if _REVISION.fullmatch(resource):
        for kind in ("task-definition", "daemon-task-definition"):
            yield from _ask(api, kind, resource, None)
        return
    if _ID.fullmatch(resource):
        for scope in [cluster] if cluster else api.listed("ListClusters", "clusterArns"):
            yield from _ask(api, "task", resource, scope)
            yield from _ask(api, "container-instance", resource, scope)
    yield from _ask(api, "service", resource, cluster)
    yield from _ask(api, "express-gateway-service", resource, cluster)
    yield from _ask(api, "daemon", resource, cluster)
    yield from _ask(api, "cluster", resource, None)
    yield from _ask(api, "capacity-provider", resource, None)
    yield from _ask(api, "gateway", resource, None)
    begun = [arn for arn in _ids(api, cluster) if _last(arn).startswith(resource)]
    if len(begun) > 1:
        raise CommandError(f"several ids begin with {resource}; give more of it")
    for arn in begun:
        yield from _described(api, arn, cluster)


def _ids(api: Api, cluster: str | None) -> list[str]:
    scope = {"cluster": cluster} if cluster else {}
    try:
        stopped = api.listed("ListTasks", "taskArns", desiredStatus="STOPPED", **scope)
        return [
            *api.listed("ListTasks", "taskArns", **scope),
            *stopped,
            *api.listed("ListContainerInstances", "containerInstanceArns", **scope),
        ]
    except ApiCallError as error:
        if error.code != "ClusterNotFoundException":
            raise
        return []


_DESCRIBES: Final[dict[str, tuple[str, str, list[str]]]] = {
    "cluster": ("DescribeClusters", "clusters", ["ATTACHMENTS", "CONFIGURATIONS", "SETTINGS", "STATISTICS", "TAGS"]),
    "service": ("DescribeServices", "services", ["TAGS"]),
    "task": ("DescribeTasks", "tasks", ["TAGS"]),
    "container-instance": ("DescribeContainerInstances", "containerInstances", ["TAGS", "CONTAINER_INSTANCE_HEALTH"]),
    "task-definition": ("DescribeTaskDefinition", "taskDefinition", ["TAGS"]),
    "daemon-task-definition": ("DescribeDaemonTaskDefinition", "daemonTaskDefinition", []),
    "capacity-provider": ("DescribeCapacityProviders", "capacityProviders", ["TAGS"]),
    "gateway": ("DescribeGateway", "gateway", []),
    "express-gateway-service": ("DescribeExpressGatewayService", "service", ["TAGS"]),
    "daemon": ("DescribeDaemon", "daemon", []),
    "daemon-deployment": ("DescribeDaemonDeployments", "daemonDeployments", []),
    "daemon-revision": ("DescribeDaemonRevisions", "daemonRevisions", []),
}
_ONE: Final = {
    "task-definition": "taskDefinition",
    "daemon-task-definition": "daemonTaskDefinition",
    "gateway": "gateway",
    "daemon": "daemonArn",
    "express-gateway-service": "serviceArn",
}
"""What is described one at a time, by the parameter that names it."""
_MISSING: Final = (
    "ClusterNotFoundException",
    "GatewayNotFoundException",
    "DaemonNotFoundException",
    "ResourceNotFoundException",
    "ClientException",
    "InvalidParameterException",
)

_BY_ARN: Final = {
    "daemon": "daemon",
    "daemon-deployment": "daemon-deployment",
    "daemon-revision": "daemon-revision",
    "express-gateway-service": "service",
}
"""What operations name by its ARN alone, and the word of that."""


def _arn(api: Api, resource: str) -> str:
    """The ARN of KIND/CLUSTER/…, made from that of a cluster."""
    known = api.listed("ListClusters", "clusterArns")
    return (known[0].partition(":cluster/")[0] if known else "arn:aws:ecs::") + f":{resource}"


def _ask(api: Api, kind: str, name: str, cluster: str | None) -> Iterator[dict[str, Any]]:
    operation, member, include = _DESCRIBES[kind]
    if kind in _BY_ARN:
        scope = (cluster or "default").rpartition(":cluster/")[2]  # of a deployment or revision with its daemon, CLUSTER/DAEMON
        name = _arn(api, f"{_BY_ARN[kind]}/{scope}/{name}")
    if kind in _ONE:
        parameters: dict[str, Any] = {_ONE[kind]: name}
    elif kind in _BY_ARN:
        parameters = {f"{member[:-1]}Arns": [name]}
    else:
        where = {"cluster": cluster} if cluster and kind not in ("cluster", "capacity-provider") else {}
        parameters = {member: [name], **where}
    try:
        answer = api.call(operation, **({"include": include} if include else {}), **parameters)
    except ApiCallError as error:
        if error.code not in _MISSING or error.message.startswith("The past"):
            raise
        return
    if kind == "capacity-provider":
        yield from _with_capacity(api, answer[member])
    elif kind in _ONE:
        yield {**answer[member], **({"tags": answer["tags"]} if answer.get("tags") else {})}
    else:
        yield from answer[member]


def _task_set(api: Api, name: str, cluster: str | None) -> Iterator[dict[str, Any]]:
    """`name`: SERVICE/ecs-svc/DIGITS or CLUSTER/SERVICE/ecs-svc/DIGITS, also without ecs-svc."""
    *scope, service, digits = ["", *(part for part in name.split("/") if part != "ecs-svc")]
    try:
        answer = api.call("DescribeTaskSets", cluster="".join(scope) or cluster or "default", service=service, taskSets=[digits], include=["TAGS"])
    except ApiCallError as error:
        if error.code not in (*_MISSING, "ServiceNotFoundException", "ServiceNotActiveException") or error.message.startswith("The past"):
            raise
        return
    yield from answer["taskSets"]


def _lines(value: Any, indent: str = "") -> Iterator[str]:
    """An answer of the API for a person: a line for each member."""
    for name, content in value.items():
        if isinstance(content, dict) and content:
            yield f"{indent}{name}:"
            yield from _lines(content, indent + "  ")
        elif isinstance(content, list) and content and isinstance(content[0], dict):
            yield f"{indent}{name}:"
            for item in content:
                inner = list(_lines(item, indent + "    "))
                yield from [f"{indent}  - {inner[0].strip()}", *inner[1:]] if inner else []
        elif content not in (None, "", [], {}):
            yield f"{indent}{name}: {_shown(name, content)}"


def _shown(name: str, content: Any) -> str:
    if isinstance(content, float) and name.endswith("At"):
        return instant_text(content)
    return content if isinstance(content, str) else json.dumps(content)
