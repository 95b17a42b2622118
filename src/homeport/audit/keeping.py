"""What keeps an audit log in order: signed checkpoints, and the removal of what is too old or too much.

Owns: `Keeper`. Never writes a record of a call; never removes the file that is being written.
"""

from __future__ import annotations

import functools
from typing import Final, Protocol

from homeport import log as program_log
from homeport.audit import checkpoint
from homeport.audit.checkpoint import Checkpoint, Signer
from homeport.audit.log import AuditLog
from homeport.audit.record import ENDED, NO_HASH, PRUNED
from homeport.audit.segments import Segment, first_record, segments
from homeport.clock import Clock
from homeport.config import Settings
from homeport.errors import HomeportError

LOOK_SECONDS: Final = 2.0
"""Between two looks whether a checkpoint is due."""
PRUNE_SECONDS: Final = 60.0
"""Between two looks whether something may go."""
_log = program_log.logger("audit")


class SignedJournal(Protocol):
    """What a checkpoint says of the journal."""

    async def head(self) -> tuple[int, str]:
        """(revision, hash in hexadecimal) of its durable end. May raise HomeportError."""
        ...

    async def hash_at(self, revision: int) -> str:
        """Of the entry of a revision, "" when it is not there (any more, or yet)."""
        ...


class Keeper:
    """Keeps one server's log. `run` it beside the server; `finish` it at the end."""

    def __init__(self, log: AuditLog, signer: Signer, *, clock: Clock, settings: Settings, journal: SignedJournal) -> None:
        self.signer = signer
        self._log = log
        self._clock = clock
        self._settings = settings
        self._journal = journal
        self._signed_number = 0
        self._signed_revision = 0
        self._signed_at = -settings.audit_checkpoint_seconds  # the first is due at once: it covers what a crash may have cut
        self._pruned_at = clock.monotonic()
        self._went_back = False

    async def begin(self) -> None:
        """See whether the journal is still the one that the last checkpoint saw."""
        before, _ = await self._log.in_thread(functools.partial(checkpoint.last, self._log.directory))
        if before is None:
            return
        self._signed_number, self._signed_revision = before.number, before.revision
        revision, _ = await self._journal.head()
        found = await self._journal.hash_at(before.revision)
        if revision < before.revision or (found and found != before.journal):
            _log.warning("the journal is not the one that was signed at revision %d: it was restored, or replaced", before.revision)
            self._went_back = True

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                if self._due():
                    await self.sign()
                if self._clock.monotonic() - self._pruned_at >= PRUNE_SECONDS:
                    self._pruned_at = self._clock.monotonic()
                    await self.prune()
            except (HomeportError, OSError) as error:
                _log.warning("the audit log could not be kept in order, and is looked at again: %s", error)

    def _due(self) -> bool:
        new = self._log.head.number - self._signed_number
        if self._went_back or new >= self._settings.audit_checkpoint_records:
            return True
        return new > 0 and self._clock.monotonic() - self._signed_at >= self._settings.audit_checkpoint_seconds

    async def finish(self) -> None:
        """A last checkpoint, when everything is written."""
        try:
            self._log.append(ENDED)
            await self._log.durable()
            await self.sign()
        except (HomeportError, OSError) as error:
            _log.warning("the audit log ends without a checkpoint: %s", error)

    async def sign(self) -> Checkpoint:
        """Sign what is there now. Raises HomeportError when the journal's head cannot be asked, OSError when nothing can be written."""
        revision, digest = await self._journal.head()
        end, directory = self._log.head, self._log.directory
        _, before = await self._log.in_thread(functools.partial(checkpoint.last, directory))
        made = self.signer.sign(
            Checkpoint(
                installation=str(self._log.facts.get("installation", "")),
                server=str(self._log.facts.get("server", "")),
                instant=self._clock.now(),
                number=end.number,
                hash=end.hash,
                revision=revision,
                journal=digest or NO_HASH,
                previous=before,
                went_back=self._went_back,
            )
        )
        await self._log.in_thread(functools.partial(checkpoint.add, directory, made))
        self._went_back = False
        self._signed_number, self._signed_revision, self._signed_at = end.number, revision, self._clock.monotonic()
        return made

    async def prune(self) -> int:
        """Remove the oldest files that are too old, or beyond the size; how many. Raises HomeportError, OSError."""
        found = segments(self._log.directory)
        going = self._going(found)
        if not going:
            return 0
        next_one = first_record(found[len(going)])
        through = found[len(going)].first - 1
        # The record first: what is gone without one counts as lost.
        self._log.append(
            PRUNED, facts={"through": through, "hash": next_one.previous if next_one else "", "files": [item.path.name for item in going]}
        )
        await self._log.durable()
        await self._log.in_thread(functools.partial(self._remove, going, through))
        return len(going)

    def _going(self, found: list[Segment]) -> list[Segment]:
        """The oldest ones that may go; the newest never does."""
        sizes = [item.path.stat().st_size for item in found]
        total, most = sum(sizes), self._settings.audit_bytes_max
        old = self._clock.now() - self._settings.audit_retention_seconds
        going: list[Segment] = []
        for place, item in enumerate(found[:-1]):
            after = first_record(found[place + 1])  # its instant is that of the last record before, or later
            if not (most and total > most) and (after is None or after.instant >= old):
                break
            total -= sizes[place]
            going.append(item)
        return going

    def _remove(self, going: list[Segment], through: int) -> None:
        for item in going:
            item.path.unlink(missing_ok=True)
        checkpoint.keep_from(self._log.directory, through + 1)
