"""Calls as the journal tells them: those whose own record is not at hand.

Owns: `record_of`, `search_journal`. Never writes; never tells a controller's change, which is nobody's call.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from homeport.api.protocol import model
from homeport.audit.record import NO_HASH, RECOVERED, Record
from homeport.audit.search import END, NEWEST, Found, Page, Question
from homeport.errors import JournalPrunedError
from homeport.model import arn
from homeport.model.cause import REQUEST, parse_cause
from homeport.store.journal import Journal
from homeport.store.journal_entry import Entry

SERVICES: Final = ("ecs", "iam", "sts", "homeport")
"""Whose operations change something."""
READS: Final = (
    "Describe",
    "List",
    "Get",
    "Lookup",
    "Discover",
    "Simulate",
    "Predict",
    "Explain",
    "Assume",
    "Decode",
    "Check",
    "Generate",
    "Poll",
    "Search",
    "Test",
)
"""What the names of operations that change nothing begin with. CloudTrail calls AssumeRole a read as well."""
ENTRIES: Final = 500
ENTRIES_MAX: Final = 5_000
"""Journal entries that one search looks at."""


def record_of(entry: Entry) -> Record | None:
    """The call that made a journal entry; None for what no call made. Its number and hash mean nothing."""
    cause = parse_cause(entry.cause)
    if cause.kind != REQUEST:
        return None
    parsed = arn.parse_arn(cause.principal_arn)
    return Record(
        number=0,
        previous=NO_HASH,
        instant=entry.instant,
        kind=RECOVERED,
        service=next((service for service in SERVICES if cause.operation in model.load(service).operations), ""),
        operation=cause.operation,
        account=parsed.account if parsed is not None else "",
        principal=cause.principal_arn,
        request_id=cause.request_id,
        read_only=cause.operation.startswith(READS),
        status=200,
        facts={
            "instant": entry.instant,
            "revision": entry.revision,
            "records": [f"{change.kind} {change.table} {change.key}" for change in entry.changes],
        },
    )


async def search_journal(journal: Journal, question: Question, known: Collection[str], *, before: float) -> Page:
    """As `audit.search.search`, over calls whose request ids begin with none of `known` (24 characters), and that ended before `before`."""
    wanted, place, limit = question.wanted, question.place, question.limit
    if place == END:
        return Page([], END, 0.0)
    try:
        revision = await journal.revision_at(min(before, wanted.until + 1)) if place == NEWEST else int(place)
    except JournalPrunedError:
        return Page([], END, 0.0)
    found: list[Found] = []
    looked = 0
    while revision > 0:
        entries = [entry for entry in await journal.entries(max(1, revision - ENTRIES + 1), ENTRIES) if entry.revision <= revision]
        if not entries:
            break
        for entry in reversed(entries):
            if len(found) >= limit or looked >= ENTRIES_MAX:
                return Page(found, str(entry.revision), entry.instant)
            if entry.instant < wanted.since:
                return Page(found, END, 0.0)
            looked += 1
            record = record_of(entry)
            if record is not None and record.request_id[:24] not in known and wanted.takes(record):
                found.append(Found(entry.instant, str(entry.revision), record))
        revision = entries[0].revision - 1
    return Page(found, END, 0.0)
