"""The journal: lines that are torn or foreign are skipped; followed from an offset."""

from pathlib import Path

from engine.events import Notice, Progress
from engine.runs.journal import JournalWriter, last_entry, read_journal, repair_journal
from engine.storage.atomic import read_json, write_json


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


def test_a_path_that_is_not_unicode_is_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    JournalWriter(path).append(Notice(level="info", message="/data/\udcff/cats"))
    with open(path, "ab") as file:
        file.write(b"damaged\n")
    repair_journal(path)
    assert [entry.event.message for entry, _ in read_journal(path)] == ["/data/\udcff/cats"]  # type: ignore[attr-defined]
    record = tmp_path / "record.json"
    write_json(record, {"place": "/data/\udcff/cats"})
    assert read_json(record)["place"] == "/data/\udcff/cats"


def test_the_journal_is_followed_from_an_offset(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    writer = JournalWriter(path)
    writer.append(Notice(level="info", message="one"))
    offset = next(read_journal(path))[1]
    assert list(read_journal(path, offset)) == []
    with open(path, "ab") as file:
        file.write(b'{"schema": 1, "seq": 1,')  # being written
    assert list(read_journal(path, offset)) == []
