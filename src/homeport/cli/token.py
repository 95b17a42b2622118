"""`homeport token`: join tokens are made, listed and taken back.

Owns: how they are asked for and shown. Never keeps one: its text is printed once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from homeport.cli.client import Api
from homeport.cli.installation import DataDirectory, LocalCredentials
from homeport.cli.moment import instant_text
from homeport.cli.terminal import Terminal, table


def token(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """`homeport token create | list | delete`."""
    credentials = DataDirectory(options.data_dir).credentials_of(environ)
    _ACTIONS[options.action](Api(credentials, terminal.clock), credentials, options, terminal)
    return 0


def _create(api: Api, credentials: LocalCredentials, options: argparse.Namespace, terminal: Terminal) -> None:
    given = {
        "cluster": options.cluster,
        "expiresInSeconds": options.expires,
        "role": options.role,
        "uses": options.uses,
        "containerInstance": options.instance,
    }
    made = api.call("CreateJoinToken", **{member: value for member, value in given.items() if value is not None})
    if options.json:
        terminal.show(json.dumps({"token": made["token"], **made["joinToken"]}, indent=2))
        return
    terminal.show(made["token"])
    shown = made["joinToken"]
    times = "once" if shown["uses"] == 1 else f"{shown['uses']} times"
    servers = ",".join(credentials.endpoints or (credentials.endpoint,))
    terminal.say(
        f"good {times} until {instant_text(shown['expiresAt'])}, for cluster {shown['cluster']}; not shown again. On the machine that is to join:"
    )
    terminal.say(f"  ./homeport agent --detach --join TOKEN --server {servers}")


def _list(api: Api, credentials: LocalCredentials, options: argparse.Namespace, terminal: Terminal) -> None:
    del credentials
    found: list[dict[str, Any]] = api.listed("ListJoinTokens", "joinTokens")
    if options.json:
        terminal.show(json.dumps(found, indent=2))
        return
    rows = [
        (
            each["joinTokenId"],
            each["status"],
            each["cluster"],
            each["roleArn"].rpartition("/")[2],
            f"{each['uses'] - each['usesLeft']} of {each['uses']}",
            instant_text(each["expiresAt"]),
        )
        for each in found
    ]
    terminal.show("\n".join(table(("TOKEN", "STATUS", "CLUSTER", "ROLE", "USED", "EXPIRES"), rows)))


def _delete(api: Api, credentials: LocalCredentials, options: argparse.Namespace, terminal: Terminal) -> None:
    del credentials
    parts = options.token.split(".")  # who has the text need not know which part is the id
    token_id = parts[1] if len(parts) > 2 else options.token
    api.call("DeleteJoinToken", joinTokenId=token_id)
    if options.json:
        terminal.show("{}")
    terminal.say(f"nobody joins with {token_id} any more; hosts that did, stay")


_ACTIONS: Final[dict[str, Callable[[Api, LocalCredentials, argparse.Namespace, Terminal], None]]] = {
    "create": _create,
    "list": _list,
    "delete": _delete,
}
