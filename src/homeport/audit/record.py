"""The form of a record of the audit log, and how one follows another.

Owns: `Record` and its parts, `Line`, `encode`, `decode`, `digest`. Pure: never reads or writes a file, never decides what is recorded.

A record is one line of JSON. It has its number (from 1, without gaps) and the SHA-256 of the line before it, so that nothing can be changed, left out
or put in another order without the next line telling.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, NamedTuple

import msgspec

CALL: Final = "call"
"""A request of the API, whatever came of it."""
CONNECTION: Final = "connection"
"""The opening of an agent's websocket, or its refusal."""
SERVERS: Final = "servers"
"""What another server, or the command line, was refused on the paths between servers."""
SEGMENT: Final = "segment"
"""The first record of a file: which server writes it, in which of its lives."""
ENDED: Final = "ended"
"""The server stopped in order; every call before has its record."""
MENDED: Final = "mended"
"""A crash left half a record behind, which was cut off."""
BROKEN: Final = "broken"
"""What a life before left behind does not hold; the log went on in a new file."""
PRUNED: Final = "pruned"
"""The oldest files were removed, as the settings want it."""
LOST: Final = "lost"
"""Records that could not be kept, because nothing could be written for too long; so many, and why."""
RECOVERED: Final = "recovered"
"""A change whose own record was lost in a crash, told from the journal."""
CALLS: Final = frozenset((CALL, CONNECTION, SERVERS, RECOVERED))
"""The kinds that tell what somebody asked; the others are the log's own."""
NO_HASH: Final = "0" * 64
"""What the first record of all follows."""


class Decision(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the policies said."""

    allowed: bool
    by: str = ""
    """The type of policy that decided, in IAM's words; root: the account's root is not asked."""
    explicit: bool = False
    """Whether a Deny statement refused, not the lack of an Allow."""
    policy: str = ""
    """The policy that decided, by name or ARN, if one did."""
    action: str = ""
    """What was refused, or the first of what was allowed."""
    resource: str = ""


class SessionFacts(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Of a caller with temporary credentials."""

    source: str
    """ARN of the role or user behind it."""
    source_id: str
    issued_at: float
    source_identity: str = ""


class Record(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, kw_only=True):
    """One line. Members that do not apply are left out."""

    number: int
    previous: str
    """SHA-256 of the line before, in hexadecimal."""
    instant: float
    """When the call ended, seconds since the epoch; never before that of the record before."""
    kind: str
    service: str = ""
    operation: str = ""
    account: str = ""
    """The caller's; of a signature that is not good, that of the key that it names; "" when that is nobody's."""
    principal: str = ""
    """ARN, once the signature was found to be good."""
    principal_id: str = ""
    """The user's unique id; of who came with a web identity token ISSUER:AUDIENCE:SUBJECT."""
    access_key_id: str = ""
    session: SessionFacts | None = None
    address: str = ""
    secure: bool = False
    """Whether it came over TLS."""
    agent: str = ""
    """What the client says it is."""
    read_only: bool = False
    parameters: Any = None
    """The request without what is sensitive; None where it could not be read, or nobody was found to have signed it. Given as msgspec.Raw."""
    response: Any = None
    """The answer to a change, without what is sensitive; given the same way."""
    resources: tuple[str, ...] = ()
    """ARNs that the policies were asked about, or that a recovered change is about."""
    status: int = 0
    error: str = ""
    message: str = ""
    request_id: str = ""
    decision: Decision | None = None
    facts: dict[str, Any] | None = None
    """Of the log's own kinds."""


class Line(NamedTuple):
    """A record as it is stored."""

    record: Record
    hash: str


encode: Final = msgspec.json.Encoder().encode
_DECODER: Final = msgspec.json.Decoder(Record)


def decode(line: bytes) -> Record:
    """The record of a line. Raises msgspec.MsgspecError for what is none."""
    return _DECODER.decode(line)


def digest(line: bytes) -> str:
    """What the next record says of this line (without its end)."""
    return hashlib.sha256(line).hexdigest()
