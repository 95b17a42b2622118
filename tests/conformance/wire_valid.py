"""For every operation the smallest request that succeeds, and one or two that have every member that can be given.

Owns: `MINIMAL`, `FULL`, `OMITTED` (members that no valid request has here, each with its reason), `NEVER` (operations that cannot succeed here, with
the reason), `valid`. The words in capitals stand for what is in the world (`wire_world.py`). Never sends anything.
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeport.testing import records

ROLE = f"arn:aws:iam::{records.ACCOUNT}:role/infrastructure"
PREFIX = f"arn:aws:ecs:{records.REGION}:{records.ACCOUNT}:"
TAGS = [{"key": "team", "value": "shop"}, {"key": "stage", "value": ""}]
CONTAINER = {"image": "web:1"}
RESOURCES = [{"name": name, "type": "INTEGER", "integerValue": 4096} for name in ("CPU", "MEMORY")]
ATTRIBUTE = {"name": "stack", "value": "blue", "targetType": "container-instance", "targetId": "INSTANCE"}
APP = {"name": "app", "image": "app:1", "memory": 32}
STRATEGY = [{"capacityProvider": "pool", "weight": 1, "base": 1}]
CONSTRAINTS = [{"type": "distinctInstance"}, {"type": "memberOf", "expression": "attribute:stack != red"}]
SPREAD = [{"type": "spread", "field": "attribute:ecs.availability-zone"}, {"type": "binpack", "field": "memory"}]
ALB = {
    "networkConfiguration": {"inboundSecurityGroup": "sg-1", "subnets": ["subnet-1"], "ipAddressType": "ipv4"},
    "scheme": "internal",
    "webACLArn": f"arn:aws:wafv2:{records.REGION}:{records.ACCOUNT}:regional/webacl/shop/0123",
    "accessLogs": {"destination": {"s3": {"bucket": "logs", "prefix": "p"}}},
    "port": 443,
    "protocol": "HTTPS",
    "maxAlbCount": 3,
    "httpDesync": "monitor",
    "testTrafficRules": {"header": {"name": "x-test", "values": ["1"]}},
}
MUTABLE_ALB = {**{name: value for name, value in ALB.items() if name not in ("scheme", "port", "protocol")}}
MUTABLE_ALB["networkConfiguration"] = {"inboundSecurityGroup": "sg-2"}
OVERRIDES = {
    "containerOverrides": [
        {"name": "web", "command": ["x"], "environment": [{"name": "A", "value": "1"}], "cpu": 64, "memory": 32, "memoryReservation": 16}
    ],
    "cpu": "128",
    "memory": "64",
}
NONE_OF_THEM = {"loadBalancers": [], "serviceRegistries": [], "volumeConfigurations": [], "vpcLatticeConfigurations": [], "gatewayConnectors": []}
"""What can only be given empty."""
DEPLOYMENT = {
    "deploymentCircuitBreaker": {"enable": True, "rollback": True},
    "maximumPercent": 150,
    "minimumHealthyPercent": 50,
    "strategy": "ROLLING",
}
DAEMON = {
    "deploymentConfiguration": {"drainPercent": 50.0, "bakeTimeInMinutes": 0},
    "propagateTags": "DAEMON",
    "enableECSManagedTags": True,
    "enableExecuteCommand": False,
    "critical": False,
}
EXPRESS = {
    "executionRoleArn": ROLE,
    "healthCheckPath": "/health",
    "primaryContainer": {"image": "shop:1", "containerPort": 8080, "command": ["run"], "environment": [{"name": "A", "value": "1"}]},
    "taskRoleArn": ROLE,
    "networkConfiguration": {"securityGroups": ["sg-1"], "subnets": ["subnet-1"]},
    "cpu": "512",
    "memory": "1024",
    "cpuArchitecture": "ARM64",
    "scalingTarget": {"minTaskCount": 1, "maxTaskCount": 2, "autoScalingMetric": "AVERAGE_CPU", "autoScalingTargetValue": 70},
}
EXEC_CONFIGURATION = {
    "kmsKeyId": "k",
    "logging": "OVERRIDE",
    "logConfiguration": {"cloudWatchLogGroupName": "g", "cloudWatchEncryptionEnabled": True, "s3BucketName": "b", "s3EncryptionEnabled": False},
}
CLUSTER = {
    "settings": [{"name": "containerInsights", "value": "enhanced"}],
    "configuration": {"executeCommandConfiguration": EXEC_CONFIGURATION, "managedStorageConfiguration": {"kmsKeyId": "k"}},
    "serviceConnectDefaults": {"namespace": "internal"},
}
GROUP = {
    "managedScaling": {
        "status": "ENABLED",
        "targetCapacity": 80,
        "minimumScalingStepSize": 1,
        "maximumScalingStepSize": 5,
        "instanceWarmupPeriod": 60,
    },
    "managedTerminationProtection": "ENABLED",
    "managedDraining": "DISABLED",
}
INSTANCES = {
    "infrastructureRoleArn": ROLE,
    "instanceLaunchTemplate": {
        "ec2InstanceProfileArn": f"arn:aws:iam::{records.ACCOUNT}:instance-profile/x",
        "networkConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]},
    },
    "propagateTags": "CAPACITY_PROVIDER",
}

MINIMAL: dict[str, dict[str, Any]] = {
    "AssociateGatewayWithCluster": {"gateway": "plain", "cluster": "default"},
    "ContinueServiceDeployment": {"serviceDeploymentArn": "PAUSED", "hookId": "hook-1"},
    "CreateCapacityProvider": {"name": "new", "autoScalingGroupProvider": {"autoScalingGroupArn": "new"}},
    "CreateExpressGatewayService": {"infrastructureRoleArn": ROLE, "executionRoleArn": ROLE, "primaryContainer": CONTAINER},
    "CreateGateway": {"name": "new", "infrastructureRoleArn": ROLE, "configuration": {"hostSharedAlb": {}}},
    "CreateService": {"serviceName": "new", "taskDefinition": "web", "desiredCount": 0},
    "CreateTaskSet": {"service": "shared", "cluster": "default", "taskDefinition": "web"},
    "CreateDaemon": {"daemonName": "new", "daemonTaskDefinitionArn": "agents:1", "capacityProviderArns": ["edge"]},
    "DeleteDaemon": {"daemonArn": "AGENTS"},
    "DescribeDaemon": {"daemonArn": "AGENTS"},
    "DescribeDaemonDeployments": {"daemonDeploymentArns": ["ROLLOUT"]},
    "DescribeDaemonRevisions": {"daemonRevisionArns": ["VERSION"]},
    "ListDaemonDeployments": {"daemonArn": "AGENTS"},
    "UpdateDaemon": {"daemonArn": "AGENTS", "daemonTaskDefinitionArn": "agents:1", "capacityProviderArns": ["edge"]},
    "DeleteAccountSetting": {"name": "containerInsights"},
    "DeleteAttributes": {"attributes": [{"name": "stack", "targetId": "INSTANCE"}]},
    "DeleteCapacityProvider": {"capacityProvider": "unused"},
    "DeleteCluster": {"cluster": "empty"},
    "DeleteDaemonTaskDefinition": {"daemonTaskDefinition": "agents:2"},
    "DeleteExpressGatewayService": {"serviceArn": "EXPRESS"},
    "DeleteGateway": {"gateway": "plain"},
    "DeleteService": {"service": "unscaled"},
    "DeleteTaskDefinitions": {"taskDefinitions": ["old:1"]},
    "DeleteTaskSet": {"cluster": "default", "service": "shared", "taskSet": "SET", "force": True},
    "DeregisterContainerInstance": {"containerInstance": "INSTANCE", "force": True},
    "DeregisterTaskDefinition": {"taskDefinition": "web:1"},
    "DescribeContainerInstances": {"containerInstances": ["INSTANCE"]},
    "DescribeDaemonTaskDefinition": {"daemonTaskDefinition": "agents"},
    "DescribeExpressGatewayService": {"serviceArn": "EXPRESS"},
    "DescribeGateway": {"gateway": "shop"},
    "DescribeGatewayResources": {"gateway": "shop"},
    "DescribeServiceDeployments": {"serviceDeploymentArns": ["PAUSED"]},
    "DescribeServiceRevisions": {"serviceRevisionArns": ["REVISION"]},
    "DescribeServices": {"services": ["web"]},
    "DescribeTaskDefinition": {"taskDefinition": "web"},
    "DescribeTaskSets": {"cluster": "default", "service": "shared"},
    "DescribeTasks": {"tasks": ["TASK"]},
    "DisassociateGatewayFromCluster": {"gateway": "shop", "cluster": "other"},
    "GetTaskProtection": {"cluster": "default"},
    "ListAttributes": {"targetType": "container-instance"},
    "ListServiceDeployments": {"service": "web"},
    "ListServicesByNamespace": {"namespace": "internal"},
    "ListTagsForResource": {"resourceArn": PREFIX + "cluster/default"},
    "PutAccountSetting": {"name": "containerInsights", "value": "enabled"},
    "PutAccountSettingDefault": {"name": "containerInsights", "value": "enabled"},
    "PutAttributes": {"attributes": [{"name": "stack", "targetId": "INSTANCE"}]},
    "PutClusterCapacityProviders": {"cluster": "empty", "capacityProviders": [], "defaultCapacityProviderStrategy": []},
    "RegisterContainerInstance": {"totalResources": RESOURCES},
    "RegisterDaemonTaskDefinition": {"family": "new", "containerDefinitions": [APP]},
    "RegisterTaskDefinition": {"family": "new", "containerDefinitions": [APP]},
    "RunTask": {"taskDefinition": "web"},
    "StartTask": {"taskDefinition": "web", "containerInstances": ["INSTANCE"]},
    "StopServiceDeployment": {"serviceDeploymentArn": "PAUSED"},
    "StopTask": {"task": "TASK"},
    "SubmitAttachmentStateChanges": {"attachments": []},
    "SubmitContainerStateChange": {"task": "TASK", "containerName": "app", "status": "RUNNING"},
    "SubmitTaskStateChange": {"task": "TASK", "status": "RUNNING"},
    "TagResource": {"resourceArn": PREFIX + "cluster/default", "tags": []},
    "UntagResource": {"resourceArn": PREFIX + "cluster/default", "tagKeys": []},
    "UpdateCapacityProvider": {"name": "unused", "autoScalingGroupProvider": {}},
    "UpdateCluster": {"cluster": "default"},
    "UpdateClusterSettings": {"cluster": "default", "settings": []},
    "UpdateContainerInstancesState": {"containerInstances": ["INSTANCE"], "status": "DRAINING"},
    "UpdateExpressGatewayService": {"serviceArn": "EXPRESS"},
    "UpdateGateway": {"gateway": "shop"},
    "UpdateService": {"service": "web"},
    "UpdateServicePrimaryTaskSet": {"cluster": "default", "service": "shared", "primaryTaskSet": "SET"},
    "UpdateTaskProtection": {"cluster": "default", "tasks": ["TASK"], "protectionEnabled": True},
    "UpdateTaskSet": {"cluster": "default", "service": "shared", "taskSet": "SET", "scale": {}},
}
"""Others succeed with nothing at all."""

FULL: dict[str, list[dict[str, Any]]] = {
    "ContinueServiceDeployment": [{"serviceDeploymentArn": "PAUSED", "hookId": "hook-1", "action": "ROLLBACK"}],
    "CreateCapacityProvider": [
        {"name": "new", "autoScalingGroupProvider": {"autoScalingGroupArn": "new", **GROUP}, "tags": TAGS},
        {"name": "new", "cluster": "default", "managedInstancesProvider": INSTANCES, "tags": TAGS},
    ],
    "CreateCluster": [
        {"clusterName": "new", "tags": TAGS, "capacityProviders": ["pool"], "defaultCapacityProviderStrategy": STRATEGY, **CLUSTER},
    ],
    "CreateDaemon": [
        {
            "daemonName": "new",
            "clusterArn": PREFIX + "cluster/default",
            "daemonTaskDefinitionArn": PREFIX + "daemon-task-definition/agents:2",
            "capacityProviderArns": [PREFIX + "capacity-provider/edge"],
            "tags": TAGS,
            "clientToken": "token",
            **DAEMON,
        },
    ],
    "ListDaemons": [{"clusterArn": PREFIX + "cluster/default", "capacityProviderArns": [PREFIX + "capacity-provider/edge"], "maxResults": 1}],
    "ListDaemonDeployments": [
        {"daemonArn": "AGENTS", "status": ["PENDING", "IN_PROGRESS"], "createdAt": {"before": 4e9, "after": 0.0}, "maxResults": 1}
    ],
    "UpdateDaemon": [{"daemonArn": "AGENTS", "daemonTaskDefinitionArn": "agents:2", "capacityProviderArns": ["edge"], **DAEMON}],
    "CreateExpressGatewayService": [
        {"infrastructureRoleArn": ROLE, "serviceName": "new", "cluster": "other", "tags": TAGS, **EXPRESS},
        {"infrastructureRoleArn": ROLE, "serviceName": "new", "taskDefinitionArn": "express:1", "healthCheckPath": "/"},
    ],
    "CreateGateway": [
        {
            "name": "new",
            "infrastructureRoleArn": ROLE,
            "clientToken": "token",
            "deletionProtection": False,
            "configuration": {"hostSharedAlb": ALB},
            "tags": TAGS,
            "propagateTags": "NONE",
        }
    ],
    "CreateService": [
        {
            "cluster": "default",
            "serviceName": "new",
            "taskDefinition": "web:2",
            "availabilityZoneRebalancing": "ENABLED",
            "desiredCount": 3,
            "clientToken": "token",
            "launchType": "EC2",
            "deploymentConfiguration": DEPLOYMENT,
            "placementConstraints": CONSTRAINTS,
            "placementStrategy": SPREAD,
            "healthCheckGracePeriodSeconds": 0,
            "schedulingStrategy": "REPLICA",
            "deploymentController": {"type": "ECS"},
            "tags": TAGS,
            "enableECSManagedTags": True,
            "propagateTags": "SERVICE",
            "enableExecuteCommand": False,
            "serviceConnectConfiguration": {"enabled": False},
            "monitoring": {},
            **NONE_OF_THEM,
        },
        {"cluster": "other", "serviceName": "new", "taskDefinition": "web", "desiredCount": 1, "capacityProviderStrategy": STRATEGY},
    ],
    "CreateTaskSet": [
        {
            "service": "shared",
            "cluster": "default",
            "externalId": "blue",
            "taskDefinition": "web:1",
            "loadBalancers": [],
            "serviceRegistries": [],
            "launchType": "EC2",
            "scale": {"value": 50.0, "unit": "PERCENT"},
            "clientToken": "token",
            "tags": TAGS,
        },
        {"service": "strategic", "cluster": "other", "taskDefinition": "web", "capacityProviderStrategy": STRATEGY},
    ],
    "DeleteAccountSetting": [{"name": "containerInsights", "principalArn": f"arn:aws:iam::{records.ACCOUNT}:user/a"}],
    "DeleteAttributes": [{"cluster": "default", "attributes": [ATTRIBUTE]}],
    "DeleteCapacityProvider": [{"capacityProvider": PREFIX + "capacity-provider/unused", "cluster": "default"}],
    "DeleteService": [{"cluster": "default", "service": "web", "force": True}],
    "DescribeCapacityProviders": [{"capacityProviders": ["pool", "FARGATE"], "cluster": "other", "include": ["TAGS"], "maxResults": 1}],
    "DescribeClusters": [{"clusters": ["default"], "include": ["ATTACHMENTS", "CONFIGURATIONS", "SETTINGS", "STATISTICS", "TAGS"]}],
    "DescribeContainerInstances": [
        {"cluster": "default", "containerInstances": ["INSTANCE"], "include": ["TAGS", "CONTAINER_INSTANCE_HEALTH"]},
    ],
    "DescribeExpressGatewayService": [{"serviceArn": "EXPRESS", "include": ["TAGS"]}],
    "DescribeGatewayResources": [{"gateway": "shop", "maxResults": 1}],
    "DescribeServices": [{"cluster": "default", "services": ["web", "none"], "include": ["TAGS"]}],
    "DescribeTaskDefinition": [{"taskDefinition": "web:1", "include": ["TAGS"]}],
    "DescribeTaskSets": [{"cluster": "default", "service": "shared", "taskSets": ["SET"], "include": ["TAGS"]}],
    "DescribeTasks": [{"cluster": "default", "tasks": ["TASK"], "include": ["TAGS"]}],
    "DeregisterContainerInstance": [{"cluster": "default", "containerInstance": "INSTANCE", "force": True}],
    "DiscoverPollEndpoint": [{"containerInstance": "INSTANCE", "cluster": "default"}],
    "GetTaskProtection": [{"cluster": "default", "tasks": ["TASK", "f" * 32]}],
    "ListAccountSettings": [
        {
            "name": "containerInsights",
            "value": "enabled",
            "principalArn": f"arn:aws:iam::{records.ACCOUNT}:root",
            "effectiveSettings": True,
            "maxResults": 1,
        },
    ],
    "ListAttributes": [
        {
            "cluster": "default",
            "targetType": "container-instance",
            "attributeName": "ecs.availability-zone",
            "attributeValue": "us-east-1a",
            "maxResults": 1,
        },
    ],
    "ListClusters": [{"maxResults": 1}],
    "ListContainerInstances": [{"cluster": "default", "filter": "agentConnected == true", "status": "ACTIVE", "maxResults": 1}],
    "ListDaemonTaskDefinitions": [
        {"familyPrefix": "a", "revision": "LAST_REGISTERED", "status": "ACTIVE", "sort": "DESC", "maxResults": 1},
        {"family": "agents", "maxResults": 1},
    ],
    "ListGatewayClusterAssociations": [{"gateway": "shop", "cluster": "other", "status": ["ACTIVE"], "maxResults": 1}],
    "ListGatewayRoutes": [
        {"gateway": "shop", "cluster": "other", "service": "web", "serviceContainerPortName": "http", "status": ["ACTIVE"], "maxResults": 1},
    ],
    "ListGateways": [{"names": ["shop", "plain"], "status": ["ACTIVE"], "maxResults": 1}],
    "ListServiceDeployments": [
        {"service": "web", "cluster": "default", "status": ["IN_PROGRESS"], "createdAt": {"before": 4e9, "after": 0.0}, "maxResults": 1},
    ],
    "ListServices": [
        {"cluster": "default", "launchType": "EC2", "schedulingStrategy": "REPLICA", "resourceManagementType": "CUSTOMER", "maxResults": 1},
    ],
    "ListServicesByNamespace": [{"namespace": "internal", "maxResults": 1}],
    "ListTaskDefinitionFamilies": [{"familyPrefix": "", "status": "ACTIVE", "maxResults": 1}],
    "ListTaskDefinitions": [{"familyPrefix": "web", "status": "ACTIVE", "sort": "DESC", "maxResults": 1}],
    "ListTasks": [
        {
            "cluster": "default",
            "containerInstance": "INSTANCE",
            "family": "web",
            "serviceName": "web",
            "desiredStatus": "RUNNING",
            "launchType": "EC2",
            "maxResults": 1,
        },
        {"startedBy": "me"},
    ],
    "PutAccountSetting": [{"name": "containerInsights", "value": "enabled", "principalArn": f"arn:aws:iam::{records.ACCOUNT}:user/a"}],
    "PutAttributes": [{"cluster": "default", "attributes": [ATTRIBUTE]}],
    "RegisterContainerInstance": [
        {
            "cluster": "default",
            "instanceIdentityDocument": '{"instanceId":"i-0123"}',
            "instanceIdentityDocumentSignature": "x",
            "totalResources": RESOURCES,
            "versionInfo": {"agentVersion": "1.0.0", "agentHash": "x", "dockerVersion": "24.0.7"},
            "containerInstanceArn": "INSTANCE",
            "attributes": [{"name": "stack", "value": "blue"}],
            "platformDevices": [{"id": "GPU-0", "type": "GPU"}],
            "tags": TAGS,
        },
    ],
    "RegisterDaemonTaskDefinition": [
        {
            "family": "new",
            "taskRoleArn": ROLE,
            "executionRoleArn": ROLE,
            "containerDefinitions": [APP],
            "cpu": "128",
            "memory": "64",
            "volumes": [{"name": "data", "host": {"sourcePath": "/data"}}],
            "tags": TAGS,
            "pidMode": "none",
            "ipcMode": "none",
        },
    ],
    "RegisterTaskDefinition": [
        {
            "family": "new",
            "taskRoleArn": ROLE,
            "executionRoleArn": ROLE,
            "networkMode": "awsvpc",
            "containerDefinitions": [{**APP, "portMappings": [{"containerPort": 80, "name": "web", "appProtocol": "http"}]}],
            "volumes": [{"name": "data", "host": {"sourcePath": "/data"}}],
            "placementConstraints": [{"type": "memberOf", "expression": "attribute:a exists"}],
            "requiresCompatibilities": ["EC2"],
            "cpu": "1 vCPU",
            "memory": "2 GB",
            "tags": TAGS,
            "pidMode": "task",
            "ipcMode": "task",
            "proxyConfiguration": {"type": "APPMESH", "containerName": "app", "properties": [{"name": "IgnoredUID", "value": "1"}]},
            "inferenceAccelerators": [],
            "ephemeralStorage": {"sizeInGiB": 30},
            "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
            "enableFaultInjection": False,
            "trustedExecutionConfiguration": {"isolationMode": "SHARED"},
        },
    ],
    "RunTask": [
        {
            "cluster": "default",
            "count": 2,
            "enableECSManagedTags": True,
            "enableExecuteCommand": False,
            "group": "g",
            "launchType": "EC2",
            "overrides": OVERRIDES,
            "placementConstraints": CONSTRAINTS,
            "placementStrategy": SPREAD,
            "propagateTags": "TASK_DEFINITION",
            "referenceId": "r",
            "startedBy": "me",
            "tags": TAGS,
            "taskDefinition": PREFIX + "task-definition/web:1",
            "clientToken": "token",
            "volumeConfigurations": [],
        },
        {"cluster": "other", "taskDefinition": "web", "capacityProviderStrategy": STRATEGY},
    ],
    "StartTask": [
        {
            "cluster": "default",
            "containerInstances": ["INSTANCE"],
            "enableECSManagedTags": True,
            "enableExecuteCommand": False,
            "group": "g",
            "overrides": OVERRIDES,
            "propagateTags": "TASK_DEFINITION",
            "referenceId": "r",
            "startedBy": "me",
            "tags": TAGS,
            "taskDefinition": "web",
            "volumeConfigurations": [],
        },
    ],
    "StopServiceDeployment": [{"serviceDeploymentArn": "PAUSED", "stopType": "ROLLBACK"}],
    "StopTask": [{"cluster": "default", "task": "TASK", "reason": "enough"}],
    "SubmitAttachmentStateChanges": [{"cluster": "default", "attachments": []}],
    "SubmitContainerStateChange": [
        {
            "cluster": "default",
            "task": "TASK",
            "containerName": "app",
            "runtimeId": "c0ffee",
            "status": "RUNNING",
            "exitCode": 0,
            "reason": "because",
            "networkBindings": [{"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 32768, "protocol": "tcp"}],
        },
    ],
    "SubmitTaskStateChange": [
        {
            "cluster": "default",
            "task": "TASK",
            "status": "STOPPED",
            "reason": "because",
            "containers": [{"containerName": "app", "status": "STOPPED", "exitCode": 1}],
            "attachments": [],
            "managedAgents": [],
            "pullStartedAt": 1.0,
            "pullStoppedAt": 2.0,
            "executionStoppedAt": 3.0,
        },
    ],
    "TagResource": [{"resourceArn": "TASK", "tags": TAGS}],
    "UntagResource": [{"resourceArn": "EXPRESS", "tagKeys": ["team"]}],
    "UpdateCapacityProvider": [
        {"name": "unused", "cluster": "default", "autoScalingGroupProvider": GROUP},
        {"name": "managed", "managedInstancesProvider": INSTANCES},
    ],
    "UpdateCluster": [{"cluster": "default", **CLUSTER}],
    "UpdateClusterSettings": [{"cluster": "default", "settings": CLUSTER["settings"]}],
    "UpdateContainerInstancesState": [{"cluster": "default", "containerInstances": ["INSTANCE"], "status": "ACTIVE"}],
    "UpdateExpressGatewayService": [
        {"serviceArn": "EXPRESS", **EXPRESS},
        {"serviceArn": "EXPRESS", "taskDefinitionArn": "express:1"},
    ],
    "UpdateGateway": [
        {
            "gateway": "shop",
            "infrastructureRoleArn": ROLE,
            "deletionProtection": False,
            "configuration": {"hostSharedAlb": MUTABLE_ALB},
            "propagateTags": "NONE",
        },
    ],
    "UpdateService": [
        {
            "cluster": "default",
            "service": "web",
            "desiredCount": 2,
            "taskDefinition": "web:1",
            "deploymentConfiguration": DEPLOYMENT,
            "availabilityZoneRebalancing": "DISABLED",
            "placementConstraints": CONSTRAINTS,
            "placementStrategy": SPREAD,
            "forceNewDeployment": True,
            "healthCheckGracePeriodSeconds": 0,
            "deploymentController": {"type": "ECS"},
            "enableExecuteCommand": False,
            "enableECSManagedTags": True,
            "propagateTags": "SERVICE",
            "serviceConnectConfiguration": {"enabled": False},
            "monitoring": {},
            **NONE_OF_THEM,
        },
        {"cluster": "other", "service": "idle", "capacityProviderStrategy": STRATEGY},
    ],
    "UpdateTaskProtection": [{"cluster": "default", "tasks": ["TASK"], "protectionEnabled": True, "expiresInMinutes": 60}],
    "UpdateTaskSet": [{"cluster": "default", "service": "shared", "taskSet": "SET", "scale": {"value": 25.0, "unit": "PERCENT"}}],
}
"""Operations whose members are all required are in `MINIMAL` only. `nextToken` is added by the test, which gets one first."""

_AWSVPC = "needs a task definition with the network mode awsvpc, which no task can have yet"
_FARGATE = "is for Fargate, which is not built"
OMITTED: dict[str, dict[str, str]] = {
    "CreateService": {"networkConfiguration": _AWSVPC, "platformVersion": _FARGATE, "role": "is for load balancers, which are not built"},
    "UpdateService": {"networkConfiguration": _AWSVPC, "platformVersion": _FARGATE},
    "CreateTaskSet": {"networkConfiguration": _AWSVPC, "platformVersion": _FARGATE},
    "RunTask": {"networkConfiguration": _AWSVPC, "platformVersion": _FARGATE},
    "StartTask": {"networkConfiguration": _AWSVPC},
    "ListTasks": {"daemonName": "goes with no other filter of the world's"},
}
NEVER: dict[str, tuple[dict[str, Any], str, str]] = {
    "DescribeGatewayRoute": (
        {"gatewayRouteArn": PREFIX + "gateway-route/shop/1"},
        "ResourceNotFoundException",
        "there are no routes before services can use gateways",
    ),
    "ExecuteCommand": (
        {"cluster": "default", "task": "TASK", "container": "app", "command": "sh", "interactive": True},
        "InvalidParameterException",
        "no task can be run with enableExecuteCommand",
    ),
    "UpdateContainerAgent": (
        {"cluster": "default", "containerInstance": "INSTANCE"},
        "NoUpdateAvailableException",
        "agents are updated with their installation, so there is never an update",
    ),
}
"""Operation → a request in order, what it is answered, and why it cannot succeed."""


def valid(words: dict[str, str], members: dict[str, Any]) -> dict[str, Any]:
    """`members` with what is in the world in place of the words in capitals."""
    text = msgspec.json.encode(members).decode()
    for word, found in words.items():
        text = text.replace(f'"{word}"', f'"{found}"')
    request: dict[str, Any] = msgspec.json.decode(text)
    return request
