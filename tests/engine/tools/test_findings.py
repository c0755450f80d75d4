"""What `tesla doctor` prints reads as sentences, and a repair moves only what is damaged, and still is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch

from engine.data import cache_root
from engine.errors import BusyError
from engine.runs.preview_frames import frame_path
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.tools.doctor import examine_machine, examine_workspace
from engine.tools.doctor.finding import Finding, damaged, examined, left, left_by
from engine.training.teacher_buffer import TeacherBuffer


def test_a_finding_and_its_repair_are_sentences(tmp_path: Path) -> None:
    rest, bad = tmp_path / "rest", tmp_path / "bad"
    for path in (rest, bad):
        path.write_text("x")
    found = left("run r", rest, words=f"{rest} was left; nothing uses it")
    assert found.repair is not None
    assert f"{found.words} {found.repair()}" == f"{rest} was left; nothing uses it. Removed."
    found = damaged("run r", f"{bad} is damaged.", bad, then="It is made again.")
    assert found.repair is not None
    moved = f"{found.words} {found.repair()}"
    assert moved == f"{bad} is damaged. It is made again. Moved to {tmp_path / 'damaged' / 'bad'}."


def test_a_file_that_took_the_place_of_a_folder_is_kept(tmp_path: Path) -> None:
    lock = tmp_path / ".driver.lock"
    lock.mkdir()
    found = damaged("run r", f"{lock} is a folder in the place of a lock.", lock)
    lock.rmdir()
    lock.write_bytes(b"")  # by a driver that came since
    assert found.repair is not None
    assert "damaged" not in found.repair() and lock.is_file()


def test_a_repair_looks_again_while_it_holds_the_lock(tmp_path: Path) -> None:
    bad, seen = tmp_path / "bad", []

    @contextmanager
    def lock() -> Iterator[None]:
        seen.append("taken")
        yield
        seen.append("released")

    def examine() -> Iterator[Finding]:
        seen.append("examined")
        if bad.exists():
            yield damaged("run r", f"{bad} is damaged: {bad.read_text()}.", bad)

    def found() -> Callable[[], str]:
        bad.write_text("x")
        (finding,) = examined(examine, lock)
        assert finding.repair is not None
        seen.clear()
        return finding.repair

    assert "Moved to" in found()() and seen == ["taken", "examined", "released"]
    for change in (bad.unlink, partial(bad.write_text, "other")):  # repaired by another process, or damaged anew
        repair = found()
        change()
        assert "nothing was changed" in repair()
        assert seen == ["taken", "examined", "released"] and (not bad.exists() or bad.read_text() == "other")


def test_only_what_its_writer_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tmp-1"
    path.write_text("x")
    monkeypatch.setattr("engine.tools.doctor.finding.is_leftover", lambda path: True)
    (found,) = examined(partial(left_by, "leftover", path, "left"))
    assert found.repair is not None
    monkeypatch.setattr("engine.tools.doctor.finding.is_leftover", lambda path: False)
    assert "nothing was changed" in found.repair() and path.exists()


PARTS: dict[str, Callable[[Run], Path]] = {
    "settings": lambda run: run.settings_file,
    "journal": lambda run: run.journal_file,
    "checkpoint": lambda run: run.folder / "checkpoints" / f"{max(run.checkpoints()):07d}.safetensors",
    "evaluation": lambda run: next((run.folder / "evaluations").glob("*.json")),
    "preview": lambda run: frame_path(run.film, max(run.checkpoints())),
    "teacher": lambda run: next((run.folder.parents[1] / "buffers").rglob("trajectory-*.safetensors")),
    "record": lambda run: run.folder / "driver.json",
}


def test_what_became_whole_is_left_alone(tiny_run: Callable[..., Run], workspace: Workspace) -> None:
    """Examined while damaged, then repaired by another process that came and went: nothing is moved."""
    run = tiny_run("r")
    for name, part in PARTS.items():
        path = part(run)
        good = path.read_bytes()
        lines = good.splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:1] + lines[2:]) if name == "journal" else good[: len(good) // 2])
        repairs = [found.repair for found in examine_workspace(workspace.folder) if found.repair]
        assert repairs, name
        path.write_bytes(good)
        for repair in repairs:
            assert "nothing was changed" in repair(), name
        assert path.exists() and (name == "record" or path.read_bytes() == good), name
    assert not list(workspace.folder.rglob("damaged"))
    assert all(found.good for found in examine_workspace(workspace.folder))


def test_a_cached_dataset_that_was_decoded_again_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESLA_CACHE", str(tmp_path))
    entry = cache_root() / "datasets" / "odd"
    entry.mkdir(parents=True)
    problems = ["images are missing"]
    monkeypatch.setattr("engine.tools.doctor.machine.verify_cache", lambda entry: problems)
    (found,) = [found for found in examine_machine() if found.what == "cached odd"]
    assert found.repair is not None
    problems.clear()
    assert "nothing was changed" in found.repair() and entry.is_dir()


def test_the_manifest_waits_for_a_teacher_in_training(tiny_run: Callable[..., Run], workspace: Workspace) -> None:
    """`tesla teach` drives no run, but holds what it trains."""
    tiny_run("r")
    path = next(workspace.folder.rglob("manifest.json"))
    path.write_bytes(b"")
    (repair,) = [found.repair for found in examine_workspace(workspace.folder) if found.repair]
    claim = TeacherBuffer(path.parent, {}).claim(7)
    assert claim.try_acquire() is None
    with claim, pytest.raises(BusyError, match=r"is training teacher 7; nothing was changed"):
        repair()
    assert path.read_bytes() == b"" and not list(workspace.folder.rglob("damaged"))
    assert repair().startswith("Moved to ") and path.stat().st_size


def test_cuda_is_told_with_its_driver_and_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "is_available": True, "device_count": 1, "mem_get_info": (10**9, 2 * 10**9),
        "get_device_name": "NVIDIA H200", "get_device_capability": (9, 0),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    for driver, words in (("580.159.04", "580.159.04"), (None, "unknown")):
        monkeypatch.setattr("engine.tools.doctor.machine.driver_version", lambda driver=driver: driver)
        found = {finding.what: finding for finding in examine_machine()}
        assert found["CUDA"].good and found["CUDA"].words == f"13.0, cuDNN 91900, driver {words}"
        assert found["cuda:0"].words.startswith("NVIDIA H200 (compute capability 9.0), 1.0 GB of 2.0 GB free")
