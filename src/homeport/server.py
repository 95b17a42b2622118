"""The composition root of the control plane: builds every part once, in order, by passing arguments.

Owns: the order in which parts start and stop. Never holds logic of a part; there are no globals and no registry.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import uvicorn

from homeport.api.call import Context
from homeport.api.ecs.operations import OPERATIONS as ECS_OPERATIONS
from homeport.api.homeport.operations import OPERATIONS as HOMEPORT_OPERATIONS
from homeport.api.requestlog import RequestLog
from homeport.api.server import SERVER_OPTIONS, Application
from homeport.api.signature import AccessKeys, Verifier
from homeport.clock import Clock, SystemClock
from homeport.config import Settings, parse_settings
from homeport.controllers.deployment import DeploymentController
from homeport.controllers.instance import InstanceController
from homeport.controllers.journal import keep_journal
from homeport.controllers.loop import Controller, Loop
from homeport.controllers.retention import RetentionController
from homeport.controllers.service import ServiceController
from homeport.dispatcher.hub import Dispatcher
from homeport.errors import HomeportError
from homeport.ids import Ids
from homeport.model import arn
from homeport.model.iam.access_key import AccessKey
from homeport.model.installation import Installation
from homeport.placement.index import PlacementIndex
from homeport.store.backend import Backend
from homeport.store.lock import FileLock
from homeport.store.memory import MemoryBackend
from homeport.store.sqlite import SqliteBackend
from homeport.store.store import Store
from homeport.store.table import Transaction
from homeport.store.tables import ACCESS_KEYS, INSTALLATION, TABLES

BACKLOG: Final = 4096
GC_THRESHOLDS: Final = (50_000, 20, 100)
"""Records and requests are trees that reference counts free; a rare collection is for what is left (measured in benchmarks/store.py)."""


class StoreNotKnownError(HomeportError):
    """`--store` is neither `memory` nor `sqlite:PATH`."""


class PortInUseError(HomeportError):
    """Another program listens on the port."""


class InstallationMismatchError(HomeportError):
    """The account id or region given is not the one that this installation was made with."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What the command line gives."""

    data_dir: Path
    port: int = 8470
    host: str = "127.0.0.1"
    account_id: str | None = None
    region: str | None = None
    store: str | None = None
    """`memory` or `sqlite:PATH`; by default SQLite in the data directory."""
    settings: tuple[str, ...] = ()
    root_access_key_id: str | None = None
    root_secret_access_key: str | None = None


def _backend(options: ServerOptions) -> Backend:
    store = options.store or f"sqlite:{options.data_dir / 'homeport.sqlite'}"
    if store == "memory":
        return MemoryBackend()
    kind, _, path = store.partition(":")
    if kind != "sqlite" or not path:
        raise StoreNotKnownError(f"--store {store} is not known; use memory or sqlite:PATH")
    return SqliteBackend(Path(path))


def _found(tx: Transaction, options: ServerOptions, ids: Ids) -> tuple[Installation, AccessKey]:
    """The installation and its root key; made now if this is the first start."""
    installation = tx.get(INSTALLATION, "installation")
    if installation is None:
        installation = Installation(
            id=ids.hex(16),
            account=options.account_id or ids.digits(12),
            region=options.region or "us-east-1",
            created_at=tx.now,
        )
        tx.put(INSTALLATION, installation)
    for name, given, kept in (("account id", options.account_id, installation.account), ("region", options.region, installation.region)):
        if given and given != kept:
            raise InstallationMismatchError(f"this installation's {name} is {kept}, not {given}; use another data directory for another one")
    return installation, _root_key(tx, options, ids, installation.account)


def _root_key(tx: Transaction, options: ServerOptions, ids: Ids, account: str) -> AccessKey:
    root = arn.root_arn(account)
    kept = next((key for key in tx.scan(ACCESS_KEYS) if key.principal_arn == root), None)
    if kept is not None:
        return kept
    made = AccessKey(
        id=options.root_access_key_id or ids.access_key_id(),
        secret=options.root_secret_access_key or ids.secret(),
        account=account,
        principal_arn=root,
        created_at=tx.now,
    )
    tx.put(ACCESS_KEYS, made)
    return made


def write_credentials(options: ServerOptions, installation: Installation, key: AccessKey) -> Path:
    """DATA_DIR/credentials.json, readable by its owner alone: what `env`, `status` and the local agent sign with."""
    path = options.data_dir / "credentials.json"
    content = {
        "endpoint": endpoint(options),
        "access_key_id": key.id,
        "secret_access_key": key.secret,
        "region": installation.region,
        "account_id": installation.account,
        "installation_id": installation.id,
    }
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(content)))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return path


def endpoint(options: ServerOptions) -> str:
    """The URL that clients of this server use."""
    return f"http://{options.host}:{options.port}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """The built parts. `application` is the ASGI application."""

    application: Any
    store: Store
    context: Context
    loop: Loop
    dispatcher: Dispatcher


@contextlib.asynccontextmanager
async def build(options: ServerOptions, *, clock: Clock | None = None, ids: Ids | None = None) -> AsyncIterator[ControlPlane]:
    """The control plane, started; stopped in reverse order on leaving.

    Raises StoreLockedError when another server holds the store, InstallationMismatchError, StoreNotKnownError, UnknownSettingError.
    """
    clock, ids = clock or SystemClock(), ids or Ids()
    settings: Settings = parse_settings(options.settings)
    (options.data_dir / "log").mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(options.data_dir / "server.lock")
    lock.take()
    placement, access_keys = PlacementIndex(), AccessKeys()
    try:
        store = await Store.open(_backend(options), tables=TABLES, clock=clock, derived=(placement, access_keys))
    except BaseException:
        lock.release()
        raise
    try:
        installation, root_key = await store.update(lambda tx: _found(tx, options, ids), cause="server start")
        write_credentials(options, installation, root_key)
        context = Context(
            store=store,
            placement=placement,
            clock=clock,
            ids=ids,
            settings=settings,
            region=installation.region,
            installation_id=installation.id,
            endpoint=f"{endpoint(options)}/",
        )
        verifier = Verifier(access_keys, clock=clock, settings=settings, region=installation.region)
        dispatcher = Dispatcher(
            store=store, clock=clock, ids=ids.child("dispatcher"), settings=settings, region=installation.region, verify=verifier.verify
        )
        loop = Loop(store=store, clock=clock, controllers=controllers_of(context), sweep_seconds=settings.sweep_seconds)
        requests = RequestLog(options.data_dir / "log" / "requests.log", clock=clock)
        websockets = {"/acs/ws": dispatcher.acs, "/tcs/ws": dispatcher.tcs}
        application = Application(context, ECS_OPERATIONS | HOMEPORT_OPERATIONS, verifier=verifier, websockets=websockets, request_log=requests)
        await dispatcher.start()
        running = [asyncio.create_task(loop.run()), asyncio.create_task(keep_journal(store, clock, settings))]
        # What is loaded and built now lives as long as the server: the collector need not look at it again (worth 10 to 18 % in architecture trials).
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        try:
            yield ControlPlane(application=application, store=store, context=context, loop=loop, dispatcher=dispatcher)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await dispatcher.close()
            requests.close()
    finally:
        await store.close()
        lock.release()


def controllers_of(context: Context) -> tuple[Controller, ...]:
    """Every controller, in the order in which they are activated for one commit: a failed launch is counted before the next one is tried."""
    return (
        DeploymentController(ids=context.ids.child("deployment"), settings=context.settings),
        ServiceController(placement=context.placement, ids=context.ids.child("service"), settings=context.settings),
        InstanceController(),
        RetentionController(settings=context.settings),
    )


def _listen(options: ServerOptions) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise PortInUseError(f"cannot listen on {options.host}:{options.port}: {error.strerror}; choose another with --port") from None
    return listener


async def serve(options: ServerOptions) -> None:
    """Run the control plane until SIGTERM or SIGINT.

    Raises what `build` raises, and PortInUseError.
    """
    async with build(options) as plane:
        listener = _listen(options)
        config = uvicorn.Config(plane.application, **SERVER_OPTIONS)
        server = uvicorn.Server(config)
        running = asyncio.get_running_loop()

        def ask_to_exit() -> None:
            server.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            running.add_signal_handler(number, ask_to_exit)
        # uvicorn's own handlers would raise the signal again after shutdown; ours end the program with status 0.
        await server._serve(sockets=[listener])
