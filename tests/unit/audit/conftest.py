"""An audit log in a directory of the test's own, on the real clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from homeport.audit.checkpoint import Signer
from homeport.audit.keeping import Keeper
from homeport.audit.log import AuditLog
from homeport.audit.record import CALL
from homeport.audit.segments import DIRECTORY, End
from homeport.audit.verify import Verdict, verify
from homeport.config import Settings
from homeport.virtual_clock import VirtualClock

LIFE = "01234567-89ab-4cde-8f01-"


class OneJournal:
    """A journal of which only the head matters."""

    def __init__(self) -> None:
        self.hashes = {0: ""}

    def go_on(self, digest: str) -> None:
        self.hashes[max(self.hashes) + 1] = digest

    async def head(self) -> tuple[int, str]:
        return max(self.hashes), self.hashes[max(self.hashes)]

    async def hash_at(self, revision: int) -> str:
        return self.hashes.get(revision, "")


class Desk:
    """A log that can be closed and opened again, with its keeper."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.directory = data_dir / DIRECTORY
        self.clock = VirtualClock(1_000_000.0)
        self.journal = OneJournal()
        self.settings = Settings()
        self.log: AuditLog
        self.keeper: Keeper

    async def open(self, **settings: Any) -> End:
        self.settings = Settings(**settings)
        facts = {"server": "server", "installation": "0123456789abcdef", "region": "us-east-1"}
        self.log = AuditLog(self.directory, clock=self.clock, settings=self.settings, life=LIFE, facts=facts)
        end = self.log.open()
        signer = Signer.open(self.data_dir, self.directory)
        self.keeper = Keeper(self.log, signer, clock=self.clock, settings=self.settings, journal=self.journal)
        await self.keeper.begin()
        return end

    def call(self, operation: str = "ListClusters", **members: Any) -> int:
        parameters = msgspec.Raw(b'{"maxResults":7}')
        return self.log.append(CALL, service="ecs", operation=operation, account="123456789012", parameters=parameters, **members)

    async def calls(self, count: int) -> None:
        for _ in range(count):
            self.call()
        await self.log.durable()

    async def close(self) -> None:
        await self.keeper.finish()
        await self.log.close()

    async def crash(self) -> None:
        """End without the last record and checkpoint."""
        await self.log.close()

    def verdict(self) -> Verdict:
        return verify(self.directory, self.keeper.signer.public)

    def problems(self) -> list[str]:
        return [flaw.problem for flaw in self.verdict().flaws]

    def files(self) -> list[Path]:
        return sorted(self.directory.glob("*[0-9].jsonl"))


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


Opened = Callable[..., Awaitable[End]]
