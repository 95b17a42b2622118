"""A program that writes to a store until it is killed; `test_store_sqlite.py` starts it.

usage: store_writer.py PATH SEED [FILE_BYTES_MAX]

It says "open" and then one line a transaction that was acknowledged: the number of the transaction. Each transaction moves weight between two of
many things, so that their sum never changes, and puts its number into a thing of its writer. With FILE_BYTES_MAX no file may grow beyond so many
bytes until a transaction failed; then it prints "failed" and lifts the limit.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import sys

from msgspec.structs import replace

from homeport.clock import SystemClock
from homeport.errors import CommitFailedError
from homeport.store.sqlite import SqliteBackend
from homeport.store.store import Store
from homeport.store.table import Transaction
from homeport.testing.store import OTHERS, THINGS, Thing

WRITERS = 50
PLACES = 20


def say(text: str) -> None:
    """One write a line, so that a killed writer leaves no half lines but the last."""
    os.write(1, f"{text}\n".encode())


async def write(store: Store, writer: int, seed: int) -> None:
    """Transactions of one writer, forever."""
    chance = random.Random(f"{seed}/{writer}")
    numbers = {other.name: other.size for other in await store.view(lambda r: list(r.scan(OTHERS)))}
    number = numbers.get(f"writer-{writer:02}", 0)
    while True:
        number += 1
        one, two = chance.sample(range(PLACES), 2)

        def move(tx: Transaction, number: int = number, one: int = one, two: int = two) -> None:
            source = tx.get(THINGS, f"{one:02}") or Thing(name=f"{one:02}", size=1_000_000)
            target = tx.get(THINGS, f"{two:02}") or Thing(name=f"{two:02}", size=1_000_000)
            tx.put(THINGS, replace(source, size=source.size - 1, blob=bytes(number % 3_000)))
            tx.put(THINGS, replace(target, size=target.size + 1))
            if number % 7 == 0:
                tx.delete(OTHERS, f"writer-{writer:02}/{number - 7}")
                tx.put(OTHERS, Thing(name=f"writer-{writer:02}/{number}", size=number))
            tx.put(OTHERS, Thing(name=f"writer-{writer:02}", size=number))

        try:
            await store.update(move, cause=f"writer {writer} number {number}")
        except CommitFailedError:
            number -= 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            say("failed")
        else:
            say(f"{writer} {number}")


async def main() -> None:
    """Open, then write."""
    path, seed = sys.argv[1], int(sys.argv[2])
    store = await Store.open(SqliteBackend(path), tables=(THINGS, OTHERS), clock=SystemClock())
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    say("open")
    await asyncio.gather(*(write(store, writer, seed) for writer in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(main())
