"""Files are whole or absent."""

import contextlib
import errno
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from engine import storage
from engine.errors import CorruptFileError
from engine.events import Notice, Progress
from engine.journal import JournalWriter, last_entry, read_journal
from engine.storage import publishing_folder, read_tensors, write_bytes, write_json, write_tensors

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}


def test_tensors_come_back_with_their_record(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.safetensors"
    write_tensors(path, TENSORS, {"iteration": 3})
    tensors, record = read_tensors(path)
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert record["iteration"] == 3


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "no record", "record", "no tensors", "newer"])
def test_every_damage_is_noticed(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {})
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
        path.write_bytes(data)
    elif damage == "truncate":
        path.write_bytes(data[:-5])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no record":
        path.with_suffix(".json").unlink()
    elif damage == "record":
        path.with_suffix(".json").write_text("{")
    elif damage == "no tensors":
        path.unlink()
    else:
        text = path.with_suffix(".json").read_text().replace('"format": 1', '"format": 99')
        path.with_suffix(".json").write_text(text)
    with pytest.raises(CorruptFileError, match=r"x\.(safetensors|json)"):
        read_tensors(path)


class FailingDisk(storage.Disk):
    """Fails at the n-th call of a save, as a full disk does."""

    def __init__(self, at: int) -> None:
        self.left = at

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    def write_parts(self, path: Path, parts: Iterable[bytes | memoryview]) -> None:
        self._count()
        super().write_parts(path, parts)

    def fsync(self, path: Path) -> None:
        self._count()
        super().fsync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)


@pytest.mark.parametrize("at", range(8))
def test_a_save_that_fails_anywhere_leaves_the_old_pair_or_a_whole_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    old, new = tmp_path / "0000001.safetensors", tmp_path / "0000002.safetensors"
    write_tensors(old, TENSORS, {"iteration": 1})
    monkeypatch.setattr(storage, "disk", FailingDisk(at))
    with pytest.raises(OSError, match="No space left"):
        write_tensors(new, {"a": torch.ones(2)}, {"iteration": 2})
    assert read_tensors(old)[1]["iteration"] == 1
    with contextlib.suppress(CorruptFileError):
        assert read_tensors(new)[1]["iteration"] == 2
    assert not list(tmp_path.glob("*.tmp-*"))


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(RuntimeError), publishing_folder(target) as temp:
        write_bytes(temp / "a", b"1")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with publishing_folder(target) as temp:
        write_bytes(temp / "a", b"1")
    assert (target / "a").read_bytes() == b"1"


def test_json_refuses_numbers_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_the_journal_passes_over_torn_and_foreign_lines(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    writer = JournalWriter(path)
    writer.append(Notice(level="info", message="one"))
    writer.append(Progress(stage="data", done=1, total=2, unit="images"))  # never kept
    with open(path, "ab") as file:
        file.write(b'{"seq": 1, "kind": "Unknown"}\n{"torn": ')
    assert [entry.event.message for entry, _ in read_journal(path)] == ["one"]  # type: ignore[attr-defined]
    writer = JournalWriter(path)  # a new driver after a kill
    writer.append(Notice(level="info", message="two"))
    entries = [entry for entry, _ in read_journal(path)]
    assert [entry.event.message for entry in entries] == ["one", "two"]  # type: ignore[attr-defined]
    assert [entry.seq for entry in entries] == [0, 1]
    last = last_entry(path)
    assert last is not None
    assert last.seq == 1


def test_the_journal_is_followed_from_an_offset(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    writer = JournalWriter(path)
    writer.append(Notice(level="info", message="one"))
    offset = next(read_journal(path))[1]
    assert list(read_journal(path, offset)) == []
    with open(path, "ab") as file:
        file.write(b'{"schema": 1, "seq": 1,')  # being written
    assert list(read_journal(path, offset)) == []
