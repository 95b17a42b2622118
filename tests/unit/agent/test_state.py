"""The local journal: what survives, what is cut off, and who is kept out."""

from __future__ import annotations

import os

import pytest

from homeport.agent import state as module
from homeport.agent.state import State, StateLockedError


@pytest.fixture
def reopened(tmp_path):
    """A function that closes what is open and opens the directory again."""
    opened: list[State] = []

    def reopen() -> State:
        for state in opened:
            state.close()
        opened.append(State.open(tmp_path))
        return opened[-1]

    yield reopen
    for state in opened:
        state.close()


def test_records_survive(reopened):
    state = reopened()
    state.put("task", "b", b"2")
    state.put("task", "a", b"1")
    state.put("task", "c", b"3")
    state.put("task", "a", b"changed")
    state.put("other", "a", b"")
    state.delete("task", "c")
    state.delete("task", "never")
    state = reopened()
    assert list(state.load("task").items()) == [("a", b"changed"), ("b", b"2")]
    assert state.get("other", "a") == b""
    assert state.get("task", "c") is None
    assert state.load("nothing") == {}


def test_a_killed_process_loses_nothing_that_was_put(tmp_path):
    child = os.fork()
    if child == 0:
        State.open(tmp_path).put("task", "a", b"1")
        os._exit(9)
    os.waitpid(child, 0)
    state = State.open(tmp_path)
    assert state.load("task") == {"a": b"1"}
    state.close()


@pytest.mark.parametrize("lost", [1, 5, 9, 12])
def test_a_torn_tail_is_cut_off_and_the_rest_stays(tmp_path, lost):
    state = State.open(tmp_path)
    state.put("task", "a", b"1")
    state.put("task", "b", b"2")
    state.close()
    file = tmp_path / "agent.journal"
    os.truncate(file, file.stat().st_size - lost)
    state = State.open(tmp_path)
    assert state.load("task") == {"a": b"1"}
    state.put("task", "c", b"3")
    state.close()
    state = State.open(tmp_path)
    assert state.load("task") == {"a": b"1", "c": b"3"}
    state.close()


def test_a_damaged_record_ends_what_is_believed(tmp_path):
    state = State.open(tmp_path)
    state.put("task", "a", b"1")
    size = (tmp_path / "agent.journal").stat().st_size
    state.put("task", "b", b"2")
    state.close()
    file = tmp_path / "agent.journal"
    data = bytearray(file.read_bytes())
    data[size + 10] ^= 1
    file.write_bytes(data)
    state = State.open(tmp_path)
    assert state.load("task") == {"a": b"1"}
    state.close()


def test_the_file_stays_small(reopened, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_GARBAGE_BYTES_MAX", 1000)
    state = reopened()
    state.put("task", "kept", b"k")
    for number in range(1000):
        state.put("task", "a", b"%d" % number)
    assert (tmp_path / "agent.journal").stat().st_size < 2000
    assert reopened().load("task") == {"a": b"999", "kept": b"k"}


def test_putting_the_same_again_writes_nothing(reopened, tmp_path):
    state = reopened()
    state.put("task", "a", b"1")
    size = (tmp_path / "agent.journal").stat().st_size
    state.put("task", "a", b"1")
    assert (tmp_path / "agent.journal").stat().st_size == size


async def test_sync_returns_with_everything_on_the_disk(reopened):
    state = reopened()
    state.put("task", "a", b"1")
    await state.sync()
    await state.sync()
    assert state.load("task") == {"a": b"1"}


def test_a_second_agent_is_kept_out_and_told_who_is_in(tmp_path):
    state = State.open(tmp_path)
    with pytest.raises(StateLockedError, match=f"pid {os.getpid()}"):
        State.open(tmp_path)
    state.close()
    State.open(tmp_path).close()


def test_the_directory_is_the_owners_alone(tmp_path):
    State.open(tmp_path / "new" / "agent").close()
    assert (tmp_path / "new" / "agent").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "new" / "agent" / "agent.journal").stat().st_mode & 0o777 == 0o600
