"""Decoding in processes gives the bits of one thread, and what was stopped is continued, whole or not at all."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from engine.data import DataRequest, prepare_dataset, survey
from engine.data.cache import open_cache
from engine.data.decoding import decode, decoders
from engine.data.decoding.decode_worker import decode_items
from engine.data.decoding.decoders import Decoders
from engine.data.decoding.pictures import Target
from engine.errors import DataError, WorkerLostError
from engine.events import Event, Notice, Progress
from engine.runtime.generators import run_to_end
from engine.storage.atomic import read_json, write_json
from tests.engine.data.synthetic import file_of, noise, opened_dataset, source_of
from tests.processes import HANGS

COUNT = 300
KILLED = """
import os, signal, sys
from pathlib import Path
import psutil
from engine.data.decoding import decode
from tests.engine.data import synthetic, test_decode
root, processes = Path(sys.argv[1]), int(sys.argv[2])
decode.BATCH, decode.SAVE_EVERY, decode.MANY, decode.cores = 8, 0.0, 0, lambda: processes
decode._Pace.due = lambda self: True
source = synthetic.source_of(test_decode.files())
synthetic.cache.find_source = lambda _: source
for event in synthetic.prepare_dataset(synthetic.DataRequest("made", on_bad_file="skip"), cache=root):
    records = list(root.rglob("progress.json"))
    if records and synthetic.cache.read_json(records[0])["splits"]["train"]["done"] > 100:
        print(*(child.pid for child in psutil.Process().children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def files() -> list[bytes]:
    """Pictures of several kinds and sizes; two are damaged."""
    kinds = [("L", "PNG"), ("RGB", "JPEG"), ("RGBA", "PNG"), ("P", "GIF")]
    made = [file_of(noise(i, (8 + i % 3, 9), kinds[i % 4][0]), kinds[i % 4][1]) for i in range(COUNT)]
    made[40] = made[170] = b"no picture"
    return made


def notices(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Notice)]


@pytest.fixture
def undisturbed(tmp_path: Path) -> str:
    """Fingerprint of `files()` decoded in threads."""
    return opened_dataset(source_of(files()), tmp_path / "undisturbed", on_bad_file="skip")[0].fingerprint


def test_processes_give_the_bits_of_one_thread(
    tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "MANY", 0)
    monkeypatch.setattr(decode, "BATCH", 16)
    monkeypatch.setattr(decode, "cores", lambda: 3)
    before = set(psutil.Process().children())
    found, events = opened_dataset(source_of(files()), tmp_path / "cache", on_bad_file="skip")
    assert found.fingerprint == undisturbed
    assert set(psutil.Process().children()) == before
    assert found.train_images.shape == (COUNT - 2, 3, 32, 32)
    good = np.delete(np.arange(COUNT), [40, 170])
    assert np.array_equal(found.train_labels, good % 2)
    one = decode_items([("x", files()[41])], Target(3, 32))
    assert np.array_equal(found.train_images[40], one.pixels[0])
    assert any("2 bad files were skipped: row 40 cannot be decoded" in words for words in notices(events))


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("packed", [False, True])
def test_processes_decode_folders_and_zips_to_the_bits_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool, fit: Any
) -> None:
    path = tmp_path / "pets"
    for i in range(60):
        (path / f"{i % 3}").mkdir(parents=True, exist_ok=True)
        kind, ending = [("L", "png"), ("RGB", "jpg"), ("RGBA", "webp")][i // 20]
        noise(i, (8 + i % 5, 9), kind).save(path / f"{i % 3}/{i}.{ending}")
    (path / "1/1.png").write_bytes((path / "1/1.png").read_bytes()[:60])  # its header is whole
    if packed:
        path = Path(shutil.make_archive(str(path), "zip", path))
    request = DataRequest("folder", path, resolution=8, on_bad_file="skip", fit=fit)
    threads = run_to_end(prepare_dataset(request, cache=tmp_path / "threads"))
    monkeypatch.setattr(decode, "MANY", 0)
    monkeypatch.setattr(decode, "BATCH", 4)
    monkeypatch.setattr(decode, "cores", lambda: 2)
    started: list[int] = []
    ended = decoders._Process.close
    monkeypatch.setattr(decoders._Process, "close", lambda self: (started.append(1), ended(self)))
    events = prepare_dataset(request, cache=tmp_path / "processes")
    seen: list[Event] = []
    try:
        while True:
            seen.append(next(events))
    except StopIteration as end:
        found = end.value
    assert len(started) == 2
    assert found.fingerprint == threads.fingerprint
    assert any(f"{path}/1/1.png cannot be decoded" in words for words in notices(seen))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_decoding_is_continued_to_the_same_bits(tmp_path: Path, undisturbed: str, processes: int) -> None:
    root = tmp_path / "cache"
    command = [sys.executable, "-c", KILLED, str(root), str(processes)]
    killed = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=HANGS)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    workers = [int(word) for word in killed.stdout.split()]
    assert len(workers) == (2 if processes == 2 else 0)
    for pid in workers:  # they end by themselves
        if psutil.pid_exists(pid):
            psutil.Process(pid).wait(HANGS) if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else None
    record = read_json(next(root.rglob("progress.json")))
    assert record["splits"]["train"]["bad"] == [40]
    read: list[int] = []
    found, events = opened_dataset(source_of(files(), read.append), root, on_bad_file="skip")
    assert found.fingerprint == undisturbed
    assert min(read) > 100
    assert notices(events)[0].startswith("Resuming: ")
    first = next(event for event in events if isinstance(event, Progress) and event.detail.startswith("decoding"))
    assert first.done == record["splits"]["train"]["done"]
    manifest = read_json(found.folder / "manifest.json")
    assert len(manifest["left_out"]) == 2
    assert not list(root.rglob("*.tmp-*")) and not list(root.rglob("progress.json"))


def stopped(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a decoding that was stopped in the middle."""
    from engine.data import cache, prepare_dataset
    from engine.data.request import DataRequest

    with monkeypatch.context() as patched:
        patched.setattr(decode, "BATCH", 8)
        patched.setattr(decode, "SAVE_EVERY", 0.0)
        patched.setattr(decode._Pace, "due", lambda self: True)
        patched.setattr(cache, "find_source", lambda _: source_of(files()))
        opening = prepare_dataset(DataRequest("made", on_bad_file="skip"), cache=root)
        for event in opening:
            if isinstance(event, Progress) and event.detail.startswith("decoding") and event.done > 200:
                break
        opening.close()
    return next((root / "datasets").glob("*.tmp-*"))


@pytest.mark.parametrize("damage", ["none", "flip", "truncate", "record", "plan", "remove"])
def test_only_whole_work_is_continued(
    tmp_path: Path, undisturbed: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cache"
    folder = stopped(root, monkeypatch)
    images, record = folder / "train_images.npy", folder / "progress.json"
    data = bytearray(images.read_bytes())
    if damage == "flip":
        data[200] ^= 1
        images.write_bytes(data)
    elif damage == "truncate":
        images.write_bytes(data[:300])
    elif damage == "remove":
        images.unlink()
    elif damage == "record":
        record.write_text(record.read_text()[:-9])
    elif damage == "plan":
        write_json(record, {**read_json(record), "plan": "another"})
    read: list[int] = []
    found, events = opened_dataset(source_of(files(), read.append), root, on_bad_file="skip")
    assert found.fingerprint == undisturbed
    assert (min(read) > 0) == (damage == "none")
    assert any(words.startswith("Resuming") for words in notices(events)) == (damage == "none")
    assert [path.name for path in (root / "datasets").iterdir() if ".tmp-" in path.name] == []


def test_a_stop_before_anything_is_saved_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.data import cache, prepare_dataset
    from engine.data.request import DataRequest

    monkeypatch.setattr(cache, "find_source", lambda _: source_of(files()))
    opening = prepare_dataset(DataRequest("made", on_bad_file="skip"), cache=tmp_path)
    for event in opening:
        if isinstance(event, Progress) and event.unit == "images":
            break
    opening.close()
    assert list(tmp_path.rglob("*.tmp-*")) == []


def test_a_bad_file_ends_it_and_leaves_nothing_to_continue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(decode, "BATCH", 8)
    with pytest.raises(DataError, match=r"2 images of made cannot be read.*row 40 cannot be read.*on_bad_file = skip"):
        opened_dataset(source_of(files()), tmp_path)
    behind = files()
    behind[40], behind[170] = behind[44][:-30], behind[44]  # damaged behind its header
    with pytest.raises(DataError, match=r"row 40 cannot be decoded.*on_bad_file = skip"):
        opened_dataset(source_of(behind), tmp_path)
    assert list(tmp_path.rglob("*.tmp-*")) == []


def test_a_process_that_dies_is_named_and_its_work_is_kept(tmp_path: Path) -> None:
    with Decoders(Target(1, 8), 1) as pool:
        pool._processes[0]._process.kill()
        with pytest.raises(WorkerLostError, match=r"ended by signal 9.*at row 0 or one of the 1 images after it"):
            list(pool.decode(iter([[("row 0", file_of(noise(0))), ("row 1", file_of(noise(1)))]])))


def test_batches_are_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = decoders.decode_items

    def counted(items: Any, target: Target) -> Any:
        items = list(items)
        sizes.append(len(items))
        return real(items, target)

    monkeypatch.setattr(decoders, "decode_items", counted)
    monkeypatch.setattr(decode, "BATCH_BYTES", 40 * 8 * 8)
    opened_dataset(source_of([file_of(noise(i)) for i in range(100)]), tmp_path)
    assert max(sizes) <= 40 and sum(sizes) == 102


def test_a_colour_picture_that_nobody_looked_at_is_not_made_grey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "MOST_LOOKED", 20)
    monkeypatch.setattr(survey, "BLOCK", 5)
    pictures = [noise(i) for i in range(100)]
    pictures[98] = noise(98, mode="RGB")
    found, events = opened_dataset(source_of([file_of(picture) for picture in pictures]), tmp_path)
    assert found.report is not None and found.report.looked < 40
    assert found.train_images.shape == (100, 3, 8, 8)
    assert np.array_equal(found.train_images[3], np.stack([np.asarray(pictures[3])] * 3))
    assert np.array_equal(found.train_images[98], np.moveaxis(np.asarray(pictures[98]), 2, 0))
    assert any("row 98 is in colour" in words for words in notices(events))
    assert found.report.channels.value == "3"
    assert open_cache(found.folder).channels == 3


def test_what_the_report_said_is_not_told_again(tmp_path: Path) -> None:
    files = [file_of(noise(i, (9, 8))) for i in range(60)]
    files[5] = files[6] = b"no picture"
    found, events = opened_dataset(source_of(files), tmp_path, on_bad_file="skip", resolution=8)
    told = notices(events)
    assert not any(
        "were resized" in words or "not square" in words for words in told
    )  # all were looked at, or all are so
    assert found.report is not None
    (kind,) = found.report.listing.left_out
    assert (kind.what, kind.reason) == ("2 images", "they cannot be read (dataset.on_bad_file = skip)")


def test_sizes_that_nobody_looked_at_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "MOST_LOOKED", 20)
    monkeypatch.setattr(survey, "BLOCK", 5)
    pictures = [noise(i, (12, 8) if i in (98, 99) else (8, 8)) for i in range(100)]
    found, events = opened_dataset(source_of([file_of(picture) for picture in pictures]), tmp_path)
    told = notices(events)
    assert "2 images were not 8 x 8, as those that were looked at, and were resized." in told
    assert any(words.startswith("2 of 102 images are not square: the longer side is cropped") for words in told)
    assert found.report is not None and found.report.fit.why.startswith("2 of 102 images are not square")


def test_the_report_tells_what_was_left_out(tmp_path: Path) -> None:
    made = [file_of(noise(i)) for i in range(20)]
    made[7] = made[7][:50]
    found, _ = opened_dataset(source_of(made), tmp_path, on_bad_file="skip")
    assert found.report is not None
    (kind,) = found.report.listing.left_out
    assert kind.count == 1 and "row 7" in kind.examples[0]
    assert [(one.name, one.train) for one in found.report.classes] == [("a", 10), ("b", 9)]


def test_an_entry_without_a_report_opens(tmp_path: Path) -> None:
    found, _ = opened_dataset(source_of([file_of(noise(i)) for i in range(4)]), tmp_path)
    path = found.folder / "manifest.json"
    manifest = read_json(path)
    del manifest["report"]
    path.write_text(json.dumps(manifest))
    assert open_cache(found.folder).report is None
    assert open_cache(found.folder).fingerprint == found.fingerprint


def test_unfinished_folders_of_other_entries_are_swept_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import time

    from engine.data.decoding.unfinished import sweep_unfinished
    from engine.storage.temp_files import OLD

    folder = stopped(tmp_path, monkeypatch)
    sweep_unfinished(folder.parent)
    assert folder.exists()
    old = time.time() - OLD - 60
    for path in (folder / "progress.json", folder):
        os.utime(path, (old, old))
    sweep_unfinished(folder.parent)
    assert not folder.exists()
