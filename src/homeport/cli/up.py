"""`homeport up`: Docker, the control plane, this machine's agent, and what to type next.

Owns: the order of the steps, and keeping the programs running while `up` is in the foreground. Never stops what it did not start.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from typing import Final

from homeport.cli import programs
from homeport.cli.demo import run_demo
from homeport.cli.engine import ensure_engine
from homeport.cli.installation import DataDirectory, LocalCredentials, default_data_dir
from homeport.cli.packages import find_program
from homeport.cli.start import agent_environment, port_of, start_agent, start_server, wait_for_agent, wait_for_server
from homeport.cli.terminal import CommandError, Terminal

RESTART_PAUSE_SECONDS: Final = 1.0
ATTEND_PAUSE_SECONDS: Final = 0.2


class _AskedToEndError(Exception):
    """Ctrl-C or SIGTERM came."""


def up(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """Start what is missing of the installation; see the command's help for the options."""
    directory = DataDirectory(options.data_dir)
    directory.make()
    environ = {name: value for name, value in environ.items() if name != "ECS_BACKEND_HOST"}  # `up` joins its own server, whatever the shell holds
    ensure_engine(terminal, environ, directory.log / "dockerd.log")
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        signal.signal(signal.SIGTERM, _end)
        credentials = _server(options, directory, environ, terminal, children)
        _agent(options, directory, environ, terminal, children)
        if options.demo:
            run_demo(credentials, directory, terminal=terminal, environ=environ)
        _say_next(directory, credentials, terminal, environ)
        if not options.detach:
            terminal.say("Press Ctrl-C to stop the programs; tasks run on.")
            _attend(options, directory, environ, terminal, children)
    except (_AskedToEndError, KeyboardInterrupt):
        for name in reversed(programs.NAMES):
            if name in children:
                programs.stop(directory, name, terminal)
    return 0


def _end(*_: object) -> None:
    raise _AskedToEndError


def _server(
    options: argparse.Namespace,
    directory: DataDirectory,
    environ: Mapping[str, str],
    terminal: Terminal,
    children: dict[str, subprocess.Popen[bytes]],
) -> LocalCredentials:
    """The server answers when this returns."""
    port = port_of(options, directory)
    began = terminal.clock.monotonic()
    program = programs.find(directory, "server")
    if program is None:
        children["server"] = start_server(options, directory, environ)
    else:
        _refuse_other_port(port, directory, program.pid)
    credentials = wait_for_server(children.get("server"), directory, port=port, terminal=terminal)
    verb = "already runs" if program else f"answers after {terminal.clock.monotonic() - began:.2f} s"
    terminal.say(f"control plane: {verb} at {credentials.endpoint}, account {credentials.account_id}, region {credentials.region}")
    return credentials


def _refuse_other_port(port: int, directory: DataDirectory, pid: int) -> None:
    credentials = directory.credentials()
    if credentials is not None and credentials.port != port:
        raise CommandError(
            f"the control plane (pid {pid}) already runs on port {credentials.port}; to move it: ./homeport down, then up --port {port}"
        )


def _agent(
    options: argparse.Namespace,
    directory: DataDirectory,
    environ: Mapping[str, str],
    terminal: Terminal,
    children: dict[str, subprocess.Popen[bytes]],
) -> None:
    """This machine's instance is ACTIVE and connected when this returns."""
    environment = agent_environment(options, directory, environ)
    runs = programs.find(directory, "agent")
    if runs is None:
        children["agent"] = start_agent(directory, environment)
    instance = wait_for_agent(children.get("agent"), directory, environment=environment, terminal=terminal)
    verb = "already runs" if runs else "runs"
    identity = instance["containerInstanceArn"].rpartition("/")[2]
    terminal.say(f"agent: {verb}; this machine is container instance {identity} in cluster {environment['ECS_CLUSTER']}")


def _say_next(directory: DataDirectory, credentials: LocalCredentials, terminal: Terminal, environ: Mapping[str, str]) -> None:
    usual = directory.path == default_data_dir(environ, os.getuid())
    place = "" if usual else f" --data-dir {shlex.quote(str(directory.path))}"
    terminal.show(
        f"""
Homeport runs at {credentials.endpoint}. Type next:

  eval "$(./homeport env{place})"      # the aws CLI and the SDKs of this shell now speak to Homeport
  aws ecs list-container-instances
  ./homeport status{place}
"""
    )
    if find_program("aws") is None:
        terminal.say("(The aws CLI is not installed here: pip install awscli, or apt-get install awscli.)")


def _attend(
    options: argparse.Namespace,
    directory: DataDirectory,
    environ: Mapping[str, str],
    terminal: Terminal,
    children: dict[str, subprocess.Popen[bytes]],
) -> None:
    """Start a program that ended anew, until asked to end or `homeport down` stopped all."""
    while children:
        terminal.pause(ATTEND_PAUSE_SECONDS)
        for name, process in list(children.items()):
            status = process.poll()
            if status is None:
                continue
            if status == 0:  # asked to end, by `homeport down` or another SIGTERM
                del children[name]
                continue
            terminal.say(f"the {name} ended with status {status}; starting it anew. Its last words:\n{programs.log_tail(directory, name, 4)}")
            terminal.pause(RESTART_PAUSE_SECONDS)
            if name == "server":
                children[name] = start_server(options, directory, environ)
            else:
                children[name] = start_agent(directory, agent_environment(options, directory, environ))
