"""`homeport env`: four lines for `eval` in a shell, five where clients have to be told whom to trust.

Owns: their form. Never prints anything else to stdout.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from homeport.cli.installation import DataDirectory
from homeport.cli.terminal import Terminal


def env(options: argparse.Namespace, terminal: Terminal, environ: Mapping[str, str]) -> int:  # noqa: ARG001 - every command has these three
    """Print what the aws CLI and the SDKs need to reach this installation."""
    directory = DataDirectory(options.data_dir)
    credentials = directory.kept_account(options.account) if options.account else directory.known_credentials()
    for name, value in (
        ("AWS_ENDPOINT_URL", credentials.endpoint),
        ("AWS_ACCESS_KEY_ID", credentials.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key),
        ("AWS_DEFAULT_REGION", credentials.region),
        *((("AWS_CA_BUNDLE", credentials.ca_file),) if credentials.ca_file else ()),
    ):
        terminal.show(f"export {name}={quoted(value)}")
    return 0


def quoted(value: str) -> str:
    """`value` between single quotes for a POSIX shell; a single quote in it ends the quotes, is escaped, and begins them anew."""
    return "'" + value.replace("'", "'\\''") + "'"
