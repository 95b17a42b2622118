"""What a host that joined keeps of itself: its key, its identity, the credentials that it has now.

Owns: `Host` and its file, 0600, written whole or not at all. Never joins and never renews: the command line does the one, the agent the other.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from homeport.errors import HomeportError
from homeport.model.secret import hides


class HostFileError(HomeportError):
    """The file cannot be read. The message names it."""


@hides("private_key", "secret_access_key", "session_token")
class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One host of one installation."""

    installation: str
    endpoints: str
    """URLs of the servers that it joined, with commas between them."""
    token_id: str
    private_key: bytes
    """Ed25519, 32 bytes; it never leaves this file."""
    identity: str = ""
    """"" as long as the answer to joining has not come."""
    instance_arn: str = ""
    """The container instance that the token was for; "" when it registers a new one."""
    cluster: str = "default"
    role_arn: str = ""
    account: str = ""
    region: str = "us-east-1"
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    issued_at: float = 0.0
    expires_at: float = 0.0

    def with_credentials(self, answer: dict[str, object]) -> Host:
        """With what Join or RenewInstanceCredentials answered. Raises msgspec.ValidationError for what is no such answer."""
        told = msgspec.convert(answer, Told)
        return msgspec.structs.replace(
            self,
            identity=told.identityId,
            instance_arn=told.containerInstanceArn or self.instance_arn,
            cluster=told.cluster,
            role_arn=told.roleArn,
            account=told.accountId,
            region=told.region,
            access_key_id=told.credentials.accessKeyId,
            secret_access_key=told.credentials.secretAccessKey,
            session_token=told.credentials.sessionToken,
            issued_at=told.credentials.issuedAt,
            expires_at=told.credentials.expiresAt,
        )


@hides("secretAccessKey", "sessionToken")
class _Credentials(msgspec.Struct, frozen=True):
    accessKeyId: str
    secretAccessKey: str
    sessionToken: str
    issuedAt: float
    expiresAt: float


class Told(msgspec.Struct, frozen=True):
    """The answer of Join and of RenewInstanceCredentials."""

    identityId: str
    accountId: str
    region: str
    cluster: str
    roleArn: str
    credentials: _Credentials
    containerInstanceArn: str = ""
    trustedCertificates: str = ""
    """PEM: whom to trust at the servers from now on; "" where they have no authority of their own."""


def read(path: Path) -> Host | None:
    """The host of that file, None when there is none. Raises HostFileError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Host)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise HostFileError(f"{path} cannot be read ({error}); join this host anew") from None


def write(path: Path, host: Host) -> None:
    """Keep it, readable by its owner alone; on the disk when this returns."""
    keep(path, msgspec.json.format(msgspec.json.encode(host)))


def keep(path: Path, content: bytes) -> None:
    """The whole file or the one of before."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
