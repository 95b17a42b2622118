"""`verify` names the position of every edit, loss and reorder, and holds the log against what was signed."""

from __future__ import annotations

import shutil

import msgspec
import pytest

from homeport.audit import checkpoint
from homeport.audit.checkpoint import Signer, public_key
from homeport.audit.record import NO_HASH, decode, digest, encode
from homeport.audit.verify import verify


@pytest.fixture
async def whole(desk):
    """Two files, records 1 to 22 and 23 to 34, with a checkpoint at the end of each life."""
    await desk.open()
    await desk.calls(20)
    await desk.close()
    desk.journal.go_on("aa" * 32)
    await desk.open()
    await desk.calls(10)
    await desk.close()
    assert desk.problems() == []
    return desk


def lines_of(desk, file: int = 0) -> list[bytes]:
    return desk.files()[file].read_bytes().splitlines(keepends=True)


def write(desk, lines: list[bytes], file: int = 0) -> None:
    desk.files()[file].write_bytes(b"".join(lines))


def test_an_edit(whole):
    lines = lines_of(whole)
    lines[7] = lines[7].replace(b"ListClusters", b"ListServices")
    write(whole, lines)
    flaw = whole.verdict().flaws[0]
    assert flaw.number == 8
    assert "record 8 was edited or replaced" in flaw.problem
    assert flaw.place == "000000000000001.jsonl line 9", "the one after tells"


def test_an_edit_of_the_very_last_record_before_a_checkpoint(whole):
    lines = lines_of(whole, 1)
    lines[-1] = lines[-1].replace(b"ended", b"enden")
    write(whole, lines, 1)
    assert whole.verdict().flaws[0].number == 34


def test_an_edit_that_cannot_be_read(whole):
    lines = lines_of(whole)
    lines[4] = b"{\n"
    write(whole, lines)
    assert whole.verdict().flaws[0].number == 5


def test_a_loss(whole):
    lines = lines_of(whole)
    del lines[5:8]
    write(whole, lines)
    flaw = whole.verdict().flaws[0]
    assert (flaw.number, flaw.problem) == (6, "records 6 to 8 are missing")


def test_a_reorder(whole):
    lines = lines_of(whole)
    lines[5], lines[6] = lines[6], lines[5]
    write(whole, lines)
    assert whole.verdict().flaws[0].number == 6
    assert any("out of order" in problem for problem in whole.problems())


def test_a_record_that_was_put_in_twice(whole):
    lines = lines_of(whole)
    lines.insert(6, lines[5])
    write(whole, lines)
    assert whole.verdict().flaws[0].number == 6


def test_a_cut_tail_is_held_against_the_last_checkpoint(whole):
    write(whole, lines_of(whole, 1)[:4], 1)
    flaw = whole.verdict().flaws[0]
    assert (flaw.number, flaw.place) == (27, checkpoint.FILE)
    assert "records 27 to 34 are missing at the end" in flaw.problem


def test_a_whole_file_that_is_gone(whole):
    whole.files()[1].unlink()
    assert whole.verdict().flaws[0].number == 23


def test_the_oldest_file_gone_without_a_word(whole):
    whole.files()[0].unlink()
    assert "records 1 to 22 are missing" in whole.problems()[0]


def test_a_chain_that_was_written_anew_from_an_edit_on(whole):
    """Whoever edits a record and repairs every hash behind it still meets the signature."""
    forged = []
    previous = NO_HASH
    for line in lines_of(whole):
        record = msgspec.structs.replace(decode(line.strip()), previous=previous)
        if record.number == 8:
            record = msgspec.structs.replace(record, operation="DescribeTasks")
        again = encode(record)
        previous = digest(again)
        forged.append(again + b"\n")
    write(whole, forged)
    whole.files()[1].unlink()
    problems = whole.problems()
    assert "record 22 was edited or replaced: a checkpoint signed another one" in problems


def test_checkpoints_that_were_edited_left_out_or_made_by_another_key(whole):
    path = whole.directory / checkpoint.FILE
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first.replace(b'"number":22', b'"number":21') + second)
    assert "checkpoint 1 was edited" in whole.problems()[0]
    path.write_bytes(second + first)
    assert any("does not follow the one before" in problem for problem in whole.problems())
    path.write_bytes(first + second)
    assert whole.problems() == []
    (whole.data_dir / "audit-key.pem").unlink()
    other = Signer.open(whole.data_dir, whole.directory)
    assert all("another key" in flaw.problem for flaw in verify(whole.directory, other.public).flaws)
    assert len(verify(whole.directory, other.public).flaws) == 2


def test_an_exported_copy_verifies_alone(whole, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(whole.directory, copy)
    key = public_key((copy / checkpoint.PUBLIC_FILE).read_bytes())
    assert verify(copy, key).flaws == ()
    assert verify(copy, key).last == 34


async def test_half_a_checkpoint_is_written_over(whole):
    path = whole.directory / checkpoint.FILE
    with path.open("ab") as file:
        file.write(b'{"installation":"012' + b"3" * 2_000)  # longer than a whole one
    assert whole.problems() == []
    await whole.open()
    await whole.close()
    assert whole.problems() == []
    assert len(checkpoint.lines(whole.directory)) == 3


async def test_a_journal_that_went_back_is_signed_as_such(whole):
    whole.journal.hashes = {0: ""}
    await whole.open()
    await whole.close()
    signed = whole.verdict().checkpoints
    assert [item.went_back for item in signed] == [False, False, True]
    assert any("restored from a backup" in notice for notice in whole.verdict().notices)
    whole.journal.go_on("bb" * 32)
    await whole.open()
    await whole.close()
    assert not whole.verdict().checkpoints[-1].went_back
