"""The agent's connections for its containers: to the server that it would ask itself, over TLS where that speaks TLS. Under a second."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homeport.agent.client import EcsClient, UnreachableError
from homeport.agent.metadata.credentials import Place, Registry
from homeport.agent.metadata.door import Doors
from homeport.agent.settings import AgentSettings
from homeport.clock import SystemClock
from homeport.tls import files
from homeport.tls.authority import Wanted
from homeport.tls.contexts import server_context


@contextlib.asynccontextmanager
async def echo(secure: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Says everything back, in capitals; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(1000):
                writer.write(piece.upper())
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=secure)
    yield server.sockets[0].getsockname()[1]
    server.close()


@contextlib.asynccontextmanager
async def client_of(endpoint: str, ca_file: str = "") -> AsyncIterator[EcsClient]:
    keys = {"region": "us-east-1", "access_key_id": "AKID", "secret_access_key": "secret"}
    client = EcsClient(AgentSettings(endpoint=endpoint, ca_file=ca_file, **keys), SystemClock())
    yield client
    await client.close()


async def test_a_server_that_is_not_there_is_left_for_the_next():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        async with echo() as port, client_of(f"http://127.0.0.1:{nobody.getsockname()[1]},http://127.0.0.1:{port}") as client:
            for _ in range(2):
                with contextlib.suppress(UnreachableError):
                    reader, writer = await client.dial()
                    break
            writer.write(b"hello")
            assert await reader.read(5) == b"HELLO"
            writer.close()
        async with client_of(f"http://127.0.0.1:{nobody.getsockname()[1]}") as client:
            with pytest.raises(UnreachableError):
                await client.dial()


async def test_what_a_container_says_in_the_clear_goes_to_another_machine_over_tls(tmp_path: Path):
    def made() -> tuple[str, Path]:
        authority = files.ensure_authority(tmp_path, now=time.time(), seconds=86_400.0)
        certificate = authority.issue(Wanted(subject="server", names=("127.0.0.1",)), now=time.time(), seconds=86_400.0)
        files.write(tmp_path / "server.pem", certificate.certificate + certificate.key)
        (tmp_path / "trusted.pem").write_bytes(authority.pem)
        return authority.pem.decode(), tmp_path / "server.pem"

    pem, shown = await asyncio.to_thread(made)
    registry = Registry()
    registry.hold("app", "id", "role", host=False)
    registry.place("app", "c", Place("127.0.0.2", "127.0.0.1"))
    async with echo(server_context(shown, None, authorities=pem)) as port:
        async with client_of(f"https://127.0.0.1:{port}", str(tmp_path / "trusted.pem")) as client:
            doors = Doors(registry, client.dial)
            reader, writer = await asyncio.open_connection("127.0.0.1", (await doors.open("127.0.0.1")).api, local_addr=("127.0.0.2", 0))
            writer.write(b"hello")
            assert await asyncio.wait_for(reader.read(5), 5) == b"HELLO"
            writer.close()
            await doors.close()
        async with client_of(f"https://127.0.0.1:{port}") as client:
            with pytest.raises(UnreachableError):  # whom it does not trust it tells nothing
                await client.dial()
