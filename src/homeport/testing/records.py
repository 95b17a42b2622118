"""Builders of records with sensible defaults: a test names only the fields that it is about.

Owns: one function per record. Never stores anything; keyword arguments go to the record as they are.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from homeport.model.ecs.cluster import Cluster
from homeport.model.ecs.container_instance import ContainerInstance
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.daemon_deployment import DaemonDeployment
from homeport.model.ecs.daemon_revision import DaemonRevision
from homeport.model.ecs.deployment import Deployment
from homeport.model.ecs.service import Service
from homeport.model.ecs.task import Container, Task
from homeport.model.ecs.task_definition import TaskDefinition
from homeport.model.ecs.task_set import TaskSet

ACCOUNT: Final = "123456789012"
REGION: Final = "us-east-1"
NOW: Final = 1_700_000_000.0


def cluster(**fields: Any) -> Cluster:
    """An ACTIVE cluster `default`."""
    return Cluster(**{"account": ACCOUNT, "name": "default", "status": "ACTIVE", "created_at": NOW, **fields})


def container_instance(**fields: Any) -> ContainerInstance:
    """An ACTIVE, connected instance of 4 cores and 8 GiB."""
    defaults = {
        "account": ACCOUNT,
        "cluster": "default",
        "id": "1" * 32,
        "ec2_instance_id": "i-0123456789abcdef0",
        "status": "ACTIVE",
        "registered_at": NOW,
        "cpu": 4096,
        "memory_mib": 8192,
        "agent_connected": True,
    }
    return ContainerInstance(**{**defaults, **fields})


def document(**members: Any) -> bytes:
    """A task definition's document with one container `app`; `members` go over it."""
    container = {"name": "app", "image": "app:1", "cpu": 128, "memory": 128, "essential": True, "environment": [], "mountPoints": []}
    return msgspec.json.encode({"family": "web", "containerDefinitions": [container], "networkMode": "bridge", **members})


def task_definition(**fields: Any) -> TaskDefinition:
    """Revision 1 of the family `web`: one container, 128 CPU units and 128 MiB."""
    defaults = {
        "account": ACCOUNT,
        "family": "web",
        "revision": 1,
        "status": "ACTIVE",
        "registered_at": NOW,
        "registered_by": f"arn:aws:iam::{ACCOUNT}:root",
        "document": document(),
        "network_mode": "bridge",
        "cpu": 128,
        "memory_mib": 128,
    }
    return TaskDefinition(**{**defaults, **fields})


def service(**fields: Any) -> Service:
    """An ACTIVE service `web` of two tasks, with ECS's default percentages."""
    defaults = {
        "account": ACCOUNT,
        "cluster": "default",
        "name": "web",
        "status": "ACTIVE",
        "created_at": NOW,
        "created_by": f"arn:aws:iam::{ACCOUNT}:root",
        "desired_count": 2,
        "family": "web",
        "revision": 1,
        "launch_type": "EC2",
    }
    return Service(**{**defaults, **fields})


def deployment(**fields: Any) -> Deployment:
    """The PRIMARY deployment, in progress, of the service `web`."""
    defaults = {
        "account": ACCOUNT,
        "cluster": "default",
        "service": "web",
        "id": "1" * 19,
        "status": "PRIMARY",
        "family": "web",
        "revision": 1,
        "created_at": NOW,
        "updated_at": NOW,
        "launch_type": "EC2",
    }
    return Deployment(**{**defaults, **fields})


def task_set(**fields: Any) -> TaskSet:
    """An ACTIVE task set of the service `web` at 100 percent."""
    defaults = {
        "account": ACCOUNT,
        "cluster": "default",
        "service": "web",
        "id": "1" * 19,
        "status": "ACTIVE",
        "family": "web",
        "revision": 1,
        "launch_type": "EC2",
        "created_at": NOW,
        "updated_at": NOW,
        "scale": 100.0,
    }
    return TaskSet(**{**defaults, **fields})


def task(number: int = 1, **fields: Any) -> Task:
    """A RUNNING task of the service `web` and its deployment; `number` makes its id."""
    defaults = {
        "account": ACCOUNT,
        "cluster": "default",
        "id": f"{number:032x}",
        "family": "web",
        "revision": 1,
        "desired_status": "RUNNING",
        "last_status": "RUNNING",
        "observed_status": "RUNNING",
        "created_at": NOW,
        "started_at": NOW,
        "group": "service:web",
        "launch_type": "EC2",
        "container_instance_id": "1" * 32,
        "cpu": 128,
        "memory_mib": 128,
        "containers": (Container(name="app", id=f"{number:08x}-0000-4000-8000-000000000000", image="app:1", status="RUNNING"),),
        "service": "web",
        "deployment_id": "1" * 19,
        "started_by": f"ecs-svc/{'1' * 19}",
    }
    return Task(**{**defaults, **fields})


def daemon_revision(**fields: Any) -> DaemonRevision:
    """A revision of the daemon `logs` with the daemon task definition `logs:1`, for the capacity provider `edge`."""
    defaults = {
        "account": ACCOUNT,
        "cluster": "default",
        "daemon": "logs",
        "id": "2" * 19,
        "created_at": NOW,
        "family": "logs",
        "revision": 1,
        "capacity_providers": ("edge",),
    }
    return DaemonRevision(**{**defaults, **fields})


def daemon(**fields: Any) -> Daemon:
    """An ACTIVE daemon `logs`, whose instances are to have the revision of `daemon_revision`."""
    defaults = {
        "account": ACCOUNT,
        "cluster": "default",
        "name": "logs",
        "status": "ACTIVE",
        "created_at": NOW,
        "updated_at": NOW,
        "created_by": f"arn:aws:iam::{ACCOUNT}:root",
        "revision_id": "2" * 19,
        "deployment_id": "3" * 19,
        "capacity_providers": ("edge",),
    }
    return Daemon(**{**defaults, **fields})


def daemon_deployment(**fields: Any) -> DaemonDeployment:
    """The deployment, in progress, of the revision of `daemon_revision`."""
    defaults = {
        "account": ACCOUNT,
        "cluster": "default",
        "daemon": "logs",
        "id": "3" * 19,
        "status": "IN_PROGRESS",
        "created_at": NOW,
        "updated_at": NOW,
        "started_at": NOW,
        "revision_id": "2" * 19,
    }
    return DaemonDeployment(**{**defaults, **fields})


def daemon_task(number: int = 1, **fields: Any) -> Task:
    """A RUNNING task of the daemon `logs` and its revision, on the instance with the same number."""
    defaults = {
        "family": "logs",
        "group": "daemon:logs",
        "service": "",
        "daemon": "logs",
        "deployment_id": "2" * 19,
        "started_by": f"ecs-daemon/{'3' * 19}",
        "container_instance_id": f"{number:032x}",
        "capacity_provider": "edge",
    }
    return task(number, **{**defaults, **fields})
