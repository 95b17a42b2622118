"""When a service lacks tasks and nothing else is about, so that counts say what its controller needs to know of the tasks that are there.

Owns: `launch_of`. Reads the counts that the tables' indexes keep, never the tasks; never commits.
"""

from __future__ import annotations

from typing import Final

import msgspec

from homeport.model.change import Plan
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import deployment as deployment_model
from homeport.model.ecs import service as service_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.deployment import ROLLING, Deployment
from homeport.model.ecs.service import Service
from homeport.planner.launch import plan_launch
from homeport.planner.service import ServiceView
from homeport.store.table import Transaction
from homeport.store.tables import CONTAINER_INSTANCES, DEPLOYMENTS, TASKS

LEAVING: Final = (
    instance_model.DRAINING,
    instance_model.DEREGISTERING,
    instance_model.INACTIVE,
    instance_model.REGISTRATION_FAILED,
)
"""Statuses of instances whose tasks are to be replaced."""
LEAVING_MAX: Final = 20
"""With more instances like that in the cluster every task is looked at: they would have to be asked one by one."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What to start, and what of the service there was to know for it."""

    view: ServiceView
    """Without tasks."""
    missing: int
    """Tasks that the service lacks before it."""
    plan: Plan


def launch_of(tx: Transaction, service: Service) -> Launch | None:
    """What `service` starts now if it lacks tasks and that is all; None when its tasks have to be looked at.

    Every task that is not STOPPED is then wanted RUNNING (no other is counted), not unhealthy, on an instance that stays, and of the one deployment
    that is not INACTIVE: an older one becomes so when its last task has stopped, and only the PRIMARY one gets tasks.
    """
    live = tx.count(TASKS, "service_live", service.key)
    primary = _only_deployment(tx, service) if 0 < live < service.desired_count and _is_ordinary(service) else None
    if primary is None or primary.strategy != ROLLING:
        return None
    if tx.count(TASKS, "service_desired", f"{service.key}/{task_model.RUNNING}") != live or tx.count(TASKS, "service_unhealthy", service.key):
        return None
    plan = plan_launch(service, primary, live, now=tx.now) if _all_stay(tx, service) else None
    if plan is None:
        return None
    return Launch(view=ServiceView(service=service, deployments=(primary,), tasks=()), missing=service.desired_count - live, plan=plan)


def _is_ordinary(service: Service) -> bool:
    return (
        service.status == service_model.ACTIVE
        and service.scheduling_strategy == service_model.REPLICA
        and service.deployment_controller == "ECS"
        and not service.rebalancing
    )


def _only_deployment(tx: Transaction, service: Service) -> Deployment | None:
    found = [item for item in tx.find(DEPLOYMENTS, "service", service.key) if item.status != deployment_model.INACTIVE]
    return found[0] if len(found) == 1 and found[0].status == deployment_model.PRIMARY else None


def _all_stay(tx: Transaction, service: Service) -> bool:
    """Whether no instance of the cluster on which there are tasks is leaving."""
    indexes = [f"{service.cluster_key}/{status}" for status in LEAVING]
    if sum(tx.count(CONTAINER_INSTANCES, "cluster_status", value) for value in indexes) > LEAVING_MAX:
        return False
    leaving = (instance.key for value in indexes for instance in tx.find(CONTAINER_INSTANCES, "cluster_status", value))
    return not any(tx.count(TASKS, "instance_live", key) for key in leaving)
