"""Where a server listens, and that nobody but this machine is spoken to without TLS.

Owns: the listening socket, the address that the server gives as its own, and the agreement of all servers on one authority. Never serves a call.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from homeport.clock import Clock
from homeport.config import Settings
from homeport.errors import HomeportError, LeadershipLostError, NotLeaderError
from homeport.store.store import Store
from homeport.store.table import Transaction
from homeport.store.tables import INSTALLATION
from homeport.tls.names import is_loopback, is_wildcard, names_of

if TYPE_CHECKING:
    from homeport.tls.certificates import Certificates, TlsFiles

BACKLOG: Final = 4096
LISTENER_VARIABLE: Final = "HOMEPORT_LISTENER"
"""Environment variable with the descriptor of the socket that a restarted server listens on."""
PAUSE_SECONDS: Final = 0.1
"""Between two looks for the authority that another server is to note."""


class PortInUseError(HomeportError):
    """Another program listens on the port."""


class TlsRequiredError(HomeportError):
    """The server was told to listen, or to be asked, where others than this machine reach it, without TLS."""


class AdvertisedAddressError(HomeportError):
    """The address that the server is to give as its own is none that clients could use."""


class ForeignAuthorityError(HomeportError):
    """This server has another certificate authority than the servers that there are."""


def own_endpoint(host: str, port: int, *, advertise: str | None, secure: bool) -> str:
    """The URL that clients of a server use."""
    return advertise.rstrip("/") if advertise else f"{'https' if secure else 'http'}://{host}:{port}"


def refuse_unsafe(host: str, *, advertise: str | None, secure: bool) -> None:
    """Return if a server may listen on `host`, and say that it is at `advertise`, with TLS or without.

    Raises TlsRequiredError, AdvertisedAddressError.
    """
    place = urlsplit(advertise or "")
    if not secure and not is_loopback(host):
        raise TlsRequiredError(
            f"{host} is reached from other machines, and there this server speaks TLS only: add --tls (certificates of its own authority) "
            "or --tls-cert FILE --tls-key FILE. Plain HTTP is for 127.0.0.1"
        )
    if advertise and place.scheme == "http" and (secure or not is_loopback(place.hostname or "")):
        raise TlsRequiredError(f"--advertise {advertise}: agents and servers must reach this one by https")
    if advertise and (place.scheme not in ("http", "https") or not place.hostname):
        raise AdvertisedAddressError(f"--advertise {advertise} is no URL such as https://10.0.0.1:8470")
    if is_wildcard(host) and not advertise:
        raise AdvertisedAddressError(f"{host} is no address to be asked at: say with --advertise https://NAME:PORT where this server is reached")


def certificates_of(where: TlsFiles, settings: Settings, *, host: str, endpoint: str, server: str, clock: Clock) -> Certificates:
    """The certificates of the server named `server`, made if they are missing. Raises CertificateError."""
    from homeport.tls.authority import Wanted  # brings cryptography, which a server on loopback does without
    from homeport.tls.certificates import Certificates, Lifetimes

    more = [name.strip() for name in settings.tls_names.split(",")]
    wanted = Wanted(subject=f"Homeport server {server}", names=names_of(host, endpoint, more), server=server)
    lifetimes = Lifetimes(settings.tls_authority_seconds, settings.tls_certificate_seconds, settings.tls_look_seconds)
    return Certificates(where, wanted, clock=clock, lifetimes=lifetimes)


async def agree_on_authority(store: Store, certificates: Certificates, clock: Clock, *, directory: Path, taken: str = "") -> None:
    """Return when the installation's authority, noted by whoever is first, is one that this server trusts.

    `taken` is the setting `tls_take_authority`. Raises ForeignAuthorityError when it is another one.
    """
    ours = certificates.fingerprints()

    def note(tx: Transaction) -> None:
        installation = tx.get(INSTALLATION, "installation")
        if installation is not None and installation.authority_sha256 not in ours[:1]:
            tx.put(INSTALLATION, msgspec.structs.replace(installation, authority_sha256=ours[0]))

    while True:
        installation = await store.view(lambda reader: reader.get(INSTALLATION, "installation"))
        noted = installation.authority_sha256 if installation is not None else ""
        if noted and noted not in ours and taken != ours[0]:
            raise ForeignAuthorityError(
                f"the authority in {directory} is not the installation's: copy ca.pem and ca.key there from another server's such directory, "
                f"and remove server.pem. If every copy is lost: --set tls_take_authority={ours[0]}"
            )
        if noted == ours[0]:
            return
        try:
            await store.update(note, cause="server start")
        except (NotLeaderError, LeadershipLostError):
            if noted:  # an older one that is trusted too: the leader notes the newer one when it starts
                return
            await clock.sleep(PAUSE_SECONDS)


def listen(host: str, port: int) -> socket.socket:
    """The listening socket; the one of the process before, if this is its restart, in which clients' connections wait already."""
    kept = os.environ.pop(LISTENER_VARIABLE, "")
    if kept:
        return socket.socket(fileno=int(kept))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise PortInUseError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from None
    return listener
