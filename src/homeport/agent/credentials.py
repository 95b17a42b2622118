"""What the agent signs with: keys that it was given, or a host's own credentials, which end and are renewed.

Owns: `Credentials`, when new ones are due, and the file in which they survive a restart. Never calls the control plane: `client.py` does.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import msgspec

from homeport.agent import proof
from homeport.agent.settings import AgentSettings
from homeport.clock import Clock
from homeport.errors import HomeportError
from homeport.iam import host as host_file
from homeport.iam import proof as proof_text
from homeport.iam.host import Host, Told
from homeport.iam.sigv4 import Credentials as Keys

DUE_SHARE: Final = 2 / 3
"""Share of their time after which credentials are renewed: a third of it is left for a control plane that is away."""


class NotJoinedError(HomeportError):
    """The file of the host is missing, or has no identity yet."""


class Credentials:
    """The keys of now. With `settings.identity` those of the host in that file."""

    def __init__(self, settings: AgentSettings, clock: Clock) -> None:
        """Raises NotJoinedError, HostFileError."""
        self._path = Path(settings.identity) if settings.identity else None
        self._ca_file = Path(settings.ca_file) if settings.ca_file else None
        self._region = settings.region
        self._clock = clock
        self.host: Host | None = None
        self.keys = Keys(settings.access_key_id, settings.secret_access_key, settings.region)
        self.token = settings.session_token
        if self._path is not None:
            found = host_file.read(self._path)
            if found is None or not found.identity:
                raise NotJoinedError(f"{self._path}: this host has not joined; `homeport agent --join TOKEN --server URL` joins it")
            self._use(found)

    @property
    def renewable(self) -> bool:
        """Whether they are a host's."""
        return self.host is not None

    def due_seconds(self) -> float:
        """Until new ones are due."""
        if self.host is None:
            return float("inf")
        return self.host.issued_at + (self.host.expires_at - self.host.issued_at) * DUE_SHARE - self._clock.now()

    async def request(self) -> dict[str, Any]:
        """The body of RenewInstanceCredentials. Raises ProofError."""
        assert self.host is not None
        instant_ms = int(self._clock.now() * 1000)
        text = proof_text.text(proof_text.RENEW, installation=self.host.installation, subject=self.host.identity, instant_ms=instant_ms)
        return {"identityId": self.host.identity, "instantMs": instant_ms, "proof": await proof.signed(str(self._path), text)}

    async def take(self, answer: dict[str, Any]) -> None:
        """Use and keep what was answered. Raises OSError when it cannot be kept; it is used all the same. Raises msgspec.ValidationError."""
        assert self.host is not None
        self._use(self.host.with_credentials(answer))
        await asyncio.to_thread(self._keep, msgspec.convert(answer, Told).trustedCertificates)

    def _use(self, host: Host) -> None:
        self.host = host
        self.keys = Keys(host.access_key_id, host.secret_access_key, host.region or self._region)
        self.token = host.session_token

    def _keep(self, trusted: str) -> None:
        assert self._path is not None and self.host is not None
        host_file.write(self._path, self.host)
        own = self._path.with_name(CA_NAME)
        # Only the file that came with joining is ours to change.
        if trusted and self._ca_file == own and own.read_text(encoding="ascii") != trusted:
            host_file.keep(own, trusted.encode("ascii"))


CA_NAME: Final = "ca.pem"
"""Beside the host's file: whom it trusts, where its token said that."""
