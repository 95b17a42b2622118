"""The rule that keeps the containers' address range on this machine, in a network namespace of its own. Needs root, nft and ip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from homeport.cli import engine

PROBE = """
import socket, subprocess
from homeport.cli.engine import guard_range

def sh(command):
    subprocess.run(command, shell=True, check=True)

def refused(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.sendto(b"x", (address, 9))
        except PermissionError:
            return True
        return False

sh("ip link set lo up; ip link add up0 type veth peer name up1; ip addr add 198.51.100.1/24 dev up0; ip link set up0 up; ip link set up1 up")
sh("ip route add default via 198.51.100.2; ip link add br9 type bridge; ip addr add 100.127.0.1/16 dev br9; ip link set br9 up")
print(refused("100.64.1.1"), refused("100.127.0.5"))
guard_range()
guard_range()  # again is no error and no second rule
print(refused("100.64.1.1"), refused("100.127.0.5"), refused("198.51.100.7"))
"""


def test_nothing_for_the_range_leaves_by_the_default_route():
    environ = {**os.environ, "PYTHONPATH": str(Path(engine.__file__).parents[2])}
    done = subprocess.run(["unshare", "--net", sys.executable, "-c", PROBE], capture_output=True, text=True, env=environ, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["False False", "True False False"], done.stdout
