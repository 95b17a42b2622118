"""The one source of chance: task ids, tokens, keys, seeded generators.

Owns: every random draw. Never reads time.
A child generator per purpose keeps one more draw in one place from shifting all the others (seeded runs replay exactly).
"""

from __future__ import annotations

import random
import string
import uuid

_LOWER_ALPHANUMERIC = string.ascii_lowercase + string.digits
_SECRET_ALPHABET = string.ascii_letters + string.digits + "/+"


class Ids:
    """Mints identifiers. With a seed the sequence is reproducible; without one it comes from the operating system."""

    def __init__(self, seed: int | str | None = None) -> None:
        self._seed = seed
        self._random: random.Random = random.SystemRandom() if seed is None else random.Random(seed)  # noqa: S311 - the seeded generator is for simulations

    def child(self, purpose: str) -> Ids:
        """A generator of its own for `purpose`; draws from it never shift the parent's."""
        return Ids(None if self._seed is None else f"{self._seed}/{purpose}")

    def hex(self, digits: int = 32) -> str:
        """`digits` lower-case hexadecimal digits; 32 of them make a task or container-instance id."""
        return f"{self._random.getrandbits(4 * digits):0{digits}x}"

    def uuid(self) -> str:
        """A version 4 UUID in its usual form."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def digits(self, count: int = 19) -> str:
        """`count` decimal digits without a leading zero; 19 make a deployment id."""
        return str(self._random.randrange(10 ** (count - 1), 10**count))

    def name(self, length: int = 8) -> str:
        """`length` lower-case letters and digits."""
        return "".join(self._random.choices(_LOWER_ALPHANUMERIC, k=length))

    def access_key_id(self) -> str:
        """An access key id: `AKIA` and 16 upper-case letters and digits."""
        return self.iam_id("AKIA")

    def iam_id(self, prefix: str) -> str:
        """A unique id of IAM's: its prefix (`AIDA` a user, `AROA` a role, `ASIA` a session's key, …) and 16 upper-case letters and digits."""
        return prefix + "".join(self._random.choices(string.ascii_uppercase + "234567", k=16))

    def secret(self, length: int = 40) -> str:
        """A secret access key of `length` characters."""
        return "".join(self._random.choices(_SECRET_ALPHABET, k=length))

    def bytes(self, count: int) -> bytes:
        """`count` bytes: key material, nonces."""
        return self._random.randbytes(count)

    def uniform(self, low: float, high: float) -> float:
        """A number between `low` and `high`, for jitter."""
        return self._random.uniform(low, high)

    def choice(self, count: int) -> int:
        """A number from 0 to `count` - 1, each as likely."""
        return self._random.randrange(count)
