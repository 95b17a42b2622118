"""`homeport status`: instances, services, tasks and last events on one screen, or as JSON.

Owns: what is shown and how. Never changes anything.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Mapping
from typing import Any, Final

from homeport.cli import programs
from homeport.cli.client import Api, ApiUnreachableError
from homeport.cli.installation import DataDirectory
from homeport.cli.terminal import Terminal, table

EVENTS_MAX: Final = 8
TASKS_MAX: Final = 20
"""Tasks on the screen; the rest are counted. JSON has all."""
NOT_RUNNING_STATUS: Final = 3
"""Exit status when the control plane does not answer, as `systemctl status` has it."""


def status(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """Show the installation."""
    facts = gather(DataDirectory(options.data_dir), terminal, environ)
    terminal.show(json.dumps(facts, indent=2) if options.json else screen(facts))
    return 0 if facts["answers"] else NOT_RUNNING_STATUS


def gather(directory: DataDirectory, terminal: Terminal, environ: Mapping[str, str]) -> dict[str, Any]:
    """Every fact of the installation as JSON values. Instances, services and tasks are as the API describes them."""
    credentials = directory.credentials() and directory.credentials_of(environ)
    facts: dict[str, Any] = {
        "dataDir": str(directory.path),
        "processes": [{"name": program.name, "pid": program.pid} for program in programs.running(directory)],
        "endpoint": credentials.endpoint if credentials else None,
        "accountId": credentials.account_id if credentials else None,
        "region": credentials.region if credentials else None,
        "installationId": credentials.installation_id if credentials else None,
        "answers": False,
        "containerInstances": [],
        "services": [],
        "tasks": [],
        "events": [],
    }
    if credentials is None:
        return facts
    api = Api(credentials, terminal.clock)
    try:
        facts["accountId"] = facts["accountId"] or api.account()
        for cluster in api.listed("ListClusters", "clusterArns"):
            _gather_cluster(api, cluster, facts)
    except ApiUnreachableError:
        return facts
    events = [{**event, "service": service["serviceName"]} for service in facts["services"] for event in service.get("events", [])]
    facts["events"] = sorted(events, key=lambda event: event["createdAt"], reverse=True)[:EVENTS_MAX]
    facts["answers"] = True
    return facts


def _gather_cluster(api: Api, cluster: str, facts: dict[str, Any]) -> None:
    instances = api.listed("ListContainerInstances", "containerInstanceArns", cluster=cluster)
    services = api.listed("ListServices", "serviceArns", cluster=cluster)
    tasks = api.listed("ListTasks", "taskArns", cluster=cluster)
    facts["containerInstances"] += api.described("DescribeContainerInstances", "containerInstances", instances, cluster=cluster)
    facts["services"] += api.described("DescribeServices", "services", services, batch=10, cluster=cluster)
    facts["tasks"] += api.described("DescribeTasks", "tasks", tasks, cluster=cluster)


def screen(facts: Mapping[str, Any]) -> str:
    """The facts for a person."""
    processes = ", ".join(f"{process['name']} (pid {process['pid']})" for process in facts["processes"]) or "none"
    lines = [f"Homeport in {facts['dataDir']}", f"Programs   {processes}"]
    if not facts["answers"]:
        where = f" at {facts['endpoint']}" if facts["endpoint"] else ""
        return "\n".join([*lines, f"The control plane does not answer{where}. Start it with: ./homeport up --detach"])
    lines += [f"API        {facts['endpoint']}  account {facts['accountId']}  region {facts['region']}", ""]
    lines += _section(
        "Container instances", ("INSTANCE", "CLUSTER", "STATUS", "AGENT", "TASKS", "CPU FREE", "MEMORY FREE"), facts["containerInstances"], _instance
    )
    lines += _section("Services", ("SERVICE", "CLUSTER", "STATUS", "DESIRED", "RUNNING", "PENDING", "TASK DEFINITION"), facts["services"], _service)
    shown = sorted(facts["tasks"], key=lambda task: task.get("createdAt", 0), reverse=True)
    lines += _section("Tasks", ("TASK", "GROUP", "STATUS", "WANTED", "TASK DEFINITION", "PORTS"), shown[:TASKS_MAX], _task)
    if len(shown) > TASKS_MAX:
        lines.insert(len(lines) - 1, f"... and {len(shown) - TASKS_MAX} more")
    lines += _section("Last events", ("AT", "MESSAGE"), facts["events"], lambda event: (_time(event["createdAt"]), event["message"]))
    return "\n".join(lines).rstrip()


def _section(title: str, header: tuple[str, ...], items: list[dict[str, Any]], row: Any) -> list[str]:
    rows = [row(item) for item in items]
    return [title, *(f"  {line}" for line in table(header, rows) or ["none"]), ""]


def _last(arn: str) -> str:
    return arn.rpartition("/")[2]


def _cluster(arn: str) -> str:
    """The cluster's name in an ARN …/CLUSTER/ID."""
    return arn.split("/")[-2]


def _instance(instance: Mapping[str, Any]) -> tuple[str, ...]:
    free = {resource["name"]: str(resource.get("integerValue", "")) for resource in instance.get("remainingResources", [])}
    arn = instance["containerInstanceArn"]
    return (
        _last(arn),
        _cluster(arn),
        instance["status"],
        "connected" if instance["agentConnected"] else "away",
        str(instance["runningTasksCount"] + instance["pendingTasksCount"]),
        free.get("CPU", ""),
        f"{free.get('MEMORY', '')} MiB",
    )


def _service(service: Mapping[str, Any]) -> tuple[str, ...]:
    counts = (str(service[name]) for name in ("desiredCount", "runningCount", "pendingCount"))
    return (service["serviceName"], _last(service["clusterArn"]), service["status"], *counts, _last(service.get("taskDefinition", "")))


def _task(task: Mapping[str, Any]) -> tuple[str, ...]:
    bindings = [binding for container in task.get("containers", []) for binding in container.get("networkBindings", [])]
    ports = sorted({f"{binding.get('hostPort')}->{binding.get('containerPort')}/{binding.get('protocol', 'tcp')}" for binding in bindings})
    health = f" {task['healthStatus']}" if task.get("healthStatus", "UNKNOWN") != "UNKNOWN" else ""
    return (
        _last(task["taskArn"]),
        task.get("group", ""),
        task["lastStatus"] + health,
        task["desiredStatus"],
        _last(task["taskDefinitionArn"]),
        " ".join(ports),
    )


def _time(instant: float) -> str:
    return datetime.datetime.fromtimestamp(instant).astimezone().strftime("%H:%M:%S")
