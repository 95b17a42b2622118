"""`python -m homeport.agent.proof FILE`: signs what comes on stdin with the key of the host in FILE, and ends.

Owns: that program, and how the agent runs it. It is a process of its own because signing needs a library of some megabytes for a millisecond an hour.
"""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path
from typing import Final

from homeport.errors import HomeportError
from homeport.iam import host, proof

SECONDS_MAX: Final = 30.0


class ProofError(HomeportError):
    """The program that signs failed. The message has its last words."""


async def signed(path: str, text: bytes) -> str:
    """The signature over `text` by the key of the host in the file `path`, in base64. Raises ProofError."""
    command = (sys.executable, "-P", "-m", "homeport.agent.proof", path)
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        raise ProofError(f"the proof cannot be made: {error}") from error
    try:
        out, words = await asyncio.wait_for(process.communicate(text), SECONDS_MAX)
    except TimeoutError:
        raise ProofError(f"the proof was not made in {SECONDS_MAX:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise ProofError(f"the proof cannot be made: {words.decode('utf-8', 'replace').strip()[-300:]}")
    return out.decode("ascii").strip()


def main(path: str) -> int:
    """Sign stdin."""
    try:
        found = host.read(Path(path))
    except HomeportError as error:
        print(error, file=sys.stderr)
        return 1
    if found is None:
        print(f"{path} is gone: this host has left", file=sys.stderr)
        return 1
    print(base64.b64encode(proof.made(found.private_key, sys.stdin.buffer.read())).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
