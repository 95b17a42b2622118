"""`homeport instance`: the hosts that joined, and the revoking of one.

Owns: how they are shown, and what names one. Never decides who may: the API does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any, Final

from homeport.cli.client import Api
from homeport.cli.installation import DataDirectory
from homeport.cli.moment import instant_text
from homeport.cli.terminal import CommandError, Terminal, table

PREFIX_CHARACTERS_MIN: Final = 4
"""So many first characters of a container instance's id stand for it."""


def instance(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """`homeport instance list | revoke`."""
    api = Api(DataDirectory(options.data_dir).credentials_of(environ), terminal.clock)
    found: list[dict[str, Any]] = api.listed("ListInstanceIdentities", "instanceIdentities")
    if options.action == "list":
        terminal.show(json.dumps(found, indent=2) if options.json else screen(found))
        return 0
    meant = named(found, options.instance)
    api.call("RevokeInstanceIdentity", identityId=meant["identityId"])
    if options.json:
        terminal.show(json.dumps(meant, indent=2))
    terminal.say(f"host {meant['identityId']} is revoked: its credentials are good for nothing any more; its tasks run on until somebody stops them")
    return 0


def screen(identities: list[dict[str, Any]]) -> str:
    """The hosts for a person."""
    rows = [
        (
            each["identityId"],
            each.get("containerInstanceArn", "").rpartition("/")[2],
            each["cluster"],
            each["roleArn"].rpartition("/")[2],
            each.get("status", ""),
            "yes" if each.get("agentConnected") else "no",
            instant_text(each["provedAt"]),
        )
        for each in identities
    ]
    return "\n".join(table(("HOST", "CONTAINER INSTANCE", "CLUSTER", "ROLE", "STATUS", "CONNECTED", "RENEWED"), rows))


def named(identities: list[dict[str, Any]], text: str) -> dict[str, Any]:
    """The one host that `text` names. Raises CommandError for none and for several."""
    found = [each for each in identities if text in (each["identityId"], each.get("containerInstanceArn"))]
    if not found and len(text) >= PREFIX_CHARACTERS_MIN:
        found = [each for each in identities if each.get("containerInstanceArn", "").rpartition("/")[2].startswith(text)]
    if len(found) != 1:
        raise CommandError(f"{text} names {len(found) or 'no'} hosts that joined; `homeport instance list` shows them")
    return found[0]
