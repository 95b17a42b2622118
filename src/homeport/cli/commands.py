"""Runs one parsed command.

Owns: which function each command is, and how a failure is shown. Never parses.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Mapping
from typing import Final

from homeport.cli import programs
from homeport.cli.account import account
from homeport.cli.demo import busybox
from homeport.cli.down import down
from homeport.cli.engine import ensure_engine
from homeport.cli.env import env
from homeport.cli.explain import explain
from homeport.cli.history import history
from homeport.cli.installation import DataDirectory
from homeport.cli.instance import instance
from homeport.cli.join import become_host
from homeport.cli.key import key
from homeport.cli.logs import logs
from homeport.cli.packages import FOR_TESTS, ensure
from homeport.cli.prediction import plan, what_if
from homeport.cli.reading import describe, list_resources
from homeport.cli.rule import rule
from homeport.cli.servers import restart_servers, server_status
from homeport.cli.settings import settings_for_start
from homeport.cli.start import agent_environment, port_of, start_agent, start_server, wait_for_agent, wait_for_server
from homeport.cli.status import status
from homeport.cli.terminal import Terminal
from homeport.cli.token import token
from homeport.cli.up import up
from homeport.clock import SystemClock
from homeport.errors import HomeportError

Command = Callable[[argparse.Namespace, Terminal, Mapping[str, str]], int]


def server(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """`homeport server --detach`: the control plane alone, in the background; `homeport server status | restart`."""
    if options.action == "status":
        return server_status(options, terminal)
    if options.action == "restart":
        return restart_servers(options, terminal)
    directory = DataDirectory(options.data_dir)
    directory.make()
    _refuse_second(directory, options.name)
    options.settings = settings_for_start(directory, options.settings, terminal)
    process = start_server(options, directory, environ)
    credentials = wait_for_server(process, directory, port=port_of(options, directory), terminal=terminal, name=options.name)
    terminal.say(f"the control plane (pid {process.pid}) answers at {credentials.endpoint}")
    return 0


def agent(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """`homeport agent --detach`: the agent alone, in the background."""
    directory = DataDirectory(options.data_dir)
    directory.make()
    _refuse_second(directory, "agent")
    ensure_engine(terminal, environ, directory.log / "dockerd.log")
    become_host(options, directory, environ, terminal)
    environment = agent_environment(options, directory, environ)
    process = start_agent(directory, environment)
    instance = wait_for_agent(process, directory, environment=environment, terminal=terminal)
    terminal.say(f"the agent (pid {process.pid}) runs as {instance['containerInstanceArn']}")
    return 0


def tls(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:  # noqa: ARG001 - every command has these three
    """`homeport tls status | issue | rotate`."""
    from homeport.cli.tls import tls as run_tls  # brings cryptography

    return run_tls(options, terminal)


def prepare(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """`homeport prepare`: what `up` needs is there, and Docker runs unless the tests will start it."""
    directory = DataDirectory(options.data_dir)
    if not options.for_tests:
        directory.make()
        ensure_engine(terminal, environ, directory.log / "dockerd.log")
        return 0
    ensure(FOR_TESTS, terminal, environ)
    busybox(directory, terminal)
    return 0


def _refuse_second(directory: DataDirectory, name: str) -> None:
    program = programs.find(directory, name)
    if program is not None:
        raise programs.ProgramRunsError(f"another {name} (pid {program.pid}) already runs on {directory.path}")


COMMANDS: Final[dict[str, Command]] = {
    "up": up,
    "account": account,
    "env": env,
    "status": status,
    "down": down,
    "logs": logs,
    "list": list_resources,
    "describe": describe,
    "history": history,
    "explain": explain,
    "what-if": what_if,
    "plan": plan,
    "rule": rule,
    "server": server,
    "agent": agent,
    "token": token,
    "instance": instance,
    "prepare": prepare,
    "tls": tls,
    "key": key,
}


def run(options: argparse.Namespace) -> int:
    """The exit status of the command."""
    terminal = Terminal(SystemClock())
    try:
        return COMMANDS[options.command](options, terminal, os.environ)
    except HomeportError as error:
        print(f"homeport {options.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output went away, as `homeport logs | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"homeport {options.command}: no space left on the disk of {options.data_dir}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
