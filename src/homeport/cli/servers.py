"""`homeport server status`: the servers of an installation, who leads, and how far each is behind.

Owns: what is shown and how. Never changes anything.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any, Final

from homeport.cli import programs
from homeport.cli.client import Api, ApiCallError, ApiUnreachableError
from homeport.cli.group import kept_group
from homeport.cli.installation import DataDirectory
from homeport.cli.terminal import Terminal, table

NOT_RUNNING_STATUS: Final = 3
"""Exit status when no server answers, as `systemctl status` has it."""


def server_status(options: argparse.Namespace, terminal: Terminal) -> int:
    """Show the servers."""
    facts = gather(DataDirectory(options.data_dir), terminal)
    terminal.show(json.dumps(facts, indent=2) if options.json else screen(facts))
    return 0 if any(member["answers"] for member in facts["members"]) else NOT_RUNNING_STATUS


def gather(directory: DataDirectory, terminal: Terminal) -> dict[str, Any]:
    """Who leads, the newest revision, and of each server: name, address, pid where it runs on this machine, whether it leads and answers,
    its revision, and how many revisions it is behind."""
    credentials = directory.known_credentials()
    api = Api(credentials, terminal.clock)
    try:
        told = api.servers()
        problem = ""
    except (ApiUnreachableError, ApiCallError) as error:
        told, problem = {"leader": None, "revision": None, "servers": []}, str(error)
    if told is None:
        program = programs.find(directory, "server")
        member = _member("server", credentials.endpoint, pid=program.pid if program else None)
        return {"leader": "server", "revision": None, "members": [member | {"leader": True, "answers": True, "lag": 0}], "problem": ""}
    here = os.uname().nodename
    members = {
        server["name"]: _member(server["name"], server["address"], pid=server["pid"] if server["host"] == here else None)
        | {"leader": server["leads"], "answers": server["answers"], "revision": server["revision"], "lag": server["lag"]}
        for server in told["servers"]
    }
    group = kept_group(directory)
    for name, port in group.servers if group else ():
        program = programs.find(directory, name)
        members.setdefault(name, _member(name, f"http://127.0.0.1:{port}", pid=program.pid if program else None))
    return {
        "leader": told["leader"],
        "revision": told["revision"],
        "members": [members[name] for name in sorted(members)],
        "problem": problem,
    }


def _member(name: str, address: str, *, pid: int | None) -> dict[str, Any]:
    return {"name": name, "address": address, "pid": pid, "leader": False, "answers": False, "revision": None, "lag": None}


def screen(facts: dict[str, Any]) -> str:
    """The facts for a person."""
    rows = [
        (
            member["name"],
            member["address"],
            str(member["pid"] or ""),
            "leader" if member["leader"] else "follower" if member["answers"] else "does not answer",
            "" if member["revision"] is None else str(member["revision"]),
            "" if member["lag"] is None else str(member["lag"]),
        )
        for member in facts["members"]
    ]
    lines = table(("SERVER", "ADDRESS", "PID", "ROLE", "REVISION", "BEHIND"), rows)
    if facts["problem"]:
        lines.append(facts["problem"])
    elif not facts["leader"]:
        lines.append("No server leads at the moment; changes wait, reads are answered while etcd has a majority.")
    return "\n".join(lines)
