"""The instance provider that runs a program or asks a URL: what it is told, what it may answer, and what becomes of trouble."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import os
import threading
import time
from pathlib import Path

import pytest

from homeport.config import Settings, UnknownSettingError, parse_settings
from homeport.controllers.instance_provider import ANSWER_BYTES_MAX, CommandProvider, InstanceProviderError, Pool, instance_providers
from homeport.planner.managed_scaling import Fleet, Machine

POOL = Pool(name="burst", arn="arn:aws:ecs:us-east-1:123456789012:capacity-provider/burst", auto_scaling_group="group", clusters=("default",))
TOLD = {"capacityProvider": "burst", "capacityProviderArn": POOL.arn, "autoScalingGroup": "group", "clusters": ["default"]}


@pytest.fixture
def program(tmp_path):
    """Makes a program of shell lines; what it is given lies in `given.json` beside it."""

    def make(lines: str, **limits: float) -> CommandProvider:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\ncat > {tmp_path}/given.json\n{lines}\n")
        path.chmod(0o755)
        return CommandProvider(str(path), **limits)

    make.given = lambda: json.loads((tmp_path / "given.json").read_text())
    make.directory = tmp_path
    return make


async def test_a_program_is_told_what_to_do_on_its_standard_input(program):
    asked = program("true")
    assert await asked.fleet(POOL) == Fleet()
    assert program.given() == {"action": "describe", **TOLD}
    await asked.set_desired(POOL, 7)
    assert program.given() == {"action": "set-desired", "desired": 7, **TOLD}
    await asked.terminate(POOL, ["i-1", "i-2"])
    assert program.given() == {"action": "terminate", "instances": ["i-1", "i-2"], **TOLD}


async def test_what_it_says_of_its_machines(program):
    asked = program(
        """echo '{"desired": 3, "instances": [{"id": "i-1"}, {"id": "i-2", "leaving": true, "more": 1}], "size": {"cpu": 2048, "memory": 4096}}'"""
    )
    fleet = await asked.fleet(POOL)
    assert (fleet.desired, fleet.machines) == (3, (Machine(id="i-1"), Machine(id="i-2", leaving=True)))
    assert [(size.cpu, size.memory_mib, size.gpus) for size in fleet.sizes] == [(2048, 4096, 0)]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("echo out of machines >&2; exit 3", "status 3: out of machines"),
        ("echo '<html>'", "something else"),
        ("""echo '{"desired": "many"}'""", "something else"),
        ("sleep 30", "did not answer describe within 0.3 s"),
    ],
)
async def test_trouble_says_what_it_was(program, lines, told):
    with pytest.raises(InstanceProviderError, match=told):
        await program(lines, seconds_max=0.3 if "sleep" in lines else 20.0).fleet(POOL)


async def test_a_program_that_is_not_there_is_trouble(tmp_path):
    with pytest.raises(InstanceProviderError, match="cannot be run"):
        await CommandProvider(str(tmp_path / "nothing")).set_desired(POOL, 1)


async def test_what_a_program_leaves_running_holds_nobody_up(program):
    asked = program(f"sleep 20 & echo $! > {program.directory}/pid", seconds_max=10.0)
    try:
        await asked.set_desired(POOL, 1)
    finally:
        os.kill(int((program.directory / "pid").read_text()), 9)


async def test_a_program_that_is_given_up_is_ended(program):
    asked = program(f"sleep 20 & echo $$ $! > {program.directory}/pid; wait", seconds_max=0.5)
    with pytest.raises(InstanceProviderError):
        await asked.set_desired(POOL, 1)
    await asyncio.sleep(0.2)
    for pid in (program.directory / "pid").read_text().split():  # and with it what it began
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.fixture
def url():
    given = []

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            given.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response({"/broken": 500, "/moved": 302}.get(self.path, 200))
            if self.path == "/moved":
                self.send_header("Location", "/")
            self.end_headers()
            if self.path == "/slow":
                self.wfile.write(b'{"instances": [{"id": "i-1"}, ')
                time.sleep(0.2)  # what follows is another packet
                self.wfile.write(b'{"id": "i-2"}]}')
            elif self.path == "/endless":
                with contextlib.suppress(OSError):
                    for _ in range(64):
                        self.wfile.write(b" " * (ANSWER_BYTES_MAX // 32))
            else:
                self.wfile.write(b"no quota" if self.path == "/broken" else b'{"desired": 2}')

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", given
    server.shutdown()
    server.server_close()


async def test_a_url_is_asked_with_post(url):
    where, given = url
    assert await CommandProvider(where).fleet(POOL) == Fleet(desired=2)
    assert given == [{"action": "describe", **TOLD}]
    with pytest.raises(InstanceProviderError, match="status 500: no quota"):
        await CommandProvider(f"{where}/broken").fleet(POOL)
    with pytest.raises(InstanceProviderError, match="status 302"):
        await CommandProvider(f"{where}/moved").set_desired(POOL, 1)
    assert [machine.id for machine in (await CommandProvider(f"{where}/slow").fleet(POOL)).machines] == ["i-1", "i-2"]
    with pytest.raises(InstanceProviderError, match="more than"):
        await CommandProvider(f"{where}/endless").fleet(POOL)
    with pytest.raises(InstanceProviderError, match="cannot be asked"):
        await CommandProvider("http://127.0.0.1:1/").fleet(POOL)


def test_the_setting_names_them():
    found = instance_providers(Settings(instance_providers="burst=/opt/burst, *=https://machines.example/pool"))
    assert list(found) == ["burst", "*"]
    for wrong in ("burst", "burst=bin/burst", "=/opt/burst", "a=/x,a=/y", "a=ftp://x"):
        with pytest.raises(UnknownSettingError, match="instance_providers"):
            parse_settings([f"instance_providers={wrong}"])
