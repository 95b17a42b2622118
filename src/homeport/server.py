"""The composition root of the control plane: builds every part once, in order, by passing arguments.

Owns: the order in which parts start and stop. Never holds logic of a part; there are no globals and no registry.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import uvicorn

from homeport import log, unlocking
from homeport.api.accounts import Accounts
from homeport.api.authority import Authority
from homeport.api.call import Context
from homeport.api.ecs.reports import REPORTS_PATH, StateReports
from homeport.api.last_use import LAST_USES_PATH, LastUses
from homeport.api.permission import Guard, SessionVerifier
from homeport.api.requestlog import RequestLog
from homeport.api.server import KEYS_PATH, SERVER_OPTIONS, Application, Internal
from homeport.api.services import ASKS, OPERATIONS
from homeport.api.signature import AccessKeys, Verifier
from homeport.api.sts.issuer import IssuerKeys
from homeport.api.sts.web_identity import WebIdentities
from homeport.auditing import Place, open_audit
from homeport.clock import Clock, SystemClock
from homeport.config import Settings, local_issuers_of, parse_settings
from homeport.controllers.alarm import DocumentSource, keep_alarms
from homeport.controllers.capacity import Providers, keep_capacity
from homeport.controllers.daemon_deployment import DaemonDeploymentController
from homeport.controllers.daemon_task_definition import DaemonTaskDefinitionController
from homeport.controllers.data_key import keep_data_keys
from homeport.controllers.deployment import DeploymentController
from homeport.controllers.instance import InstanceController
from homeport.controllers.instance_provider import InstanceProvider, instance_providers
from homeport.controllers.journal import keep_journal
from homeport.controllers.leading import while_leading
from homeport.controllers.lifecycle_hook import HookCaller, HookRunner, HookTasks, HttpCaller
from homeport.controllers.loop import Controller, Loop
from homeport.controllers.retention import RetentionController
from homeport.controllers.scheduler import SchedulerController
from homeport.controllers.service import ServiceController
from homeport.controllers.task_set import TaskSetController
from homeport.dispatcher.hub import Dispatcher
from homeport.errors import HomeportError
from homeport.forecast import Fork
from homeport.founding import found_or_made
from homeport.iam.sigv4 import Credentials
from homeport.ids import Ids
from homeport.listener import agree_on_authority, certificates_of, listen, own_endpoint, refuse_unsafe
from homeport.model.account import organization_id
from homeport.model.installation import Installation
from homeport.placement.index import PlacementIndex
from homeport.root_keys import RootKeyDesk
from homeport.store.address import backend_of, parse_address
from homeport.store.backend import Backend
from homeport.store.lock import FileLock
from homeport.store.memory import MemoryBackend
from homeport.store.sqlite import SqliteBackend
from homeport.store.store import Store
from homeport.store.table import Derived
from homeport.store.tables import TABLES
from homeport.vault.keyring import Vault

if TYPE_CHECKING:  # they bring gRPC, which a server that is alone does without, and cryptography, which one on loopback does without
    from homeport.servers import Fellowship
    from homeport.store.etcd.backend import EtcdBackend
    from homeport.tls.certificates import Certificates, TlsFiles

GC_THRESHOLDS: Final = (50_000, 20, 100)
"""Records and requests are trees that reference counts free; a rare collection is for what is left (measured in benchmarks/store.py)."""

_log: Final = log.logger("server")


class StoreNotKnownError(HomeportError):
    """`--store` is none of `memory`, `sqlite:PATH`, `etcd://…`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What the command line gives."""

    data_dir: Path
    port: int = 8470
    host: str = "127.0.0.1"
    account_id: str | None = None
    region: str | None = None
    store: str | None = None
    """`memory`, `sqlite:PATH` or `etcd://HOST:PORT,…`; by default SQLite in the data directory."""
    settings: tuple[str, ...] = ()
    root_access_key_id: str | None = None
    root_secret_access_key: str | None = dataclasses.field(default=None, repr=False)
    root_key_dir: Path | None = None
    """Where root.key is, if the settings name nothing else; default: the data directory."""
    name: str = "server"
    """This server's among several; the same after a restart."""
    advertise: str | None = None
    """URL under which agents and other servers reach this one; by default that of `host` and `port`."""
    local_reads: bool = False
    """Answer reads from this server's copy as it is, without asking whether it is the newest state."""

    own_etcd: bool = False
    """Whether etcd is Homeport's alone, which makes room in it when it is full."""
    tls: TlsFiles | None = None
    """Where the certificates are; None: plain HTTP, on this machine's loopback alone."""

    @property
    def replicated(self) -> bool:
        """Whether this is one of several servers."""
        return bool(self.store and self.store.startswith("etcd:"))


def _backend(options: ServerOptions) -> Backend:
    store = options.store or f"sqlite:{options.data_dir / 'homeport.sqlite'}"
    if store == "memory":
        return MemoryBackend()
    kind, _, path = store.partition(":")
    if kind != "sqlite" or not path:
        raise StoreNotKnownError(f"--store {store} is not known; use memory, sqlite:PATH or etcd://HOST:PORT,…")
    return SqliteBackend(Path(path))


def _publish(options: ServerOptions, installation: Installation, keys: Credentials) -> Path:
    ca_file = str(options.tls.ca_file or "") if options.tls is not None else ""
    told = {"endpoint": endpoint(options), "account_id": installation.account, "installation_id": installation.id, "ca_file": ca_file}
    return unlocking.write_credentials(options.data_dir, keys, told)


def endpoint(options: ServerOptions) -> str:
    """The URL that clients of this server use."""
    return own_endpoint(options.host, options.port, advertise=options.advertise, secure=options.tls is not None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """The built parts. `application` is the ASGI application."""

    application: Any
    store: Store
    context: Context
    dispatcher: Dispatcher
    fellowship: Fellowship | None
    """This server's place among several; None for one that is alone."""
    certificates: Certificates | None
    """What the listening socket shows; None for plain HTTP."""
    publish: Callable[[], Path]
    """Writes DATA_DIR/credentials.json; to be called when the port is this server's, since the file says where it answers."""


@contextlib.asynccontextmanager
async def build(options: ServerOptions, *, clock: Clock | None = None, ids: Ids | None = None) -> AsyncIterator[ControlPlane]:
    """The control plane, started; stopped in reverse order on leaving.

    Raises StoreLockedError when another server holds the store, InstallationMismatchError, StoreNotKnownError, UnknownSettingError; with
    several servers EtcdUnavailableError when etcd does not answer; for what is wrong with TLS what `refuse_unsafe`, `certificates_of` and
    `agree_on_authority` raise.
    """
    refuse_unsafe(options.host, advertise=options.advertise, secure=options.tls is not None)
    clock, ids = clock or SystemClock(), ids or Ids()
    settings: Settings = parse_settings(options.settings)
    (options.data_dir / "log").mkdir(parents=True, exist_ok=True, mode=0o700)
    async with contextlib.AsyncExitStack() as stack:
        lock = FileLock(options.data_dir / "server.lock")
        lock.take()
        stack.callback(lock.release)
        vault = unlocking.vault_of(settings, options.root_key_dir or options.data_dir, ids.child("vault"))
        placement, access_keys, authority, accounts = PlacementIndex(), AccessKeys(vault), Authority(), Accounts()
        store, backend = await _open(options, settings, clock, (placement, access_keys, authority, accounts, vault), stack)
        installation, keys = await found_or_made(store, options, vault, ids=ids, clock=clock)
        place = Place(options.data_dir, options.name, installation)
        audit = await stack.enter_async_context(await open_audit(place, store.journal, clock=clock, settings=settings, ids=ids))
        uses = LastUses(store, clock, seconds=settings.last_use_seconds, region=installation.region)
        context = Context(
            store=store,
            placement=placement,
            audit=audit.log,
            clock=clock,
            ids=ids,
            settings=settings,
            region=installation.region,
            installation_id=installation.id,
            endpoint=f"{endpoint(options)}/",
            trusted=options.tls.ca_file if options.tls is not None else None,
            fork=functools.partial(Fork.open, controllers_of),
            management=installation.account,
            accounts=accounts,
            vault=vault,
            last_uses=uses,
        )
        certificates = await _certificates(options, context, stack)
        fellowship = _fellowship(store, backend, keys, options, certificates) if backend else None
        stack.push_async_callback(_close, fellowship)
        context = audit.beside(context, fellowship) if fellowship else context
        verifier = _verifier(access_keys, context)
        guard = Guard(authority, ASKS, organization=organization_id(installation.id))
        reports = StateReports(context, on_leader=fellowship.on_leader if fellowship else None)
        internal = _internal(RootKeyDesk(store, vault, name=options.name, data_dir=options.data_dir), reports, uses, fellowship)
        uses.through(fellowship.on_leader if fellowship else None)
        stack.push_async_callback(_end, asyncio.create_task(uses.run()))
        dispatcher = _dispatcher(context, SessionVerifier(verifier, guard, region=installation.region), fellowship, name=options.name)
        dispatcher.offer_reports(reports.take)
        stack.push_async_callback(dispatcher.close)
        requests = RequestLog(options.data_dir / "log" / "requests.log", clock=clock)
        stack.callback(requests.close)
        application = _application(context, Door(verifier, guard, requests, internal), dispatcher, fellowship)
        await dispatcher.start()
        if fellowship is not None:
            fellowship.start()
        leading = asyncio.create_task(while_leading(fellowship.leading() if fellowship else _always(), lambda: leader_work(context, fellowship)))
        stack.push_async_callback(_end, leading)
        _keep_out_of_the_collector()
        publish = functools.partial(_publish, options, installation, keys)
        yield ControlPlane(
            application=application,
            store=store,
            context=context,
            dispatcher=dispatcher,
            fellowship=fellowship,
            certificates=certificates,
            publish=publish,
        )


def _keep_out_of_the_collector() -> None:
    # What is loaded and built now lives as long as the server: the collector need not look at it again (worth 10 to 18 % in architecture trials).
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def _open(
    options: ServerOptions, settings: Settings, clock: Clock, derived: tuple[Derived, ...], stack: contextlib.AsyncExitStack
) -> tuple[Store, EtcdBackend | None]:
    """The store, and etcd behind it if there are several servers; `stack` closes what this opens."""
    if not options.replicated:
        store = await Store.open(_backend(options), tables=TABLES, clock=clock, derived=derived)
        stack.push_async_callback(store.close)
        return store, None
    from homeport.store.etcd.backend import EtcdBackend
    from homeport.store.etcd.journal_copy import JournalCopy
    from homeport.store.journal_file import FILE_NAME, JournalFile
    from homeport.store.replica import Replica

    backend = backend_of(parse_address(options.store or ""), name=options.name, advertised=endpoint(options))
    assert isinstance(backend, EtcdBackend)
    backend.settings = msgspec.structs.replace(backend.settings, ours=options.own_etcd)
    file = JournalFile(options.data_dir / FILE_NAME)
    await file.open()
    copy = JournalCopy(file, backend, settings)
    stack.push_async_callback(copy.close)
    replica = await Replica.join(backend, tables=TABLES, clock=clock, derived=derived, local_reads=options.local_reads)
    stack.push_async_callback(replica.close)
    replica.keep_journal(copy)
    return replica, backend


async def _certificates(options: ServerOptions, context: Context, stack: contextlib.AsyncExitStack) -> Certificates | None:
    """The server's certificates, kept until `stack` closes; None without TLS."""
    where = options.tls
    if where is None:
        return None
    made = certificates_of(where, context.settings, host=options.host, endpoint=context.endpoint, server=options.name, clock=context.clock)
    taken = context.settings.tls_take_authority
    agree = functools.partial(agree_on_authority, context.store, made, context.clock, directory=where.authority, taken=taken)
    await agree()
    stack.push_async_callback(_end, asyncio.create_task(made.keep(agree)))
    return made


def _fellowship(store: Store, backend: EtcdBackend, keys: Credentials, options: ServerOptions, certificates: Certificates | None) -> Fellowship:
    from homeport.servers import Fellowship
    from homeport.store.replica import Replica

    assert isinstance(store, Replica)
    return Fellowship(store, backend, keys=keys, own_etcd=options.own_etcd, secure=certificates.client if certificates is not None else None)


def _internal(desk: RootKeyDesk, reports: StateReports, uses: LastUses, fellowship: Fellowship | None) -> dict[str, Internal]:
    between = {REPORTS_PATH: reports.carry_out, LAST_USES_PATH: uses.carry_out, **fellowship.internal} if fellowship else {}
    return {KEYS_PATH: desk.answer, **between}


def _dispatcher(context: Context, verifier: SessionVerifier, fellowship: Fellowship | None, *, name: str) -> Dispatcher:
    dispatcher = Dispatcher(
        store=context.store,
        clock=context.clock,
        ids=context.ids.child("dispatcher"),
        settings=context.settings,
        region=context.region,
        verify=verifier.verify,
        server=name,
        commit=fellowship.commit if fellowship else None,
    )
    dispatcher.use_secrets(context.vault)
    return dispatcher


class Door(NamedTuple):
    """What the front door is made with beside its operations."""

    verifier: Verifier
    guard: Guard
    requests: RequestLog
    internal: Mapping[str, Internal]
    """What other servers and the command line ask, by path."""


def _application(context: Context, door: Door, dispatcher: Dispatcher, fellowship: Fellowship | None) -> Application:
    return Application(
        context,
        OPERATIONS,
        verifier=door.verifier,
        guard=door.guard,
        websockets={"/acs/ws": dispatcher.acs, "/tcs/ws": dispatcher.tcs},
        request_log=door.requests,
        elsewhere=fellowship.forwarder if fellowship else None,
        internal=door.internal,
        health=fellowship.health if fellowship else dict,
    )


async def _always() -> AsyncIterator[bool]:
    """A server that is alone leads until it ends."""
    yield True
    await asyncio.Event().wait()


def leader_work(
    context: Context, fellowship: Fellowship | None, *, caller: HookCaller | None = None, providers: Mapping[str, InstanceProvider] | None = None
) -> list[Coroutine[Any, Any, None]]:
    """What one server of an installation does for all. `caller` of hooks and `providers` of instances are by default those of the settings."""
    settings = context.settings
    loop = Loop(store=context.store, clock=context.clock, controllers=controllers_of(context), sweep_seconds=settings.sweep_seconds)
    tasks = HookTasks(placement=context.placement, ids=context.ids.child("hook"))
    hooks = HookRunner(context.store, context.clock, caller=caller or HttpCaller(settings), tasks=tasks, region=context.region)
    work = [loop.run(), hooks.run(), keep_journal(context.store, context.clock, settings)]
    if isinstance(context.vault, Vault):
        work.append(keep_data_keys(context.store, context.vault, clock=context.clock, settings=settings))
    machines = instance_providers(settings) if providers is None else providers
    work.append(
        keep_capacity(context.store, context.clock, settings, region=context.region, providers=Providers(machines, management=context.management))
    )
    if settings.alarm_source:
        work.append(keep_alarms(context.store, context.clock, settings, source=DocumentSource(settings.alarm_source), management=context.management))
    return [*work, *fellowship.leader_work(settings)] if fellowship else work


def _verifier(keys: AccessKeys, context: Context) -> Verifier:
    issuers = IssuerKeys(context.clock, local=local_issuers_of(context.settings.web_identity_local_issuers))
    return Verifier(keys, clock=context.clock, settings=context.settings, region=context.region, identities=WebIdentities(context, issuers))


async def _close(fellowship: Fellowship | None) -> None:
    if fellowship is not None:
        await fellowship.close()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def controllers_of(context: Context) -> tuple[Controller, ...]:
    """Every controller, in the order in which they are activated for one commit: a failed launch is counted before the next one is tried."""
    return (
        DeploymentController(ids=context.ids.child("deployment"), settings=context.settings),
        ServiceController(placement=context.placement, ids=context.ids.child("service"), settings=context.settings),
        TaskSetController(placement=context.placement, ids=context.ids.child("task_set"), settings=context.settings),
        SchedulerController(placement=context.placement, settings=context.settings),
        InstanceController(),
        DaemonDeploymentController(placement=context.placement, ids=context.ids.child("daemon"), settings=context.settings),
        DaemonTaskDefinitionController(),
        RetentionController(settings=context.settings),
    )


async def serve(options: ServerOptions) -> int | None:
    """Run the control plane until SIGTERM or SIGINT (gives None), or SIGUSR2: gives the descriptor of the listening socket, for the next process.

    Raises what `build` raises, and PortInUseError.
    """
    running = asyncio.get_running_loop()
    async with build(options) as plane:
        listener = listen(options.host, options.port)
        plane.publish()
        heir = listener.dup()
        certificates = plane.certificates
        secure: dict[str, Any] = {"ssl_context_factory": lambda *_: certificates.listener} if certificates is not None else {}
        server = uvicorn.Server(uvicorn.Config(plane.application, **SERVER_OPTIONS, **secure))
        ending: list[asyncio.Task[None]] = []
        again = False

        async def exit_in_order() -> None:
            _log.info("asked to end: no new calls are taken")
            if plane.fellowship is not None:
                await plane.fellowship.resign()
            server.should_exit = True

        def ask_to_exit(number: signal.Signals) -> None:
            nonlocal again
            again = number == signal.SIGUSR2
            ending.append(running.create_task(exit_in_order()))

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            running.add_signal_handler(number, ask_to_exit, number)
        # uvicorn's own handlers would raise the signal again after shutdown; ours end the program with status 0.
        _log.info("serves at %s", endpoint(options))
        await server._serve(sockets=[listener])
        _log.info("the last calls have ended")
    if again:
        return heir.detach()
    heir.close()
    return None
