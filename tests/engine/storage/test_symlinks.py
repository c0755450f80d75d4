"""Nothing outside the workspace is written or deleted, whatever the links in it lead to."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.errors import TeslaError, UsageError
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.session.session import drive, evaluate_run, teach
from engine.storage.symlinks import MARK
from tests.conftest import TINY
from tests.runs import digits_workspace

Contents = dict[str, bytes]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, dataset_cache: None) -> Path:
    """A finished tiny run."""
    folder = tmp_path_factory.mktemp("links") / "ws"
    made = digits_workspace(folder)
    run = made.run("r")
    list(drive(made, run, made.settings(overrides=TINY, run=run)))
    return folder


@pytest.fixture
def ws(finished: Path, tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(finished, tmp_path / "ws")))


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """Somebody's own files; they are as they were when the test ends."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in (".bashrc", "0000001.safetensors", "0000001.json", "thesis.tex"):
        (folder / name).write_text(f"mine: {name}")
    before = contents(folder)
    yield folder
    assert contents(folder) == before


def contents(folder: Path) -> Contents:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def go_on(ws: Workspace) -> None:
    run = ws.run("r")
    list(drive(ws, run, ws.settings(overrides=(*TINY, "distill.iterations=8"), run=run)))


def replace(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("name", ["runs", "runs/r", "runs/r/checkpoints", "runs/r/evaluations", "runs/r/previews"])
@pytest.mark.parametrize("nested", [False, True], ids=["link", "link-to-link"])
def test_folders_that_lead_out_are_refused(ws: Workspace, outside: Path, name: str, nested: bool) -> None:
    target = outside
    if nested:
        (ws.folder / "hop").symlink_to(outside)
        target = ws.folder / "hop"
    settings = (ws.folder / "runs/r/settings.toml").read_bytes()
    replace(ws.folder / name, target)
    with pytest.raises(UsageError, match=rf"is a link to {outside}.*outside the workspace.*{MARK}"):
        if name in ("runs", "runs/r"):
            new = ws.run("r" if name == "runs/r" else "other")
            list(drive(ws, new, ws.settings(overrides=TINY)))
        else:
            go_on(ws)
    assert settings


@pytest.mark.parametrize("whole", [True, False])
def test_teachers_that_lead_out_are_refused(ws: Workspace, outside: Path, whole: bool) -> None:
    buffer = next((ws.folder / "buffers").iterdir())
    replace(ws.folder / "buffers" if whole else buffer, outside)
    settings = ws.settings(overrides=TINY).settings
    for begin in (lambda: go_on(ws), lambda: list(teach(ws, settings))):
        with pytest.raises(UsageError, match="outside the workspace"):
            begin()


def test_evaluating_writes_through_no_link(ws: Workspace, outside: Path) -> None:
    replace(ws.folder / "runs/r/evaluations", outside)
    with pytest.raises(UsageError, match="outside the workspace"):
        list(evaluate_run(ws, ws.run("r"), ws.settings(overrides=TINY).settings, None, ["convnet"]))


@pytest.mark.parametrize("name", ["journal.jsonl", ".driver.lock"])
def test_files_that_are_appended_to_or_locked_are_no_links(ws: Workspace, outside: Path, name: str) -> None:
    replace(ws.folder / "runs/r" / name, outside / ".bashrc")
    with pytest.raises(OSError, match="symbolic links"):
        go_on(ws)


@pytest.mark.parametrize("name", ["settings.toml", ".pulse.json", "driver.json"])
def test_files_that_are_replaced_take_the_place_of_a_link(ws: Workspace, outside: Path, name: str) -> None:
    path = ws.folder / "runs/r" / name
    copy = outside.parent / "copy"
    if path.exists():
        shutil.copy(path, copy)
    else:
        copy.write_text("{}")
    replace(path, copy)
    text = copy.read_bytes()
    for pid in (os.getpid(),):  # a temporary name that can be guessed
        path.with_name(f"{path.name}.tmp-{pid}").symlink_to(outside / ".bashrc")
    with contextlib.suppress(OSError, TeslaError):
        go_on(ws)
    assert copy.read_bytes() == text
    assert not path.is_symlink() or name == ".pulse.json"


def test_checkpoints_and_frames_that_are_links_are_replaced(ws: Workspace, outside: Path) -> None:
    run = ws.run("r")
    for path in (run.checkpoint_path(8), run.checkpoint_path(8).with_suffix(".json"), run.film / "0000008.png"):
        path.symlink_to(outside / "thesis.tex")
    go_on(ws)
    assert not run.checkpoint_path(8).is_symlink()
    assert run.load_checkpoint(8)


def test_a_trajectory_in_the_making_is_not_cut_through_a_link(ws: Workspace, outside: Path) -> None:
    buffer = next((ws.folder / "buffers").iterdir())
    record = json.loads((buffer / "trajectory-0001.json").read_text())
    part = buffer / "trajectory-0001.part"
    (buffer / "trajectory-0001.part.json").write_text(json.dumps({**record, "rows": 0, "checksums": []}))
    for name in ("trajectory-0001.json", "trajectory-0001.safetensors"):
        (buffer / name).unlink()
    part.symlink_to(outside / "thesis.tex")
    with contextlib.suppress(OSError, TeslaError):
        list(teach(ws, ws.settings(overrides=TINY).settings))


def test_a_marked_folder_on_a_larger_disk_is_used(ws: Workspace, tmp_path: Path) -> None:
    larger = tmp_path / "larger"
    shutil.move(ws.folder / "buffers", larger / "buffers")
    (ws.folder / "buffers").symlink_to(larger / "buffers")
    with pytest.raises(UsageError, match=r"touch .*larger/buffers.*\.tesla-allowed"):
        go_on(ws)
    (larger / "buffers" / MARK).touch()
    go_on(ws)
    assert 8 in ws.run("r").checkpoints()


def test_a_workspace_named_by_a_link_is_used(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "short").symlink_to(ws.folder)
    go_on(Workspace(tmp_path / "short"))
    assert 8 in ws.run("r").checkpoints()


PIPES: list[tuple[str, Callable[[Run], Path]]] = [
    ("settings", lambda run: run.settings_file),
    ("journal", lambda run: run.journal_file),
    ("pulse", lambda run: run.heartbeat_file),
    ("lock", lambda run: run.folder / ".driver.lock"),
    ("driver", lambda run: run.folder / "driver.json"),
    ("checkpoint", lambda run: run.checkpoint_path(6)),
    ("record", lambda run: run.checkpoint_path(6).with_suffix(".json")),
    ("toml", lambda run: run.folder.parents[1] / "tesla.toml"),
    ("frame", lambda run: run.film / "0000006.png"),
    ("evaluation", lambda run: sorted((run.folder / "evaluations").iterdir())[0]),
    ("buffer", lambda run: next((run.folder.parents[1] / "buffers").iterdir()) / "trajectory-0000.safetensors"),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("name", "place"), PIPES, ids=[name for name, _ in PIPES])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_does_not_stop_a_reader(
    ws: Workspace, name: str, place: Callable[[Run], Path], kind: str
) -> None:
    """A named pipe would be waited for without end, /dev/zero read until the memory is full."""
    from engine.runs.preview_frames import read_frame
    from engine.runs.status import run_status
    from engine.tools.doctor import examine_workspace

    run = ws.run("r")
    path = place(run)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    for look in (
        lambda: run_status(run),
        lambda: examine_workspace(ws.folder),
        lambda: read_frame(run.film / "0000006.png"),
        lambda: run.newest_valid(),
        lambda: Workspace(ws.folder).settings(),
    ):
        try:
            look()
        except TeslaError as error:
            assert error.message
