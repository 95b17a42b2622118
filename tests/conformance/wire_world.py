"""A small installation behind the real front door on a real socket, and a client that sends it anything.

Owns: `World` (what is in it, and the values that mean something there), `Front` (the socket), `judge` (what an answer must be). No controllers and no
agents run, so that whatever changes was changed by a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import uvicorn
from tests.conformance.wire_cases import CONSTRAINT, JSON, MODEL, TYPE, Case, misfits

from homeport.api.call import Context
from homeport.api.ecs.operations import OPERATIONS
from homeport.api.server import SERVER_OPTIONS, Application
from homeport.api.signature import AccessKeys, Verifier
from homeport.config import Settings
from homeport.iam import sigv4
from homeport.ids import Ids
from homeport.model.ecs.deployment import LifecycleHook
from homeport.model.iam.access_key import AccessKey
from homeport.placement.index import PlacementIndex
from homeport.store.backend import Backend
from homeport.store.store import Store
from homeport.store.tables import ACCESS_KEYS, CONTAINER_INSTANCES, DEPLOYMENTS, TABLES, TASKS
from homeport.testing import records
from homeport.testing.wire import HttpPool
from homeport.virtual_clock import VirtualClock

SECRET = "secret"
READS = ("List", "Describe", "Get", "Discover")
COMMON_ERRORS = frozenset({"SerializationException", "InvalidParameterException", "ClientException"})
"""What any operation may answer, beside what it models."""
RETRIES_MAX = 12


class Front:
    """One socket for many worlds, one after the other."""

    def __init__(self) -> None:
        self.world: World | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert self.world is not None
        await self.world.application(scope, receive, send)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """The server, listening; gives its port."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            server = uvicorn.Server(uvicorn.Config(self, **{**SERVER_OPTIONS, "loop": "none"}))
            running = asyncio.create_task(server._serve([listener]))
            try:
                yield listener.getsockname()[1]
            finally:
                server.should_exit = True
                await running


class World:
    """An installation with two clusters, an instance, a service with a task, task definitions; and a client."""

    def __init__(self, context: Context, keys: AccessKeys, port: int) -> None:
        self.context = context
        verifier = Verifier(keys, clock=context.clock, settings=context.settings, region=context.region)
        self.application = Application(context, {"ecs": OPERATIONS}, verifier=verifier, websockets={})
        self.client = HttpPool(f"http://127.0.0.1:{port}", sigv4.Credentials("AK", SECRET, records.REGION), clock=context.clock, connections=1)
        self.known: dict[str, list[Any]] = {}

    async def send(self, operation: str, body: bytes) -> tuple[int, bytes]:
        """(status, body) of the answer; status 0 when the connection was lost."""
        done: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.client.send(operation, body, lambda status, answer: done.set_result((status, answer)))
        return await asyncio.wait_for(done, 60)

    async def good(self, operation: str, **members: Any) -> dict[str, Any]:
        """The answer of a call that must succeed."""
        status, answer = await self.send(operation, msgspec.json.encode(members))
        assert status == 200, (operation, members, answer)
        decoded: dict[str, Any] = msgspec.json.decode(answer)
        return decoded

    async def attempt(self, case: Case) -> tuple[int, Any]:
        """Send a case, judge the answer, see that a refused call and a read change nothing; (status, answer)."""
        before = self.context.store.revision
        status, body = await self.send(case.operation, case.body)
        changed = self.context.store.revision - before
        wrong = judge(case, status, body)
        if not wrong and changed and (status != 200 or case.operation.startswith(READS)):
            wrong = f"answered {status} and yet changed the store"
        assert not wrong, f"{wrong}\n{case}\nanswer: {status} {body[:1500].decode('utf-8', 'replace')}"
        return status, msgspec.json.decode(body)

    def learn(self, value: Any, chance: random.Random, name: str = "") -> None:
        """Remember texts of an answer under their members' names, so that later requests use them."""
        if isinstance(value, dict):
            for member, content in value.items():
                self.learn(content, chance, member)
        elif isinstance(value, list):
            for item in value[:3]:
                self.learn(item, chance, name)
        elif isinstance(value, str) and value:
            for word in {name.lower(), *_ALSO.get(name.lower(), ())}:
                kept = self.known.setdefault(word, [])
                if len(kept) < RETRIES_MAX:
                    kept.append(value)
                else:
                    kept[chance.randrange(RETRIES_MAX)] = value


_ROLE = f"arn:aws:iam::{records.ACCOUNT}:role/infrastructure"
GOOD: dict[str, dict[str, Any]] = {
    "AssociateGatewayWithCluster": {"gateway": "plain", "cluster": "default"},
    "CreateExpressGatewayService": {"infrastructureRoleArn": _ROLE, "executionRoleArn": _ROLE, "primaryContainer": {"image": "web:1"}},
    "DeleteExpressGatewayService": {"serviceArn": "EXPRESS"},
    "DescribeExpressGatewayService": {"serviceArn": "EXPRESS"},
    "UpdateExpressGatewayService": {"serviceArn": "EXPRESS", "cpu": "512", "memory": "1024"},
    "CreateGateway": {"name": "new", "infrastructureRoleArn": _ROLE, "configuration": {"hostSharedAlb": {"maxAlbCount": 2}}},
    "DeleteGateway": {"gateway": "plain"},
    "DescribeGateway": {"gateway": "shop"},
    "DescribeGatewayResources": {"gateway": "shop"},
    "DisassociateGatewayFromCluster": {"gateway": "shop", "cluster": "other"},
    "ListGatewayClusterAssociations": {},
    "ListGatewayRoutes": {"gateway": "shop"},
    "ListServicesByNamespace": {"namespace": "internal"},
    "ListGateways": {"names": ["shop"]},
    "UpdateGateway": {"gateway": "shop", "configuration": {"hostSharedAlb": {"httpDesync": "monitor"}}},
    "ContinueServiceDeployment": {"serviceDeploymentArn": "PAUSED", "hookId": "ecs-pause-1"},
    "CreateCluster": {"clusterName": "new"},
    "CreateDaemon": {"daemonName": "new", "daemonTaskDefinitionArn": "agents:1", "capacityProviderArns": ["edge"]},
    "UpdateDaemon": {"daemonArn": "DAEMON", "daemonTaskDefinitionArn": "agents:2", "capacityProviderArns": ["edge"]},
    "DeleteDaemon": {"daemonArn": "DAEMON"},
    "DeleteDaemonTaskDefinition": {"daemonTaskDefinition": "agents:2"},
    "CreateService": {"serviceName": "new", "taskDefinition": "web", "desiredCount": 1},
    "DeleteAttributes": {"attributes": [{"name": "stack", "targetId": "INSTANCE", "targetType": "container-instance"}]},
    "DeleteCluster": {"cluster": "empty"},
    "DeleteService": {"service": "web", "force": True},
    "DeregisterContainerInstance": {"containerInstance": "INSTANCE", "force": True},
    "ListAccountSettings": {"effectiveSettings": True},
    "ListServices": {},
    "PutAccountSetting": {"name": "containerInsights", "value": "enabled"},
    "PutAccountSettingDefault": {"name": "tagResourceAuthorization", "value": "on"},
    "DeleteAccountSetting": {"name": "containerInsights"},
    "PutAttributes": {"attributes": [{"name": "stack", "value": "blue", "targetId": "INSTANCE", "targetType": "container-instance"}]},
    "RegisterContainerInstance": {"totalResources": [{"name": name, "type": "INTEGER", "integerValue": 2048} for name in ("CPU", "MEMORY")]},
    "RegisterTaskDefinition": {"family": "job", "containerDefinitions": [{"name": "app", "image": "app:1", "memory": 32}]},
    "RegisterDaemonTaskDefinition": {"family": "logs", "containerDefinitions": [{"name": "agent", "image": "agent:1", "memory": 32}]},
    "RunTask": {"taskDefinition": "web"},
    "StartTask": {"taskDefinition": "web", "containerInstances": ["INSTANCE"]},
    "StopTask": {"task": "TASK"},
    "SubmitTaskStateChange": {"task": "TASK", "status": "RUNNING"},
    "TagResource": {"resourceArn": "TASK", "tags": [{"key": "team", "value": "a"}]},
    "UntagResource": {"resourceArn": "TASK", "tagKeys": ["team"]},
    "UpdateCluster": {"cluster": "default"},
    "UpdateClusterSettings": {"cluster": "default", "settings": [{"name": "containerInsights", "value": "enabled"}]},
    "UpdateService": {"service": "web", "desiredCount": 2},
    "CreateTaskSet": {"cluster": "default", "service": "shared", "taskDefinition": "web", "scale": {"value": 50.0, "unit": "PERCENT"}},
    "DescribeTaskSets": {"cluster": "default", "service": "shared", "taskSets": ["SET"], "include": ["TAGS"]},
    "UpdateTaskSet": {"cluster": "default", "service": "shared", "taskSet": "SET", "scale": {"value": 25.0}},
    "DeleteTaskSet": {"cluster": "default", "service": "shared", "taskSet": "SET", "force": True},
    "UpdateServicePrimaryTaskSet": {"cluster": "default", "service": "shared", "primaryTaskSet": "SET"},
}
"""Members of requests that succeed; INSTANCE, TASK, SET, DAEMON and PAUSED stand for ARNs."""


def good(made: World, operation: str) -> dict[str, Any]:
    """`GOOD` of an operation in this world."""
    text = msgspec.json.encode(GOOD.get(operation, {})).decode()
    text = (
        text.replace("INSTANCE", made.known["containerinstance"][0])
        .replace("TASK", made.known["task"][0])
        .replace("DAEMON", made.known["daemonarn"][0])
        .replace("EXPRESS", made.known["expressservice"][0])
        .replace("SET", made.known["taskset"][0])
        .replace("PAUSED", made.known["servicedeploymentarn"][-1])
    )
    found: dict[str, Any] = msgspec.json.decode(text)
    return found


_REFERENCES = (
    "cluster",
    "service",
    "task",
    "taskSet",
    "taskDefinition",
    "containerInstance",
    "capacityProvider",
    "daemon",
    "gateway",
    "gatewayRoute",
)
_ALSO: dict[str, tuple[str, ...]] = {
    **{f"{word}Arn".lower(): (word.lower(), f"{word}s".lower(), f"{word}Arns".lower(), "resourcearn") for word in _REFERENCES},
    **{f"{word}Arns".lower(): (word.lower(), f"{word}s".lower(), f"{word}Arn".lower(), "resourcearn") for word in _REFERENCES},
    "daemontaskdefinitionarn": ("daemontaskdefinition",),
    "servicedeploymentarn": ("servicedeploymentarns",),
    "servicerevisionarn": ("servicerevisionarns",),
    "daemonrevisionarn": ("daemonrevisionarns",),
    "deploymentarn": ("daemondeploymentarns", "daemondeploymentarn"),
    "name": ("capacityprovider", "capacityproviders", "gateway", "key"),
    "key": ("tagkeys",),
}
"""Under which other names what an answer holds is asked for."""


def judge(case: Case, status: int, body: bytes) -> str:
    """What is wrong with an answer, or ""."""
    try:
        answer = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return "the answer is no JSON" if status else "the connection was lost"
    modelled = MODEL["operations"][case.operation]
    errors = {error["shape"] for error in modelled.get("errors", ())}
    if status == 200:
        if case.expected in (TYPE, CONSTRAINT, JSON):
            return f"accepted, and should be a violation ({case.expected})"
        return "; ".join(misfits(answer, modelled["output"]["shape"])) if "output" in modelled else ("" if answer == {} else "there is no output")
    code, message = answer.get("__type"), answer.get("message")
    if status != 400 or not message or code not in errors | COMMON_ERRORS:
        return "not an answer that the operation models"
    if case.operation not in OPERATIONS:
        return "" if message == f"{case.operation} is not built yet." else "says not that it is not built"
    if message == f"{case.operation} is not built yet.":
        return "listed as built, and says that it is not"
    return _as_expected(case, code, message)


def _as_expected(case: Case, code: str, message: str) -> str:
    if case.expected in (TYPE, JSON):
        return "" if code == "SerializationException" else "a wrong type or broken JSON is a SerializationException"
    if case.expected == CONSTRAINT:
        said = code == "InvalidParameterException" and "validation error" in message and f"at '{case.place}'" in message
        return "" if said else f"a violated constraint is told with its place '{case.place}'"
    if code == "SerializationException" and case.kind not in ("hardly JSON", "odd text", "odd", "a member twice"):
        return "a request that fits the model is no SerializationException"
    return ""


@contextlib.asynccontextmanager
async def world(front: Front, port: int, backend: Backend, *, seed: int) -> AsyncIterator[World]:
    """A new installation behind `front`."""
    clock, placement, keys = VirtualClock(), PlacementIndex(), AccessKeys()
    store = await Store.open(backend, tables=TABLES, clock=clock, derived=(placement, keys))
    key = AccessKey(id="AK", secret=SECRET, account=records.ACCOUNT, principal_arn=f"arn:aws:iam::{records.ACCOUNT}:root", created_at=1.0)
    await store.update(lambda tx: tx.put(ACCESS_KEYS, key), cause="test")
    context = Context(
        store=store,
        placement=placement,
        clock=clock,
        ids=Ids(f"wire {seed}"),
        settings=Settings(),
        region=records.REGION,
        installation_id="0123456789abcdef",
        endpoint="http://h/",
    )
    made = front.world = World(context, keys, port)
    try:
        await furnish(made)
        yield made
    finally:
        await store.close()


async def furnish(made: World) -> None:
    """Put something of everything that there can be into the installation."""
    container = {"name": "web", "image": "web:1", "memory": 16, "portMappings": [{"containerPort": 80}]}
    for _ in range(2):
        definition = await made.good("RegisterTaskDefinition", family="web", containerDefinitions=[container], tags=[{"key": "a", "value": "b"}])
    for name in ("default", "other", "empty"):
        defaults = {"serviceConnectDefaults": {"namespace": "internal"}} if name == "other" else {}
        await made.good("CreateCluster", clusterName=name, **defaults)
    wanted = [{"name": attribute["name"]} for attribute in definition["taskDefinition"]["requiresAttributes"]]
    resources = [{"name": name, "type": "INTEGER", "integerValue": 4096} for name in ("CPU", "MEMORY")]
    registered = await made.good("RegisterContainerInstance", totalResources=resources, attributes=wanted)
    instance_arn = registered["containerInstance"]["containerInstanceArn"]
    instance_id = instance_arn.rpartition("/")[2]

    def connect(tx: Any) -> None:
        instance = tx.get(CONTAINER_INSTANCES, f"{records.ACCOUNT}/default/{instance_id}")
        tx.put(CONTAINER_INSTANCES, msgspec.structs.replace(instance, agent_connected=True))

    await made.context.store.update(connect, cause="test")
    service = (await made.good("CreateService", serviceName="web", taskDefinition="web", desiredCount=1))["service"]
    await made.good("CreateService", cluster="other", serviceName="idle", taskDefinition="web:1", desiredCount=0)
    deployment_id = service["deployments"][0]["id"].rpartition("/")[2]
    task = records.task(service="web", deployment_id=deployment_id, started_by=f"ecs-svc/{deployment_id}", container_instance_id=instance_id)
    await made.context.store.update(lambda tx: tx.put(TASKS, task), cause="test")
    started = await made.good("RunTask", taskDefinition="web", count=1)
    await furnish_gateways(made)
    await made.good("CreateService", serviceName="shared", desiredCount=4, deploymentController={"type": "EXTERNAL"})
    task_set = (await made.good("CreateTaskSet", cluster="default", service="shared", taskDefinition="web:1"))["taskSet"]
    deployments = await made.good("ListServiceDeployments", service="web")
    known(made, instance_arn, [f"task/default/{task.id}", *(found["taskArn"] for found in started["tasks"])], deployments)
    sets = [task_set["taskSetArn"], task_set["id"], "ecs-svc/1234567890123456789"]
    made.known |= {"taskset": sets, "tasksets": list(sets), "primarytaskset": list(sets), "value": [*made.known["value"], 50.0, 100.0]}
    made.known["service"] += ["shared", "shared"]
    made.known["resourcearn"].append(task_set["taskSetArn"])
    await furnish_daemons(made)
    await furnish_shift(made)


async def furnish_shift(made: World) -> None:
    """A deployment that shifts traffic and that a hook of it has paused."""
    hooks = [{"targetType": "PAUSE", "lifecycleStages": ["PRE_SCALE_UP"]}]
    configuration = {"strategy": "CANARY", "lifecycleHooks": hooks}
    await made.good("CreateService", serviceName="paused", taskDefinition="web", desiredCount=1, deploymentConfiguration=configuration)
    (brief,) = (await made.good("ListServiceDeployments", service="paused"))["serviceDeployments"]
    key = f"{records.ACCOUNT}/default/paused/{brief['serviceDeploymentArn'].rpartition('/')[2]}"
    run = LifecycleHook(
        id="ecs-pause-1", target_type="PAUSE", target="", stage="PRE_SCALE_UP", status="AWAITING_ACTION", expires_at=2e9, timeout_action="ROLLBACK"
    )

    def pause(tx: Any) -> None:
        deployment = tx.get(DEPLOYMENTS, key)
        changed = {"hooks": (run,), "lifecycle_stage": "PRE_SCALE_UP", "service_deployment_status": "IN_PROGRESS"}
        tx.put(DEPLOYMENTS, msgspec.structs.replace(deployment, **changed))

    await made.context.store.update(pause, cause="test")
    arn = f"arn:aws:ecs:{records.REGION}:{records.ACCOUNT}:task-definition/web:1"
    made.known |= {"hookid": ["ecs-pause-1", "ecs-pause-2"], "hooktargetarn": ["http://100.64.0.1/", arn]}
    for name in ("servicedeploymentarn", "servicedeploymentarns"):
        made.known[name].append(brief["serviceDeploymentArn"])
    made.known["service"].append("paused")


async def furnish_daemons(made: World) -> None:
    """Two daemons of the capacity provider `edge`, one of them updated, and what of them means something."""
    agent = {"name": "agent", "image": "agent:1", "memory": 16}
    for _ in range(2):
        await made.good("RegisterDaemonTaskDefinition", family="agents", containerDefinitions=[agent], tags=[{"key": "a", "value": "b"}])
    await made.good("CreateCapacityProvider", name="edge", autoScalingGroupProvider={"autoScalingGroupArn": "group"})
    await made.good("PutClusterCapacityProviders", cluster="default", capacityProviders=["edge"], defaultCapacityProviderStrategy=[])
    spec = {"daemonTaskDefinitionArn": "agents:1", "capacityProviderArns": ["edge"]}
    deployments, arns = [], []
    for name in ("agent", "second"):
        daemon = await made.good("CreateDaemon", daemonName=name, **spec)
        deployments.append(daemon["deploymentArn"])
        arns.append(daemon["daemonArn"])
    deployments.append((await made.good("UpdateDaemon", daemonArn=arns[1], **spec))["deploymentArn"])
    shown = (await made.good("DescribeDaemonDeployments", daemonDeploymentArns=deployments))["daemonDeployments"]
    made.known["daemonarn"] = arns
    made.known["daemondeploymentarns"] = deployments
    made.known["daemonrevisionarns"] = [item["targetDaemonRevision"]["arn"] for item in shown]
    made.known["capacityproviderarns"] = [arns[0].partition(":daemon/")[0] + ":capacity-provider/edge"]
    made.known["resourcearn"].append(arns[0])


async def furnish_gateways(made: World) -> None:
    """One that a cluster may use, and one that nothing keeps."""
    for name, protected in (("shop", True), ("plain", False)):
        configuration = {"hostSharedAlb": {}}
        await made.good("CreateGateway", name=name, infrastructureRoleArn=_ROLE, configuration=configuration, deletionProtection=protected)
    await made.good("AssociateGatewayWithCluster", gateway="shop", cluster="other")
    express = {"infrastructureRoleArn": _ROLE, "executionRoleArn": _ROLE, "primaryContainer": {"image": "web:1"}}
    await made.good("CreateExpressGatewayService", serviceName="express", **express)


def known(made: World, instance_arn: str, tasks: list[str], deployments: dict[str, Any]) -> None:
    """What means something here, by the member that takes it."""
    prefix = f"arn:aws:ecs:{records.REGION}:{records.ACCOUNT}:"
    task_arns = [task if task.startswith("arn:") else prefix + task for task in tasks]
    briefs = deployments["serviceDeployments"]
    word: dict[str, list[Any]] = {
        "cluster": ["default", "default", "default", f"{prefix}cluster/default", "other"],
        "clusters": ["default", "other", f"{prefix}cluster/other"],
        "clusterarn": [f"{prefix}cluster/default"],
        "clustername": ["default", "third", "other"],
        "service": ["web", f"{prefix}service/default/web", "idle"],
        "servicename": ["web", "api", "idle"],
        "servicearn": [f"{prefix}service/default/web", f"{prefix}service/default/express"],
        "taskdefinition": ["web", "web:1", f"{prefix}task-definition/web:2"],
        "daemontaskdefinition": ["agents", "agents:1", f"{prefix}daemon-task-definition/agents:2"],
        "daemontaskdefinitionarn": [f"{prefix}daemon-task-definition/agents:2"],
        "family": ["web", "job", "agents"],
        "familyprefix": ["w"],
        "containerinstance": [instance_arn, instance_arn.rpartition("/")[2]],
        "targetid": [instance_arn, instance_arn.rpartition("/")[2]],
        "targettype": ["container-instance"],
        "task": [*task_arns, task_arns[0].rpartition("/")[2]],
        "resourcearn": [f"{prefix}cluster/default", f"{prefix}service/default/web", f"{prefix}task-definition/web:1", *task_arns, instance_arn]
        + [f"{prefix}daemon-task-definition/agents:1"],
        "servicedeploymentarns": [brief["serviceDeploymentArn"] for brief in briefs],
        "servicedeploymentarn": [brief["serviceDeploymentArn"] for brief in briefs],
        "servicerevisionarns": [brief["targetServiceRevisionArn"] for brief in briefs],
        "capacityprovider": ["FARGATE", "FARGATE_SPOT"],
        "capacityproviders": ["FARGATE", "FARGATE_SPOT"],
        "status": ["RUNNING", "STOPPED", "ACTIVE"],
        "desiredstatus": ["RUNNING", "STOPPED"],
        "containername": ["web", "app"],
        "image": ["web:1"],
        "name": ["web", "app", "containerInsights", "CPU"],
        "value": ["enabled", "1", "b"],
        "key": ["a", "b"],
        "tagkeys": ["a"],
        "cpu": [128, 256],
        "memory": [64, 128],
        "containerport": [80, 8080],
        "desiredcount": [0, 1, 2],
        "count": [1, 2],
        "maxresults": [1, 10],
        "principalarn": [f"arn:aws:iam::{records.ACCOUNT}:root", f"arn:aws:iam::{records.ACCOUNT}:user/a"],
        "daemonname": ["agent"],
        "infrastructurerolearn": [f"arn:aws:iam::{records.ACCOUNT}:role/infrastructure"],
        "expressservice": [f"{prefix}service/default/express"],
        "healthcheckpath": ["/", "/health"],
        "executionrolearn": [_ROLE],
        "taskrolearn": [_ROLE],
        "mintaskcount": [1],
        "maxtaskcount": [1, 5],
        "autoscalingtargetvalue": [60],
        "gateway": ["shop", "plain", f"{prefix}gateway/shop"],
        "names": ["shop", "plain"],
        "gatewayroutearn": [f"{prefix}gateway-route/shop/0123"],
        "webaclarn": [f"arn:aws:wafv2:{records.REGION}:{records.ACCOUNT}:regional/webacl/shop/0123"],
        "port": [443],
        "maxalbcount": [1, 10],
        "namespace": ["internal"],
        "clienttoken": ["token-1", "token-2"],
        "attributename": ["stack"],
        "startedby": ["me"],
        "group": ["g"],
    }
    word |= {
        "containerinstances": word["containerinstance"],
        "tasks": word["task"],
        "services": word["service"],
        "taskdefinitions": word["taskdefinition"],
    }
    made.known = {name: list(values) for name, values in word.items()}
