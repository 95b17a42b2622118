from __future__ import annotations

import msgspec
import pytest
from tests.unit.api.ecs.caller import ACCOUNT, ARN, Ecs

from homeport.errors import ClientError, ClusterNotFoundError, ConflictError, InvalidParameterError, NoUpdateAvailableError
from homeport.model.ecs.container_instance import AgentSession
from homeport.model.ecs.task import HostPortUse
from homeport.store.tables import CONTAINER_INSTANCES, TASKS
from homeport.testing import records


@pytest.fixture
def ecs(context):
    return Ecs(context)


def resource(found, name, kind="remainingResources"):
    return next(item for item in found[kind] if item["name"] == name)


def key_of(instance):
    return f"{ACCOUNT}/" + instance["containerInstanceArn"].split(":container-instance/")[1]


async def test_registration_makes_the_default_cluster_and_an_active_instance(ecs):
    made = await ecs.register_instance(versionInfo={"agentVersion": "1.0.0", "dockerVersion": "DockerVersion: 24"}, tags=[{"key": "a", "value": "b"}])
    assert made["containerInstanceArn"].startswith(ARN + "container-instance/default/")
    assert len(made["containerInstanceArn"].rsplit("/", 1)[1]) == 32
    assert (made["status"], made["agentConnected"], made["version"]) == ("ACTIVE", False, 1)
    assert made["ec2InstanceId"].startswith("i-")
    assert len(made["ec2InstanceId"]) == 19
    assert made["tags"] == [{"key": "a", "value": "b"}]
    assert made["versionInfo"] == {"agentVersion": "1.0.0", "dockerVersion": "DockerVersion: 24"}
    assert resource(made, "CPU", "registeredResources") == {
        "name": "CPU",
        "type": "INTEGER",
        "doubleValue": 0.0,
        "longValue": 0,
        "integerValue": 2048,
    }
    assert resource(made, "PORTS")["stringSetValue"] == ["22", "2375", "2376", "51678", "51679"]
    assert (await ecs("ListClusters"))["clusterArns"] == [ARN + "cluster/default"]


async def test_every_attribute_comes_back_with_its_value(ecs):
    sent = [{"name": "ecs.capability.full-sync"}, {"name": "ecs.os-type", "value": "linux"}, {"name": "stack", "value": "prod"}]
    made = await ecs.register_instance(attributes=sent)
    assert made["attributes"] == [*sent, {"name": "ecs.availability-zone", "value": "us-east-1a"}]
    chosen = [{"name": "ecs.availability-zone", "value": "us-east-1c"}]
    assert (await ecs.register_instance(attributes=chosen))["attributes"] == chosen


async def test_the_identity_document_names_the_machine(ecs):
    assert (await ecs.register_instance(instanceIdentityDocument='{"instanceId": "i-0123"}'))["ec2InstanceId"] == "i-0123"
    assert (await ecs.register_instance(instanceIdentityDocument=""))["ec2InstanceId"].startswith("i-")
    assert (await ecs.register_instance(instanceIdentityDocument="no json"))["ec2InstanceId"].startswith("i-")
    assert (await ecs.register_instance(attributes=[{"name": "ecs.capability.external"}]))["ec2InstanceId"].startswith("mi-")


async def test_another_unknown_cluster_is_not_made(ecs):
    with pytest.raises(ClusterNotFoundError, match=r"^Cluster not found\.$"):
        await ecs.register_instance(cluster="web")


async def test_registering_again_keeps_the_id_and_what_users_put(ecs):
    made = await ecs.register_instance(attributes=[{"name": "ecs.capability.old"}, {"name": "ecs.availability-zone", "value": "us-east-1b"}])
    target = {"targetId": made["containerInstanceArn"]}
    await ecs("PutAttributes", attributes=[{"name": "stack", "value": "prod", **target}])
    again = await ecs.register_instance(
        containerInstanceArn=made["containerInstanceArn"],
        totalResources=[{"name": "CPU", "integerValue": 4096}, {"name": "MEMORY", "integerValue": 8000}],
        attributes=[{"name": "ecs.capability.new"}],
    )
    assert (again["containerInstanceArn"], again["ec2InstanceId"]) == (made["containerInstanceArn"], made["ec2InstanceId"])
    assert {item["name"]: item.get("value") for item in again["attributes"]} == {
        "ecs.capability.new": None,
        "stack": "prod",
        "ecs.availability-zone": "us-east-1b",
    }
    assert resource(again, "CPU")["integerValue"] == 4096
    assert again["version"] > made["version"]
    assert len((await ecs("ListContainerInstances"))["containerInstanceArns"]) == 1


async def test_what_a_user_gave_the_agent_at_first_is_custom(ecs):
    made = await ecs.register_instance(attributes=[{"name": "stack", "value": "prod"}, {"name": "ecs.os-type", "value": "linux"}])
    arn = made["containerInstanceArn"]
    again = await ecs.register_instance(containerInstanceArn=arn, attributes=[{"name": "ecs.os-type", "value": "linux"}])
    assert {"name": "stack", "value": "prod"} in again["attributes"]
    await ecs("PutAttributes", attributes=[{"name": "stack", "value": "test", "targetId": arn}])
    record = await ecs.get(CONTAINER_INSTANCES, key_of(made))
    assert {attribute.name for attribute in record.attributes if attribute.custom} == {"stack"}


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ([{"name": f"custom{number}", "value": "v"} for number in range(11)], "at most 10 custom attributes"),
        ([{"name": "a b", "value": "v"}], "Attribute name is not valid: a b"),
        ([{"name": "rack", "value": " 7"}], "Attribute value is not valid:  7"),
    ],
)
async def test_what_a_user_gives_the_agent_keeps_to_the_rules_of_put_attributes(ecs, attributes, words):
    with pytest.raises(InvalidParameterError, match=words):
        await ecs.register_instance(attributes=attributes)
    ten = [{"name": f"custom{number}", "value": "a: b@c"} for number in range(10)]
    agents = [{"name": f"ecs.capability.{number}"} for number in range(30)]
    made = await ecs.register_instance(attributes=[*ten, *agents])
    assert len(made["attributes"]) == 41, "the limit is for custom ones; the zone comes by itself"


async def test_a_host_cannot_change_its_kind_or_come_back_from_inactive(ecs):
    made = await ecs.register_instance()
    with pytest.raises(ClientError, match=r"^Container instance type changes are not supported\.$"):
        await ecs.register_instance(containerInstanceArn=made["containerInstanceArn"], attributes=[{"name": "ecs.capability.external"}])
    await ecs("DeregisterContainerInstance", containerInstance=made["containerInstanceArn"])
    with pytest.raises(ClientError, match="not registered any more"):
        await ecs.register_instance(containerInstanceArn=made["containerInstanceArn"])


async def test_a_client_token_registers_once(ecs):
    # A Struct stands for what the front door passes when it knows the agent's own member.
    kind = msgspec.defstruct("Request", [(name, object, None) for name in (*REGISTER_MEMBERS, "clientToken")])
    item = msgspec.defstruct("Item", [(name, object, None) for name in ("name", "integerValue", "longValue", "stringSetValue")])
    resources = [item(name="CPU", integerValue=1024), item(name="MEMORY", integerValue=1000)]
    first = await ecs.handle("RegisterContainerInstance", kind(totalResources=resources, clientToken="t"))
    second = await ecs.handle("RegisterContainerInstance", kind(totalResources=resources, clientToken="t"))
    assert first == second
    with pytest.raises(ConflictError):
        await ecs.handle("RegisterContainerInstance", kind(totalResources=[resources[0], item(name="MEMORY", integerValue=2)], clientToken="t"))
    other = await ecs.handle("RegisterContainerInstance", kind(totalResources=resources, clientToken="u"))
    assert other["containerInstance"]["containerInstanceArn"] != first["containerInstance"]["containerInstanceArn"]


REGISTER_MEMBERS = (
    "cluster",
    "instanceIdentityDocument",
    "totalResources",
    "versionInfo",
    "containerInstanceArn",
    "attributes",
    "platformDevices",
    "tags",
)


@pytest.mark.parametrize(
    "resources",
    [
        [],
        [{"name": "CPU", "integerValue": 1024}],
        [{"name": "CPU", "integerValue": 0}, {"name": "MEMORY", "integerValue": 1}],
        [{"name": "CPU", "integerValue": 1}, {"name": "MEMORY", "integerValue": 1}, {"name": "PORTS", "stringSetValue": ["x"]}],
        [{"name": "CPU", "integerValue": 1}, {"name": "MEMORY", "integerValue": 1}, {"name": "PORTS", "stringSetValue": ["70000"]}],
        [{"name": "CPU", "integerValue": 1}, {"name": "MEMORY", "integerValue": 1}, {"name": "PORTS", "stringSetValue": ["9" * 5000]}],
    ],
)
async def test_nonsense_resources_are_refused_and_nothing_is_made(ecs, resources):
    with pytest.raises(InvalidParameterError):
        await ecs.register_instance(totalResources=resources)
    assert ecs.context.store.revision == 1


async def test_remaining_resources_and_counts_follow_the_tasks(ecs):
    made = await ecs.register_instance()
    instance_id = made["containerInstanceArn"].rsplit("/", 1)[1]
    on_it = {"account": ACCOUNT, "cluster": "default", "container_instance_id": instance_id, "cpu": 256, "memory_mib": 512}
    running = records.task(1, **on_it, last_status="RUNNING", host_ports=(HostPortUse(port=80, protocol="tcp"), HostPortUse(port=53, protocol="udp")))
    pending = records.task(2, **on_it, last_status="PENDING")
    stopping = records.task(3, **on_it, last_status="STOPPING", desired_status="STOPPED")
    stopped = records.task(4, **on_it, last_status="STOPPED", desired_status="STOPPED")
    await ecs.put(*((TASKS, task) for task in (running, pending, stopping, stopped)))
    found = (await ecs("DescribeContainerInstances", containerInstances=[instance_id]))["containerInstances"][0]
    assert resource(found, "CPU")["integerValue"] == 2048 - 3 * 256
    assert resource(found, "MEMORY")["integerValue"] == 4000 - 3 * 512
    assert resource(found, "CPU", "registeredResources")["integerValue"] == 2048
    assert resource(found, "PORTS")["stringSetValue"] == ["22", "80", "2375", "2376", "51678", "51679"]
    assert resource(found, "PORTS_UDP")["stringSetValue"] == ["53"]
    assert resource(found, "PORTS_UDP", "registeredResources")["stringSetValue"] == []
    assert (found["runningTasksCount"], found["pendingTasksCount"]) == (2, 1)


async def test_describe_names_what_is_missing_and_refuses_malformed_ids(ecs):
    await ecs("CreateCluster")
    answer = await ecs("DescribeContainerInstances", containerInstances=["0" * 32])
    assert answer == {"containerInstances": [], "failures": [{"arn": ARN + "container-instance/default/" + "0" * 32, "reason": "MISSING"}]}
    for wrong in (["short"], ["a/b"], [], [ARN + "container-instance/other/" + "0" * 32], ["0" * 32] * 101):
        with pytest.raises(InvalidParameterError):
            await ecs("DescribeContainerInstances", containerInstances=wrong)
    with pytest.raises(InvalidParameterError, match="Identifier is for cluster other. Your cluster is default"):
        await ecs("DescribeContainerInstances", containerInstances=[ARN + "container-instance/other/" + "0" * 32])


async def test_health_and_tags_only_on_request(ecs):
    made = await ecs.register_instance(tags=[{"key": "a", "value": "b"}])
    record = await ecs.get(CONTAINER_INSTANCES, key_of(made))
    session = AgentSession(id="s", server="one", since=5.0)
    healthy = msgspec.structs.replace(record, health="OK", health_updated_at=7.0, agent_connected=True, session=session)
    await ecs.put((CONTAINER_INSTANCES, healthy))
    arns = [made["containerInstanceArn"]]
    plain = (await ecs("DescribeContainerInstances", containerInstances=arns))["containerInstances"][0]
    assert ("healthStatus" in plain, plain["tags"], plain["agentConnected"]) == (False, [], True)
    full = (await ecs("DescribeContainerInstances", containerInstances=arns, include=["TAGS", "CONTAINER_INSTANCE_HEALTH"]))["containerInstances"][0]
    assert full["tags"] == [{"key": "a", "value": "b"}]
    assert full["healthStatus"]["overallStatus"] == "OK"
    await ecs.put((CONTAINER_INSTANCES, msgspec.structs.replace(healthy, agent_connected=False, session=None, disconnected_at=9.0)))
    full = (await ecs("DescribeContainerInstances", containerInstances=arns, include=["CONTAINER_INSTANCE_HEALTH"]))["containerInstances"][0]
    assert full["healthStatus"]["overallStatus"] == "IMPAIRED"


async def test_list_filters_by_status_and_expression_and_pages(ecs):
    arns = sorted([(await ecs.register_instance(attributes=[{"name": "stack", "value": str(n % 2)}]))["containerInstanceArn"] for n in range(6)])
    odd = await ecs("ListContainerInstances", filter="attribute:stack == 1")
    assert len(odd["containerInstanceArns"]) == 3
    first = await ecs("ListContainerInstances", filter="attribute:stack == 1", maxResults=2)
    rest = await ecs("ListContainerInstances", filter="attribute:stack == 1", maxResults=2, nextToken=first["nextToken"])
    assert first["containerInstanceArns"] + rest["containerInstanceArns"] == odd["containerInstanceArns"]
    assert "nextToken" not in rest
    await ecs("UpdateContainerInstancesState", containerInstances=arns[:2], status="DRAINING")
    assert (await ecs("ListContainerInstances", status="DRAINING"))["containerInstanceArns"] == arns[:2]
    assert (await ecs("ListContainerInstances"))["containerInstanceArns"] == arns
    both = await ecs("ListContainerInstances", status="ACTIVE", filter="attribute:stack exists")
    assert both["containerInstanceArns"] == arns[2:]
    await ecs("DeregisterContainerInstance", containerInstance=arns[0])
    seen, token = [], None
    while True:
        page = await ecs("ListContainerInstances", maxResults=2, **({"nextToken": token} if token else {}))
        seen += page["containerInstanceArns"]
        token = page.get("nextToken")
        if token is None:
            break
    assert seen == arns[1:]
    with pytest.raises(InvalidParameterError):
        await ecs("ListContainerInstances", filter="attribute:stack ==")
    first = await ecs("ListContainerInstances", maxResults=2)
    with pytest.raises(InvalidParameterError):
        await ecs("ListContainerInstances", maxResults=2, status="ACTIVE", nextToken=first["nextToken"])


async def test_draining_and_back_with_failures_of_their_own(ecs):
    one, two, three = [(await ecs.register_instance())["containerInstanceArn"] for _ in range(3)]
    await ecs("DeregisterContainerInstance", containerInstance=three)
    missing = ARN + "container-instance/default/" + "0" * 32
    answer = await ecs("UpdateContainerInstancesState", containerInstances=[one, missing, three], status="DRAINING")
    assert [found["status"] for found in answer["containerInstances"]] == ["DRAINING"]
    assert answer["failures"] == [{"arn": missing, "reason": "MISSING"}, {"arn": three, "reason": "INACTIVE"}]
    revision = ecs.context.store.revision
    again = await ecs("UpdateContainerInstancesState", containerInstances=[one], status="DRAINING")
    assert again["containerInstances"][0]["version"] == answer["containerInstances"][0]["version"]
    assert ecs.context.store.revision == revision
    back = await ecs("UpdateContainerInstancesState", containerInstances=[one, two], status="ACTIVE")
    assert [found["status"] for found in back["containerInstances"]] == ["ACTIVE", "ACTIVE"]
    with pytest.raises(InvalidParameterError, match=r"should be one of \[ACTIVE,DRAINING\]"):
        await ecs("UpdateContainerInstancesState", containerInstances=[one], status="DEREGISTERING")
    with pytest.raises(InvalidParameterError):
        await ecs("UpdateContainerInstancesState", containerInstances=[one] * 11, status="ACTIVE")


async def test_deregistration_is_refused_while_tasks_are_there_unless_forced(ecs):
    made = await ecs.register_instance()
    instance_id = made["containerInstanceArn"].rsplit("/", 1)[1]
    tasks = [
        records.task(number, account=ACCOUNT, cluster="default", container_instance_id=instance_id, last_status="RUNNING", started_at=1.0)
        for number in range(1, 151)
    ]
    for start in range(0, 150, 50):
        await ecs.put(*((TASKS, task) for task in tasks[start : start + 50]))
    with pytest.raises(InvalidParameterError, match=r"^Found running tasks on the instance\.$"):
        await ecs("DeregisterContainerInstance", containerInstance=instance_id)
    gone = (await ecs("DeregisterContainerInstance", containerInstance=instance_id, force=True))["containerInstance"]
    assert (gone["status"], gone["runningTasksCount"], gone["pendingTasksCount"]) == ("INACTIVE", 0, 0)
    assert resource(gone, "CPU")["integerValue"] == 2048
    for task in tasks:
        orphan = await ecs.get(TASKS, task.key)
        assert (orphan.desired_status, orphan.last_status) == ("STOPPED", "STOPPED")
        assert (orphan.stop_code, orphan.stopped_reason) == ("UserInitiated", "Container instance deregistration forced by user.")
        assert orphan.stopped_at
    assert (await ecs("DeregisterContainerInstance", containerInstance=instance_id))["containerInstance"]["status"] == "INACTIVE"
    assert (await ecs("ListContainerInstances"))["containerInstanceArns"] == []
    described = await ecs("DescribeContainerInstances", containerInstances=[instance_id])
    assert described["containerInstances"][0]["status"] == "INACTIVE"
    with pytest.raises(InvalidParameterError, match="not found"):
        await ecs("DeregisterContainerInstance", containerInstance="0" * 32)


async def test_an_agent_is_never_updated_from_here(ecs):
    own = await ecs.register_instance()
    external = await ecs.register_instance(attributes=[{"name": "ecs.capability.external"}])
    with pytest.raises(NoUpdateAvailableError):
        await ecs("UpdateContainerAgent", containerInstance=own["containerInstanceArn"])
    with pytest.raises(ClientError):
        await ecs("UpdateContainerAgent", containerInstance=external["containerInstanceArn"])
    with pytest.raises(InvalidParameterError):
        await ecs("UpdateContainerAgent", containerInstance="0" * 32)


async def test_agents_are_led_to_this_server(ecs):
    answer = await ecs("DiscoverPollEndpoint", containerInstance="x", cluster="default")
    assert answer == {"endpoint": "http://127.0.0.1:8470/acs/", "telemetryEndpoint": "http://127.0.0.1:8470/tcs/"}
