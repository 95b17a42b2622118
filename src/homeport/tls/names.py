"""Names in certificates: under which a server can be reached, and by which servers know each other.

Owns: what a server's certificate must cover, and how it says whose it is. Reads the kernel's table of addresses, nothing else.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

ADDRESSES: Final = Path("/proc/net/fib_trie")
_LOCAL: Final = "/32 host LOCAL"
SERVER_URI: Final = "homeport://server/"
"""Begins the name by which a certificate says that its holder is a server of the installation, and which one. Only our own authority's counts."""


def server_named(alternatives: Sequence[tuple[str, str]]) -> str:
    """The server that a verified certificate names, from the `subjectAltName` of Python's `getpeercert`; "" when it names none."""
    return next((value.removeprefix(SERVER_URI) for kind, value in alternatives if kind == "URI" and value.startswith(SERVER_URI)), "")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`, an address or a name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_wildcard(host: str) -> bool:
    """Whether it stands for every address of the machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host


def names_of(host: str, advertised: str, more: Iterable[str] = ()) -> tuple[str, ...]:
    """Under which clients may ask a server that listens on `host`, says that it is at the URL `advertised`, and has `more` names and addresses."""
    listened = [*local_addresses(), os.uname().nodename] if is_wildcard(host) else [host]
    found = ["localhost", "127.0.0.1", *listened, urlsplit(advertised).hostname or "", *more]
    return tuple(dict.fromkeys(name for name in found if name))


def local_addresses(table: Path = ADDRESSES) -> list[str]:
    """Every IPv4 address of this machine, in no order that means anything; [] where the kernel does not tell."""
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return []
    found = {before.split()[-1] for before, line in zip(lines, lines[1:], strict=False) if line.strip() == _LOCAL}
    return sorted(found)
