"""`homeport what-if` and `homeport plan`: what would happen, without making it happen.

Owns: how the questions are put and the answers shown. Never changes anything and never predicts: the API does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from homeport.cli.client import Api
from homeport.cli.installation import DataDirectory
from homeport.cli.terminal import CommandError, Terminal, table

STEPS_SHOWN_MAX: Final = 60
"""On the screen; JSON has all."""
_ID_CHARACTERS: Final = 12
_VERBS: Final = {"START": "start", "RUNNING": "running", "STOP": "stop", "GONE": "gone", "EVENT": "event"}


def what_if(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """Show what would become of the cluster."""
    api = Api(DataDirectory(options.data_dir).credentials_of(environ), terminal.clock)
    told = api.call("PredictChanges", changes=list(_hypotheses(api, options)), **_given(options, cluster=options.cluster))
    terminal.show(json.dumps(told, indent=2) if options.json else "\n".join(what_if_screen(told)))
    return 0


def plan(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """Show the steps of an update; status 3 when it would get stuck."""
    api = Api(DataDirectory(options.data_dir).credentials_of(environ), terminal.clock)
    percents = {"minimumHealthyPercent": options.minimum_healthy_percent, "maximumPercent": options.maximum_percent}
    members = {
        "cluster": options.cluster,
        "service": options.service,
        "taskDefinition": options.task_definition,
        "desiredCount": options.desired_count,
        "forceNewDeployment": options.force_new_deployment or None,
        "deploymentConfiguration": {name: value for name, value in percents.items() if value is not None} or None,
    }
    request = {name: value for name, value in members.items() if value is not None}
    told = api.call("PredictServiceUpdate", request=request, **_given(options))
    terminal.show(json.dumps(told, indent=2) if options.json else "\n".join(plan_screen(told)))
    return 3 if told["outcome"] == "STUCK" else 0


def _given(options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    given = {"seconds": options.seconds, "startSeconds": options.start_seconds, "stopSeconds": options.stop_seconds, **more}
    return {name: value for name, value in given.items() if value is not None}


def _hypotheses(api: Api, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    if options.add:
        known = (
            [options.like] if options.like else api.listed("ListContainerInstances", "containerInstanceArns", cluster=options.cluster or "default")
        )
        if not known:
            raise CommandError("the cluster has no instance that the added ones could be like")
        where = {"availabilityZone": options.add_in} if options.add_in else {}
        yield {"kind": "ADD_INSTANCES", "containerInstances": known[:1], "count": options.add, **where}
    if options.lose:
        yield {"kind": "LOSE_INSTANCES", "containerInstances": options.lose}
    if options.drain:
        yield {"kind": "DRAIN_INSTANCES", "containerInstances": options.drain}
    if options.lose_zone:
        yield {"kind": "LOSE_AVAILABILITY_ZONE", "availabilityZone": options.lose_zone}
    for text in options.desired:
        service, _, count = text.rpartition("=")
        if not service or not count.isdigit():
            raise CommandError(f"--desired {text}: give SERVICE=COUNT")
        yield {"kind": "SET_DESIRED_COUNT", "service": service, "desiredCount": int(count)}


def what_if_screen(told: Mapping[str, Any]) -> Iterator[str]:
    """The outcome for a person."""
    yield f"{'at rest' if told['settled'] else 'not at rest'} after {told['afterSeconds']:.0f} s"
    yield ""
    services = [
        (_name(item["serviceArn"]), str(item["desiredCount"]), f"{item['runningBefore']} → {item['runningAfter']}", item.get("refusal", ""))
        for item in told["services"]
    ]
    yield from table(("SERVICE", "DESIRED", "RUNNING", "REFUSED"), services)
    yield ""
    instances = [
        (_id(item["containerInstanceArn"]), f"{item.get('tasksBefore', 'new')} → {item.get('tasksAfter', 'gone')}", *_free(item))
        for item in told["containerInstances"]
    ]
    yield from table(("INSTANCE", "TASKS", "CPU FREE", "MEMORY FREE"), instances)
    yield ""
    yield from _steps(told["steps"])


def plan_screen(told: Mapping[str, Any]) -> Iterator[str]:
    """The plan for a person."""
    yield told["serviceArn"]
    yield f"{told['outcome'].lower()} after {told['afterSeconds']:.0f} s: {told['message']}"
    yield (
        f"at most {told['tasksMost']} tasks at once, {told['cpuPeak']} CPU units and {told['memoryPeak']} MiB more than now; "
        f"at least {told['runningLeast']} running"
    )
    yield ""
    yield from _steps(told["steps"])


def _steps(steps: list[dict[str, Any]]) -> Iterator[str]:
    for step in steps[:STEPS_SHOWN_MAX]:
        words = [f"{step['atSeconds']:>8.1f} s", f"{_VERBS[step['kind']]:<7}"]
        if step["kind"] != "EVENT":
            words.append(_name(step["taskDefinitionArn"]))
            words.append(f"task {_id(step['taskArn'])}" if "taskArn" in step else "a new task")
            if "containerInstanceArn" in step:
                words.append(f"on {_id(step['containerInstanceArn'])}")
        if step.get("message"):
            words.append(step["message"])
        yield "  ".join(words)
    if len(steps) > STEPS_SHOWN_MAX:
        yield f"and {len(steps) - STEPS_SHOWN_MAX} more steps; --json has them"


def _free(item: Mapping[str, Any]) -> tuple[str, str]:
    return str(item.get("cpuFree", "")), str(item.get("memoryFree", ""))


def _name(arn: str) -> str:
    return arn.rsplit("/", 1)[1]


def _id(arn: str) -> str:
    return _name(arn)[:_ID_CHARACTERS]
