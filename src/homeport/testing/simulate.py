"""`homeport simulate`: simulated agents against a running server, in as many processes as asked for.

Owns: which server and keys, and the processes. Never simulates anything itself (`scale.py` does).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import uvloop

from homeport.cli.installation import DataDirectory, LocalCredentials
from homeport.cli.terminal import CommandError
from homeport.clock import SystemClock
from homeport.errors import HomeportError
from homeport.iam.sigv4 import Credentials
from homeport.ids import Ids
from homeport.testing.scale import Fleet, FleetOptions, simulate


def run(options: argparse.Namespace) -> int:
    """Simulate until SIGTERM or Ctrl-C; the exit status."""
    try:
        known = _credentials(options)
        others = [_other(options, number) for number in range(1, options.processes)]
        try:
            uvloop.run(_one(options, known, share(options.instances, options.processes, 0)))
        finally:
            for process in others:
                process.terminate()
            for process in others:
                process.wait()
    except HomeportError as error:
        print(f"homeport simulate: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def share(instances: int, processes: int, number: int) -> int:
    """How many of `instances` the process `number` of `processes` simulates."""
    return instances // processes + (number < instances % processes)


def _other(options: argparse.Namespace, number: int) -> subprocess.Popen[bytes]:
    """Another process with its share, under this one."""
    arguments = ["simulate", "--data-dir", str(options.data_dir), "--instances", str(share(options.instances, options.processes, number))]
    for name in ("endpoint", "cluster", "zones", "cpu", "memory", "start_delay", "stop_delay", "connections"):
        value = getattr(options, name)
        if value is not None:
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    arguments += [*([] if options.telemetry else ["--no-telemetry"]), *(["--http-reports"] if options.http_reports else [])]
    return subprocess.Popen([sys.executable, "-P", "-m", "homeport", *arguments])


async def _one(options: argparse.Namespace, known: LocalCredentials, instances: int) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    fleet_options = FleetOptions(
        instances=instances,
        cluster=options.cluster,
        zones=options.zones,
        cpu=options.cpu,
        memory_mib=options.memory,
        start_seconds=options.start_delay,
        stop_seconds=options.stop_delay,
        connections=options.connections,
        telemetry=options.telemetry,
        http_reports=options.http_reports,
    )
    keys = Credentials(known.access_key_id, known.secret_access_key, known.region)
    fleet = Fleet(known.endpoint, keys, fleet_options, clock=SystemClock(), ids=Ids())
    await simulate(fleet, name=f"simulate[{os.getpid()}]", stop=stop)


def _credentials(options: argparse.Namespace) -> LocalCredentials:
    """Those of the data directory, or with `--endpoint` those of the environment when it has some. Raises CommandError when there are none."""
    environ = os.environ
    if options.endpoint and environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
        return LocalCredentials(
            endpoint=options.endpoint,
            access_key_id=environ["AWS_ACCESS_KEY_ID"],
            secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
            region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1",
            account_id="",
            installation_id="",
        )
    known = DataDirectory(options.data_dir).known_credentials()
    endpoint = options.endpoint or known.endpoint
    if urlsplit(endpoint).scheme != "http":
        raise CommandError(f"{endpoint} is no http:// address; simulated agents speak plain HTTP")
    return LocalCredentials(endpoint, known.access_key_id, known.secret_access_key, known.region, known.account_id, known.installation_id)
