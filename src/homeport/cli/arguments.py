"""What can be typed after `homeport`: the commands and their options.

Owns: the parser. Never acts on what it parsed.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from homeport.cli.installation import default_data_dir

DEFAULT_PORT: Final = 8470


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The typed command. Ends the program with status 2 and a message if it makes no sense."""
    parser = argparse.ArgumentParser(prog="homeport", description="An open, self-hosted Amazon ECS.")
    parser.add_argument("--version", action="store_true", help="print the version and end")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _up(commands.add_parser("up", help="start the control plane and this machine's agent"))
    _data_dir(commands.add_parser("env", help="print what the aws CLI and the SDKs need, for eval"))
    _status(commands.add_parser("status", help="show instances, services, tasks and the last events"))
    _down(commands.add_parser("down", help="stop the programs; tasks run on unless --tasks is given"))
    _logs(commands.add_parser("logs", help="show what a task printed"))
    _server(commands.add_parser("server", help="run the control plane alone"))
    _agent(commands.add_parser("agent", help="run the agent alone"))
    _prepare(commands.add_parser("prepare", help="only install and start what `up` needs (Docker)"))
    parsed = parser.parse_args(arguments)
    if parsed.command is None and not parsed.version:
        parser.print_help()
    return parsed


def _data_dir(parser: argparse.ArgumentParser) -> None:
    default = default_data_dir(os.environ, os.getuid())
    parser.add_argument("--data-dir", type=lambda text: Path(text).absolute(), default=default, metavar="DIR", help=f"default: {default}")


def _detach(parser: argparse.ArgumentParser, until: str) -> None:
    parser.add_argument("--detach", "-d", action="store_true", help=f"run in the background; return when {until}")


def _account_id(text: str) -> str:
    if not re.fullmatch(r"\d{12}", text, re.ASCII):
        raise argparse.ArgumentTypeError("an account id has 12 digits")
    return text


def _region(text: str) -> str:
    if not re.fullmatch(r"[a-z]{2,}(-[a-z]+)+-\d+", text, re.ASCII):
        raise argparse.ArgumentTypeError("a region looks like us-east-1")
    return text


def _zone(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,64}", text, re.ASCII):
        raise argparse.ArgumentTypeError("an availability zone looks like us-east-1a")
    return text


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return int(text)


def _control_plane(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=_port, help=f"default: the one used last, at first {DEFAULT_PORT}")
    parser.add_argument("--account-id", type=_account_id, metavar="ID", help="12 digits, at first start; default: made and kept")
    parser.add_argument("--region", type=_region, metavar="NAME", help="at first start; default: us-east-1")
    parser.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="NAME=VALUE", help="change one of the server's settings; repeatable"
    )


def _up(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    _detach(parser, "the API answers and this machine's instance is ACTIVE and connected")
    _control_plane(parser)
    parser.add_argument("--zone", type=_zone, help="this instance's availability zone; default: the region's first")
    parser.add_argument("--demo", action="store_true", help="run a service of three tasks and print URLs that answer")


def _status(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    parser.add_argument("--json", action="store_true", help="the same facts, and the processes, as one JSON object")


def _down(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    parser.add_argument("--tasks", action="store_true", help="first scale every service to 0, stop every task and remove the containers")


def _logs(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    parser.add_argument("task", metavar="TASK", help="a task's ARN, its id or the id's first characters")
    parser.add_argument("--follow", "-f", action="store_true", help="go on until the task ends")


def _server(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    _detach(parser, "the API answers")
    _control_plane(parser)
    parser.add_argument("--store", metavar="memory|sqlite:PATH", help="default: SQLite in the data directory")


def _agent(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    _detach(parser, "this machine's instance is ACTIVE and connected")
    parser.add_argument("--zone", type=_zone, help="this instance's availability zone")
    parser.add_argument("--endpoint", metavar="URL", help="a control plane elsewhere; its keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")


def _prepare(parser: argparse.ArgumentParser) -> None:
    _data_dir(parser)
    parser.add_argument("--for-tests", action="store_true", help="install what the tests drive, but start nothing: they do")
