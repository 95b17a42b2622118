"""ListPublicKeys: with which keys the checkpoints of the audit logs are signed.

Owns: the handler. Never reads a private key.
"""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any, Final

from homeport.api.call import Call
from homeport.audit import checkpoint

QUESTION: Final = b"key"
"""What one server asks another for its key."""


async def list_public_keys(call: Call, request: Any) -> dict[str, Any]:
    """The public key of each server that answers: Ed25519, as SubjectPublicKeyInfo in DER, with its SHA-256 as fingerprint."""
    del request  # a key is valid as long as there is the server
    audit = call.context.audit
    pems = [await asyncio.to_thread(_pem, audit.directory)] if audit is not None and audit.directory is not None else []
    if call.context.others is not None:
        pems += [pem for _, pem in await call.context.others.ask(QUESTION) if pem]
    return {"PublicKeyList": [_key(pem) for pem in dict.fromkeys(pems)]}


def _pem(directory: Path) -> bytes:
    return (directory / checkpoint.PUBLIC_FILE).read_bytes()


def _key(pem: bytes) -> dict[str, Any]:
    der = checkpoint.der(checkpoint.public_key(pem))
    return {"Value": base64.b64encode(der).decode(), "Fingerprint": checkpoint.fingerprint(der)}
