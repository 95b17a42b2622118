"""A task set as the API shows it.

Owns: the form of `taskSet`. Never stores a count: running and pending are counted from the tasks at each call.
"""

from __future__ import annotations

from typing import Any

from homeport.api.call import Call
from homeport.api.ecs.service_counts import Counts
from homeport.api.ecs.tag_rules import tags_json
from homeport.model import arn
from homeport.model.ecs import task_set as model
from homeport.model.ecs.service import Service
from homeport.model.ecs.task_set import TaskSet
from homeport.planner.task_set import desired_count_of, in_order
from homeport.store.table import Reader
from homeport.store.tables import TASK_SETS


def task_sets_of(reader: Reader, service: Service) -> list[TaskSet]:
    """The task sets of `service`, the PRIMARY one first."""
    return in_order(reader.find(TASK_SETS, "service", service.key))


def task_set_json(call: Call, task_set: TaskSet, *, service: Service, counts: Counts, with_tags: bool) -> dict[str, Any]:
    """The API's `taskSet`."""
    scope = (call.region, task_set.account, task_set.cluster)
    strategy = task_set.capacity_provider_strategy
    computed, running, pending = desired_count_of(service, task_set), counts.running(task_set.id), counts.pending(task_set.id)
    # What the controller found last holds only while the counts are still so.
    steady = task_set.stability_status == model.STEADY_STATE and running == computed and not pending
    answer: dict[str, Any] = {
        "id": task_set.shown_id,
        "taskSetArn": arn.task_set_arn(*scope, task_set.service, task_set.id),
        "serviceArn": arn.service_arn(*scope, task_set.service),
        "clusterArn": arn.cluster_arn(*scope),
        "status": task_set.status,
        "taskDefinition": arn.task_definition_arn(call.region, task_set.account, task_set.family, task_set.revision),
        "computedDesiredCount": computed,
        "pendingCount": pending,
        "runningCount": running,
        "createdAt": task_set.created_at,
        "updatedAt": task_set.updated_at,
        **({"capacityProviderStrategy": strategy} if strategy else {"launchType": task_set.launch_type}),
        "loadBalancers": [],
        "serviceRegistries": [],
        "scale": {"value": task_set.scale, "unit": model.PERCENT},
        "stabilityStatus": model.STEADY_STATE if steady else model.STABILIZING,
        "stabilityStatusAt": task_set.stability_status_at or task_set.created_at,
    }
    optional = {"startedBy": task_set.started_by, "externalId": task_set.external_id}
    answer |= {name: value for name, value in optional.items() if value}
    if with_tags and task_set.tags:
        answer["tags"] = tags_json(task_set.tags)
    return answer
