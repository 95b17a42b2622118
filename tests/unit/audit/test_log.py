"""The audit log of one server: numbered, chained, on the disk; what a crash, a full disk and its own age make of it."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any

import msgspec
import pytest

from homeport.audit.record import LOST, MENDED, PRUNED, Record, decode, encode
from homeport.audit.writer import Writer
from homeport.errors import ServiceUnavailableError


def records(desk) -> list[Record]:
    return [decode(line) for path in desk.files() for line in path.read_bytes().splitlines()]


async def test_records_are_numbered_without_gaps_and_verify(desk):
    await desk.open()
    await desk.calls(20)
    await desk.close()
    told = records(desk)
    assert [record.number for record in told] == list(range(1, len(told) + 1))
    assert [record.kind for record in told] == ["segment", *["call"] * 20, "ended"]
    verdict = desk.verdict()
    assert (verdict.flaws, verdict.notices) == ((), ())
    assert (verdict.first, verdict.last, verdict.records) == (1, 22, 22)


async def test_another_life_goes_on_in_a_new_file_of_the_same_chain(desk):
    await desk.open()
    await desk.calls(3)
    await desk.close()
    end = await desk.open()
    assert not end.unclean
    await desk.calls(2)
    await desk.close()
    assert len(desk.files()) == 2
    assert desk.problems() == []


async def test_a_record_is_on_the_disk_within_a_second_of_its_own_accord(desk):
    await desk.open()
    desk.call()
    assert desk.files() == []
    await desk.clock.advance(1.0)
    await desk.log.in_thread(lambda: None)
    for _ in range(3):
        await asyncio.sleep(0)
    assert desk.log.head.number == 2
    assert [record.operation for record in records(desk)] == ["", "ListClusters"]
    await desk.close()


async def test_time_in_the_log_never_runs_backwards(desk):
    await desk.open()
    desk.call()
    desk.clock._now -= 50.0
    desk.call()
    await desk.close()
    told = records(desk)
    assert sorted(record.instant for record in told) == [record.instant for record in told]


async def test_a_full_file_is_followed_by_another(desk):
    await desk.open(audit_segment_bytes_max=600)
    await desk.calls(12)
    await desk.close()
    assert len(desk.files()) > 2
    assert [int(path.stem) for path in desk.files()] == [records_of[0].number for records_of in by_file(desk)]
    assert desk.problems() == []


def by_file(desk) -> list[list[Record]]:
    return [[decode(line) for line in path.read_bytes().splitlines()] for path in desk.files()]


@pytest.mark.parametrize("left", [b'{"number":7,"prev', b"\0" * 900, b'{"number":7,"prev' + b"\0" * 40])
async def test_half_a_record_at_the_end_is_cut_off_and_told(desk, left):
    await desk.open()
    await desk.calls(3)
    await desk.crash()
    with desk.files()[-1].open("ab") as file:
        file.write(left)
    end = await desk.open()
    assert (end.number, end.torn_bytes, end.problem, end.unclean) == (4, len(left), "", True)
    await desk.calls(1)
    await desk.close()
    mended = next(record for record in records(desk) if record.kind == MENDED)
    assert mended.facts == {"bytes": len(left)}
    verdict = desk.verdict()
    assert verdict.flaws == ()
    assert any(f"{len(left)} bytes" in notice for notice in verdict.notices)
    assert any("did not end in order" in notice for notice in verdict.notices)


async def test_a_file_that_was_hardly_begun_is_no_flaw(desk):
    await desk.open()
    await desk.calls(3)
    await desk.crash()
    (desk.directory / "000000000000005.jsonl").write_bytes(b"")
    await desk.open()
    await desk.close()
    assert desk.problems() == []


async def test_anything_else_at_the_end_is_left_and_reported(desk):
    await desk.open()
    await desk.calls(3)
    await desk.crash()
    path = desk.files()[-1]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + b"no record\n")
    end = await desk.open()
    assert "cannot be read" in end.problem
    await desk.close()
    assert path.read_bytes().endswith(b"no record\n"), "evidence is left alone"
    assert desk.verdict().flaws[0].number == 4


class Full:
    """A disk that can be full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        pwrite = os.pwrite

        def write(descriptor: int, data: Any, place: int) -> int:
            if self.full:
                pwrite(descriptor, bytes(data)[:7], place)  # some of it gets there
                raise OSError(errno.ENOSPC, "No space left on device")
            return pwrite(descriptor, data, place)

        monkeypatch.setattr("homeport.audit.writer.os.pwrite", write)


async def retried(desk) -> None:
    await desk.clock.advance(1.1)
    await desk.log.in_thread(lambda: None)
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_cannot_be_written_is_kept_and_written_later(desk, monkeypatch):
    disk = Full(monkeypatch)
    await desk.open()
    await desk.calls(2)
    disk.full = True
    desk.call("First")
    with pytest.raises(ServiceUnavailableError, match="No space left"):
        await desk.log.durable()
    desk.call("Second")
    assert desk.log.admits, "hold: records wait in memory"
    disk.full = False
    await retried(desk)
    await desk.close()
    assert [record.operation for record in records(desk)][-3:-1] == ["First", "Second"]
    assert desk.problems() == []


async def test_with_no_room_left_calls_wait_and_are_refused(desk, monkeypatch):
    disk = Full(monkeypatch)
    await desk.open(audit_pending_bytes_max=500)
    await desk.log.durable()
    disk.full = True
    for _ in range(5):
        desk.call()
    with pytest.raises(ServiceUnavailableError):
        await desk.log.durable()
    assert not desk.log.admits
    with pytest.raises(ServiceUnavailableError, match="No space left"):
        await desk.log.room()
    for _ in range(20):  # those that were being served
        desk.call()
    disk.full = False
    await retried(desk)
    assert desk.log.admits
    await desk.close()
    lost = next(record for record in records(desk) if record.kind == LOST)
    calls = sum(record.kind == "call" for record in records(desk))
    assert calls + (lost.facts or {})["records"] == 25, "each is there or counted"
    assert desk.problems() == []
    assert any("could not be written" in notice for notice in desk.verdict().notices)


@pytest.mark.parametrize(("mode", "served"), [("refuse", False), ("hold", True), ("serve", True)])
async def test_a_setting_says_what_happens_while_nothing_can_be_written(desk, monkeypatch, mode, served):
    disk = Full(monkeypatch)
    await desk.open(audit_write_failure=mode)
    await desk.log.durable()
    disk.full = True
    desk.call()
    with pytest.raises(ServiceUnavailableError):
        await desk.log.durable()
    assert desk.log.admits is served
    disk.full = False
    await desk.close()


async def test_serve_goes_on_beyond_all_room(desk, monkeypatch):
    disk = Full(monkeypatch)
    await desk.open(audit_write_failure="serve", audit_pending_bytes_max=500)
    await desk.log.durable()
    disk.full = True
    for _ in range(30):
        desk.call()
    assert desk.log.admits
    disk.full = False
    await desk.close()
    assert any(record.kind == LOST for record in records(desk))


async def test_old_files_go_and_the_log_says_so(desk):
    await desk.open(audit_segment_bytes_max=600, audit_retention_seconds=1000.0)
    await desk.calls(10)
    await desk.keeper.sign()
    before = len(desk.files())
    assert await desk.keeper.prune() == 0
    await desk.clock.advance(1200.0)
    await desk.calls(1)
    assert await desk.keeper.prune() > 0
    await desk.close()
    assert len(desk.files()) < before
    told = next(record for record in records(desk) if record.kind == PRUNED)
    assert (told.facts or {})["through"] == int(desk.files()[0].stem) - 1
    verdict = desk.verdict()
    assert verdict.flaws == ()
    assert any("removed by retention" in notice for notice in verdict.notices)


async def test_the_oldest_files_go_when_it_is_too_much(desk):
    await desk.open(audit_segment_bytes_max=600, audit_bytes_max=2_000)
    await desk.calls(30)
    await desk.keeper.prune()
    await desk.close()
    assert sum(path.stat().st_size for path in desk.files()) < 3_500
    assert desk.problems() == []


async def test_files_are_readable_by_their_owner_alone(desk):
    await desk.open()
    await desk.calls(1)
    await desk.close()
    key = desk.data_dir / "audit-key.pem"
    for path in (*desk.files(), desk.directory / "checkpoints.jsonl", key):
        assert path.stat().st_mode & 0o077 == 0
    assert key.parent != desk.directory, "the key does not lie in what it signs"


async def test_a_writer_never_writes_over_a_file(tmp_path):
    (tmp_path / "000000000000001.jsonl").write_bytes(b"evidence\n")
    with pytest.raises(FileExistsError):
        Writer(tmp_path).write([_batch("000000000000001.jsonl", [b"{}\n"])])


def _batch(segment: str, lines: list[bytes]) -> Any:
    from homeport.audit.writer import Batch

    return Batch(segment, lines)


def test_a_record_reads_back_as_it_was_written():
    given = Record(number=1, previous="", instant=1.0, kind="call", parameters=msgspec.Raw(b'{"a":[1]}'), response=msgspec.Raw(b"{}"))
    back = decode(encode(given))
    assert (back.parameters, back.response) == ({"a": [1]}, {})
    assert encode(back) == encode(given)


def test_a_record_without_members_is_short():
    record = Record(number=1, previous="", instant=1.0, kind="call")
    assert msgspec.json.encode(record) == b'{"number":1,"previous":"","instant":1.0,"kind":"call"}'
