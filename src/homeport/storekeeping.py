"""The programs that keep a store without serving it: verify its journal, copy it, back it up, restore it.

Owns: `run` and what each of the four does. Never starts a server, never changes a record.

What reads (verify, backup) works beside a running server and does not hold it up; what writes (copy, restore) holds the store as a server does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

from homeport.cli import programs
from homeport.cli.group import Group, Starter, kept_group
from homeport.cli.installation import DataDirectory
from homeport.cli.terminal import Terminal
from homeport.clock import SystemClock
from homeport.errors import EtcdUnavailableError, HomeportError
from homeport.store.address import ETCD, MEMORY, SQLITE, Address, StoreAddressError, backend_of, parse_address
from homeport.store.backend import Backend, Head, JournalSource
from homeport.store.copying import TABLE_NAMES, BrokenCopyError, Copied, NotEmptyError, NothingToCopyError, copy_state
from homeport.store.journal import difference, verify
from homeport.store.journal_file import FILE_NAME, put_aside
from homeport.store.journal_join import JoinedJournal
from homeport.store.lock import FileLock
from homeport.store.sqlite import SqliteBackend

BACKUP_PAGES: Final = 2_000
"""Pages copied at a time, between which a running server may write."""
PART_SUFFIX: Final = ".part"
REPLACED_SUFFIX: Final = ".replaced"
"""What a restore replaced stays beside it under this name, until the next one."""
NAME: Final = "storekeeping"
"""Who leads an etcd meanwhile."""


class StorekeepingError(HomeportError):
    """A store cannot be read or written. The message says which and why."""


def run(options: argparse.Namespace) -> int:
    """Run one of the programs; the exit status."""
    name = f"{options.command} {getattr(options, 'action', '')}".strip()
    try:
        with _own_etcd(options):
            return asyncio.run(PROGRAMS[name](options))
    except HomeportError as error:
        print(f"homeport {name}: {error}", file=sys.stderr)
    except (sqlite3.Error, OSError) as error:
        print(f"homeport {name}: {error}", file=sys.stderr)
    return 1


@contextlib.contextmanager
def _own_etcd(options: argparse.Namespace) -> Iterator[None]:
    """While inside, the etcd of an installation that has one of its own (`up --servers`) runs, if it is what the options mean.

    What was started here is stopped again: a stopped installation stays one. Raises CommandError.
    """
    group = _group_of(options)
    if group is None:
        yield
        return
    directory, terminal = DataDirectory(options.data_dir), Terminal(SystemClock())
    starter = Starter(group, options, directory, terminal, os.environ)
    missing = [member for member in group.etcd if programs.find(directory, member.name) is None]
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        if len(missing) > (len(group.etcd) - 1) // 2:  # without a majority nothing can be read
            started = {member.name: starter.start_etcd(member) for member in missing}
            starter.wait_for_etcd(started)
        yield
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.wait()


def _group_of(options: argparse.Namespace) -> Group | None:
    """The group of servers whose store the options mean by naming none."""
    return None if options.command == "store" or options.store else kept_group(DataDirectory(options.data_dir))


async def verify_journal(options: argparse.Namespace) -> int:
    """`homeport journal verify`: 0 when every chain holds, 1 when one does not or cannot be read.

    With several servers the store is etcd, and the servers' own files in the data directory are verified, too, and compared with etcd.
    """
    address = _store_of(options)
    replicated = address.kind == ETCD
    files = _journal_files(options.data_dir) if replicated or not (options.store or address.path.is_file()) else []
    backend = _existing(address) if replicated or not files else None
    told: list[dict[str, Any]] = []
    try:
        if backend is not None:
            try:
                told.append(await _verdict(backend, address.text))
            except EtcdUnavailableError as error:
                if not files:
                    raise
                print(f"homeport journal verify: etcd does not answer, so its part is not looked at: {error}", file=sys.stderr)
        etcd = backend if replicated and told and told[0]["whole"] else None
        told += [await _compared(path, etcd, address) for path in files]
    finally:
        if backend is not None:
            await backend.close()
    if options.json:
        print(json.dumps(told[0] | ({"copies": told[1:]} if files else {}), indent=2))
    else:
        for found in told:
            print(_sentence(found))
    return 0 if all(found["whole"] for found in told) else 1


async def _verdict(backend: Backend, text: str) -> dict[str, Any]:
    """What `verify` says of one journal. Raises StorekeepingError when it cannot be read."""
    try:
        verdict = await verify(backend)
        anchor, head = await backend.ends()
    except (sqlite3.Error, TypeError, ValueError) as error:  # a file that is damaged, or whose head was tampered with
        raise StorekeepingError(f"the journal of {text} is broken: it cannot be read ({error})") from None
    facts = {
        "store": text,
        "whole": not verdict.problem,
        "entries": verdict.entries,
        "firstRevision": anchor.revision + 1 if verdict.entries else None,
        "headRevision": head.revision,
        "headHash": head.hash.hex(),
    }
    return facts | ({"brokenAtRevision": verdict.revision, "problem": verdict.problem} if verdict.problem else {})


async def _compared(path: Path, etcd: Backend | None, address: Address) -> dict[str, Any]:
    """The verdict on a server's own file; with `etcd`, also on whether it has the same history."""
    file = SqliteBackend(path)
    found = await _verdict(file, f"sqlite:{path}")
    if etcd is None or not found["whole"]:
        return found
    compared = await difference(file, etcd)
    found["comparedEntries"] = compared.entries
    if not compared.problem:
        return found
    return found | {"whole": False, "brokenAtRevision": compared.revision, "problem": f"{compared.problem} ({address.text})"}


def _sentence(found: dict[str, Any]) -> str:
    if not found["whole"]:
        return f"The journal of {found['store']} is broken at revision {found['brokenAtRevision']}: {found['problem']}."
    told = f"{found['entries']} entries, the last is revision {found['headRevision']}, hash {found['headHash']}"
    return f"The journal of {found['store']} is whole: {told}."


def _journal_files(data_dir: Path) -> list[Path]:
    """The servers' own files of journal entries in a data directory: its server's, or those of several."""
    return sorted(path for path in (data_dir / FILE_NAME, *data_dir.glob(f"*/{FILE_NAME}")) if path.is_file())


async def _whole_journal(source: Backend, address: Address, data_dir: Path) -> JournalSource:
    """The journal of `source`: an etcd's with the file of the server that reaches back furthest."""
    joined: JournalSource = source
    anchor, _ = await source.ends()
    oldest = anchor.revision
    for path in _journal_files(data_dir) if address.kind == ETCD else ():
        file = SqliteBackend(path)
        begin, end = await file.ends()
        if begin.revision < oldest and anchor.revision <= end.revision and not (await difference(file, source)).problem:
            joined, oldest = JoinedJournal(file, source), begin.revision
    return joined


async def copy(options: argparse.Namespace) -> int:
    """`homeport store copy`: records and journal of a stopped installation, into an empty store."""
    source, target = parse_address(getattr(options, "from")), parse_address(options.to)
    if MEMORY in (source.kind, target.kind):
        raise StoreAddressError("memory holds nothing that could be copied")
    if (source.kind, source.path, source.endpoints, source.prefix) == (target.kind, target.path, target.endpoints, target.prefix):
        raise StoreAddressError("a store cannot be copied to itself")
    backend = _existing(source)
    try:
        head = await backend.load(TABLE_NAMES)  # holds the source: what a server wrote there from now on would be lost
        copied = await _write(backend, head, target, replace=False, journal=await _whole_journal(backend, source, options.data_dir))
    finally:
        await backend.close()
    print(f"Copied {_told(copied)} from {source.text} to {target.text}.")
    return 0


async def backup(options: argparse.Namespace) -> int:
    """`homeport backup FILE`: one moment of the state, while a server runs or not."""
    address, file = _store_of(options), options.file
    part = file.with_name(file.name + PART_SUFFIX)
    _remove(part)
    source = _existing(address)
    try:
        if address.kind == SQLITE:
            await asyncio.to_thread(_copy_file, address.path, part)
        else:
            async with _standing_still(source) as head:
                target = SqliteBackend(part)
                try:
                    await copy_state(source, head, target, journal=await _whole_journal(source, address, options.data_dir))
                finally:
                    await target.close()
        told = await _checked(part)
        _finish(part, file)
    finally:
        await source.close()
        _remove(part)
    print(f"Backed up {address.text} at {told} to {file}.")
    return 0


async def restore(options: argparse.Namespace) -> int:
    """`homeport restore FILE`: the state of a backup takes the place of what is there. Refused while a server holds the data directory."""
    address, file = _store_of(options), options.file
    _prepare_restore(file, options.data_dir)
    lock = FileLock(options.data_dir / "server.lock")
    lock.take()
    part = options.data_dir / f"restore.sqlite{PART_SUFFIX}"
    try:
        _remove(part)
        await asyncio.to_thread(_copy_file, file, part)
        told = await _checked(part)
        if address.kind == SQLITE:
            _put_in_place(part, address.path)
        else:
            source = SqliteBackend(part)
            try:
                await _write(source, await source.load(TABLE_NAMES), address, replace=True)
            finally:
                await source.close()
            for journal in _journal_files(options.data_dir):  # each server copies the restored history
                put_aside(journal, "replaced")
    finally:
        _remove(part)
        lock.release()
    print(f"Restored {file} at {told} to {address.text}. Start it with: ./homeport up --detach")
    return 0


PROGRAMS: Final[dict[str, Callable[[argparse.Namespace], Coroutine[Any, Any, int]]]] = {
    "journal verify": verify_journal,
    "store copy": copy,
    "backup": backup,
    "restore": restore,
}


def _store_of(options: argparse.Namespace) -> Address:
    """The store that the options name; by default that of the data directory: the etcd of its servers, if it has several, or its SQLite file."""
    group = _group_of(options)
    address = parse_address(options.store or (group.store_of(options.data_dir) if group else f"sqlite:{options.data_dir / 'homeport.sqlite'}"))
    if address.kind == MEMORY:
        raise StoreAddressError("what is in a server's memory cannot be reached from outside")
    return address


def _prepare_restore(file: Path, data_dir: Path) -> None:
    """Raises StorekeepingError when there is no backup; makes the data directory when there is none."""
    if not file.is_file():
        raise StorekeepingError(f"there is no backup {file}")
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)


def _existing(address: Address) -> Backend:
    """The backend of a store that must be there already. Raises StorekeepingError for a file that is not."""
    if address.kind == SQLITE and not address.path.is_file():
        raise StorekeepingError(f"there is no store {address.path}")
    return backend_of(address, name=NAME)


@contextlib.asynccontextmanager
async def _standing_still(source: Backend) -> AsyncIterator[Head]:
    """A moment of an etcd's state, which is read without leading."""
    from homeport.store.etcd.backend import EtcdBackend

    if not isinstance(source, EtcdBackend):
        raise StorekeepingError("only etcd is read this way")
    yield (await source.snapshot()).head


async def _write(source: Backend, head: Head, address: Address, *, replace: bool, journal: JournalSource | None = None) -> Copied:
    """Copy an open source to `address`: a file is written beside its place and put there when it is whole."""
    if address.kind == ETCD:
        target = backend_of(address, name=NAME)
        try:
            return await copy_state(source, head, target, replace=replace, journal=journal)
        finally:
            await target.close()
    if address.path.exists():
        raise NotEmptyError(f"{address.path} is there already; nothing was changed")
    part = address.path.with_name(address.path.name + PART_SUFFIX)
    _remove(part)
    try:
        file = SqliteBackend(part)
        try:
            copied = await copy_state(source, head, file, journal=journal)
        finally:
            await file.close()
        _finish(part, address.path)
    finally:
        _remove(part)
    return copied


async def _checked(path: Path) -> str:
    """What a copy of a SQLite store holds, in words.

    Raises BrokenCopyError when its chain does not hold, NothingToCopyError when it holds nothing, StorekeepingError when it is no store.
    """
    backend = SqliteBackend(path)
    try:
        verdict = await verify(backend)
        _, head = await backend.ends()
    except sqlite3.Error as error:
        raise StorekeepingError(f"this is no store of Homeport, or a damaged one: {error}") from None
    if verdict.problem:
        raise BrokenCopyError(f"its journal is broken at revision {verdict.revision}: {verdict.problem}")
    if not head.revision:
        raise NothingToCopyError("it holds no installation")
    return f"revision {head.revision} ({verdict.entries} journal entries)"


def _copy_file(source: Path, target: Path) -> None:
    """A SQLite file as of one moment, all in one file, also while a server writes to it. Raises StorekeepingError."""
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
    with (
        contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as live,
        contextlib.closing(sqlite3.connect(target)) as copied,
    ):
        try:
            live.backup(copied, pages=BACKUP_PAGES)
            copied.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.Error as error:
            raise StorekeepingError(f"{source} could not be copied to {target}: {error}") from None


def _put_in_place(part: Path, path: Path) -> None:
    """`part` becomes the store; what was there stays beside it. Raises StoreLockedError when a server holds it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(path.with_name(path.name + ".lock"))
    lock.take()
    try:
        replaced = path.with_name(path.name + REPLACED_SUFFIX)
        _remove(replaced)
        for suffix in ("", "-wal", "-shm"):  # with the log that a killed server left: it belongs to the old file alone
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(replaced.with_name(replaced.name + suffix))
        _finish(part, path)
    finally:
        lock.release()


def _finish(part: Path, file: Path) -> None:
    """Give a file that is complete its name, for good."""
    for path in (part, part.parent):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    part.replace(file)
    descriptor = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal", ".lock"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _told(copied: Copied) -> str:
    return f"revision {copied.revision} ({copied.records} records, {copied.entries} journal entries)"
