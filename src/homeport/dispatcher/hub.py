"""All agent connections of one server: who is connected, and which session a change of the store concerns.

Owns: `Dispatcher` (the websocket doors /acs/ws and /tcs/ws), the table of live sessions, the one watcher of the store and the one timer.
Never decides what a task should do, and never speaks in a session (session.py and telemetry.py do).
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from homeport.clock import Clock
from homeport.config import Settings
from homeport.dispatcher import assignments, liveness
from homeport.dispatcher.command import CarryOut, EndSession, OpenSession, commit_to
from homeport.dispatcher.liveness import SessionRefusedError, Timed, Wheel
from homeport.dispatcher.reports import Desk, Principal, TakeReports
from homeport.dispatcher.session import GOING_AWAY, NORMAL, SERVICE_RESTART, Event, House, Receive, Send, Session
from homeport.dispatcher.telemetry import TelemetrySession
from homeport.errors import ApiError, HomeportError, WatchLostError
from homeport.ids import Ids
from homeport.model import account as account_model
from homeport.model import arn
from homeport.model.account import Account
from homeport.model.ecs.container_instance import INACTIVE, ContainerInstance
from homeport.model.ecs.task import Task
from homeport.model.iam.instance_identity import InstanceIdentity
from homeport.store.store import Store
from homeport.store.table import Change, Commit, Reader
from homeport.store.tables import ACCOUNTS, CONTAINER_INSTANCES, INSTANCE_IDENTITIES, TASKS
from homeport.vault.keyring import Secrets

Headers = Sequence[tuple[bytes, bytes]]
Verify = Callable[[str, str, bytes, Headers, tuple[str, bool]], tuple[str, str] | tuple[str, str, str]]
"""(method, path, query string, headers, (the client's address, whether over TLS)) of a request without a body → (account, principal ARN, identity of
a host or ""). Raises ApiError."""

REPORTS_QUERY: Final = "stateReports"
"""Member of the control connection's query by which an agent asks to report there (value 1). The upstream agent knows nothing of it."""
WHEEL_STEP_SECONDS: Final = 0.02
"""How much of the sessions' heartbeats is sent at one stroke: of ten thousand sessions seven, which is 2 ms of work with what they answer."""
RECONNECT_GRACE_SECONDS: Final = 15.0
"""How long an agent counts as connected after the server itself ended its connection, or was not there. Our agent is back within milliseconds,
or after a longer absence of the server within 12 s, the longest of its delays."""

REVOKED_PAUSE_SECONDS: Final = 1.0
"""Between two questions whether a host was revoked, while the servers cannot agree on anything."""
REVOKED: Final = "the host's identity was revoked"
CLOSED: Final = "the account is closed"
OVER: Final = "the session is over: the agent has a newer connection, or was given up while this server was away"

_log = logging.getLogger(__name__)


class _PendingEnd:
    """The end of a session, unless its agent has come back by then."""

    __slots__ = ("_end", "_key", "_session_id")

    def __init__(self, key: str, session_id: str, end: Callable[[str, str], None]) -> None:
        self._key = key
        self._session_id = session_id
        self._end = end

    def due(self, now: float) -> float | None:
        """End it, and never come again."""
        self._end(self._key, self._session_id)
        return None


class Dispatcher:
    """The control plane's end of every agent conversation. `start` it before the first connection."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        ids: Ids,
        settings: Settings,
        region: str,
        verify: Verify,
        server: str = "server",
        commit: CarryOut | None = None,
    ) -> None:
        """`server`: this server's name in the store; the same after a restart, so that it finds the sessions of its life before.

        `commit`: what carries out changes, by default the store; with several servers only the leader's may.
        """
        commit = commit or commit_to(store)
        self._house = House(store=store, commit=commit, clock=clock, ids=ids, settings=settings, region=region, spawn=self._spawn, later=self._later)
        self._verify = verify
        self._server = server
        self._sessions: dict[str, Session] = {}
        self._telemetry: dict[str, TelemetrySession] = {}
        look = min(1.0, settings.heartbeat_seconds / 4)
        step = min(WHEEL_STEP_SECONDS, look)
        self._wheel = Wheel(clock, step_seconds=step, look_seconds=look, failed=lambda error: _log.error("a session's timer failed", exc_info=error))
        # A dict is an ordered set: what is cancelled together is cancelled in order, so that a seeded run replays.
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._stopping = False

    def _later(self, item: Timed, at: float) -> None:
        self._wheel.add(item, at)

    @property
    def connected(self) -> frozenset[str]:
        """Keys of the instances whose agents are connected to this server."""
        return frozenset(self._sessions)

    def use_secrets(self, secrets: Secrets) -> None:
        """Open the keys of sessions with these; to be called before `start`. Without it they are taken as they stand, for tests of other things."""
        self._house = dataclasses.replace(self._house, secrets=secrets)

    def offer_reports(self, take: TakeReports) -> None:
        """Let agents that ask for it hand in their reports over their connections; to be called before `start`."""
        self._house = dataclasses.replace(self._house, desk=Desk(take, self._spawn))

    async def start(self) -> None:
        """Follow the store, start the timer, and give the agents of this server's life before some time to come back."""
        self._spawn(self._follow())
        self._spawn(self._wheel.run())
        left = await self._house.store.view(lambda reader: liveness.sessions_of(reader, self._server))
        for key, session_id in left:
            self._end_later(key, session_id)

    async def close(self) -> None:
        """Close every connection. Sessions stay in the store: the next server of this name ends those that do not come back."""
        self._stopping = True
        connections: list[Session | TelemetrySession] = [*self._sessions.values(), *self._telemetry.values()]
        for connection in connections:
            connection.close(GOING_AWAY, "the server stops")
        for _ in range(2):  # the close frames leave through tasks of their own
            await self._house.clock.sleep(0)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- doors -----------------------------------------------------------------------------------------------------------

    async def acs(self, scope: Event, receive: Receive, send: Send) -> None:
        """The ASGI application of /acs/ws."""
        await receive()
        try:
            key, principal, identity = await self._admit(scope, cluster="clusterArn", instance="containerInstanceArn")
            session_id = self._house.ids.hex()
            instance = await self._house.commit(OpenSession(key, session_id, self._server, identity))
        except HomeportError as error:
            await _refuse(scope, receive, send, error)
            return
        try:
            await send({"type": "websocket.accept"})
        except OSError:  # the agent went away while its session was written; nobody else would end it
            self._end(key, session_id)
            return
        reports = parse_qs(scope["query_string"].decode("latin-1")).get(REPORTS_QUERY) == ["1"]
        session = Session(self._house, instance, send, reporter=principal if reports else None, identity=identity)
        self._enter(session)
        code = await session.listen(receive)
        self._leave(session, code)

    async def tcs(self, scope: Event, receive: Receive, send: Send) -> None:
        """The ASGI application of /tcs/ws."""
        await receive()
        try:
            key, _, identity = await self._admit(scope, cluster="cluster", instance="containerInstance")
            instance = await self._house.store.view(lambda reader: _published(reader, key, identity))
        except HomeportError as error:
            await _refuse(scope, receive, send, error)
            return
        await send({"type": "websocket.accept"})
        session = TelemetrySession(self._house, instance, send, identity=identity)
        older = self._telemetry.get(session.key)
        if older is not None:
            older.close(NORMAL, "the agent has a newer connection")
        self._telemetry[session.key] = session
        self._spawn(self._close_revoked((session,)))
        self._spawn(self._close_of_closed((session,)))
        self._wheel.add(session, self._house.clock.monotonic())
        await session.listen(receive)
        if self._telemetry.get(session.key) is session:
            del self._telemetry[session.key]

    async def _admit(self, scope: Event, *, cluster: str, instance: str) -> tuple[str, Principal, str]:
        """Check the signature and the query; return the instance's key, who signed, and which host that is, if it is one."""
        path = scope.get("raw_path") or scope["path"].encode()
        try:
            client = scope.get("client")
            origin = (client[0] if client else "", scope.get("scheme") == "wss")
            account, principal, *identity = self._verify("GET", path.decode("latin-1"), scope["query_string"], scope["headers"], origin)
        except ApiError as error:
            raise SessionRefusedError(liveness.SERVER_FAULT if error.temporary else liveness.ACCESS_DENIED, error.message) from error
        query = parse_qs(scope["query_string"].decode("latin-1"))
        key = instance_key(query.get(cluster, [""])[0], query.get(instance, [""])[0], account)
        return key, Principal(account, principal), "".join(identity)

    # -- the table of sessions -------------------------------------------------------------------------------------------

    def _enter(self, session: Session) -> None:
        """Put the session in; whichever was opened later stays, whatever the order in which the two came here."""
        other = self._sessions.get(session.key)
        if other is not None and other.opened > session.opened:
            session.close(NORMAL, "the agent has a newer connection")
            return
        if other is not None:
            other.close(NORMAL, "the agent has a newer connection")
        self._sessions[session.key] = session
        self._wheel.add(session, self._house.clock.monotonic())
        session.resync()
        self._spawn(self._close_ended((session,)))
        self._spawn(self._close_revoked((session,)))
        self._spawn(self._close_of_closed((session,)))

    def _leave(self, session: Session, code: int) -> None:
        if self._sessions.get(session.key) is session:
            del self._sessions[session.key]
        if self._stopping or code == SERVICE_RESTART:
            return
        if code == NORMAL:
            self._end_later(session.key, session.id)
        else:
            self._end(session.key, session.id)

    def _end_later(self, key: str, session_id: str) -> None:
        self._wheel.add(_PendingEnd(key, session_id, self._end), self._house.clock.monotonic() + RECONNECT_GRACE_SECONDS)

    def _end(self, key: str, session_id: str) -> None:
        session = self._sessions.get(key)
        if session is None or session.id != session_id:
            self._spawn(self._write_end(key, session_id))

    async def _write_end(self, key: str, session_id: str) -> None:
        try:
            await self._house.commit(EndSession(key, session_id, "the agent went away"))
        except HomeportError as error:
            _log.warning("instance %s: the end of its session could not be written and is tried again: %s", key, error)
            self._end_later(key, session_id)

    # -- the store -------------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Wake the sessions that a commit concerns until the store closes. After a gap every session compares everything."""
        while not self._stopping:
            watch = self._house.store.watch()
            for session in tuple(self._sessions.values()):
                session.resync()
            self._spawn(self._close_ended(tuple(self._sessions.values())))
            self._spawn(self._close_revoked((*self._sessions.values(), *self._telemetry.values())))
            self._spawn(self._close_of_closed((*self._sessions.values(), *self._telemetry.values())))
            try:
                async for commit in watch:
                    self._route(commit)
                return
            except WatchLostError:
                _log.warning("the dispatcher fell behind the store and starts again")
            finally:
                watch.close()

    def _route(self, commit: Commit) -> None:
        for change in commit.changes:
            if change.table == TASKS.name:
                self._route_task(change)
            elif change.table == CONTAINER_INSTANCES.name:
                self._route_instance(change)
            elif change.table == INSTANCE_IDENTITIES.name:
                self._route_identity(change)
            elif change.table == ACCOUNTS.name and isinstance(change.after, Account) and change.after.status != account_model.ACTIVE:
                self._spawn(self._close_of_closed((*self._sessions.values(), *self._telemetry.values())))

    async def _close_ended(self, sessions: Sequence[Session]) -> None:
        """Close those that ended while this server did not see it: their agents come again, and count as connected again."""

        def ended(reader: Reader) -> list[Session]:
            return [
                session
                for session in sessions
                if liveness.is_over(reader.get(CONTAINER_INSTANCES, session.key), session_id=session.id, opened=session.opened)
            ]

        for session in await self._house.store.view_local(ended):
            session.close(NORMAL, OVER)

    async def _close_revoked(self, sessions: Sequence[Session | TelemetrySession]) -> None:
        """Close those whose host was revoked between its handshake and now, or while this server did not see it."""
        left = [session for session in sessions if session.identity]
        while left and not self._stopping:
            try:
                revoked = await self._house.store.view(
                    lambda reader: [session for session in left if not liveness.is_own(reader, session.key, session.identity)]
                )
            except HomeportError:  # nobody can tell now; who asks again later closes them later
                await self._house.clock.sleep(REVOKED_PAUSE_SECONDS)
                continue
            for session in revoked:
                session.close(GOING_AWAY, REVOKED)
            return

    async def _close_of_closed(self, sessions: Sequence[Session | TelemetrySession]) -> None:
        """Close those of accounts that are closed: no key of theirs opens new ones."""

        def closed(reader: Reader) -> set[str]:
            accounts = (reader.get(ACCOUNTS, account) for account in {session.key.partition("/")[0] for session in sessions})
            return {account.id for account in accounts if account is not None and account.status != account_model.ACTIVE}

        found = await self._house.store.view_local(closed)
        for session in sessions:
            if session.key.partition("/")[0] in found:
                session.close(GOING_AWAY, CLOSED)

    def _route_task(self, change: Change) -> None:
        before = change.before if isinstance(change.before, Task) else None
        after = change.after if isinstance(change.after, Task) else None
        if assignments.concerns(before, after):
            for key in dict.fromkeys(task.instance_key for task in (before, after) if task is not None):
                session = self._sessions.get(key)
                if session is not None:
                    session.changed(change.key)

    def _route_instance(self, change: Change) -> None:
        after = change.after if isinstance(change.after, ContainerInstance) else None
        session = self._sessions.get(change.key)
        if after is None or after.status == INACTIVE:
            connections: list[Session | TelemetrySession | None] = [session, self._telemetry.get(change.key)]
            for connection in connections:
                if connection is not None:
                    connection.close(GOING_AWAY, "the container instance is deregistered")
        elif session is not None and liveness.is_over(after, session_id=session.id, opened=session.opened):
            session.close(NORMAL, OVER)

    def _route_identity(self, change: Change) -> None:
        """A host that is revoked, or is another instance now, loses the connections that it opened for this one."""
        before = change.before if isinstance(change.before, InstanceIdentity) else None
        after = change.after if isinstance(change.after, InstanceIdentity) else None
        if before is None or not before.instance or (after is not None and after.instance == before.instance):
            return
        connections: list[Session | TelemetrySession | None] = [self._sessions.get(before.instance), self._telemetry.get(before.instance)]
        for connection in connections:
            if connection is not None and connection.identity == before.id:
                connection.close(GOING_AWAY, REVOKED)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a part of the dispatcher failed", exc_info=task.exception())


def instance_key(cluster: str, instance: str, account: str) -> str:
    """The store key of the instance that an agent's query names. `cluster` is a name or an ARN, "" means that of the instance's ARN.

    Raises SessionRefusedError when the two do not fit, or name another account's.
    """
    parsed = arn.parse_arn(instance)
    parts = parsed.resource.split("/") if parsed else []
    if parsed is None or len(parts) != 3 or parts[0] != "container-instance":
        raise SessionRefusedError(liveness.BAD_REQUEST, "containerInstanceArn is missing or no ARN of a container instance.")
    if parsed.account != account:
        raise SessionRefusedError(liveness.ACCESS_DENIED, "The container instance belongs to another account.")
    if cluster and cluster.rpartition("/")[2] != parts[1]:
        raise SessionRefusedError(liveness.INVALID_CLUSTER, f"The container instance is not registered in cluster {cluster}.")
    return f"{account}/{parts[1]}/{parts[2]}"


def _published(reader: Reader, key: str, identity: str) -> ContainerInstance:
    """The instance that an agent may publish for. Raises SessionRefusedError."""
    liveness.require_own(reader, key, identity)
    return liveness.admitted(reader.get(CONTAINER_INSTANCES, key), key)


async def _refuse(scope: Event, receive: Receive, send: Send, error: HomeportError) -> None:
    """Answer instead of opening: {"<ExceptionName>": "message"}, the form that the upstream agent reads."""
    exception = error.exception if isinstance(error, SessionRefusedError) else liveness.SERVER_FAULT
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": exception})
        return
    headers = [(b"content-type", b"application/json"), (b"x-amzn-errortype", exception.encode())]
    await send({"type": "websocket.http.response.start", "status": 500 if exception == liveness.SERVER_FAULT else 400, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": msgspec.json.encode({exception: str(error)})})
    # uvicorn takes a refusal for a mistake, and logs it as one, unless its connection is lost before this returns: it says "disconnect" twice.
    for _ in range(2):
        await receive()
