"""`homeport rule put | list | delete | test`: what an account demands of its objects, and who violates it.

Owns: how rule files are read and how rules and reports are shown. Never evaluates a rule: the API does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from homeport.cli.client import Api
from homeport.cli.installation import DataDirectory
from homeport.cli.terminal import CommandError, Terminal, table

_LIMITS: Final = (("resourceTypes", ""), ("clusters", "cluster "), ("families", "family "), ("services", "service "))
_CHARACTERS_MAX: Final = 60
"""Of an expression on the screen; JSON has all."""


def rule(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """Run one of the actions. Status 1 from `test` when something violates a rule."""
    api = Api(DataDirectory(options.data_dir).credentials_of(environ), terminal.clock)
    return _ACTIONS[options.action](api, options, terminal)


def _put(api: Api, options: argparse.Namespace, terminal: Terminal) -> int:
    put = [api.call("PutRule", **{**item, **({"mode": options.mode} if options.mode else {})})["rule"] for item in rules_in(options.file)]
    _show(options, terminal, put)
    return 0


def _list(api: Api, options: argparse.Namespace, terminal: Terminal) -> int:
    _show(options, terminal, api.listed("ListRules", "rules"))
    return 0


def _delete(api: Api, options: argparse.Namespace, terminal: Terminal) -> int:
    _show(options, terminal, [api.call("DeleteRule", name=name)["rule"] for name in options.name])
    return 0


def _test(api: Api, options: argparse.Namespace, terminal: Terminal) -> int:
    """Each rule of a file for itself, or those of the account together."""
    where: dict[str, Any] = {"cluster": options.cluster} if options.cluster else {}
    if options.stopped:
        where["includeStopped"] = True
    names = {"ruleNames": options.name} if options.name else {}
    questions = [{"rule": item} for item in rules_in(options.rule)] if options.rule else [names]
    violations: list[dict[str, Any]] = []
    examined = 0
    for question in questions:
        found, looked_at = _told(api, {**question, **where})
        violations, examined = violations + found, max(examined, looked_at)
    if options.json:
        terminal.show(json.dumps({"violations": violations, "examined": examined}, indent=2))
    else:
        terminal.show("\n".join(report_screen(violations, examined)))
    return 1 if violations else 0


def _told(api: Api, question: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """All pages of a report."""
    found: list[dict[str, Any]] = []
    examined, token = 0, ""
    while True:
        answer = api.call("TestRules", **question, **({"nextToken": token} if token else {}))
        found += answer["violations"]
        examined += answer["examined"]
        token = answer.get("nextToken", "")
        if not token:
            return found, examined


_ACTIONS: Final = {"put": _put, "list": _list, "delete": _delete, "test": _test}


def rules_in(path: Path) -> list[dict[str, Any]]:
    """The rules of a JSON file: one object, or a list of them. Raises CommandError."""
    try:
        read = json.loads(path.read_text())
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path} is not JSON: {error}") from None
    rules = read if isinstance(read, list) else [read]
    if not rules or not all(isinstance(item, dict) for item in rules):
        raise CommandError(f"{path} must hold one rule, or a list of rules")
    return rules


def _show(options: argparse.Namespace, terminal: Terminal, rules: list[dict[str, Any]]) -> None:
    terminal.show(json.dumps(rules, indent=2) if options.json else "\n".join(rules_screen(rules)))


def rules_screen(rules: list[dict[str, Any]]) -> Iterator[str]:
    """Rules for a person."""
    if not rules:
        yield "no rules"
        return
    rows = []
    for item in rules:
        scope = ", ".join(f"{word}{name}" for member, word in _LIMITS for name in item.get(member, ()))
        demand = f"require {item['require']}" if "require" in item else f"no {item['violations']}"
        demand = demand if len(demand) <= _CHARACTERS_MAX else demand[: _CHARACTERS_MAX - 1] + "…"
        rows.append((item["name"], item["mode"], str(item["version"]), scope or "everything", demand))
    yield from table(("RULE", "MODE", "VERSION", "OF", "DEMANDS"), rows)


def report_screen(violations: list[dict[str, Any]], examined: int) -> Iterator[str]:
    """A report for a person."""
    rows = [
        (item["ruleName"], item["mode"], item["resourceType"], item["resourceArn"].split(":", 5)[5].partition("/")[2], item["message"])
        for item in violations
    ]
    if rows:
        yield from table(("RULE", "MODE", "KIND", "WHAT", "WHY"), rows)
        yield ""
    yield f"{len(violations)} violation{'' if len(violations) == 1 else 's'} in {examined} objects"
