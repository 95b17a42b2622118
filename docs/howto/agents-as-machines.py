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
    """An agent with its own directory, in the background: whoever asked does not wait until it has joined."""
    keys = json.loads(Path(os.environ["POOL_CREDENTIALS"]).read_text())
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": keys["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": keys["secret_access_key"],
        "AWS_DEFAULT_REGION": keys["region"],
        "ECS_CLUSTER": asked["clusters"][0],
        "HOMEPORT_INSTANCE_ID": directory.name,
    }
    options = ["--data-dir", str(directory), "--endpoint", keys["endpoint"], "--capacity-provider", asked["capacityProvider"]]
    with (directory / "out").open("wb") as out:
        command = [os.environ["POOL_HOMEPORT"], "agent", *options]
        # In a session of its own: a program that is given up is killed with all its processes.
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True)


def end(directory: Path) -> None:
    """Stop its agent. Its tasks have ended before, or are ended by whoever asked."""
    subprocess.run([os.environ["POOL_HOMEPORT"], "down", "--data-dir", str(directory)], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
