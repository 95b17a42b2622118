"""Who makes and ends the machines of a capacity provider: the interface, and the one that runs a program or asks a URL of the operator's.

Owns: `InstanceProvider`, `Pool`, `CommandProvider`, `instance_providers`. Never decides how many machines there should be (`planner/capacity.py`
does) nor when one may end (`controllers/capacity.py` asks the planner). The contract of the program is in docs/howto/capacity-providers.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Any, Final, Protocol

import msgspec

from homeport.config import Settings, instance_providers_of
from homeport.errors import HomeportError
from homeport.model.ecs.capacity_provider import InstanceSize
from homeport.planner.managed_scaling import Fleet, Machine

ANSWER_SECONDS_MAX: Final = 60.0
"""How long a program or a URL may take to answer; starting a machine may go on afterwards."""
ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
COMPLAINT_CHARACTERS_MAX: Final = 300
"""How much of what a failing program printed is told."""


class InstanceProviderError(HomeportError):
    """The machines of a pool could not be asked for, ended or listed. It is tried again with the next sample."""

    temporary = True


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """Whose machines are meant."""

    name: str
    """Of the capacity provider."""
    arn: str
    auto_scaling_group: str
    clusters: tuple[str, ...]
    """Names of the clusters that its machines' agents join; with managed scaling it is one."""


class InstanceProvider(Protocol):
    """Whatever makes and ends machines. Every method may be called again with the same arguments, and raises InstanceProviderError."""

    async def fleet(self, pool: Pool) -> Fleet:
        """How many machines the pool is to have and which it has; what is not known is None."""
        ...

    async def set_desired(self, pool: Pool, desired: int) -> None:
        """Have `desired` machines in the pool, those that are about to end among them. It is never fewer than there are."""
        ...

    async def terminate(self, pool: Pool, machine_ids: Sequence[str]) -> None:
        """End these machines and want so many fewer. One that is not there (any more) has ended."""
        ...


class _Member(msgspec.Struct, frozen=True):
    id: str
    leaving: bool = False


class _Size(msgspec.Struct, frozen=True):
    cpu: int
    memory: int
    gpus: int = 0


class _Answer(msgspec.Struct, frozen=True):
    """What a program prints to `describe`."""

    desired: int | None = None
    instances: list[_Member] | None = None
    size: _Size | None = None


class CommandProvider:
    """A program that gets a JSON object on its standard input, or a URL that it is sent to with POST."""

    def __init__(self, where: str, *, seconds_max: float = ANSWER_SECONDS_MAX) -> None:
        """`where`: the program's path, or an http(s) URL."""
        self._where = where
        self._seconds = seconds_max

    async def fleet(self, pool: Pool) -> Fleet:
        """Action `describe`. An empty answer says that nothing is known."""
        text = await self._ask(pool, {"action": "describe"})
        try:
            answer = msgspec.json.decode(text, type=_Answer) if text.strip() else _Answer()
        except msgspec.DecodeError as error:
            raise InstanceProviderError(f"{self._where} answered describe with something else than {{desired, instances, size}}: {error}") from None
        machines = None if answer.instances is None else tuple(Machine(id=item.id, leaving=item.leaving) for item in answer.instances)
        size = answer.size
        sizes = () if size is None else (InstanceSize(cpu=size.cpu, memory_mib=size.memory, gpus=size.gpus),)
        return Fleet(desired=answer.desired, machines=machines, sizes=sizes)

    async def set_desired(self, pool: Pool, desired: int) -> None:
        """Action `set-desired`."""
        await self._ask(pool, {"action": "set-desired", "desired": desired})

    async def terminate(self, pool: Pool, machine_ids: Sequence[str]) -> None:
        """Action `terminate`."""
        await self._ask(pool, {"action": "terminate", "instances": list(machine_ids)})

    async def _ask(self, pool: Pool, members: Mapping[str, Any]) -> bytes:
        named = {"capacityProvider": pool.name, "capacityProviderArn": pool.arn, "autoScalingGroup": pool.auto_scaling_group}
        question = msgspec.json.encode({**members, **named, "clusters": pool.clusters})
        try:
            async with asyncio.timeout(self._seconds):
                return await (self._run(question) if self._where.startswith("/") else self._post(question))
        except TimeoutError:
            raise InstanceProviderError(f"{self._where} did not answer {members['action']} within {self._seconds:g} s") from None

    async def _run(self, question: bytes) -> bytes:
        # Files instead of pipes: what the program leaves running in the background (a machine's agent, say) may hold its output open.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as trouble, tempfile.TemporaryFile() as given:
            given.write(question)
            given.seek(0)
            try:
                process = await asyncio.create_subprocess_exec(self._where, stdin=given, stdout=out, stderr=trouble, cwd="/", start_new_session=True)
            except OSError as error:
                raise InstanceProviderError(f"{self._where} cannot be run: {error.strerror}") from None
            try:
                status = await process.wait()
            except asyncio.CancelledError:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()  # nothing outlives that signal; without it a zombie would stay
                raise
            if status:
                raise InstanceProviderError(f"{self._where} ended with status {status}: {_words(_read(trouble))}")
            return _read(out)

    async def _post(self, question: bytes) -> bytes:
        import aiohttp  # few servers have a URL here, and it takes time to load

        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(self._where, data=question, headers={"Content-Type": "application/json"}, allow_redirects=False) as answer,
            ):
                text = b""
                async for chunk in answer.content.iter_any():  # `read` would give what has come so far
                    text += chunk
                    if len(text) > ANSWER_BYTES_MAX:
                        raise InstanceProviderError(f"{self._where} answered with more than {ANSWER_BYTES_MAX} bytes")
                if answer.status >= 300:
                    raise InstanceProviderError(f"{self._where} answered with status {answer.status}: {_words(text)}")
                return text
        except (aiohttp.ClientError, OSError) as error:
            raise InstanceProviderError(f"{self._where} cannot be asked: {error}") from None


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(ANSWER_BYTES_MAX)


def _words(text: bytes) -> str:
    return " ".join(text.decode(errors="replace").split())[-COMPLAINT_CHARACTERS_MAX:] or "it said nothing"


def instance_providers(settings: Settings) -> dict[str, InstanceProvider]:
    """By the name of the capacity provider, `*` for all others. Raises UnknownSettingError."""
    return {name: CommandProvider(where) for name, where in instance_providers_of(settings.instance_providers).items()}
