"""The replicated backend: one store's state in etcd, written by its leader alone.

Owns: `EtcdBackend`: how a batch becomes Txns, and what is true after one whose outcome is unknown. Never knows records: rows and entries are bytes.

Every Txn compares the leader key's create revision and the head key's mod revision, and writes the head. So a deposed leader changes nothing, and of
two Txns sent for the same state at most one lands. That is what settles an unknown outcome: a Txn that only writes the head again, under the same
comparison. If it lands, the first did not and never will; if it does not, the head says which one did. Reading alone would prove nothing, since the
first may still be on its way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec

from homeport.clock import Clock, SystemClock
from homeport.errors import (
    CommitFailedError,
    CommitUnknownError,
    EtcdRefusedError,
    EtcdUnavailableError,
    LeadershipLostError,
    StoreLockedError,
)
from homeport.log import logger
from homeport.store.backend import Anchor, Batch, BatchLimits, Head, StoredEntry, StoredRow
from homeport.store.etcd import messages
from homeport.store.etcd.client import CALL_SECONDS, PATIENCE_SECONDS, RETRY_SECONDS, Endpoint, EtcdClient, Tls, delete, equal, get, put
from homeport.store.etcd.layout import (
    EntryReader,
    Layout,
    Standing,
    decode_deletions,
    decode_row,
    decode_standing,
    encode_deletions,
    encode_row,
    end_of,
    row_key,
)
from homeport.store.etcd.room import make_room
from homeport.store.leader import Election, Leader, Leadership, decode_leader

_LOG: Final = logger("etcd")

TXN_OPERATIONS: Final = 128
"""Operations in a Txn that etcd allows unless told otherwise (`--max-txn-ops`)."""
TXN_BYTES: Final = 1_572_864
"""Bytes of a request that etcd allows unless told otherwise (`--max-request-bytes`)."""
BATCH_OPERATIONS: Final = 500
"""Operations in a Txn at most, whatever etcd allows: more only add latency."""
TRANSACTIONS_MAX: Final = 320
"""Transactions in a batch: five journal keys."""
OWN_OPERATIONS: Final = 16
"""Operations of a Txn that are not rows of the batch, at most: head, deletions, journal keys."""
OPERATION_BYTES: Final = 64
"""What an operation takes beside its key and value, and more."""
SPARE_BYTES: Final = 65_536
"""For everything else in a request, as its comparisons."""
SLOW_BYTES_PER_SECOND: Final = 4 * 1_048_576
"""What a Txn gets time for, beside the time of any call."""
LOAD_ROWS: Final = 1_000
"""Rows read at a time at load."""
SETTLE_SECONDS: Final = PATIENCE_SECONDS - CALL_SECONDS
"""How long to ask what became of a Txn before this server gives up leading. The last question may end a call's time later, and the caller is told
within the 8 s that a change waits at most."""
LOCKED_SECONDS: Final = 5.0
"""How long `load` waits for the leader of before: the lease of one that was killed, and a little."""


class EtcdSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What may differ between two servers or two etcds."""

    name: str = "homeport"
    """This server's, in the leader key."""
    address: str = ""
    """Where other servers reach this one's API."""
    txn_operations: int = TXN_OPERATIONS
    """Operations that this etcd allows in a Txn."""
    txn_bytes: int = TXN_BYTES
    """Bytes that this etcd allows in a request."""
    ours: bool = False
    """Whether this etcd is Homeport's alone, which may compact it."""
    locked_seconds: float = LOCKED_SECONDS
    """How long `load` waits for another server that leads."""


class Snapshot(msgspec.Struct, frozen=True):
    """A moment of the state: the head, etcd's revision behind which following goes on, and who led."""

    head: Head
    position: int
    leader: Leader | None


class EtcdBackend:
    """State under `prefix` in the etcd cluster of `endpoints` (`http://host:port`, `https://host:port`, `host:port`, or what `EtcdClient` takes)."""

    def __init__(
        self,
        endpoints: Sequence[str | Endpoint],
        prefix: str = "/homeport/",
        *,
        tls: Tls | None = None,
        clock: Clock | None = None,
        settings: EtcdSettings | None = None,
    ) -> None:
        """Connects at first use."""
        self.layout = Layout(prefix)
        self.settings = settings or EtcdSettings()
        self.candidate = Leader(self.settings.name, self.settings.address)
        self.clock = clock or SystemClock()
        self._endpoints = tuple(endpoints)
        self._tls = tls
        self._operations = min(self.settings.txn_operations, BATCH_OPERATIONS)
        self._bytes = self.settings.txn_bytes
        self._client: EtcdClient | None = None
        self._leadership: Leadership | None = None
        self._standing = Standing()
        self._mod_revision = 0
        self._snapshot = 0

    @property
    def client(self) -> EtcdClient:
        """The client; made at first use."""
        if self._client is None:
            self._client = EtcdClient(self._endpoints, clock=self.clock, tls=self._tls)
        return self._client

    @property
    def election(self) -> Election:
        """The competition for leading this state."""
        return Election(self.client, self.layout.leader, clock=self.clock)

    @property
    def leadership(self) -> Leadership | None:
        """This server's leadership, if it leads."""
        return self._leadership

    @property
    def position(self) -> int:
        """etcd's revision of the last change that this server made or found when it began to lead; following goes on behind it."""
        return self._mod_revision

    def stop_leading(self) -> None:
        """Forget the leadership; the caller has resigned or lost it, and no commit is under way."""
        self._leadership = None

    @property
    def limits(self) -> BatchLimits:
        """So that a batch fits one Txn, unless it is a single transaction with many bytes."""
        size = self._bytes - (self._operations + 1) * OPERATION_BYTES - SPARE_BYTES
        return BatchLimits(transactions=TRANSACTIONS_MAX, records=self._operations - OWN_OPERATIONS, bytes=size)

    # ------------------------------------------------------------------------------------------------------------ load

    async def load(self, tables: tuple[str, ...]) -> Head:
        """Lead, and give the head. Raises StoreLockedError when another server leads, and StoredFormError for a state of a newer program."""
        try:
            leadership = await self._take()
            await self.lead(leadership)
            self._snapshot = self._mod_revision
        except BaseException:
            await self.close()
            raise
        return self._standing.head

    async def _take(self) -> Leadership:
        deadline = self.clock.monotonic() + self.settings.locked_seconds
        while True:
            leadership = await self.election.attempt(self.candidate)
            if leadership is not None:
                return leadership
            if self.clock.monotonic() >= deadline:
                leader = await self.election.leader()
                raise StoreLockedError(f"the state in etcd under {self.layout.prefix.decode()} (led by {leader.name if leader else 'nobody'})", None)
            await self.clock.sleep(RETRY_SECONDS)

    async def lead(self, leadership: Leadership) -> Head:
        """Write from now on as the holder of `leadership`; gives the head, which nobody else can move any more.

        What a leader before left behind the head is removed. Raises what a commit raises, and StoredFormError.
        """
        self._leadership = leadership
        answer = await self.client.read(messages.RangeRequest(key=self.layout.head))
        if answer.kvs:
            self._standing = decode_standing(answer.kvs[0].value)
            self._mod_revision = answer.kvs[0].mod_revision
        else:
            self._standing, self._mod_revision = Standing(), 0
        behind = delete(self.layout.journal_from(self._standing.revision + 1), end_of(self.layout.journal))
        await self._write([behind], self._standing)
        return self._standing.head

    async def rows(self, table: str) -> AsyncIterator[list[StoredRow]]:
        """All rows of a table, a thousand at a time."""
        start = self.layout.table(table)
        async for page in self.client.pages(start, end_of(start), revision=self._snapshot, limit=LOAD_ROWS):
            yield [decode_row(int.from_bytes(kv.key[-8:], "big"), kv.value) for kv in page]

    async def snapshot(self) -> Snapshot:
        """Fixes the moment that `rows` reads, without leading."""
        answer = await self.client.read(messages.TxnRequest(success=[get(self.layout.head), get(self.layout.leader)]), name="Txn")
        self._snapshot = answer.header.revision
        heads, leaders = (response.response_range.kvs for response in answer.responses)
        standing = decode_standing(heads[0].value) if heads else Standing()
        return Snapshot(standing.head, self._snapshot, decode_leader(leaders[0].value) if leaders else None)

    # ---------------------------------------------------------------------------------------------------------- commit

    async def commit(self, batch: Batch) -> None:
        """Return once the batch is durable in etcd.

        Raises CommitFailedError, after which none of it is there and never will be; LeadershipLostError when that is so because another
        server leads; CommitUnknownError when nobody could tell in time. After the latter two nothing more can be committed.
        """
        head, anchor = batch.head, batch.anchor or self._standing.anchor
        standing = Standing(revision=head.revision, instant=head.instant, hash=head.hash, anchor_revision=anchor.revision, anchor_hash=anchor.hash)
        rows = self._row_operations(batch)
        journal = [put(key, value) for key, value in self.layout.journal_parts(batch.entries)]
        if batch.deletions:
            rows.append(put(self.layout.deletions_from(head.revision), encode_deletions(batch.deletions)))
        if len(rows) + len(journal) >= self._operations or _size(rows) + _size(journal) > self._bytes - OPERATION_BYTES:
            await self._stage(journal)
            journal = []
        await self._write(rows + journal, standing)

    async def clear(self) -> None:
        """Remove everything but the leadership. Raises as `commit`."""
        layout = self.layout
        await self._write([delete(prefix, end_of(prefix)) for prefix in (layout.rows, layout.journal, layout.deletions, layout.copies)], Standing())

    def _row_operations(self, batch: Batch) -> list[Any]:
        operations: list[Any] = []
        for name, rows in batch.rows.items():
            table = self.layout.table(name)
            for number, row in rows.items():
                key = row_key(table, number)
                operations.append(delete(key) if row is None else put(key, encode_row(*row[1:])))
        return operations

    async def _stage(self, journal: list[Any]) -> None:
        """Write entries behind the head, in Txns of their own; they count once the head reaches them."""
        while journal:
            number, size = 0, OPERATION_BYTES
            while number < len(journal) and number < self._operations - 1:
                size += _size(journal[number : number + 1])
                if number and size > self._bytes:
                    break
                number += 1
            await self._write(journal[:number], self._standing)
            journal = journal[number:]

    async def _write(self, operations: list[Any], wanted: Standing) -> None:
        """One Txn that does `operations` and makes `wanted` the head; returns when it is done. Raises as `commit`.

        When `wanted` is what stands already, the operations must be such that doing them twice is the same as once.
        """
        leadership = self._leadership
        if leadership is None:
            raise CommitFailedError("the store is closed")
        if leadership.lost.is_set():
            raise LeadershipLostError("this server does not lead any more; nothing was changed")
        deadline = self.clock.monotonic() + SETTLE_SECONDS
        while True:
            try:
                request = self._txn(operations, wanted, leadership)
                answer = await self.client.txn(request, seconds=CALL_SECONDS + request.ByteSize() / SLOW_BYTES_PER_SECOND)
            except EtcdRefusedError as error:
                raise CommitFailedError(str(error)) from error
            except EtcdUnavailableError as error:
                if await self._settle(wanted, leadership, deadline):
                    return
                if self.clock.monotonic() >= deadline:
                    raise CommitFailedError(str(error)) from error
                continue
            if not answer.succeeded:
                raise _deposed(leadership)
            self._standing, self._mod_revision = wanted, answer.header.revision
            return

    def _txn(self, operations: list[Any], wanted: Standing, leadership: Leadership) -> Any:
        request = messages.TxnRequest(
            compare=[
                equal(leadership.key, create_revision=leadership.create_revision),
                equal(self.layout.head, mod_revision=self._mod_revision),
            ],
            failure=[get(self.layout.head), get(leadership.key)],
        )
        request.success.extend(operations)
        request.success.append(put(self.layout.head, wanted.encode()))
        return request

    async def _settle(self, wanted: Standing, leadership: Leadership, deadline: float) -> bool:
        """What became of a Txn that would have made `wanted` the head: True when it was done, False when it was not and never will be."""
        fence = self._txn([], self._standing, leadership)
        while True:
            try:
                answer = await self.client.txn(fence)
                break
            except EtcdUnavailableError as error:
                if self.clock.monotonic() >= deadline:
                    leadership.lost.set()
                    raise CommitUnknownError(f"what became of a commit cannot be told: {error}") from error
            except EtcdRefusedError as error:
                leadership.lost.set()
                raise CommitUnknownError(f"what became of a commit cannot be told: {error}") from error
            await self.clock.sleep(RETRY_SECONDS)
        if answer.succeeded:
            self._mod_revision = answer.header.revision
            return False
        heads, leaders = (response.response_range.kvs for response in answer.responses)
        leads = bool(leaders) and leaders[0].create_revision == leadership.create_revision
        standing = decode_standing(heads[0].value) if heads else Standing()
        if leads and standing in (wanted, self._standing):
            # The head was moved by the Txn, or by an earlier try of the fence; staged entries look the same either way, and are written again.
            done = standing == wanted and wanted != self._standing
            self._standing, self._mod_revision = standing, heads[0].mod_revision
            return done
        deposed = _deposed(leadership)
        if await self._has(wanted, standing):
            return True
        raise deposed

    async def _has(self, wanted: Standing, standing: Standing) -> bool:
        """Whether the state whose head is `standing` contains the commit of `wanted`, which can no longer land. Raises CommitUnknownError."""
        if wanted.head == self._standing.head or standing.revision < wanted.revision:
            return False
        if standing.anchor_revision >= wanted.revision:
            raise CommitUnknownError("what became of a commit cannot be told: its entry was pruned by the next leader")
        entries = await self.entries(wanted.revision, 1)
        return bool(entries) and entries[0].revision == wanted.revision and entries[0].hash == wanted.hash

    # --------------------------------------------------------------------------------------------------------- journal

    async def prune(self, through: int, limit: int) -> int:
        """Remove the oldest entries. Raises as `commit`."""
        layout, anchor = self.layout, self._standing.anchor
        last = min(through, anchor.revision + limit, self._standing.revision)
        if last <= anchor.revision:
            return 0
        entries = await self._chunk_of(last)
        kept = [entry for entry in entries if entry.revision > last]
        final = next((entry for entry in entries if entry.revision == last), None)
        if final is None:
            return 0
        operations = [delete(layout.journal, layout.journal_from(entries[-1].revision + 1))]
        if kept:  # the chunk is written again without what goes; its key is not among those deleted
            operations = [delete(layout.journal, layout.journal_from(entries[-1].revision))]
            operations += [put(key, value) for key, value in layout.journal_parts([(entry.revision, entry.payload, entry.hash) for entry in kept])]
        operations.append(delete(layout.deletions, layout.deletions_from(last + 1)))
        standing = Standing(
            revision=self._standing.revision,
            instant=self._standing.instant,
            hash=self._standing.hash,
            anchor_revision=last,
            anchor_hash=final.hash,
        )
        await self._write(operations, standing)
        return last - anchor.revision

    async def scrub(self) -> None:
        """Drop what etcd keeps of the past, if it is ours alone. Raises EtcdUnavailableError, EtcdRefusedError."""
        if self.settings.ours:
            await make_room(self.client)
        else:
            _LOG.warning("etcd keeps what was replaced until whoever runs it compacts and defragments it")

    async def _chunk_of(self, revision: int) -> list[StoredEntry]:
        """The entries that share a key with `revision`."""
        reader = EntryReader()
        async for page in self.client.pages(self.layout.journal_from(revision), end_of(self.layout.journal), limit=4):
            for kv in page:
                entries = reader.add(self.layout.journal_revision(kv.key), kv.value)
                if entries:
                    return entries
        return []

    async def entries(self, from_revision: int, limit: int) -> list[StoredEntry]:
        """Durable entries from `from_revision` on. Raises EtcdUnavailableError when etcd does not answer."""
        found: list[StoredEntry] = []
        head = (await self.ends())[1].revision
        reader = EntryReader()
        keys = max(2, min(200, limit // 16))
        async for page in self.client.pages(self.layout.journal_from(from_revision), end_of(self.layout.journal), limit=keys):
            for kv in page:
                found.extend(e for e in reader.add(self.layout.journal_revision(kv.key), kv.value) if from_revision <= e.revision <= head)
            if len(found) >= limit or (found and found[-1].revision >= head):
                break
        return found[:limit]

    async def deletions(self, table: str, key: str) -> list[int]:
        """Revisions at which the record was deleted. Reads all deletions that the journal reaches back to."""
        return [revision for name, deleted, revision in await self._deletions(0) if name == table and deleted == key]

    async def deletions_after(self, table: str, revision: int) -> list[tuple[str, int]]:
        """Deletions in `table` after `revision`."""
        return [(key, deleted) for name, key, deleted in await self._deletions(revision + 1) if name == table and deleted > revision]

    async def _deletions(self, from_revision: int) -> list[tuple[str, str, int]]:
        anchor, head = await self.ends()
        start = self.layout.deletions_from(max(from_revision, anchor.revision + 1))
        values = [kv.value async for page in self.client.pages(start, end_of(self.layout.deletions)) for kv in page]
        return [deletion for deletion in decode_deletions(values) if anchor.revision < deletion[2] <= head.revision]

    async def ends(self) -> tuple[Anchor, Head]:
        """The two ends of the chain. Works without leading. Raises EtcdUnavailableError when etcd does not answer."""
        answer = await self.client.read(messages.RangeRequest(key=self.layout.head))
        standing = decode_standing(answer.kvs[0].value) if answer.kvs else Standing()
        return standing.anchor, standing.head

    async def close(self) -> None:
        """Resign, if this server leads, and close the connections. `load` may follow."""
        leadership, self._leadership = self._leadership, None
        if leadership is not None:
            await leadership.resign()
        client, self._client = self._client, None
        if client is not None:
            await client.close()


def _deposed(leadership: Leadership) -> LeadershipLostError:
    leadership.lost.set()
    return LeadershipLostError("this server does not lead any more; nothing was changed")


def _size(operations: list[Any]) -> int:
    """About how many bytes operations take in a request."""
    return sum(operation.ByteSize() + 8 for operation in operations)
