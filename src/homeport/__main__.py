"""`python -m homeport`, which `./homeport` runs: picks a program and starts it. Never does more than that."""

from __future__ import annotations

import argparse
import os
import resource
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn

import homeport
from homeport import log
from homeport.cli import arguments, programs
from homeport.cli.installation import DataDirectory
from homeport.errors import HomeportError

if TYPE_CHECKING:
    from homeport.tls.certificates import TlsFiles

OFFLINE: Final = ("journal", "store", "backup", "restore")
"""Programs that open a store themselves, which the command line never does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was typed; the exit status."""
    options = arguments.parse(sys.argv[1:] if argv is None else argv)
    if options.version:
        print(homeport.__version__)
        return 0
    if options.command is None:
        return 2
    if options.command in OFFLINE:
        from homeport.storekeeping import run

        return run(options)
    if options.command == "audit":
        from homeport.audit_programs import run as run_audit

        return run_audit(options)
    if options.command == "simulate":
        from homeport.testing import simulate

        return simulate.run(options)
    foreground = {"server": _serve, "agent": _attend_tasks}.get(options.command)
    if foreground is None or options.detach or getattr(options, "action", None):
        from homeport.cli import commands

        return commands.run(options)
    log.configure(os.environ.get("HOMEPORT_LOG_LEVEL", "info"))
    try:
        with programs.claim(DataDirectory(options.data_dir), getattr(options, "name", options.command)) as lock:
            listener = foreground(options)
            if listener is not None:
                _restart(lock, listener)
    except HomeportError as error:
        print(f"homeport {options.command}: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _restart(lock: int, listener: int) -> NoReturn:
    """Be the same program anew, from what is installed now: same process, same lock, and the socket in which calls wait meanwhile."""
    from homeport.listener import LISTENER_VARIABLE

    for descriptor in (lock, listener):
        os.set_inheritable(descriptor, True)
    os.execve(sys.executable, sys.orig_argv, {**os.environ, LISTENER_VARIABLE: str(listener)})


def _serve(options: argparse.Namespace) -> int | None:
    """Be the control plane until SIGTERM or Ctrl-C, or until it is to be restarted: gives the socket to listen on then."""
    import uvloop

    from homeport.cli.arguments import SERVER
    from homeport.cli.start import ROOT_KEY_VARIABLES, port_of
    from homeport.cli.terminal import CommandError
    from homeport.server import ServerOptions, serve

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # its memory holds keys in clear
    access_key_id, secret_access_key = (os.environ.pop(name, None) for name in ROOT_KEY_VARIABLES)  # nobody that it starts is to have them
    if bool(access_key_id) != bool(secret_access_key):
        raise CommandError(f"{' and '.join(ROOT_KEY_VARIABLES)} go together; set both or neither")
    server_options = ServerOptions(
        # Several servers of one machine share the directory; each has its own files in a directory of its name.
        data_dir=options.data_dir if options.name == SERVER else options.data_dir / options.name,
        port=port_of(options, DataDirectory(options.data_dir)),
        account_id=options.account_id,
        region=options.region,
        store=options.store,
        settings=tuple(options.settings),
        root_access_key_id=access_key_id,
        root_secret_access_key=secret_access_key,
        host=options.host,
        name=options.name,
        advertise=options.advertise,
        local_reads=options.reads == "local",
        own_etcd=options.own_etcd,
        tls=_tls_files(options),
        root_key_dir=options.data_dir,
    )
    return uvloop.run(serve(server_options))


def _tls_files(options: argparse.Namespace) -> TlsFiles | None:
    """Where the certificates of the server that `options` mean are; None without TLS. Several servers of one machine share the authority."""
    from homeport.cli.arguments import SERVER
    from homeport.tls.certificates import TlsFiles

    if not (options.tls or options.tls_cert):
        return None
    directory = DataDirectory(options.data_dir)
    own = directory if options.name == SERVER else DataDirectory(options.data_dir / options.name)
    return TlsFiles(authority=directory.tls, own=own.tls, certificate=options.tls_cert, key=options.tls_key, ca=options.tls_ca)


def _attend_tasks(options: argparse.Namespace) -> None:
    """Be this machine's agent until SIGTERM or Ctrl-C."""
    import uvloop

    from homeport.agent.main import run
    from homeport.agent.settings import from_environment
    from homeport.cli.start import agent_environment

    directory = DataDirectory(options.data_dir)
    _become_host(options, directory)
    uvloop.run(run(from_environment(agent_environment(options, directory, os.environ))))


def _become_host(options: argparse.Namespace, directory: DataDirectory) -> None:
    """Join, unless whoever started this program did; see `cli/join.py`."""
    if os.environ.get("HOMEPORT_IDENTITY"):
        return
    from homeport.cli.join import become_host
    from homeport.cli.terminal import Terminal
    from homeport.clock import SystemClock

    become_host(options, directory, os.environ, Terminal(SystemClock()))


if __name__ == "__main__":
    sys.exit(main())
