#!/usr/bin/env python3
"""An instance provider whose machines are further agents on this machine: to try managed scaling, and to start from when you write your own.

Environment: POOL_DIR (a directory for the agents' own), POOL_HOMEPORT (path of `homeport`), POOL_CREDENTIALS (credentials.json of the server).
A file `leaving` in an agent's directory says that it is to be taken away. The contract is in capacity-providers.md.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> None:
    """Do what is asked on the standard input."""
    asked = json.load(sys.stdin)
    pool = Path(os.environ["POOL_DIR"]) / asked["capacityProvider"]
    pool.mkdir(parents=True, exist_ok=True)
    if asked["action"] == "describe":
        machines = sorted(path.name for path in pool.iterdir())
        instances = [{"id": name, "leaving": (pool / name / "leaving").exists()} for name in machines]
        print(json.dumps({"desired": len(machines), "instances": instances}))
    elif asked["action"] == "set-desired":
        for _ in range(asked["desired"] - len(list(pool.iterdir()))):
            start(Path(tempfile.mkdtemp(prefix="i-", dir=pool)), asked)  # an id that no other machine ever had
    elif asked["action"] == "terminate":
        for name in asked["instances"]:
            if (pool / name).exists():
                end(pool / name)


def start(directory: Path, asked: dict[str, Any]) -> None:
    """An agent with its own directory and a join token, in the background: whoever asked does not wait until it has joined."""
    credentials = Path(os.environ["POOL_CREDENTIALS"])
    cluster, homeport = asked["clusters"][0], os.environ["POOL_HOMEPORT"]
    create = [homeport, "token", "create", "--json", "--cluster", cluster, "--expires", "10m", "--data-dir", str(credentials.parent)]
    token = json.loads(subprocess.run(create, check=True, stdout=subprocess.PIPE).stdout)["token"]
    environment = os.environ | {
        "HOMEPORT_JOIN_TOKEN": token,
        "ECS_CLUSTER": cluster,
        "HOMEPORT_INSTANCE_ID": directory.name,
    }
    endpoint = json.loads(credentials.read_text())["endpoint"]
    options = ["--data-dir", str(directory), "--server", endpoint, "--capacity-provider", asked["capacityProvider"]]
    with (directory / "out").open("wb") as out:
        command = [homeport, "agent", *options]
        # In a session of its own: a program that is given up is killed with all its processes.
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True)


def end(directory: Path) -> None:
    """Stop its agent. Its tasks have ended before, or are ended by whoever asked."""
    subprocess.run([os.environ["POOL_HOMEPORT"], "down", "--data-dir", str(directory)], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
