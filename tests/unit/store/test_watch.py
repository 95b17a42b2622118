"""Watching: order, bounds, ends."""

from __future__ import annotations

import asyncio

import pytest

from homeport.errors import WatchLostError
from homeport.store.table import Commit
from homeport.store.watch import RECENT_COMMITS_MAX, RecentCommits, Watch


def commits(first: int, last: int) -> list[Commit]:
    return [Commit(revision, 1.0, "test", ()) for revision in range(first, last + 1)]


async def test_a_waiting_consumer_gets_what_is_offered():
    siblings: set[Watch] = set()
    watch = Watch(siblings)
    assert siblings == {watch}
    waiting = asyncio.create_task(watch.take())
    await asyncio.sleep(0)
    watch.offer(commits(1, 3))
    assert [commit.revision for commit in await waiting] == [1, 2, 3]
    watch.offer(commits(4, 5))
    watch.close()
    watch.offer(commits(6, 6))
    assert [commit.revision async for commit in watch] == [4, 5]
    assert await watch.take() == []
    assert siblings == set()


async def test_a_consumer_that_is_too_slow_is_lost_and_never_gets_a_gap():
    watch = Watch(set(), commits_max=3)
    watch.offer(commits(1, 3))
    assert (await watch.__anext__()).revision == 1
    watch.offer(commits(4, 5))
    watch.offer(commits(6, 6))
    with pytest.raises(WatchLostError, match="more than the 3 commits"):
        await watch.take()
    assert await watch.take() == []


def test_recent_commits_say_when_they_do_not_reach_back():
    recent = RecentCommits(10)
    assert recent.after(10) == []
    with pytest.raises(WatchLostError):
        recent.after(9)
    recent.extend(commits(11, 13))
    assert [commit.revision for commit in recent.after(11)] == [12, 13]
    assert [commit.revision for commit in recent.after(10)] == [11, 12, 13]
    recent.extend(commits(14, 13 + RECENT_COMMITS_MAX))
    assert len(recent.after(13)) == RECENT_COMMITS_MAX
    with pytest.raises(WatchLostError, match="oldest kept is 14"):
        recent.after(12)
