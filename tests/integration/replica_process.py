"""A server that is nothing but a replica of the store, as a process that tests kill and pause.

`python -m tests.integration.replica_process NAME WHERE PREFIX ENDPOINT…`. It answers JSON lines on 127.0.0.1:WHERE, or at the unix socket WHERE:
{"op": "put", "key", "size"} makes thing `key` grow to `size` from `size` - 1, {"op": "get", "key"} tells its size, {"op": "look", "key"} its size in
this server's own copy, {"op": "role"} who leads.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvloop

from homeport.clock import SystemClock
from homeport.errors import HomeportError, NotLeaderError
from homeport.store.etcd.backend import EtcdBackend, EtcdSettings
from homeport.store.replica import Replica
from homeport.store.table import Transaction
from homeport.testing.store import THINGS, Thing


class ConflictError(Exception):
    """The thing has another size than the writer thinks."""


def grow(tx: Transaction, key: str, size: int) -> None:
    current = tx.get(THINGS, key) or Thing(name=key)
    if current.size not in (size - 1, size):
        raise ConflictError(f"{key} has {current.size}, not {size - 1}")
    tx.put(THINGS, Thing(name=key, size=size))


async def answer(replica: Replica, request: dict[str, Any]) -> dict[str, Any]:
    key = request.get("key", "")
    try:
        match request["op"]:
            case "put":
                await replica.update(lambda tx: grow(tx, key, request["size"]), cause=f"put {key}")
                return {}
            case "get":
                return {"size": await replica.view(lambda r: (r.get(THINGS, key) or Thing(name=key)).size)}
            case "look":
                return {"size": await replica.view_local(lambda r: (r.get(THINGS, key) or Thing(name=key)).size)}
            case _:
                role = replica.role
                return {"leading": role.leading, "revision": replica.revision}
    except NotLeaderError as error:
        return {"error": "NotLeaderError", "leader": error.leader}
    except (HomeportError, ConflictError) as error:
        return {"error": type(error).__name__, "message": str(error)}


async def main(name: str, where: str, prefix: str, *endpoints: str) -> None:
    backend = EtcdBackend(endpoints, prefix, settings=EtcdSettings(name=name, address=where))
    replica = await Replica.join(backend, tables=(THINGS,), clock=SystemClock())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await answer(replica, json.loads(line))).encode() + b"\n")
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    listening = asyncio.start_server(serve, "127.0.0.1", int(where)) if where.isdigit() else asyncio.start_unix_server(serve, where)
    async with await listening as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
