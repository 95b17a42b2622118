"""What a caller of ECS must be allowed to do, for each operation: actions, resources and condition keys.

Owns: `asks`. Never decides. Which types of resources an action has comes from `iam.actions`; here stands where a request names them.
Source: the service authorization reference of Amazon ECS; the ECS developer guide on iam:PassRole and on tagging at creation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import msgspec

from homeport.api import own_instance
from homeport.api.call import Call
from homeport.api.ecs import lookup, tag
from homeport.api.ecs.daemon_task_definition import daemon_task_definition_of
from homeport.api.permission import Ask
from homeport.errors import ApiError
from homeport.iam.actions import resource_types
from homeport.model import arn
from homeport.model.ecs.task_definition import TaskDefinition
from homeport.store.table import Reader

T = TypeVar("T")

TASKS_PRINCIPAL: Final = "ecs-tasks.amazonaws.com"
SERVICE_PRINCIPAL: Final = "ecs.amazonaws.com"
_MADE: Final = {
    "CreateCluster": "cluster",
    "CreateCapacityProvider": "capacity-provider",
    "CreateDaemon": "daemon",
    "CreateExpressGatewayService": "service",
    "CreateGateway": "gateway",
    "CreateService": "service",
    "CreateTaskSet": "task-set",
    "RegisterContainerInstance": "container-instance",
    "RegisterDaemonTaskDefinition": "daemon-task-definition",
    "RegisterTaskDefinition": "task-definition",
    "RunTask": "task",
    "StartTask": "task",
}
"""Operation → the type of resource that it makes, and tags when it is told tags."""


def asks(call: Call, request: Any, reader: Reader) -> list[Ask]:
    """Everything that the caller of `request` must be allowed, each of it.

    Raises ApiError for references that can name nothing, AccessDeniedError for a host that names another instance than its own.
    """
    own_instance.require_own(reader, call, request)
    found = _Request(call, request, reader)
    context = found.context()
    return [
        *(Ask(f"ecs:{call.operation}", resource, found.with_tags_of(resource, context)) for resource in found.resources()),
        *found.tagging(context),
        *found.hooks(),
        *found.passed_roles(),
    ]


class _Request:
    """One request, and where it names what."""

    def __init__(self, call: Call, request: Any, reader: Reader) -> None:
        self._call = call
        self._request = request
        self._reader = reader

    def given(self, *names: str) -> Any:
        """The first of these members that the request has and that is not empty; else None."""
        return next((value for name in names if (value := getattr(self._request, name, None))), None)

    # --- resources ---

    def resources(self) -> list[str]:
        """The ARNs that the action is asked for; "*" for an action without resources."""
        types = resource_types("ecs", self._call.operation)
        if (tagged := self.given("resourceArn")) is not None:
            return [str(tagged)]
        named = [text for each in types for text in self._named(each.name, required=each.required)]
        return list(dict.fromkeys(named)) or ["*"]

    def _named(self, kind: str, *, required: bool) -> list[str]:
        found = list(_BY_TYPE[kind](self))
        if not required and (kind != "cluster" or not self.given("cluster")):
            found = [resource for resource in found if kind != "cluster" and not resource.endswith("/*")]
        return found or ([self._arn(f"{kind}/*")] if required else [])

    def _arn(self, resource: str) -> str:
        return f"arn:aws:ecs:{self._call.region}:{self._call.account}:{resource}"

    @property
    def cluster(self) -> str:
        """Name of the request's cluster."""
        return lookup.cluster_name(self._call, self.given("cluster", "clusterArn", "clusterName"))

    def clusters(self) -> Iterator[str]:
        """Every cluster that is named; `default` where none is."""
        for reference in self.given("clusters") or [self.given("cluster", "clusterArn", "clusterName")]:
            yield self._arn(f"cluster/{lookup.cluster_name(self._call, reference)}")

    def in_cluster(self, kind: str, references: Iterable[str]) -> Iterator[str]:
        """ARNs in the long form; a reference that is one already stands as it is."""
        for reference in references:
            parsed = arn.parse_arn(reference)
            if parsed is None:
                yield self._arn(f"{kind}/{self.cluster}/{reference}")
            elif parsed.resource.count("/") == 1:  # the old form, without its cluster
                yield str(
                    arn.Arn(
                        parsed.service, parsed.region, parsed.account, f"{kind}/{self.cluster}/{parsed.resource.partition('/')[2]}", parsed.partition
                    )
                )
            else:
                yield reference

    def services(self) -> Iterator[str]:
        """Services by name or ARN, or those whose deployments or revisions are named."""
        one = self.given("service", "serviceName", "serviceArn")
        yield from self.in_cluster("service", self.given("services") or ([one] if one else []))
        for reference in (*self.deployments(), *(self.given("serviceRevisionArns") or ())):
            yield _owner(reference, "service")
        if self._call.operation == "CreateExpressGatewayService" and not one:
            yield self._arn(f"service/{self.cluster}/*")

    def deployments(self) -> list[str]:
        """Service deployments."""
        one = self.given("serviceDeploymentArn")
        return list(self.given("serviceDeploymentArns") or ([one] if one else []))

    def tasks(self) -> Iterator[str]:
        """Tasks; all of the cluster where none is named."""
        one = self.given("task")
        yield from self.in_cluster("task", self.given("tasks") or ([one] if one else ["*"]))

    def instances(self) -> Iterator[str]:
        """Container instances, those of attributes among them; all of the cluster where none is named."""
        one = self.given("containerInstance")
        of_attributes = [attribute.targetId for attribute in self.given("attributes") or () if getattr(attribute, "targetId", None)]
        yield from self.in_cluster("container-instance", self.given("containerInstances") or of_attributes or ([one] if one else ["*"]))

    def definitions(self) -> Iterator[str]:
        """Revisions of task definitions: a family alone means its latest, or, where one is registered, any."""
        if family := self.given("family"):
            yield self._arn(f"task-definition/{family}:*")
        one = self.given("taskDefinition")
        for reference in self.given("taskDefinitions") or ([one] if one else []):
            family, revision = lookup.split_task_definition(self._call, reference)
            if revision is None:
                latest = lookup.latest_active(self._reader, self._call.account, family)
                revision = latest.revision if latest else None
            yield self._arn(f"task-definition/{family}:{'*' if revision is None else revision}")

    def daemon_definitions(self) -> Iterator[str]:
        """Revisions of daemon task definitions."""
        if family := self.given("family"):
            yield self._arn(f"daemon-task-definition/{family}:*")
        if reference := self.given("daemonTaskDefinition"):
            yield reference if reference.startswith("arn:") else self._arn(f"daemon-task-definition/{reference}")

    def providers(self) -> Iterator[str]:
        """Capacity providers."""
        one = self.given("capacityProvider", "name")
        for reference in self.given("capacityProviders") or ([one] if one else []):
            yield reference if reference.startswith("arn:") else self._arn(f"capacity-provider/{reference}")

    def task_sets(self) -> Iterator[str]:
        """Task sets of the service; all of it where none is named."""
        one = self.given("taskSet", "primaryTaskSet")
        service = str(self.given("service") or "*").rpartition("/")[2]
        for reference in self.given("taskSets") or ([one] if one else ["*"]):
            if reference.startswith("arn:"):
                yield reference
            else:  # the handlers take an id without its prefix too
                number = reference.removeprefix("ecs-svc/")
                yield self._arn(f"task-set/{self.cluster}/{service}/{number if number == '*' else f'ecs-svc/{number}'}")

    def daemons(self) -> Iterator[str]:
        """Daemons by name or ARN, or those whose deployments or revisions are named."""
        one = self.given("daemonName", "daemonArn")
        yield from self.in_cluster("daemon", [one] if one else [])
        for reference in (*(self.given("daemonDeploymentArns") or ()), *(self.given("daemonRevisionArns") or ())):
            yield _owner(reference, "daemon")

    def gateways(self) -> Iterator[str]:
        """Gateways by name or ARN."""
        one = self.given("gateway", "name")
        for reference in self.given("names") or ([one] if one else []):
            yield reference if reference.startswith("arn:") else self._arn(f"gateway/{reference}")

    # --- condition keys ---

    def context(self) -> dict[str, str | tuple[str, ...]]:
        """The keys that the request itself has values for."""
        found: dict[str, str | tuple[str, ...]] = {}
        for key, read in _KEYS.items():
            value = read(self)
            if value is not None and value != ():
                found[key] = value
        tags = self.given("tags") or ()
        if keys := tuple(each.key for each in tags) or tuple(self.given("tagKeys") or ()):
            found["aws:tagkeys"] = keys
        for each in tags:
            found[f"aws:requesttag/{each.key.lower()}"] = each.value or ""
        return found

    def with_tags_of(self, resource: str, context: dict[str, Any]) -> dict[str, Any]:
        """`context` with what is known of one resource: its cluster and its tags."""
        found = dict(context)
        parsed = arn.parse_arn(resource)
        if parsed is None:
            return found
        kind, *parts = parsed.resource.split("/")
        if len(parts) > 1 and kind != "cluster":
            found["ecs:cluster"] = self._arn(f"cluster/{parts[0]}")
        found["aws:resourceaccount"] = parsed.account
        for key, value in tag.resource_tags(self._reader, self._call, resource):
            found[f"aws:resourcetag/{key.lower()}"] = found[f"ecs:resourcetag/{key.lower()}"] = value
        return found

    def cluster_arn(self) -> str | None:
        """ARN of the request's cluster, where the operation has one."""
        has = any(name in getattr(self._request, "__struct_fields__", ()) for name in ("cluster", "clusterArn"))
        return self._arn(f"cluster/{self.cluster}") if has else None

    def service_arn(self) -> str | None:
        """ARN of the request's one service."""
        one = self.given("service")
        return next(iter(self.in_cluster("service", [one]))) if one else None

    def definition_arn(self) -> str | None:
        """ARN of the request's one task definition."""
        return next(self.definitions(), None) if self.given("taskDefinition") else self.given("taskDefinitionArn")

    def flag(self, name: str) -> str | None:
        """A boolean member as policies have it."""
        value = getattr(self._request, name, None)
        return None if value is None else str(value).lower()

    def capacity_providers(self) -> tuple[str, ...]:
        """ARNs of the providers of the request's strategy."""
        names = [each.capacityProvider for each in self.given("capacityProviderStrategy", "defaultCapacityProviderStrategy") or ()]
        named = self.given("capacityProviders", "capacityProviderArns") or []
        return tuple(name if name.startswith("arn:") else self._arn(f"capacity-provider/{name}") for name in (*names, *named))

    def size(self, name: str) -> str | None:
        """cpu or memory of the request, of its overrides, or of its task definition; a number."""
        value = self.given(name) or getattr(self.given("overrides"), name, None)
        if not value and (definition := self._definition()) is not None:
            value = definition.cpu if name == "cpu" else definition.memory_mib
        text = str(value or "")
        return text if text.isdigit() else None

    def privileged(self) -> str | None:
        """Whether some container of a definition that is registered is privileged."""
        containers = self.given("containerDefinitions")
        if containers is None:
            return None
        return "enabled" if any(each.privileged for each in containers) else "disabled"

    def _definition(self) -> TaskDefinition | None:
        reference = self.given("taskDefinition")
        return _tried(lookup.task_definition_of, self._reader, self._call, reference) if isinstance(reference, str) else None

    def _run(self) -> Iterator[TaskDefinition | None]:
        """The definitions that tasks are started of, as far as there are any."""
        if self._call.operation in _RUNNING:
            yield self._definition()
        if self._call.operation in _RUNNING_DAEMONS and (reference := self.given("daemonTaskDefinitionArn")):
            found = _tried(daemon_task_definition_of, self._reader, self._call, reference)
            yield found.definition if found is not None else None
        for reference in self._hook_targets():
            yield _tried(lookup.task_definition_of, self._reader, self._call, reference)

    def _hook_targets(self) -> list[str]:
        """References to the task definitions that a deployment's lifecycle hooks run."""
        hooks = getattr(self.given("deploymentConfiguration"), "lifecycleHooks", None) or ()
        return [hook.hookTargetArn for hook in hooks if ":task-definition/" in (hook.hookTargetArn or "")]

    # --- what an operation asks beside its own action ---

    def tagging(self, context: dict[str, Any]) -> Iterator[Ask]:
        """Tags at creation need ecs:TagResource on what is made, with ecs:CreateAction."""
        kind = _MADE.get(self._call.operation)
        if kind is None or not self.given("tags"):
            return
        more = {**context, "ecs:createaction": self._call.operation}
        resources = {"task": [self._arn(f"task/{self.cluster}/*")], "container-instance": [self._arn(f"container-instance/{self.cluster}/*")]}
        for resource in resources.get(kind) or self._named(kind, required=True):
            yield Ask("ecs:TagResource", resource, more)

    def hooks(self) -> Iterator[Ask]:
        """Ours, as such hooks are: whoever has a task run at a deployment must be allowed to run it."""
        for reference in self._hook_targets():
            family, revision = lookup.split_task_definition(self._call, reference)
            yield Ask("ecs:RunTask", self._arn(f"task-definition/{family}:{revision or '*'}"), {"ecs:cluster": self._arn(f"cluster/{self.cluster}")})

    def passed_roles(self) -> Iterator[Ask]:
        """Roles that the request, or a definition that it runs, hands to tasks or to ECS need iam:PassRole."""
        roles = set(_roles(self._request))
        for definition in self._run():
            document = msgspec.json.decode(definition.document) if definition is not None else {}
            roles |= {(role, TASKS_PRINCIPAL) for member in ("taskRoleArn", "executionRoleArn") if (role := document.get(member))}
        for role, service in sorted(roles):
            full = role if role.startswith("arn:") else f"arn:aws:iam::{self._call.account}:role/{role}"
            yield Ask("iam:PassRole", full, {"iam:passedtoservice": service})


def _tried(find: Callable[[Reader, Call, str], T], reader: Reader, call: Call, reference: str) -> T | None:
    try:
        return find(reader, call, reference)
    except ApiError:
        return None


def _roles(value: Any) -> Iterator[tuple[str, str]]:
    """(role, service that it is handed to) of each member of a request that names one, however deep; maps have keys of the caller's own."""
    if isinstance(value, list | tuple):
        for each in value:
            yield from _roles(each)
    for name in getattr(value, "__struct_fields__", ()):
        inner, service = getattr(value, name), _ROLE_MEMBERS.get(name)
        if service is None:
            yield from _roles(inner)
        elif inner and isinstance(inner, str):
            yield inner, service


_RUNNING_DAEMONS: Final = frozenset({"CreateDaemon", "UpdateDaemon"})
_RUNNING: Final = frozenset({"RunTask", "StartTask", "CreateService", "UpdateService", "CreateTaskSet"})
_ROLE_MEMBERS: Final = {
    "taskRoleArn": TASKS_PRINCIPAL,
    "executionRoleArn": TASKS_PRINCIPAL,
    "infrastructureRoleArn": SERVICE_PRINCIPAL,
    "role": SERVICE_PRINCIPAL,
    "roleArn": SERVICE_PRINCIPAL,
}

_BY_TYPE: Final[dict[str, Callable[[_Request], Iterable[str]]]] = {
    "cluster": _Request.clusters,
    "service": _Request.services,
    "service-deployment": _Request.deployments,
    "service-revision": lambda request: request.given("serviceRevisionArns") or (),
    "task": _Request.tasks,
    "task-definition": _Request.definitions,
    "task-set": _Request.task_sets,
    "container-instance": _Request.instances,
    "capacity-provider": _Request.providers,
    "daemon": _Request.daemons,
    "daemon-deployment": lambda request: request.given("daemonDeploymentArns") or (),
    "daemon-revision": lambda request: request.given("daemonRevisionArns") or (),
    "daemon-task-definition": _Request.daemon_definitions,
    "gateway": _Request.gateways,
    "gateway-route": lambda request: [request.given("gatewayRouteArn")] if request.given("gatewayRouteArn") else (),
}

_KEYS: Final[dict[str, Callable[[_Request], str | tuple[str, ...] | None]]] = {
    "ecs:cluster": _Request.cluster_arn,
    "ecs:service": _Request.service_arn,
    "ecs:task-definition": _Request.definition_arn,
    "ecs:daemon-task-definition": lambda request: request.given("daemonTaskDefinitionArn"),
    "ecs:task": lambda request: next(request.tasks(), None) if request.given("task") else None,
    "ecs:container-name": lambda request: request.given("container"),
    "ecs:container-instances": lambda request: tuple(request.instances()) if request.given("containerInstances") else None,
    "ecs:capacity-provider": _Request.capacity_providers,
    "ecs:enable-execute-command": lambda request: request.flag("enableExecuteCommand"),
    "ecs:enable-ecs-managed-tags": lambda request: request.flag("enableECSManagedTags"),
    "ecs:propagate-tags": lambda request: request.given("propagateTags"),
    "ecs:account-setting": lambda request: request.given("name") if hasattr(request._request, "value") else None,
    "ecs:task-cpu": lambda request: request.size("cpu"),
    "ecs:task-memory": lambda request: request.size("memory"),
    "ecs:privileged": _Request.privileged,
    "ecs:namespace": lambda request: request.given("namespace"),
}


def _owner(reference: str, kind: str) -> str:
    """ARN of the service or daemon that a deployment or revision belongs to: `service-deployment/CLUSTER/SERVICE/ID`."""
    parsed = arn.parse_arn(reference)
    parts = parsed.resource.split("/") if parsed else []
    if parsed is None or len(parts) < 3:
        return reference
    return str(arn.Arn(parsed.service, parsed.region, parsed.account, f"{kind}/{parts[1]}/{parts[2]}", parsed.partition))
