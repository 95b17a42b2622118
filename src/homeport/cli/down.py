"""`homeport down`: stop the programs and, with `--tasks`, the tasks first.

Owns: the order. Never ends a process that is not a program of this installation, never touches another installation's containers.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from homeport.cli import programs
from homeport.cli.client import Api
from homeport.cli.containers import AGENT_LABEL, DEFAULT_HOST, INSTALLATION_LABEL, TASK_LABEL, DockerSocket
from homeport.cli.installation import DataDirectory
from homeport.cli.packages import NFT, find_program
from homeport.cli.terminal import CommandError, Terminal
from homeport.model.installation import rules_table

TASKS_SECONDS_MAX: Final = 180.0
"""Longest wait for tasks to stop: Docker's 30 s, or a container's own stopTimeout of at most 120 s, and some."""

STOPS_AT_ONCE_MAX: Final = 16
"""Containers that are stopped at one time; each may take its whole stop timeout."""


def down(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """Stop the installation's programs; a program that does not run is no error."""
    directory = DataDirectory(options.data_dir)
    if options.tasks:
        _stop_tasks(directory, terminal)
    stopped = [name for name in reversed(programs.names(directory)) if programs.stop(directory, name, terminal)]
    if options.tasks:
        _remove_containers(directory, terminal, environ)
    _remove_rules(directory, terminal)
    terminal.say("all programs stopped" if stopped else f"no program of {directory.path} was running")
    return 0


def _stop_tasks(directory: DataDirectory, terminal: Terminal) -> None:
    """Every service wants 0 tasks and every task is STOPPED when this returns; without a control plane that answers, nothing.

    Tasks on machines whose agent is away are not waited for: nobody is there who could stop them, or say so.
    """
    credentials = directory.credentials()
    api = Api(credentials, terminal.clock) if credentials else None
    if api is None or not api.answers():
        return
    clusters = api.listed("ListClusters", "clusterArns")
    for cluster in clusters:
        for service in _active_services(api, cluster):
            if service["desiredCount"]:
                terminal.say(f"service {service['serviceName']}: {service['desiredCount']} -> 0 tasks")
                api.call("UpdateService", cluster=cluster, service=service["serviceName"], desiredCount=0)
        for task in api.listed("ListTasks", "taskArns", cluster=cluster, desiredStatus="RUNNING"):
            api.call("StopTask", cluster=cluster, task=task, reason="homeport down --tasks")
    deadline = terminal.deadline(TASKS_SECONDS_MAX)
    while True:
        live = [task for cluster in clusters for task in _live_tasks(api, cluster)]
        away = {instance for cluster in clusters for instance in _away(api, cluster)}
        stopping = [task for task in live if task.get("containerInstanceArn") not in away]
        if not stopping:
            break
        if terminal.is_past(deadline):
            raise CommandError(f"{len(stopping)} tasks have not stopped after {TASKS_SECONDS_MAX:.0f} s; see: ./homeport status")
        terminal.pause(0.2)
    terminal.say(f"{len(live)} tasks are on machines whose agent is away; the others stopped" if live else "all tasks stopped")


def _active_services(api: Api, cluster: str) -> list[dict[str, Any]]:
    arns = api.listed("ListServices", "serviceArns", cluster=cluster)
    return [service for service in api.described("DescribeServices", "services", arns, batch=10, cluster=cluster) if service["status"] == "ACTIVE"]


def _live_tasks(api: Api, cluster: str) -> list[dict[str, Any]]:
    arns = [arn for wanted in ("RUNNING", "STOPPED") for arn in api.listed("ListTasks", "taskArns", cluster=cluster, desiredStatus=wanted)]
    return [task for task in api.described("DescribeTasks", "tasks", arns, cluster=cluster) if task["lastStatus"] != "STOPPED"]


def _away(api: Api, cluster: str) -> list[str]:
    """ARNs of the container instances whose agent is not connected."""
    arns = api.listed("ListContainerInstances", "containerInstanceArns", cluster=cluster)
    found = api.described("DescribeContainerInstances", "containerInstances", arns, cluster=cluster)
    return [instance["containerInstanceArn"] for instance in found if not instance["agentConnected"]]


def _remove_containers(directory: DataDirectory, terminal: Terminal, environ: Mapping[str, str]) -> None:
    """Stop and remove what is left of this installation's containers on this machine, and the volumes that were made for their tasks.

    Other accounts' agents may be here too, each with a directory of its own; what is theirs is left alone.
    """
    installation_id = directory.installation_id()
    if installation_id is None:
        return
    docker = DockerSocket(environ.get("DOCKER_HOST") or DEFAULT_HOST)
    ours = {INSTALLATION_LABEL: installation_id}
    try:
        found = mine(directory, docker.containers(ours))
    except OSError:
        terminal.say("Docker does not answer, so no container was removed")
        return

    def clear(container: Mapping[str, Any]) -> None:
        if container["State"] == "running":
            docker.stop(container["Id"])
        docker.remove(container["Id"])

    with ThreadPoolExecutor(STOPS_AT_ONCE_MAX) as pool:
        list(pool.map(clear, found))
    tasks, account = {container["Labels"].get(TASK_LABEL) for container in found}, _account(directory)
    for volume, task in docker.task_volumes(ours).items():
        if task in tasks or (account and _account_of(task) == account):
            docker.remove_volume(volume)
    if found:
        terminal.say(f"removed {len(found)} containers")


def mine(directory: DataDirectory, containers: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of `containers` of one installation that are this directory's: its account's where a server is, else those that its agent made."""
    if account := _account(directory):
        return [container for container in containers if _account_of(container["Labels"].get(TASK_LABEL, "")) == account]
    agent = directory.agent_id()  # "" when none ran here that tells it
    return [container for container in containers if not agent or container["Labels"].get(AGENT_LABEL) == agent]


def _account(directory: DataDirectory) -> str:
    """The account whose root key the server left in `directory`; "" where no server is."""
    credentials = directory.credentials()
    return credentials.account_id if credentials is not None else ""


def _account_of(task_arn: str) -> str:
    return "".join(task_arn.split(":")[4:5])


def _remove_rules(directory: DataDirectory, terminal: Terminal) -> None:
    """Take away what this directory's agent left of its packet rules if it was killed; one that ends in order has done it by itself."""
    installation_id, agent, program = directory.installation_id(), directory.agent_id(), find_program(NFT.program)
    if not installation_id or not agent or program is None or os.geteuid() != 0:
        return
    table = rules_table(installation_id, agent)
    listed = subprocess.run([program, "list", "tables", "ip"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if f"table ip {table}" in listed.stdout.splitlines():
        done = subprocess.run([program, "delete", "table", "ip", table], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        terminal.say(f"removed the packet rules {table}" if done.returncode == 0 else f"nft delete table ip {table}: {done.stderr.strip()}")
