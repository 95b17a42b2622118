"""Every operation of ECS that is built, in one list.

Owns: `OPERATIONS` (name → handler) and `NOTES` (what is partial, for docs/compatibility.md). Never holds logic.
What is not here answers with a modelled error whose message says "is not built yet".
"""

from __future__ import annotations

from typing import Final

from homeport.api.call import Handler
from homeport.api.ecs import (
    account_setting,
    attribute,
    capacity_provider,
    cluster,
    container_instance,
    daemon,
    daemon_deployment,
    daemon_task_definition,
    execute_command,
    express_gateway_service,
    gateway,
    gateway_association,
    gateway_route,
    namespace,
    poll_endpoint,
    run_task,
    service,
    service_deployment,
    state_change,
    tag,
    task,
    task_definition,
    task_protection,
    task_set,
)

OPERATIONS: Final[dict[str, Handler]] = {
    # clusters
    "CreateCluster": cluster.create_cluster,
    "DeleteCluster": cluster.delete_cluster,
    "DescribeClusters": cluster.describe_clusters,
    "ListClusters": cluster.list_clusters,
    "UpdateCluster": cluster.update_cluster,
    "UpdateClusterSettings": cluster.update_cluster_settings,
    # capacity providers
    "CreateCapacityProvider": capacity_provider.create_capacity_provider,
    "UpdateCapacityProvider": capacity_provider.update_capacity_provider,
    "DeleteCapacityProvider": capacity_provider.delete_capacity_provider,
    "DescribeCapacityProviders": capacity_provider.describe_capacity_providers,
    "PutClusterCapacityProviders": cluster.put_cluster_capacity_providers,
    # container instances and their attributes
    "RegisterContainerInstance": container_instance.register_container_instance,
    "DeregisterContainerInstance": container_instance.deregister_container_instance,
    "DescribeContainerInstances": container_instance.describe_container_instances,
    "ListContainerInstances": container_instance.list_container_instances,
    "UpdateContainerInstancesState": container_instance.update_container_instances_state,
    "UpdateContainerAgent": container_instance.update_container_agent,
    "DiscoverPollEndpoint": poll_endpoint.discover_poll_endpoint,
    "PutAttributes": attribute.put_attributes,
    "DeleteAttributes": attribute.delete_attributes,
    "ListAttributes": attribute.list_attributes,
    # task definitions
    "RegisterTaskDefinition": task_definition.register_task_definition,
    "DeregisterTaskDefinition": task_definition.deregister_task_definition,
    "DescribeTaskDefinition": task_definition.describe_task_definition,
    "DeleteTaskDefinitions": task_definition.delete_task_definitions,
    "ListTaskDefinitions": task_definition.list_task_definitions,
    "ListTaskDefinitionFamilies": task_definition.list_task_definition_families,
    # daemon task definitions
    "RegisterDaemonTaskDefinition": daemon_task_definition.register_daemon_task_definition,
    "DescribeDaemonTaskDefinition": daemon_task_definition.describe_daemon_task_definition,
    "ListDaemonTaskDefinitions": daemon_task_definition.list_daemon_task_definitions,
    "DeleteDaemonTaskDefinition": daemon_task_definition.delete_daemon_task_definition,
    # daemons
    "CreateDaemon": daemon.create_daemon,
    "UpdateDaemon": daemon.update_daemon,
    "DeleteDaemon": daemon.delete_daemon,
    "DescribeDaemon": daemon.describe_daemon,
    "ListDaemons": daemon.list_daemons,
    "ListDaemonDeployments": daemon_deployment.list_daemon_deployments,
    "DescribeDaemonDeployments": daemon_deployment.describe_daemon_deployments,
    "DescribeDaemonRevisions": daemon_deployment.describe_daemon_revisions,
    # tasks
    "RunTask": run_task.run_task,
    "StartTask": run_task.start_task,
    "StopTask": task.stop_task,
    "DescribeTasks": task.describe_tasks,
    "ListTasks": task.list_tasks,
    "UpdateTaskProtection": task_protection.update_task_protection,
    "ExecuteCommand": execute_command.execute_command,
    "GetTaskProtection": task_protection.get_task_protection,
    # what agents report
    "SubmitTaskStateChange": state_change.submit_task_state_change,
    "SubmitContainerStateChange": state_change.submit_container_state_change,
    "SubmitAttachmentStateChanges": state_change.submit_attachment_state_changes,
    # services
    "CreateService": service.create_service,
    "UpdateService": service.update_service,
    "DeleteService": service.delete_service,
    "DescribeServices": service.describe_services,
    "ListServices": service.list_services,
    "ListServicesByNamespace": namespace.list_services_by_namespace,
    "ListServiceDeployments": service_deployment.list_service_deployments,
    "DescribeServiceDeployments": service_deployment.describe_service_deployments,
    "DescribeServiceRevisions": service_deployment.describe_service_revisions,
    "StopServiceDeployment": service_deployment.stop_service_deployment,
    "ContinueServiceDeployment": service_deployment.continue_service_deployment,
    # gateways
    "CreateGateway": gateway.create_gateway,
    "UpdateGateway": gateway.update_gateway,
    "DeleteGateway": gateway.delete_gateway,
    "DescribeGateway": gateway.describe_gateway,
    "ListGateways": gateway.list_gateways,
    "DescribeGatewayResources": gateway.describe_gateway_resources,
    "AssociateGatewayWithCluster": gateway_association.associate_gateway_with_cluster,
    "DisassociateGatewayFromCluster": gateway_association.disassociate_gateway_from_cluster,
    "ListGatewayClusterAssociations": gateway_association.list_gateway_cluster_associations,
    "DescribeGatewayRoute": gateway_route.describe_gateway_route,
    "ListGatewayRoutes": gateway_route.list_gateway_routes,
    # express services
    "CreateExpressGatewayService": express_gateway_service.create_express_gateway_service,
    "UpdateExpressGatewayService": express_gateway_service.update_express_gateway_service,
    "DeleteExpressGatewayService": express_gateway_service.delete_express_gateway_service,
    "DescribeExpressGatewayService": express_gateway_service.describe_express_gateway_service,
    # task sets
    "CreateTaskSet": task_set.create_task_set,
    "DescribeTaskSets": task_set.describe_task_sets,
    "UpdateTaskSet": task_set.update_task_set,
    "DeleteTaskSet": task_set.delete_task_set,
    "UpdateServicePrimaryTaskSet": task_set.update_service_primary_task_set,
    # account settings
    "PutAccountSetting": account_setting.put_account_setting,
    "PutAccountSettingDefault": account_setting.put_account_setting_default,
    "DeleteAccountSetting": account_setting.delete_account_setting,
    "ListAccountSettings": account_setting.list_account_settings,
    # tags
    "TagResource": tag.tag_resource,
    "UntagResource": tag.untag_resource,
    "ListTagsForResource": tag.list_tags_for_resource,
}

NOTES: Final[dict[str, str]] = {
    "RunTask": "launch types EC2 and EXTERNAL; tasks wait for capacity where the provider has managed scaling; "
    "awsvpc, secrets, exec and volumes at launch are refused by name; referenceId, which is not for customers, is passed over",
    "StartTask": "as RunTask",
    "CreateCapacityProvider": "instances join by their attribute homeport.capacity-provider; managed scaling asks the program or URL of the setting "
    "instance_providers for machines, no Auto Scaling group of AWS; managed instances are "
    "stored and given back, acting on them is refused",
    "PutClusterCapacityProviders": "FARGATE and FARGATE_SPOT can be associated; starting tasks by them is refused",
    "PutAccountSetting": "containerInsights acts on new clusters; the others are stored and given back",
    "PutAccountSettingDefault": "as PutAccountSetting",
    "UpdateContainerAgent": "agents are updated with the installation, so the answer is always that there is no newer one",
    "CreateService": "controllers ECS and EXTERNAL, CODE_DEPLOY runs its first task set; all four strategies; LINEAR and CANARY also without a load "
    "balancer, which is refused by name as are registries; weights are told, nothing routes by them yet; alarms need the setting alarm_source; a "
    "lifecycle hook's target is an http(s) URL or a task definition's ARN",
    "UpdateService": "as CreateService; the deployment controller cannot be changed",
    "CreateTaskSet": "as CreateService for what a set consists of; load balancers and registries are refused by name",
    "StopServiceDeployment": "stop type ROLLBACK; ABORT is refused, as its documentation says",
    "CreateCluster": "Service Connect defaults are stored and given back; nothing acts on them",
    "RegisterTaskDefinition": "every member is accepted and given back; RunTask and CreateService refuse by name what cannot act yet",
    "SubmitAttachmentStateChanges": "no attachment is made yet, so naming one is an error",
    "TagResource": "clusters, services (express ones too), task sets, tasks, daemons, task definitions of both kinds, container instances, capacity "
    "providers and gateways",
    "ExecuteCommand": "everything is checked; no session is ever opened, since no task can be run with enableExecuteCommand yet",
    "ListServicesByNamespace": "knows the namespaces that clusters have as their default; none has a service, since Service Connect is refused",
    "CreateExpressGatewayService": "stored and given back as INACTIVE with the reason: there is no Fargate, load balancer or scaling, so nothing "
    "runs; no task definition and no service are made of it",
    "UpdateExpressGatewayService": "changes what is stored; nothing is deployed",
    "DescribeExpressGatewayService": "DescribeServices does not know express services; ListServices lists them for resourceManagementType ECS",
    "CreateGateway": "stored and given back; no load balancer is ever made, since services' gatewayConnectors are refused",
    "UpdateGateway": "there is no load balancer to change, so it is done at once: UPDATE_COMPLETE",
    "DescribeGatewayResources": "there are none yet",
    "DescribeGatewayRoute": "no service can use a gateway yet, so there are no routes",
    "ListGatewayRoutes": "as DescribeGatewayRoute",
    "CreateDaemon": "on instances of any capacity provider, which are kept, not replaced: tasks are exchanged in place; alarms need the setting "
    "alarm_source; enableExecuteCommand is refused by name",
    "UpdateDaemon": "as CreateDaemon",
    "DeleteDaemon": "stops the daemon's tasks; other tasks and the instances stay",
    "RegisterDaemonTaskDefinition": "every member is accepted and given back; secrets and log driver volumes cannot act yet",
}
