"""`homeport history RESOURCE`: who changed it, when, what, and by which request or controller.

Owns: how the story is shown. Never changes anything.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from homeport.cli.client import Api
from homeport.cli.installation import DataDirectory
from homeport.cli.moment import instant_text
from homeport.cli.terminal import Terminal

VALUE_CHARACTERS_MAX: Final = 120
"""Of a value on the screen; JSON has all."""
_VERBS: Final = {"create": "created", "update": "changed", "delete": "removed"}
_INSTANTS: Final = ("At", "Until", "Since")


def history(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """Show the story, oldest first."""
    api = Api(DataDirectory(options.data_dir).credentials_of(environ), terminal.clock)
    arn, entries = fetch(api, options.resource, options.cluster)
    if options.json:
        terminal.show(json.dumps({"resourceArn": arn, "entries": entries}, indent=2))
    else:
        terminal.show("\n".join(screen(arn, entries)))
    return 0


def fetch(api: Api, resource: str, cluster: str | None) -> tuple[str, list[dict[str, Any]]]:
    """(ARN, every entry of the story), over all pages. Raises ApiCallError."""
    entries: list[dict[str, Any]] = []
    token: str | None = None
    while True:
        given = {"resource": resource, "cluster": cluster, "nextToken": token}
        answer = api.call("DescribeHistory", **{name: value for name, value in given.items() if value})
        entries += answer["entries"]
        token = answer.get("nextToken")
        if not token:
            return answer["resourceArn"], entries


def screen(arn: str, entries: list[dict[str, Any]]) -> Iterator[str]:
    """The story for a person: a line for each change, and below it the fields."""
    yield arn
    for entry in entries:
        yield ""
        part = "" if entry["resourceArn"] == arn else f"{entry['resourceArn'].split(':', 5)[5]} "
        yield f"revision {entry['revision']}  {instant_text(entry['instant'])}  {part}{_VERBS[entry['kind']]} by {_cause(entry['cause'])}"
        if entry["kind"] == "create":
            known = [
                f"{change['field']}={_shown(change['field'], change.get('new'))}" for change in entry["changes"] if _is_scalar(change.get("new"))
            ]
            yield f"    {'  '.join(known)}"
        elif entry["kind"] == "update":
            for change in entry["changes"]:
                yield f"    {change['field']}: {_shown(change['field'], change.get('old'))} → {_shown(change['field'], change.get('new'))}"


def _cause(cause: Mapping[str, str]) -> str:
    if cause["kind"] == "request":
        return f"{cause['principalArn']}: {cause['operation']}, request {cause['requestId']}"
    return f"{cause['who']}" + (f": {cause['why']}" if cause.get("why") and cause["why"] != cause["who"] else "")


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float) and len(str(value)) <= VALUE_CHARACTERS_MAX


def _shown(field: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float) and field.endswith(_INSTANTS):
        return instant_text(value)
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[:VALUE_CHARACTERS_MAX] + "…"
