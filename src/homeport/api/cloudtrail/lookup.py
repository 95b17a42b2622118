"""LookupEvents: the calls of an account, the newest first, from every audit log that is at hand and from the journal.

Owns: the handler, and how several sources are told as one. Never tells an account of another one's calls.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from homeport.api import pagination
from homeport.api.call import Call
from homeport.api.cloudtrail.input import wanted_of
from homeport.api.cloudtrail.journal import search_journal
from homeport.audit import cloudtrail
from homeport.audit.record import Record
from homeport.audit.search import END, NEWEST, Found, Page, Question, Wanted, lives, search
from homeport.errors import InvalidNextTokenError, InvalidParameterError, ServiceUnavailableError

EVENTS_MAX: Final = 50
HERE: Final = "here"
JOURNAL: Final = "journal"
"""Names of sources that are no other server's."""


class Answer(msgspec.Struct, frozen=True):
    """A part of another server's log."""

    page: Page
    lives: list[str]
    oldest: float


_PLACES: Final = msgspec.json.Decoder(dict[str, str])
_ANSWERS: Final = msgspec.json.Decoder(Answer)
_QUESTIONS: Final = msgspec.json.Decoder(Question)
encode: Final = msgspec.json.Encoder().encode


async def lookup_events(call: Call, request: Any) -> dict[str, Any]:
    """Up to 50 calls of the caller's account. A page may have fewer, or none, though there are more: NextToken says so.

    `NotCovered` (ours) names servers whose logs could not be asked; what they changed is told from the journal.
    Raises InvalidNextTokenError, and what `wanted_of` raises.
    """
    wanted, limit = wanted_of(call.account, request), request.MaxResults or EVENTS_MAX
    if request.EventCategory is not None:  # insights: nobody makes any here
        return {"Events": []}
    filters = (wanted.since, wanted.until, wanted.key, wanted.value)
    places = _places(call, request.NextToken, filters)
    pages, missing = await _pages(call, wanted, places, limit)
    taken, places = merged(pages, limit)
    events = sorted((item.record for item in taken), key=cloudtrail.event_time, reverse=True)
    answer: dict[str, Any] = {"Events": [_event(record, call.region) for record in events]}
    if any(place != END for place in places.values()):
        answer["NextToken"] = pagination.page_token(call, encode(places).decode(), filters)
    if missing:
        answer["NotCovered"] = missing
    return answer


def _places(call: Call, token: str | None, filters: Sequence[Any]) -> dict[str, str]:
    try:
        last = pagination.open_token(call, token, filters)
        return _PLACES.decode(last.encode()) if last else {}
    except (InvalidParameterError, msgspec.MsgspecError):
        raise InvalidNextTokenError("The token is not valid, or was used with other parameters than those that it was given for.") from None


async def _pages(call: Call, wanted: Wanted, places: dict[str, str], limit: int) -> tuple[dict[str, Page], list[str]]:
    """(source → its next records, servers that did not answer)."""
    start = END if places else NEWEST  # a source that is new since the first page is not begun in the middle
    pages: dict[str, Page] = {}
    known: set[str] = set()
    oldest = float("inf")
    audit = call.context.audit
    if audit is not None and audit.directory is not None:
        with contextlib.suppress(ServiceUnavailableError):  # what is on the disk is told all the same
            await audit.durable()
        own = await asyncio.to_thread(told, audit.directory, Question(wanted, places.get(HERE, start), limit))
        pages[HERE] = own.page
        known.update(own.lives)
        oldest = own.oldest
    missing = []
    for name, answer in await _others(call, wanted, places, limit):
        if answer is None:
            missing.append(name)
            continue
        pages[name] = answer.page
        known.update(answer.lives)
    # Alone, everything since the log began has a record there; among several, what was done by servers that cannot be asked has not.
    before = oldest if call.context.others is None else float("inf")
    question = Question(wanted, places.get(JOURNAL, start), limit)
    pages[JOURNAL] = await search_journal(call.context.store.journal, question, known, before=min(before, wanted.until + 1))
    return pages, missing


async def _others(call: Call, wanted: Wanted, places: Mapping[str, str], limit: int) -> list[tuple[str, Answer | None]]:
    others = call.context.others
    if others is None:
        return []
    start = END if places else NEWEST
    questions = {name: encode(Question(wanted, places.get(name, start), limit)) for name in await others.names()}
    found = []
    for name, body in await others.ask_each(questions):
        try:
            found.append((name, _ANSWERS.decode(body) if body is not None else None))
        except msgspec.MsgspecError:
            found.append((name, None))
    return found


def answered(directory: Path, body: bytes) -> bytes:
    """What this server's log says to another server's question. Raises msgspec.MsgspecError and ValueError for what is none, OSError."""
    return encode(told(directory, _QUESTIONS.decode(body)))


def told(directory: Path, question: Question) -> Answer:
    """What the log in `directory` has. Raises ValueError for a place that is none, OSError."""
    known, oldest = lives(directory)
    return Answer(search(directory, question), sorted(known), min(oldest, 2.0**53))


def merged(pages: dict[str, Page], limit: int) -> tuple[list[Found], dict[str, str]]:
    """(the newest of all, source → where it goes on). What is older than what a source has not looked at yet waits for the next page."""
    horizon = max((page.horizon for page in pages.values() if page.place != END), default=0.0)
    candidates = [(item, name) for name, page in pages.items() for item in page.found if item.instant >= horizon]
    candidates.sort(key=lambda pair: -pair[0].instant)
    taken = candidates[:limit]
    counts = {name: sum(1 for _, source in taken if source == name) for name in pages}
    places = {name: page.found[counts[name]].place if counts[name] < len(page.found) else page.place for name, page in pages.items()}
    return [item for item, _ in taken], places


def _event(record: Record, region: str) -> dict[str, Any]:
    event: dict[str, Any] = {
        "EventId": cloudtrail.event_id(record),
        "EventName": cloudtrail.event_name(record),
        "ReadOnly": "true" if record.read_only else "false",
        "EventTime": float(int(cloudtrail.event_time(record))),
        "EventSource": cloudtrail.event_source(record),
        "Username": cloudtrail.user_name(record),
        "Resources": [{"ResourceType": item.type or None, "ResourceName": item.name} for item in cloudtrail.resources_of(record)],
        "CloudTrailEvent": encode(cloudtrail.event_of(record, region)).decode(),
    }
    return event | ({"AccessKeyId": record.access_key_id} if record.access_key_id else {})
