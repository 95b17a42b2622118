"""`homeport up`: Docker, the control plane, this machine's agent, and what to type next.

Owns: the order of the steps, and keeping the programs running while `up` is in the foreground. Never stops what it did not start.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, Final

from homeport.cli import programs
from homeport.cli.demo import run_demo
from homeport.cli.engine import ensure_engine
from homeport.cli.group import Starter, group_of
from homeport.cli.installation import DataDirectory, LocalCredentials, default_data_dir
from homeport.cli.join import become_host
from homeport.cli.packages import find_program
from homeport.cli.settings import settings_for_start
from homeport.cli.start import (
    InstanceDrainingError,
    InstanceGoneError,
    agent_environment,
    port_of,
    start_agent,
    start_server,
    wait_for_agent,
    wait_for_server,
)
from homeport.cli.terminal import CommandError, Terminal

RESTART_PAUSE_SECONDS: Final = 1.0
ATTEND_PAUSE_SECONDS: Final = 0.2
INTERRUPTED_STATUS: Final = 130


class _AskedToEndError(Exception):
    """Ctrl-C, SIGTERM or the end of the terminal came."""


def up(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:
    """Start what is missing of the installation; see the command's help for the options.

    What was started here is stopped again when the installation does not come to serve, or when asked to end.
    """
    directory = DataDirectory(options.data_dir)
    directory.make()
    options.settings = settings_for_start(directory, options.settings, terminal)
    run = _Run(options, directory, terminal, environ)
    for number in _heeded(signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ask_to_end)
    try:
        ensure_engine(terminal, run.environ, directory.log / "dockerd.log")
        credentials = run.server()
        run.agent()
    except InstanceDrainingError:
        raise  # what runs goes on: a machine that was drained and rebooted still serves the API and keeps its tasks
    except BaseException as error:
        run.stop()
        if isinstance(error, _AskedToEndError | KeyboardInterrupt):
            return INTERRUPTED_STATUS
        raise
    try:
        if options.demo:
            run_demo(credentials, directory, terminal=terminal, environ=run.environ)
        _say_next(directory, credentials, terminal, environ)
        if not options.detach:
            run.attend()
    except (_AskedToEndError, KeyboardInterrupt):
        run.stop()
        return INTERRUPTED_STATUS if options.detach else 0
    return 0


def _ask_to_end(*_: object) -> None:
    raise _AskedToEndError


def _heeded(*numbers: signal.Signals) -> list[signal.Signals]:
    """Those that whoever started this did not have ignored, as `nohup` and a shell's background jobs do."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold back what asks to end until the program that is being started is known: one that nobody knew would run on.

    A started program has its own way with signals, as ever: only ignored ones are inherited.
    """
    asked: list[int] = []
    numbers = _heeded(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, _: asked.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise _AskedToEndError


class _Run:
    """One run of `up`: what it was asked for, and the programs that it started."""

    def __init__(self, options: argparse.Namespace, directory: DataDirectory, terminal: Terminal, environ: Mapping[str, str]) -> None:
        self._options = options
        self._directory = directory
        self._terminal = terminal
        # `up` joins its own server, whatever the shell holds.
        self.environ = {name: value for name, value in environ.items() if name != "ECS_BACKEND_HOST"}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._started_at = 0.0
        """When the latest program was started here: the connection of server and agent that counts is a newer one."""
        group = group_of(directory, servers=options.servers, port=options.port, default_port=port_of(options, directory), tls=options.tls)
        self._starter = Starter(group, options, directory, terminal, self.environ) if group else None

    def server(self) -> LocalCredentials:
        """The server answers when this returns, or all of several. Raises CommandError."""
        if self._starter is not None:
            return self._several(self._starter)
        port = port_of(self._options, self._directory)
        began = self._terminal.clock.monotonic()
        program = programs.find(self._directory, "server")
        if program is None:
            self._started_at = self._terminal.clock.now()
            with _undisturbed():
                self._children["server"] = start_server(self._options, self._directory, self.environ)
        else:
            self._refuse_other_port(port, program.pid)
        credentials = wait_for_server(self._children.get("server"), self._directory, port=port, terminal=self._terminal)
        verb = "already runs" if program else f"answers after {self._terminal.clock.monotonic() - began:.2f} s"
        where = f"{credentials.endpoint}, account {credentials.account_id}, region {credentials.region}"
        self._terminal.say(f"control plane: {verb} at {where}")
        return credentials

    def _several(self, starter: Starter) -> LocalCredentials:
        """What is missing of etcd's members and the servers is started; the others are left alone."""
        began = self._terminal.clock.monotonic()
        for member in starter.group.etcd:
            if programs.find(self._directory, member.name) is None:
                with _undisturbed():
                    self._children[member.name] = starter.start_etcd(member)
        starter.wait_for_etcd(self._children)
        starter.copy_from_sqlite()
        for name, port in starter.group.servers:
            if programs.find(self._directory, name) is None:
                with _undisturbed():
                    self._children[name] = starter.start_server(name, port)
        credentials = starter.wait_for_servers(self._children)
        verb = f"answers after {self._terminal.clock.monotonic() - began:.2f} s" if self._children else "already runs"
        started = f"; started {', '.join(self._children)}" if self._children else ""
        where = f"{' '.join(credentials.endpoints)}, account {credentials.account_id}, region {credentials.region}"
        self._terminal.say(f"control plane: {verb} at {where}{started}")
        return credentials

    def agent(self) -> None:
        """This machine's instance is ACTIVE and connected when this returns. Raises CommandError."""
        joined = become_host(self._options, self._directory, self.environ, self._terminal)
        environment = agent_environment(self._options, self._directory, self.environ)
        runs = programs.find(self._directory, "agent")
        if runs is not None and joined:
            self._terminal.say("this machine has new credentials of its own; starting the agent anew (tasks run on)")
            programs.stop(self._directory, "agent", self._terminal)
            runs = None
        if runs is None:
            self._started_at = self._terminal.clock.now()
            with _undisturbed():
                self._children["agent"] = start_agent(self._directory, environment)
        try:
            instance = self._wait_for_agent(environment)
        except InstanceGoneError as error:
            self._terminal.say(f"{error}; starting the agent anew")
            programs.stop(self._directory, "agent", self._terminal)
            runs = None
            with _undisturbed():
                self._children["agent"] = start_agent(self._directory, environment)
            instance = self._wait_for_agent(environment)
        verb = "already runs" if runs else "runs"
        identity = instance["containerInstanceArn"].rpartition("/")[2]
        self._terminal.say(f"agent: {verb}; this machine is container instance {identity} in cluster {environment['ECS_CLUSTER']}")

    def _wait_for_agent(self, environment: Mapping[str, str]) -> dict[str, Any]:
        return wait_for_agent(self._children.get("agent"), self._directory, environment=environment, terminal=self._terminal, since=self._started_at)

    def attend(self) -> None:
        """Start a program that failed anew, until asked to end or until all were told to stop (`homeport down`)."""
        if not self._children:
            self._terminal.say("Both programs already ran, so there is nothing to attend to here.")
            return
        self._terminal.say("Press Ctrl-C to stop the programs; tasks run on.")
        while self._children:
            self._terminal.pause(ATTEND_PAUSE_SECONDS)
            for name, process in list(self._children.items()):
                status = process.poll()
                if status == 0:  # it was asked to end
                    del self._children[name]
                elif status is not None:
                    self._restart(name, status)

    def stop(self) -> None:
        """Stop what was started here, the last first."""
        for name, process in reversed(self._children.items()):
            if process.poll() is not None:
                continue
            self._terminal.say(f"stopping the {name} (pid {process.pid}) ...")
            process.terminate()
            try:
                process.wait(programs.STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _restart(self, name: str, status: int) -> None:
        tail = programs.log_tail(self._directory, name, lines_max=4)
        self._terminal.say(f"the {name} ended with status {status}; starting it anew. Its last words:\n{tail}")
        self._terminal.pause(RESTART_PAUSE_SECONDS)
        if name == "server":
            with _undisturbed():
                self._children[name] = start_server(self._options, self._directory, self.environ)
        elif self._starter is not None and name != "agent":
            with _undisturbed():
                self._children[name] = self._starter.start(name)
        else:
            with _undisturbed():
                self._children[name] = start_agent(self._directory, agent_environment(self._options, self._directory, self.environ))

    def _refuse_other_port(self, port: int, pid: int) -> None:
        credentials = self._directory.credentials()
        if credentials is not None and self._options.tls and not credentials.endpoint.startswith("https:"):
            raise CommandError(f"the control plane (pid {pid}) already runs and speaks plain HTTP; to change that: ./homeport down, then up --tls")
        if credentials is not None and credentials.port != port:
            raise CommandError(
                f"the control plane (pid {pid}) already runs on port {credentials.port}; to move it: ./homeport down, then up --port {port}"
            )


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
