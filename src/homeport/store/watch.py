"""Following the store: durable commits in order, without gaps, in bounded memory.

Owns: `Watch` and `RecentCommits`. Never sees a commit that is not durable.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Iterable
from typing import Final

from homeport.errors import WatchLostError
from homeport.store.table import Commit

WATCH_COMMITS_MAX: Final = 20_000
"""Commits that wait for one watcher; with more it is lost."""
RECENT_COMMITS_MAX: Final = 4_096
"""Past commits that are kept for watchers that start from a revision."""

_numbers: Final = itertools.count()


class Watch:
    """An async iterator of commits, for one consumer. Ends when it or the store is closed."""

    def __init__(self, forget: set[Watch], *, commits_max: int = WATCH_COMMITS_MAX) -> None:
        """`forget` is the set of live watches, which it leaves when closed."""
        self._siblings = forget
        self.number = next(_numbers)
        """Greater than that of every earlier watch: watches are told in this order, so that a seeded run replays."""
        self._commits_max = commits_max
        self._commits: deque[Commit] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False
        self._closed = False
        forget.add(self)

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Commit:
        """The next commit. Raises WatchLostError when commits were dropped because this consumer was too slow."""
        if not self._commits:
            await self._wait()
        if not self._commits:
            raise StopAsyncIteration
        return self._commits.popleft()

    async def take(self) -> list[Commit]:
        """All commits that wait, at least one; empty only when the watch is closed. Raises WatchLostError as `__anext__` does."""
        if not self._commits:
            await self._wait()
        commits = list(self._commits)
        self._commits.clear()
        return commits

    async def _wait(self) -> None:
        while not self._commits and not self._closed:
            if self._lost:
                self.close()
                raise WatchLostError(f"the watcher fell behind, by more than the {self._commits_max} commits that are kept for it")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def offer(self, commits: Iterable[Commit]) -> None:
        """Called by the store: more commits are durable."""
        if self._lost or self._closed:
            return
        self._commits.extend(commits)
        if len(self._commits) > self._commits_max:
            self.lose()
        self._wake()

    def lose(self) -> None:
        """Called by the store: there is a gap; whoever reads next starts again from a view."""
        self._commits.clear()
        self._lost = True
        self._wake()

    def close(self) -> None:
        """Stop following. Commits that wait can still be read; then the iteration ends."""
        self._closed = True
        self._siblings.discard(self)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class RecentCommits:
    """The last durable commits, in order and without gaps up to the durable head."""

    def __init__(self, head: int) -> None:
        """Nothing is kept of the revisions up to `head`."""
        self._commits: deque[Commit] = deque(maxlen=RECENT_COMMITS_MAX)
        self._head = head

    def extend(self, commits: Iterable[Commit]) -> None:
        """Add what became durable."""
        self._commits.extend(commits)

    def after(self, revision: int) -> list[Commit]:
        """Every commit newer than `revision`. Raises WatchLostError when they are no longer all here."""
        oldest = self._commits[0].revision if self._commits else self._head + 1
        if revision + 1 < oldest:
            raise WatchLostError(f"changes after revision {revision} are not kept any more; the oldest kept is {oldest}")
        return [commit for commit in self._commits if commit.revision > revision]
