"""Where a state is kept, as the command line names it: `sqlite:PATH`, `etcd://A,B,C`, `memory`.

Owns: `Address`, `parse_address`, `backend_of`. Never opens anything: a backend connects when it is used.

    etcd://127.0.0.1:2379,127.0.0.2:2379                      three endpoints or one; without a port 2379
    etcd://a,b,c/prefix?ca=FILE&cert=FILE&key=FILE            keys under /prefix/ (default /homeport/); TLS, with a client certificate
    …&max-txn-ops=N&max-request-bytes=N                       what this etcd allows in a Txn, where that is not its default
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from homeport.errors import HomeportError
from homeport.store.backend import TargetBackend
from homeport.store.memory import MemoryBackend
from homeport.store.sqlite import SqliteBackend

SQLITE: Final = "sqlite"
ETCD: Final = "etcd"
MEMORY: Final = "memory"
ETCD_PORT: Final = 2379
DEFAULT_PREFIX: Final = "/homeport/"
_TLS: Final = ("ca", "cert", "key")
_LIMITS: Final = ("max-txn-ops", "max-request-bytes")


class StoreAddressError(HomeportError):
    """What was given does not name a store."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A store's address, taken apart."""

    kind: str
    """sqlite, etcd or memory."""
    text: str
    """As it was given."""
    path: Path = Path()
    """Of SQLite: the file."""
    endpoints: tuple[str, ...] = ()
    """Of etcd: host:port each."""
    prefix: str = DEFAULT_PREFIX
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    txn_operations: int = 0
    """Of etcd: how many operations it allows in a Txn; 0 for its default."""
    txn_bytes: int = 0
    """Of etcd: how many bytes it allows in a request; 0 for its default."""

    @property
    def limits(self) -> dict[str, int]:
        """What this etcd allows where that is not its default, by the names that etcd's settings have."""
        given = {"txn_operations": self.txn_operations, "txn_bytes": self.txn_bytes}
        return {name: value for name, value in given.items() if value}


def parse_address(text: str) -> Address:
    """The parts of `text`. Raises StoreAddressError when it is no address of a store."""
    if text == MEMORY:
        return Address(kind=MEMORY, text=text)
    kind, _, rest = text.partition(":")
    if kind == SQLITE and rest:
        return Address(kind=SQLITE, text=text, path=Path(rest).absolute())
    if kind == ETCD and rest.startswith("//"):
        return _etcd(text)
    raise StoreAddressError(f"{text} names no store; use sqlite:PATH or etcd://HOST:PORT,HOST:PORT,…")


def _etcd(text: str) -> Address:
    parts = urlsplit(text)
    options = parse_qs(parts.query, keep_blank_values=True)
    hosts = [host for host in parts.netloc.split(",") if host]
    if not hosts or "@" in parts.netloc:
        raise StoreAddressError(f"{text} names no member of etcd; use etcd://HOST:PORT,HOST:PORT,…")
    if unknown := sorted(options.keys() - {*_TLS, *_LIMITS}):
        raise StoreAddressError(f"{text}: {', '.join(unknown)} is not known; known are {', '.join((*_TLS, *_LIMITS))}")
    files = {name: Path(options[name][-1]).absolute() for name in _TLS if name in options}
    limits = {name: options[name][-1] for name in _LIMITS if name in options}
    if not all(value.isdigit() for value in limits.values()):
        raise StoreAddressError(f"{text}: {' and '.join(_LIMITS)} are numbers")
    inner = parts.path.strip("/")
    return Address(
        kind=ETCD,
        text=text,
        endpoints=tuple(host if host.rpartition(":")[2].isdigit() else f"{host}:{ETCD_PORT}" for host in hosts),
        prefix=f"/{inner}/" if inner else DEFAULT_PREFIX,
        ca=files.get("ca"),
        certificate=files.get("cert"),
        key=files.get("key"),
        txn_operations=int(limits.get("max-txn-ops", 0)),
        txn_bytes=int(limits.get("max-request-bytes", 0)),
    )


def backend_of(address: Address, *, name: str = "homeport", advertised: str = "") -> TargetBackend:
    """A backend for that address, not opened. `name` and `advertised` (its API's URL) are what others see of who leads, where somebody leads."""
    if address.kind == MEMORY:
        return MemoryBackend()
    if address.kind == SQLITE:
        return SqliteBackend(address.path)
    from homeport.store.etcd.backend import EtcdBackend, EtcdSettings
    from homeport.store.etcd.client import Tls

    secure = address.ca or address.certificate or address.key
    tls = Tls(ca=address.ca, certificate=address.certificate, key=address.key) if secure else None
    usual = EtcdSettings(name=name, address=advertised)
    settings = msgspec.structs.replace(
        usual, txn_operations=address.txn_operations or usual.txn_operations, txn_bytes=address.txn_bytes or usual.txn_bytes
    )
    return EtcdBackend(address.endpoints, address.prefix, tls=tls, settings=settings)
