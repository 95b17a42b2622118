"""What TLS costs the server: calls on open connections, and connections that are made for one call.

Owns: the bench "tls". Two servers as in `api.py`, one with `--tls`, asked by the same client in turn, so that the difference is TLS.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.api import CONNECTIONS, RUNS, Server, serving

SECONDS: Final = 3.0
Connect = Callable[[], socket.socket]


def _kept(connect: Connect, request: bytes, seconds: float) -> int:
    """How many calls were answered on connections that stay."""
    connections = [connect() for _ in range(CONNECTIONS)]
    answered, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for connection in connections:
            connection.sendall(request)
        for connection in connections:
            _read(connection)
        answered += CONNECTIONS
    for connection in connections:
        connection.close()
    return answered


def _new(connect: Connect, request: bytes, seconds: float) -> int:
    """How many calls were answered, each on a connection of its own."""
    answered, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        with connect() as connection:
            connection.sendall(request)
            _read(connection)
        answered += 1
    return answered


def _read(connection: socket.socket) -> None:
    data = connection.recv(1 << 16)
    if not data.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"an answer was not good: {data[:300]!r}")


def _best(server: Server, work: Callable[[Connect, bytes, float], int], connect: Connect) -> float:
    best, request = 0.0, server.request("ListClusters", {})
    work(connect, request, 0.3)
    for _ in range(RUNS):
        cpu = server.cpu_seconds()
        answered = work(connect, request, SECONDS)
        best = max(best, answered / (server.cpu_seconds() - cpu))
    return best


def _connecting(server: Server, context: ssl.SSLContext | None) -> Connect:
    def connect() -> socket.socket:
        made = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(made, server_hostname="127.0.0.1") if context is not None else made

    return connect


def run() -> list[dict[str, Any]]:
    """The rows of the bench."""
    rows: list[dict[str, Any]] = []
    for name, options in (("plain", ()), ("TLS", ("--tls",))):
        found: list[Path] = []
        with serving(*options, directory_made=found.append) as server:
            context = ssl.create_default_context(cafile=str(found[0] / "tls" / "ca.pem")) if options else None
            connect = _connecting(server, context)
            for case, work in (("open connections", _kept), ("a connection a call", _new)):
                value = _best(server, work, connect)
                row = {
                    "bench": "tls",
                    "case": f"{case}, {name}",
                    "value": round(value),
                    "unit": "calls per CPU-second",
                    "floor": None,
                    "target": None,
                }
                rows.append(row)
    return rows
