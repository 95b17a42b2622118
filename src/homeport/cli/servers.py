"""`homeport server status`: the servers of an installation, who leads, and how far each is behind; `homeport server restart`: one after another anew.

Owns: what is shown and how, and the order of a restart. Never stops a server: each keeps its port, in which calls wait while it starts.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
from typing import Any, Final

from homeport.cli import programs
from homeport.cli.client import Api, ApiCallError, ApiUnreachableError, connection_to
from homeport.cli.group import kept_group
from homeport.cli.installation import DataDirectory, LocalCredentials
from homeport.cli.terminal import CommandError, Terminal, table

RESTART_SECONDS_MAX: Final = 60.0
NOT_RUNNING_STATUS: Final = 3
"""Exit status when no server answers, as `systemctl status` has it."""


def server_status(options: argparse.Namespace, terminal: Terminal) -> int:
    """Show the servers."""
    facts = gather(DataDirectory(options.data_dir), terminal)
    terminal.show(json.dumps(facts, indent=2) if options.json else screen(facts))
    return 0 if any(member["answers"] for member in facts["members"]) else NOT_RUNNING_STATUS


def restart_servers(options: argparse.Namespace, terminal: Terminal) -> int:
    """Restart every server of this machine, the next one when the one before serves again. Raises CommandError."""
    directory = DataDirectory(options.data_dir)
    names = [program.name for program in programs.running(directory) if program.name != "agent" and not program.name.startswith("etcd-")]
    if not names:
        raise CommandError(f"no server of {directory.path} runs")
    for name in names:
        own = DataDirectory(directory.path / name) if (directory.path / name).is_dir() else directory
        known = own.known_credentials()
        began = _started(known)
        if not programs.restart(directory, name):
            raise CommandError(f"{name} does not run any more")
        deadline = terminal.deadline(RESTART_SECONDS_MAX)
        while (now := _started(known)) is None or now == began:
            if terminal.is_past(deadline) or programs.find(directory, name) is None:
                raise CommandError(f"{name} does not serve again; its last words:\n{programs.log_tail(directory, name)}")
            terminal.pause(programs.POLL_SECONDS)
        terminal.say(f"{name}: restarted")
    return 0


def _started(known: LocalCredentials) -> float | None:
    """When the server that answers there began to serve; None when none answers."""
    connection = connection_to(known.endpoint, known.ca_file, timeout_seconds=RESTART_SECONDS_MAX)
    try:
        connection.request("GET", "/health")
        return float(json.loads(connection.getresponse().read())["started"])
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return None
    finally:
        connection.close()


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
        | {"journal": server.get("journal")}
        for server in told["servers"]
    }
    group = kept_group(directory)
    scheme = group.scheme if group else "http"
    for name, port in group.servers if group else ():
        program = programs.find(directory, name)
        members.setdefault(name, _member(name, f"{scheme}://127.0.0.1:{port}", pid=program.pid if program else None))
    return {
        "leader": told["leader"],
        "revision": told["revision"],
        "members": [members[name] for name in sorted(members)],
        "problem": problem,
    }


def _member(name: str, address: str, *, pid: int | None) -> dict[str, Any]:
    return {"name": name, "address": address, "pid": pid, "leader": False, "answers": False, "revision": None, "lag": None, "journal": None}


def _gaps(members: list[dict[str, Any]]) -> list[str]:
    """A line for each part of the journal that a server does not have."""
    return [
        f"{member['name']} lacks entries {gap['first']} to {gap['last']} of the journal; its file goes on behind hash {gap['hash']}"
        for member in members
        for gap in (member["journal"] or {}).get("gaps", ())
    ]


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
            f"{member['journal']['first']}-{member['journal']['through']}" if member["journal"] else "",
        )
        for member in facts["members"]
    ]
    lines = table(("SERVER", "ADDRESS", "PID", "ROLE", "REVISION", "BEHIND", "JOURNAL"), rows)
    lines += _gaps(facts["members"])
    if facts["problem"]:
        lines.append(facts["problem"])
    elif not facts["leader"]:
        lines.append("No server leads at the moment; changes wait, reads are answered while etcd has a majority.")
    return "\n".join(lines)
