"""`python -m homeport.cli.hold LOCK PROGRAM ARGUMENTS`: become a foreign program that holds one of our locks as long as it lives.

Owns: taking the lock in the program's own process, so that `programs.find` knows it like one of ours: the kernel keeps a record lock over exec.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str]) -> NoReturn:
    """Become the program; ends with status 1 when another process holds the lock."""
    lock, program, *rest = arguments
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(descriptor, True)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(f"another process already runs with {lock}")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    os.execv(program, [program, *rest])


if __name__ == "__main__":
    main(sys.argv[1:])
