"""`homeport tls`: what certificates there are, one more of the installation's authority, another authority in the place of the old one.

Owns: the three commands. Only works on the files of the data directory: servers that run see what changed there by themselves.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from homeport.cli import programs
from homeport.cli.group import kept_group
from homeport.cli.installation import DataDirectory
from homeport.cli.settings import kept_settings
from homeport.cli.terminal import CommandError, Terminal, table
from homeport.config import Settings, parse_settings
from homeport.tls import files
from homeport.tls.authority import Authority, Wanted, wanted_of

DAY_SECONDS: Final = 86_400.0


def tls(options: argparse.Namespace, terminal: Terminal) -> int:
    """Show, issue or replace. Raises CommandError, CertificateError."""
    directory = DataDirectory(options.data_dir)
    if options.action == "issue":  # etcd's certificates are needed before the first server starts
        files.ensure_authority(directory.tls, now=terminal.clock.now(), seconds=_settings(directory).tls_authority_seconds)
    if files.authority_in(directory.tls) is None:
        raise CommandError(f"there is no certificate authority in {directory.tls}; the first start with --tls, or `tls issue`, makes one")
    {"status": _status, "issue": _issue, "rotate": _rotate}[options.action](options, directory, terminal)
    return 0


def _status(options: argparse.Namespace, directory: DataDirectory, terminal: Terminal) -> None:
    found = list(_found(directory, terminal.clock.now()))
    if options.json:
        terminal.show(json.dumps(found, indent=2))
        return
    rows = [
        (each["file"], each["kind"], each["subject"], f"{each['until']} ({each['daysLeft']} days)", " ".join(each["names"]) or each["sha256"][:16])
        for each in found
    ]
    terminal.show("\n".join(table(("FILE", "KIND", "SUBJECT", "COUNTS UNTIL", "NAMES OR SHA-256"), rows)))


def _found(directory: DataDirectory, now: float) -> Iterator[dict[str, Any]]:
    for number, certificate in enumerate(files.trusted_in(directory.tls)):
        kind = "authority, signs" if number == 0 else "authority, trusted"
        yield _fact(directory.tls / files.AUTHORITY, kind, certificate, now)
    for path, held in _held(directory):
        server = wanted_of(held).server
        yield _fact(path, f"server {server}" if server else "certificate", held, now)


def _held(directory: DataDirectory) -> Iterator[tuple[Path, x509.Certificate]]:
    """Every certificate below the data directory but the authorities'."""
    for path in sorted([*directory.tls.glob("*.pem"), *directory.path.glob("*/tls/*.pem")]):
        held = files.certificate_in(path) if path.name not in (files.AUTHORITY, files.NEXT) else None
        if held is not None:
            yield path, held


def _fact(path: Path, kind: str, certificate: x509.Certificate, now: float) -> dict[str, Any]:
    end = certificate.not_valid_after_utc
    wanted = wanted_of(certificate)
    return {
        "file": str(path),
        "kind": kind,
        "subject": wanted.subject,
        "names": list(wanted.names),
        "until": end.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "daysLeft": int((end.timestamp() - now) // DAY_SECONDS),
        "sha256": Authority(certificate, None).fingerprint,
    }


def _issue(options: argparse.Namespace, directory: DataDirectory, terminal: Terminal) -> None:
    authority = files.authority_in(directory.tls)
    names = tuple(name for name in (part.strip() for part in options.names.split(",")) if name)
    if authority is None or options.file.exists():
        raise CommandError(f"{options.file} is there already")
    wanted = Wanted(subject=options.server or next(iter(names), options.file.stem), names=names, server=options.server or "")
    seconds = options.days * DAY_SECONDS if options.days else _settings(directory).tls_certificate_seconds
    made = authority.issue(wanted, now=terminal.clock.now(), seconds=seconds)
    files.write(options.file, made.certificate + made.key)
    terminal.say(f"{options.file}: certificate and key, readable by their owner alone; nothing renews it where it goes")


def _rotate(options: argparse.Namespace, directory: DataDirectory, terminal: Terminal) -> None:
    if options.step == "prepare":
        made = files.prepare_next(directory.tls, now=terminal.clock.now(), seconds=_settings(directory).tls_authority_seconds)
        terminal.say(f"the authority to come ({made.fingerprint[:16]}) is trusted from now on, beside the one that signs")
        terminal.say(f"now give {directory.tls / files.AUTHORITY} to every client and agent, then: homeport tls rotate switch")
    elif options.step == "switch":
        _require_etcd_restarted(directory)
        made = files.switch_to_next(directory.tls)
        terminal.say(f"the new authority ({made.fingerprint[:16]}) signs from now on; servers renew their certificates within seconds")
        terminal.say("when all have, and nobody trusts the old one alone: homeport tls rotate finish")
    else:
        _require_renewed(directory)
        terminal.say(f"{files.forget_old(directory.tls)} older authorities are not trusted any more")


def _require_etcd_restarted(directory: DataDirectory) -> None:
    """etcd reads whom it trusts only at its start: a member that began before the new authority was trusted would refuse its certificates."""
    group = kept_group(directory)
    if group is None or not group.etcd_tls:
        return
    changed = (directory.tls / files.AUTHORITY).stat().st_mtime
    old = [member.name for member in group.etcd if programs.find(directory, member.name) and programs.started_at(directory, member.name) < changed]
    if old:
        raise CommandError(f"{', '.join(old)} began before the new authority was trusted; first: homeport down, then homeport up --detach")


def _require_renewed(directory: DataDirectory) -> None:
    authority = files.authority_in(directory.tls)
    if old := [str(path) for path, held in _held(directory) if authority is not None and not authority.issued(held)]:
        raise CommandError(f"still of the old authority: {', '.join(old)}; servers that run renew theirs within seconds of `switch`")


def _settings(directory: DataDirectory) -> Settings:
    return parse_settings(f"{name}={value}" for name, value in kept_settings(directory).items())
