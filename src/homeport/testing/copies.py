"""A server's copy, compared with the truth commit by commit.

Owns: `CopyWatch`. Never changes anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from homeport.store.store import Store
from homeport.store.watch import Watch
from homeport.testing.truth import Truth


class CopyWatch(Watch):
    """A watch whose consumer is called at once, before every other: what a server shows was durable before, in order, and is what was committed."""

    def __init__(self, store: Store, truth: Truth, *, name: str, violated: Callable[[str], None]) -> None:
        super().__init__(store._watches)
        self.number = -1  # before every other watch
        self._store = store
        self._truth = truth
        self._name = name
        self._violated = violated
        self._seen = store._durable.revision

    def offer(self, commits: Any) -> None:
        """Compare them."""
        for commit in commits:
            self._seen += 1
            if commit.revision != self._seen:
                self._violated(f"the watch of {self._name} jumps from revision {self._seen - 1} to {commit.revision}")
                return
            problem = self._truth.problem(commit)
            if problem:
                self._violated(f"{self._name} shows revision {commit.revision} ({commit.cause}): {problem}")
                return

    def lose(self) -> None:
        """The copy was read anew; watching goes on from there."""
        self._seen = self._store._durable.revision
