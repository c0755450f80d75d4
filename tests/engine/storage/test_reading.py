"""A refused read is not damage, whatever the file is: nothing is set aside, computed again or removed because of it."""

import errno
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data import prepare_dataset
from engine.data.cache import verify_cache
from engine.data.decoding.pictures import load_picture, open_header
from engine.data.decoding.unfinished import read_record
from engine.data.registry import _kinds_in
from engine.data.rows import Rows
from engine.errors import CorruptFileError, UnreadableFileError
from engine.runs.journal import read_journal
from engine.runs.run import Run
from engine.runs.selection import is_unimproved
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.storage.atomic import disk, read_json, read_tensors, sha256_file, write_json, write_tensors
from engine.storage.checksums import SUMS, folder_sums, sum_problems
from engine.storage.lock import LeaseLock
from engine.storage.reading import is_file, names_in, open_to_read, status_of
from engine.storage.tensors import read_rows
from engine.storage.untrusted import read_bounded
from engine.tools.doctor import examine_workspace
from engine.tools.exchange.set_files import sibling
from engine.tools.exchange.torch_reader import examine, file_size, is_archive, load
from engine.training.teacher_buffer import TeacherBuffer
from tests.conftest import Drive
from tests.faults import Refusing
from tests.runs import assert_same_bits, stop_at_iteration

REFUSALS = ("EMFILE", "EROFS", "ESTALE", "EACCES", "ETIMEDOUT", "EIO", "ENFILE", "ENOMEM")


@pytest.fixture(autouse=True)
def own_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test installs ends with it."""
    monkeypatch.setattr(disk, "system", disk.system)


def refuse(pattern: str, how: str, call: str = "open", times: float = 1) -> Refusing:
    system = Refusing(pattern, how, call, times)
    disk.system = system
    return system


def reads(tmp_path: Path) -> dict[str, Callable[[], object]]:
    """One read of each kind of reader."""
    write_json(tmp_path / "a.json", {"format": 1})
    write_tensors(tmp_path / "b.safetensors", {"x": torch.zeros(2, 3)}, {})
    torch.save([torch.zeros(2)], tmp_path / "c.pt")
    (tmp_path / "d.txt").write_text("one\n")
    source = run_to_end(examine(tmp_path / "c.pt", 0, 1))
    return {
        "a.json": lambda: read_json(tmp_path / "a.json"),
        "b.safetensors": lambda: read_tensors(tmp_path / "b.safetensors"),
        "b.json": lambda: read_tensors(tmp_path / "b.safetensors"),
        "b.safetensors ": lambda: read_rows(tmp_path / "b.safetensors", "x", [0]),
        "b.safetensors  ": lambda: sha256_file(tmp_path / "b.safetensors"),
        "c.pt": lambda: is_archive(tmp_path / "c.pt"),
        "c.pt ": lambda: run_to_end(examine(source.path, 0, 1)),
        "d.txt": lambda: read_bounded(tmp_path / "d.txt", 100),
        "d.txt ": lambda: load_picture(tmp_path / "d.txt"),
        "d.txt  ": lambda: open_header(tmp_path / "d.txt"),
    }


@pytest.mark.parametrize("how", REFUSALS)
@pytest.mark.parametrize("call", ["open", "read"])
def test_every_reader_tells_a_refusal_from_damage(tmp_path: Path, how: str, call: str) -> None:
    for name, read in reads(tmp_path).items():
        system = refuse(f"/{name.strip()}$", how, call)
        with pytest.raises(UnreadableFileError) as caught:
            read()
        assert system.refused == 1
        assert not isinstance(caught.value, OSError | CorruptFileError)
        assert str(tmp_path / name.strip()) in caught.value.message
        assert os.strerror(caught.value.errno or 0) in caught.value.message
        assert "run the same command again" in caught.value.hint


def test_wrong_bytes_and_missing_files_are_what_they_were(tmp_path: Path) -> None:
    reads(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "none", 10)
    with pytest.raises(CorruptFileError, match="not a regular file"):
        read_bounded(tmp_path, 10)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(CorruptFileError):
        read_json(tmp_path / "a.json")
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(CorruptFileError, match="missing"):
        read_tensors(tmp_path / "b.safetensors")
    assert status_of(tmp_path / "none") is None
    assert not is_file(tmp_path)
    assert names_in(tmp_path / "none") == []


@pytest.mark.parametrize("how", REFUSALS)
def test_a_refused_folder_is_not_an_empty_one(tmp_path: Path, how: str) -> None:
    run = Run(tmp_path / "runs" / "r")
    run.save_checkpoint({"x": torch.zeros(1)}, {"iteration": 3})
    assert run.checkpoints() == [3]
    refuse("/checkpoints$", how, "names")
    with pytest.raises(UnreadableFileError, match="checkpoints"):
        run.checkpoints()
    refuse("/settings.toml$", how, "status")
    with pytest.raises(UnreadableFileError, match=r"settings\.toml"):
        _ = run.exists


@pytest.mark.parametrize("how", REFUSALS)
def test_a_refused_look_is_not_absence(workspace: Workspace, tmp_path: Path, how: str) -> None:
    run = workspace.run("r")
    torch.save([torch.zeros(2)], tmp_path / "images_best.pt")
    looks: dict[str, Callable[[], object]] = {
        "/ws$": lambda: Workspace(workspace.folder),
        r"/tesla\.toml$": lambda: Workspace.check_new(workspace.folder),
        r"/settings\.toml$": lambda: workspace.run("aux"),  # may exist: it is not said to be no name
        r"/trajectory-0000\.part": lambda: TeacherBuffer(tmp_path / "b", {}).cut_off(0),
        r"/r/origin\.json$": lambda: is_unimproved(run, workspace.settings().settings, 0),
        r"/images_best\.pt$": lambda: file_size(tmp_path / "images_best.pt"),
        r"/labels_best\.pt$": lambda: sibling(tmp_path / "images_best.pt", "labels"),
        r"/kept$": lambda: sum_problems(tmp_path),
    }
    (tmp_path / "kept").write_text("x")
    (tmp_path / SUMS).write_text(folder_sums(tmp_path))
    for pattern, look in looks.items():
        system = refuse(pattern, how, "status")
        with pytest.raises(UnreadableFileError):
            look()
        assert system.refused == 1, pattern


def test_a_refused_folder_inside_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "a").mkdir(parents=True)
    real = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("/a"):
            raise OSError(24, "Too many open files", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UnreadableFileError, match="/data/a cannot be read now"):
        _kinds_in(tmp_path / "data")


@pytest.mark.parametrize("how", REFUSALS)
@pytest.mark.parametrize("call", ["open", "read"])
def test_a_holder_whose_record_is_refused_is_not_replaced(tmp_path: Path, how: str, call: str) -> None:
    lease = LeaseLock(tmp_path / ".lock", tmp_path / "owner.json")
    assert lease.try_acquire() is None
    lease.release()
    kept = (tmp_path / "owner.json").read_bytes()
    refuse("/owner.json$", how, call, times=float("inf"))
    with pytest.raises(UnreadableFileError, match=r"owner\.json"):
        lease.try_acquire()
    assert not lease.held
    assert (tmp_path / "owner.json").read_bytes() == kept
    assert not (tmp_path / "damaged").exists()


@pytest.mark.parametrize("limit", ["EMFILE", "ESTALE"])
def test_a_cached_dataset_that_cannot_be_read_is_not_decoded_again(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    request = workspace.data_request(workspace.settings().settings)
    dataset = run_to_end(prepare_dataset(request, cache=tmp_path / "cache"))
    before = {path: path.stat().st_mtime_ns for path in dataset.folder.iterdir()}
    for pattern, call in (("manifest.json$", "open"), ("images.npy$", "read"), ("labels.npy$", "status")):
        refuse(pattern, limit, call)
        with pytest.raises(UnreadableFileError):
            verify_cache(dataset.folder)
        refuse(pattern, limit, call)
        with pytest.raises(UnreadableFileError):
            run_to_end(prepare_dataset(request, cache=tmp_path / "cache"))
    assert {path: path.stat().st_mtime_ns for path in dataset.folder.iterdir()} == before


def test_a_stopped_decoding_is_not_forgotten(tmp_path: Path) -> None:
    from engine.data.decoding.unfinished import RECORD

    (tmp_path / RECORD).write_text("{")
    assert read_record(tmp_path, "plan", 1).done == 0  # damage: it starts over
    refuse(RECORD, "EIO")
    with pytest.raises(UnreadableFileError):
        read_record(tmp_path, "plan", 1)


def test_rows_of_a_share_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 1, 2, 2), dtype=np.uint8))
    rows = Rows(np.load(tmp_path / "x.npy", mmap_mode="r"), mapped=False)

    def stale(*_: object) -> int:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(os, "preadv", stale)
    with pytest.raises(UnreadableFileError, match="Stale file handle"):
        rows.read(np.array([1]))


def test_an_archive_of_tensors_that_torch_cannot_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save([torch.zeros(2)], tmp_path / "c.pt")
    source = run_to_end(examine(tmp_path / "c.pt", 0, 1))

    def full(*_: object, **__: object) -> object:
        raise RuntimeError(f"unable to open file <{tmp_path / 'c.pt'}> in read-only mode: Too many open files (24)")

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(UnreadableFileError, match="Too many open files"):
        load(source)


def test_pictures_in_an_archive_that_is_away_are_not_left_out(tmp_path: Path) -> None:
    from engine.data.folders.archive import list_zip

    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("train/a/1.png", b"x" * 30)
    tree = list_zip(tmp_path / "set.zip")
    assert tree.reader.read("train/a/1.png", 100) == b"x" * 30
    refuse(r"set\.zip$", "ESTALE", "read")
    with pytest.raises(UnreadableFileError):
        tree.reader.read("train/a/1.png", 100)
    refuse(r"set\.zip$", "EMFILE")
    with pytest.raises(UnreadableFileError):
        list_zip(tmp_path / "set.zip")


KINDS = (
    ("trajectory-000.*safetensors$", "open"),
    ("trajectory-000.*safetensors$", "read"),
    ("trajectory-0000.json$", "open"),
    ("trajectory-0001.json$", "status"),
    ("buffers/[^/]*/manifest.json$", "open"),
    ("checkpoints/0000004.safetensors$", "open"),
    ("checkpoints/0000004.json$", "read"),
    ("checkpoints$", "names"),
    ("settings.toml$", "open"),
    ("journal.jsonl$", "read"),
    ("evaluations/.*json$", "open"),
    ("evaluations$", "names"),
    ("tesla.toml$", "open"),
)
"""Every kind of file that a resumed run reads."""


@pytest.mark.slow
def test_a_refused_read_ends_a_run_and_the_same_command_resumes(tiny_run: Drive, workspace: Workspace) -> None:
    whole = tiny_run("whole")
    run = tiny_run("r", "distill.checkpoint_every=3", until=stop_at_iteration(4))
    kept = workspace.folder.with_name("kept")
    shutil.copytree(workspace.folder, kept)
    for number, (pattern, call) in enumerate(KINDS):
        shutil.rmtree(workspace.folder)
        shutil.copytree(kept, workspace.folder)
        system = refuse(pattern, REFUSALS[number % 6], call)
        error: Exception | None = None
        try:
            tiny_run("r", "distill.checkpoint_every=3")
        except Exception as raised:
            error = raised
        assert system.refused == 1, pattern
        assert isinstance(error, UnreadableFileError), f"{pattern}: {error!r}"
        assert not list(workspace.folder.rglob("damaged")), pattern
        for path in kept.rglob("*.safetensors"):
            now = workspace.folder / path.relative_to(kept)
            assert now.stat().st_mtime_ns == path.stat().st_mtime_ns, f"{pattern}: {now} was written again"
        assert [entry for entry, _ in read_journal(run.journal_file)], pattern
    assert_same_bits(tiny_run("r", "distill.checkpoint_every=3"), whole)


@pytest.mark.slow
def test_doctor_repairs_nothing_that_it_cannot_read(tiny_run: Drive, workspace: Workspace) -> None:
    tiny_run("r")
    for pattern, call in KINDS:
        if pattern.startswith("tesla") or "0004" in pattern or call == "names":
            continue
        refuse(pattern, "EIO", call, times=float("inf"))
        findings = examine_workspace(workspace.folder)
        bad = [finding for finding in findings if not finding.good]
        assert bad, pattern
        assert not [finding.words for finding in findings if finding.repair], pattern
        assert any("cannot be read now" in finding.words for finding in bad), pattern


def test_a_refused_close_after_reading_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"words")
    close, refused = os.close, []

    def refuse(descriptor: int) -> None:
        close(descriptor)
        refused.append(descriptor)
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr("engine.storage.reading.os.close", refuse)
        with open_to_read(path) as file:
            assert file.read() == b"words"
    assert len(refused) == 1
