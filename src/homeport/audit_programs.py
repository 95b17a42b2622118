"""The programs that read audit logs without serving anything: prove that they are whole, export them, tell their keys.

Owns: `run` and what each of them does. Never starts a server, never changes a file of a log.

They work beside a running server, on a stopped installation, and on a copy of a log's directory that lies somewhere else.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import itertools
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from homeport.audit import checkpoint, cloudtrail
from homeport.audit.checkpoint import Checkpoint, CheckpointError, fingerprint, public_key
from homeport.audit.record import CALLS, SEGMENT, Record, decode
from homeport.audit.segments import DIRECTORY, first_record, segments
from homeport.audit.verify import Flaw, Verdict, journal_seen, verify
from homeport.errors import HomeportError
from homeport.log import instant
from homeport.store.journal import hash_at
from homeport.store.journal import verify as verify_journal
from homeport.store.journal_file import FILE_NAME
from homeport.store.sqlite import SqliteBackend

JOURNALS: Final = ("homeport.sqlite", FILE_NAME)
"""Where the journal of a server lies, beside its audit log: in its store, or in its own copy of the entries in etcd."""
TRIES: Final = 3
"""How often files that went away meanwhile (retention) are looked for again."""
FILE_RECORDS: Final = 10_000
"""Records in a file of an export."""
_encode: Final = msgspec.json.Encoder().encode


class NoAuditLogError(HomeportError):
    """There is nothing to look at."""


def run(options: argparse.Namespace) -> int:
    """Run one of the programs; the exit status."""
    try:
        return PROGRAMS[options.action](options)
    except (HomeportError, sqlite3.Error, OSError) as error:
        print(f"homeport audit {options.action}: {error}", file=sys.stderr)
    return 1


def directories(options: argparse.Namespace) -> list[Path]:
    """The logs that the options mean: the directory given, those in it, or those of the data directory. Raises NoAuditLogError."""
    root: Path = options.directory or options.data_dir
    candidates = [root, root / DIRECTORY, *sorted(root.glob(f"*/{DIRECTORY}"))]
    found = [path for path in candidates if segments(path) or (path / checkpoint.FILE).is_file()]
    if not found:
        raise NoAuditLogError(f"there is no audit log in {root}")
    return found


# -- verify --------------------------------------------------------------------------------------------------------------


def verify_logs(options: argparse.Namespace) -> int:
    """`homeport audit verify`: 0 when every chain and signature holds, 1 when one does not or cannot be read."""
    held = _held(options.checkpoint)
    told = [_verified(directory, options.key, held) for directory in directories(options)]
    if options.json:
        print(json.dumps(told, indent=2))
    else:
        for found in told:
            print("\n".join(_sentences(found)))
    return 0 if all(found["whole"] for found in told) else 1


def _held(path: Path | None) -> tuple[Checkpoint, ...]:
    """Checkpoints that were kept elsewhere. Raises CheckpointError for what is none."""
    try:
        return tuple(checkpoint.read(line) for line in path.read_bytes().splitlines() if line.strip()) if path is not None else ()
    except msgspec.MsgspecError as error:
        raise CheckpointError(f"{path} holds no checkpoints: {error}") from None


def _verified(directory: Path, key_file: Path | None, held: tuple[Checkpoint, ...]) -> dict[str, Any]:
    pem = (key_file or directory / checkpoint.PUBLIC_FILE).read_bytes()
    key = public_key(pem)
    for left in reversed(range(TRIES)):
        try:
            verdict = verify(directory, key, held)
            break
        except FileNotFoundError:  # removed by retention while it was read
            if not left:
                raise
    flaws = [*verdict.flaws]
    journal = next((directory.parent / name for name in JOURNALS if (directory.parent / name).is_file()), None)
    compared = asyncio.run(_journal(journal, verdict)) if journal is not None else None
    if compared is not None:
        flaws += compared[1]
    return {
        "directory": str(directory),
        "server": _server_of(directory),
        "whole": not flaws,
        "records": verdict.records,
        "first": verdict.first,
        "last": verdict.last,
        "hash": verdict.hash,
        "key": fingerprint(checkpoint.der(key)),
        "keyFile": str(key_file or directory / checkpoint.PUBLIC_FILE),
        "checkpoints": len(verdict.checkpoints),
        "lastCheckpoint": instant(verdict.checkpoints[-1].instant) if verdict.checkpoints else None,
        "unsignedRecords": verdict.last - verdict.checkpoints[-1].number if verdict.checkpoints else verdict.records,
        "journal": compared[0] if compared is not None else None,
        "flaws": [flaw._asdict() for flaw in flaws],
        "notices": list(verdict.notices),
    }


def _server_of(directory: Path) -> str:
    """The name of the server that wrote the log, as its newest file says."""
    record = first_record(segments(directory)[-1]) if segments(directory) else None
    return str((record.facts or {}).get("server", "")) if record is not None else ""


async def _journal(path: Path, verdict: Verdict) -> tuple[dict[str, Any], list[Flaw]]:
    """(what was looked at of the journal, where it does not hold or is not what was signed)."""
    backend = SqliteBackend(path)
    try:
        chain = await verify_journal(backend)
        anchor, head = await backend.ends()
    except (sqlite3.Error, TypeError, ValueError) as error:  # damaged, or tampered with
        return {"file": str(path)}, [Flaw(0, path.name, f"the journal cannot be read ({error})")]
    flaws = [Flaw(chain.revision, path.name, f"the journal is broken at revision {chain.revision}: {chain.problem}")] if chain.problem else []
    compared = 0
    for place, (signed, counts) in enumerate(journal_seen(verdict.checkpoints), 1):
        if not counts or not signed.revision or signed.revision < anchor.revision:
            continue
        if signed.revision > head.revision:
            missing = f"journal entries {head.revision + 1} to {signed.revision} are missing at the end: checkpoint {place} signed them"
            flaws.append(Flaw(head.revision + 1, path.name, missing))
        elif (await hash_at(backend, signed.revision)).hex() != signed.journal:
            flaws.append(Flaw(signed.revision, path.name, f"journal entry {signed.revision} was replaced: checkpoint {place} signed another one"))
        compared += 1
    return {"file": str(path), "entries": chain.entries, "headRevision": head.revision, "comparedCheckpoints": compared}, flaws


def _sentences(found: dict[str, Any]) -> Iterator[str]:
    where = f"{found['directory']} ({found['server']})" if found["server"] else found["directory"]
    for flaw in found["flaws"]:
        yield f"The audit log in {where} does not hold: {flaw['problem']} [{flaw['place']}]."
    if found["whole"]:
        yield f"The audit log in {where} is whole: records {found['first']} to {found['last']}, hash {found['hash']}."
        signed = f"{found['checkpoints']} checkpoints are signed by the key {found['key']}"
        yield f"{signed}, the last at {found['lastCheckpoint'] or 'no time yet'}; {found['unsignedRecords']} records are newer."
    if found["journal"] is None:
        yield "The journal does not lie beside it and was not looked at."
    elif found["whole"]:
        compared = f"{found['journal']['comparedCheckpoints']} checkpoints were held against it"
        yield f"The journal is whole as well, up to revision {found['journal']['headRevision']}; {compared}."
    yield from (f"Note: {notice}." for notice in found["notices"])


# -- export --------------------------------------------------------------------------------------------------------------


def export(options: argparse.Namespace) -> int:
    """`homeport audit export`: every call in CloudTrail's record format, oldest first, as JSON lines; or files as CloudTrail delivers them."""
    found = directories(options)
    events = (
        (record, cloudtrail.event_of(record, region))
        for record, region in heapq.merge(*(_calls(directory) for directory in found), key=lambda pair: pair[0].instant)
        if (not options.account or record.account == options.account) and options.since <= record.instant <= options.until
    )
    if options.cloudtrail is None:
        for _, event in events:
            print(_encode(event).decode())
        return 0
    options.cloudtrail.mkdir(parents=True, exist_ok=True, mode=0o700)
    written = 0
    while batch := list(itertools.islice(events, FILE_RECORDS)):
        written += 1
        first, told = batch[0]
        when = datetime.fromtimestamp(first.instant, UTC).strftime("%Y%m%dT%H%MZ")
        name = f"{options.account or 'all'}_CloudTrail_{told['awsRegion']}_{when}_{written:05d}.json"
        (options.cloudtrail / name).write_bytes(_encode({"Records": [event for _, event in batch]}))
    print(f"Wrote {written} files to {options.cloudtrail}.")
    return 0


def _calls(directory: Path) -> Iterator[tuple[Record, str]]:
    """(record, region) of each call of a log, oldest first; what cannot be read is for `audit verify` to tell."""
    region = ""
    for segment in segments(directory):
        with segment.path.open("rb") as file:
            for line in file:
                try:
                    record = decode(line)
                except msgspec.MsgspecError:
                    continue
                if record.kind == SEGMENT:
                    region = str((record.facts or {}).get("region", ""))
                elif record.kind in CALLS:
                    yield record, region


# -- keys ----------------------------------------------------------------------------------------------------------------


def tell_keys(options: argparse.Namespace) -> int:
    """`homeport audit key`: the public keys, to be kept elsewhere."""
    for directory in directories(options):
        pem = (directory / checkpoint.PUBLIC_FILE).read_bytes()
        print(f"# {directory}: {fingerprint(checkpoint.der(public_key(pem)))}")
        print(pem.decode(), end="")
    return 0


def tell_checkpoints(options: argparse.Namespace) -> int:
    """`homeport audit checkpoint`: the newest checkpoint of each log, a line each, to be kept elsewhere."""
    for directory in directories(options):
        found = checkpoint.lines(directory)
        if found:
            print(found[-1].decode())
    return 0


PROGRAMS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "export": export,
    "verify": verify_logs,
    "key": tell_keys,
    "checkpoint": tell_checkpoints,
}
