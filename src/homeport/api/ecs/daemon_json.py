"""How daemons, their deployments and revisions look in the API, with where they run.

Owns: the forms of `daemon`, `daemonDeployments[]` and `daemonRevisions[]`, and `Places`, which counts. Never stores anything: counts are of this
moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from homeport.model import arn
from homeport.model.ecs import container_instance as instance_model
from homeport.model.ecs import daemon_deployment as deployment_model
from homeport.model.ecs import task as task_model
from homeport.model.ecs.daemon import Daemon
from homeport.model.ecs.daemon_deployment import DaemonDeployment
from homeport.model.ecs.daemon_revision import DaemonRevision
from homeport.store.table import Reader
from homeport.store.tables import CONTAINER_INSTANCES, DAEMON_REVISIONS, TASKS


class Places:
    """Where the tasks of a daemon are, by revision and capacity provider."""

    def __init__(self, reader: Reader, daemon_key: str) -> None:
        self._reader = reader
        self._daemon_key = daemon_key
        self.running: Counter[tuple[str, str]] = Counter()
        """(digits of a revision, capacity provider) → instances with a RUNNING task."""
        self.draining: Counter[tuple[str, str]] = Counter()
        """The same → instances whose task is on its way out."""
        self._occupied: set[str] = set()
        for task in reader.find(TASKS, "daemon_live", daemon_key):
            place = (task.deployment_id, task.capacity_provider)
            if task.desired_status == task_model.STOPPED:
                self.draining[place] += 1
            elif task.last_status == task_model.RUNNING:
                self.running[place] += 1
                self._occupied.add(task.instance_key)

    def revision(self, revision_id: str) -> DaemonRevision | None:
        """The revision with those digits."""
        return self._reader.get(DAEMON_REVISIONS, f"{self._daemon_key}/{revision_id}")

    def revisions(self) -> Iterable[str]:
        """Digits of the revisions that run somewhere."""
        return sorted({revision_id for revision_id, _ in self.running})

    def without(self, revision: DaemonRevision) -> Counter[str]:
        """Capacity provider → ACTIVE instances that go on without a daemon that is not critical; of a critical one there are none."""
        if revision.critical:
            return Counter()
        cluster_key = self._daemon_key.rpartition("/")[0]
        instances = self._reader.find(CONTAINER_INSTANCES, "cluster_status", f"{cluster_key}/{instance_model.ACTIVE}")
        return Counter(item.capacity_provider for item in instances if item.key not in self._occupied)

    def providers(self, revision: DaemonRevision) -> list[str]:
        """Names of the capacity providers that the revision is for, and of those where it still runs."""
        counted = [name for revision_id, name in (*self.running, *self.draining) if revision_id == revision.id]
        return list(dict.fromkeys((*revision.capacity_providers, *sorted(counted))))


def daemon_json(reader: Reader, region: str, daemon: Daemon) -> dict[str, Any]:
    """The API's `daemon`."""
    places = Places(reader, daemon.key)
    found = (places.revision(revision_id) for revision_id in dict.fromkeys((daemon.revision_id, *places.revisions())))
    return {
        "daemonArn": arn.daemon_arn(region, daemon.key),
        "clusterArn": arn.cluster_arn(region, daemon.account, daemon.cluster),
        "status": daemon.status,
        "currentRevisions": [_current_json(region, places, revision) for revision in found if revision is not None],
        "deploymentArn": arn.daemon_deployment_arn(region, f"{daemon.key}/{daemon.deployment_id}"),
        "createdAt": daemon.created_at,
        "updatedAt": daemon.updated_at,
    }


def _current_json(region: str, places: Places, revision: DaemonRevision) -> dict[str, Any]:
    without = places.without(revision)
    providers = [
        {
            "arn": arn.capacity_provider_arn(region, revision.account, name),
            "runningCount": places.running[revision.id, name],
            "withoutDaemonCount": without[name] if name in revision.capacity_providers else 0,
        }
        for name in places.providers(revision)
    ]
    return {
        "arn": arn.daemon_revision_arn(region, revision.key),
        "capacityProviders": providers,
        "totalRunningCount": sum(item["runningCount"] for item in providers),
        "totalWithoutDaemonCount": sum(item["withoutDaemonCount"] for item in providers),
    }


def deployment_brief(region: str, deployment: DaemonDeployment) -> dict[str, Any]:
    """What the list and the description of a deployment have in common."""
    brief: dict[str, Any] = {
        "daemonDeploymentArn": arn.daemon_deployment_arn(region, deployment.key),
        "clusterArn": arn.cluster_arn(region, deployment.account, deployment.cluster),
        "status": deployment.status,
        "createdAt": deployment.created_at,
    }
    optional = {
        "statusReason": deployment.status_reason,
        "startedAt": deployment.started_at,
        "stoppedAt": deployment.stopped_at,
        "finishedAt": deployment.finished_at,
    }
    return {**brief, **{name: value for name, value in optional.items() if value}}


def deployment_json(reader: Reader, region: str, deployment: DaemonDeployment) -> dict[str, Any]:
    """The API's `daemonDeployment`."""
    places = Places(reader, deployment.daemon_key)
    shown = {
        **deployment_brief(region, deployment),
        "sourceDaemonRevisions": [
            _deployed_json(region, places, found) for item in deployment.source_revision_ids if (found := places.revision(item)) is not None
        ],
        "circuitBreaker": {
            "failureCount": deployment.circuit_breaker.failure_count,
            "status": deployment.circuit_breaker.status,
            "threshold": deployment.circuit_breaker.threshold,
        },
        "deploymentConfiguration": msgspec.Raw(deployment.configuration or b"{}"),
        **_alarms_json(deployment),
        **_rollback_json(region, deployment),
    }
    target = places.revision(deployment.revision_id) if deployment.revision_id else None
    return {**shown, "targetDaemonRevision": _deployed_json(region, places, target)} if target is not None else shown


def _deployed_json(region: str, places: Places, revision: DaemonRevision) -> dict[str, Any]:
    without = places.without(revision)
    providers = [
        {
            "arn": arn.capacity_provider_arn(region, revision.account, name),
            "runningInstanceCount": places.running[revision.id, name],
            "withoutDaemonInstanceCount": without[name] if name in revision.capacity_providers else 0,
            "drainingInstanceCount": places.draining[revision.id, name],
        }
        for name in places.providers(revision)
    ]
    return {
        "arn": arn.daemon_revision_arn(region, revision.key),
        "capacityProviders": providers,
        "totalRunningInstanceCount": sum(item["runningInstanceCount"] for item in providers),
        "totalWithoutDaemonInstanceCount": sum(item["withoutDaemonInstanceCount"] for item in providers),
        "totalDrainingInstanceCount": sum(item["drainingInstanceCount"] for item in providers),
    }


def _alarms_json(deployment: DaemonDeployment) -> dict[str, Any]:
    """`alarms`, where the configuration names some."""
    names = deployment_model.configuration_of(deployment.configuration).alarm_names
    if not names:
        return {}
    shown: dict[str, Any] = {"status": deployment.alarms.status, "alarmNames": names}
    return {"alarms": {**shown, **({"triggeredAlarmNames": deployment.alarms.triggered} if deployment.alarms.triggered else {})}}


def _rollback_json(region: str, deployment: DaemonDeployment) -> dict[str, Any]:
    rollback = deployment.rollback
    if rollback is None:
        return {}
    return {
        "rollback": {
            "reason": rollback.reason,
            "startedAt": rollback.started_at,
            "rollbackTargetDaemonRevisionArn": arn.daemon_revision_arn(region, f"{deployment.daemon_key}/{rollback.revision_id}"),
            "rollbackCapacityProviders": [arn.capacity_provider_arn(region, deployment.account, name) for name in rollback.capacity_providers],
        }
    }


def revision_json(region: str, revision: DaemonRevision) -> dict[str, Any]:
    """The API's `daemonRevision`."""
    return {
        "daemonRevisionArn": arn.daemon_revision_arn(region, revision.key),
        "clusterArn": arn.cluster_arn(region, revision.account, revision.cluster),
        "daemonArn": arn.daemon_arn(region, revision.daemon_key),
        "daemonTaskDefinitionArn": arn.daemon_task_definition_arn(region, revision.definition),
        "createdAt": revision.created_at,
        "containerImages": [
            {"containerName": item.name, "image": item.image, **({"imageDigest": item.digest} if item.digest else {})} for item in revision.containers
        ],
        "propagateTags": revision.propagate_tags,
        "enableECSManagedTags": revision.enable_ecs_managed_tags,
        "enableExecuteCommand": revision.enable_execute_command,
        "critical": revision.critical,
    }
