"""The certificates of one server while it runs: what it shows, whom it trusts, and how both become newer without a restart.

Owns: `TlsFiles` (where they are), `Certificates`. Never closes a connection: the next one has what is newest.

Two things are told apart. What clients see is our own authority's certificate, or one from files (`--tls-cert`). By what servers know each other
is always our own authority's: a certificate of a public authority proves a name, not that its holder is one of this installation's servers.
"""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from homeport.clock import Clock
from homeport.errors import HomeportError
from homeport.log import logger
from homeport.tls import files
from homeport.tls.authority import Authority, Wanted, is_due
from homeport.tls.contexts import CertificateError, Stamp, Swapped, client_context, server_context, stamp

OWN: Final = "server.pem"

_log: Final = logger("tls")


class Lifetimes(NamedTuple):
    """How long certificates count, and how often is looked whether one is due or was replaced; seconds."""

    authority: float
    certificate: float
    look: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where a server's certificates are."""

    authority: Path
    """Directory of the authority; servers of one machine share it."""
    own: Path
    """Directory of this server's own certificate."""
    certificate: Path | None = None
    """What clients see instead, with its chain."""
    key: Path | None = None
    ca: Path | None = None
    """Whom clients have to trust then; None: those that their system trusts."""

    @property
    def ca_file(self) -> Path | None:
        """What a client of this server is to trust; None: its system's authorities."""
        return self.ca if self.certificate is not None else self.authority / files.AUTHORITY


class Certificates:
    """What one server shows and trusts. `keep` it running; everything here is done in milliseconds, and rarely."""

    def __init__(self, where: TlsFiles, wanted: Wanted, *, clock: Clock, lifetimes: Lifetimes) -> None:
        """Makes what is missing. `wanted`: what the server's own certificate says. Raises CertificateError."""
        self._where = where
        self._wanted = wanted
        self._clock = clock
        self._lifetimes = lifetimes
        self._trouble = ""
        self._ending: tuple[Path, int] | None = None
        """File and serial number of the certificate whose end was told."""
        files.ensure_authority(where.authority, now=clock.now(), seconds=lifetimes.authority)
        self._renew()
        self._stamp = self._stamped()
        shown, self._client = self._contexts()
        self._listener = Swapped(shown)
        self._tell_of_end()

    @property
    def listener(self) -> ssl.SSLContext:
        """For the listening socket."""
        return self._listener.context

    def client(self) -> ssl.SSLContext:
        """For calls to the other servers."""
        return self._client

    def fingerprints(self) -> Sequence[str]:
        """Of the authorities that are trusted here, the one that signs first."""
        return [Authority(each, None).fingerprint for each in files.trusted_in(self._where.authority)]

    async def keep(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Renew what is due and take what was replaced, until cancelled; `changed` is called after that and may raise HomeportError."""
        while True:
            await self._clock.sleep(self._lifetimes.look)
            if self.look():
                try:
                    await changed()
                except HomeportError as error:
                    _log.error("%s", error)

    def look(self) -> bool:
        """Renew what is due, take what was replaced; True if it was. What cannot be used is told once in the log, and what there was goes on."""
        self._tell_of_end()
        try:
            self._renew()
            found = self._stamped()
            if found == self._stamp:
                return False
            shown, client = self._contexts()
        except (CertificateError, OSError) as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                _log.error("certificates stay as they are: %s", error)
            return False
        self._stamp, self._client, self._trouble = found, client, ""
        self._listener.use(shown)
        _log.info("certificates are taken anew; open connections keep theirs")
        return True

    def _tell_of_end(self) -> None:
        """What clients see ends soon, and it is not ours to renew: told once a certificate, in the log."""
        shown = self._where.certificate or self._own
        held = files.certificate_in(shown)
        renews = self._where.certificate is None and (self._where.authority / files.AUTHORITY_KEY).exists()
        if held is None or renews or not is_due(held, self._clock.now()) or self._ending == (shown, held.serial_number):
            return
        self._ending = (shown, held.serial_number)
        _log.warning("%s counts until %s and nothing here renews it", shown, held.not_valid_after_utc.isoformat())

    def _renew(self) -> None:
        where, now, seconds = self._where, self._clock.now(), self._lifetimes.certificate
        authority = files.authority_in(where.authority)
        if authority is None:
            raise CertificateError(f"{where.authority / files.AUTHORITY} is gone")
        made: list[Path] = []
        if authority.key is not None:
            made = files.renew_all(where.authority, authority, now=now, seconds=seconds)
        if (authority.key is not None or not self._own.exists()) and files.ensure_certificate(
            self._own, self._wanted, authority, now=now, seconds=seconds
        ):
            made.append(self._own)
        for path in made:
            _log.info("a certificate was made: %s", path)

    @property
    def _own(self) -> Path:
        return self._where.own / OWN

    def _stamped(self) -> Stamp:
        return stamp((self._where.authority / files.AUTHORITY, self._own, self._where.certificate, self._where.key, self._where.ca))

    def _contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """(of the listener, of calls to other servers)."""
        where = self._where
        ours = b"".join(Authority(each, None).pem for each in files.trusted_in(where.authority)).decode()
        shown, key = (where.certificate, where.key) if where.certificate is not None else (self._own, None)
        others = _text(where.ca) if where.ca is not None else ""
        foreign = where.certificate is not None and where.ca is None
        return server_context(shown, key, authorities=ours), client_context(ours + others, own=self._own, system=foreign)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}") from None
