"""`homeport explain RESOURCE`: why a service's next task, or a task, fits on an instance or not, and the smallest change that would make it fit.

Owns: how the explanation is shown. Never changes anything.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from homeport.cli.client import Api
from homeport.cli.installation import DataDirectory
from homeport.cli.moment import instant_text
from homeport.cli.terminal import Terminal, table

CHANGES_SHOWN_MAX: Final = 5
"""On the screen; JSON has all."""
_ID_CHARACTERS: Final = 12


def explain(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """Show the explanation."""
    api = Api(DataDirectory(options.data_dir).credentials_of(environ), terminal.clock)
    given = {"resource": options.resource, "cluster": options.cluster}
    told = api.call("ExplainPlacement", **{name: value for name, value in given.items() if value})
    terminal.show(json.dumps(told, indent=2) if options.json else "\n".join(screen(told)))
    return 0


def screen(told: Mapping[str, Any]) -> Iterator[str]:
    """The explanation for a person."""
    yield told["resourceArn"]
    if told.get("taskSetArn", told["resourceArn"]) != told["resourceArn"]:
        yield f"next task in the task set {told['taskSetArn'].split('/', 3)[3]}"
    yield f"needs {_requirement(told['requirement'])}"
    if told.get("containerInstanceArn"):
        yield f"runs on {_id(told['containerInstanceArn'])}"
    for reason in told["waitingOn"]:
        yield f"waits for {reason}"
    yield f"one more would run on {_id(told['wouldRunOn'])}" if told.get("wouldRunOn") else told["summary"]
    yield ""
    rows = [(_id(item["containerInstanceArn"]), _fit(item), _frees(item)) for item in told["containerInstances"]]
    yield from table(("INSTANCE", "FITS", "FREES UP"), rows)
    hidden = told["containerInstanceCount"] - len(rows)
    if hidden:
        yield f"and {hidden} more"
    if told["changes"]:
        yield ""
        yield f"the smallest change: {told['suggestedChange']['description']}"
        for change in told["changes"][1:CHANGES_SHOWN_MAX]:
            yield f"               or: {change['description']}"


def _requirement(requirement: Mapping[str, Any]) -> str:
    parts = [f"{requirement['cpu']} CPU units", f"{requirement['memory']} MiB"]
    if requirement["gpus"]:
        parts.append(f"{requirement['gpus']} GPUs")
    for words, name in (("host ports", "hostPorts"), ("attributes", "attributes"), ("constraints", "constraints"), ("placed by", "strategies")):
        if requirement[name]:
            parts.append(f"{words} {', '.join(requirement[name])}")
    return "; ".join(parts)


def _id(arn: str) -> str:
    return arn.rsplit("/", 1)[1][:_ID_CHARACTERS]


def _fit(item: Mapping[str, Any]) -> str:
    if item["fits"]:
        return "yes"
    return "; ".join(_obstacle(obstacle) for obstacle in item["obstacles"])


def _obstacle(obstacle: Mapping[str, Any]) -> str:
    if "needed" in obstacle:
        return f"{obstacle['reason']}: needs {obstacle['needed']}, {obstacle['available']} free"
    return f"{obstacle['reason']}: {obstacle['detail']}" if obstacle.get("detail") else str(obstacle["reason"])


def _frees(item: Mapping[str, Any]) -> str:
    stopping = item["stoppingTasks"]
    if not stopping:
        return ""
    latest = max((task["killedAt"] for task in stopping if "killedAt" in task), default=0.0)
    freed = f"{sum(task['cpu'] for task in stopping)} CPU units, {sum(task['memory'] for task in stopping)} MiB"
    return f"{freed} by {instant_text(latest)}" if latest else freed
