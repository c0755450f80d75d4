"""Every kind of file, damaged in every way: named by `tesla doctor`, repaired by `--repair`, and the run goes on."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.events import Event, IterationDone
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.session import drive
from engine.settings import resolve_settings
from engine.storage import beats
from engine.storage.beats import WATCHER
from engine.storage.filesystem import System, disk
from engine.storage.holder import UNKNOWN, read_holder
from engine.storage.temp_files import temp_name
from tests.processes import tesla_here
from tests.torture.cases import RUN, SETTINGS
from tests.torture.state import digests

pytestmark = pytest.mark.slow

RUN_FOLDER = "ws/runs/ipc-1"
KINDS = {
    "tesla.toml": "ws/tesla.toml",
    "settings": f"{RUN_FOLDER}/settings.toml",
    "journal": f"{RUN_FOLDER}/journal.jsonl",
    "pulse": f"{RUN_FOLDER}/.pulse.json",
    "driver": f"{RUN_FOLDER}/driver.json",
    "lock": f"{RUN_FOLDER}/.driver.lock",
    "tensors": f"{RUN_FOLDER}/checkpoints/0000004.safetensors",
    "record": f"{RUN_FOLDER}/checkpoints/0000004.json",
    "evaluation": f"{RUN_FOLDER}/evaluations/0000003-holdout-distilled-convnet.json",
    "frame": f"{RUN_FOLDER}/previews/0000004.png",
    "export": f"{RUN_FOLDER}/exports/out/distilled.safetensors",
    "trajectory": "ws/buffers/*/trajectory-0000.safetensors",
    "trajectory's record": "ws/buffers/*/trajectory-0000.json",
    "teacher's lock": "ws/buffers/*/.trajectory-0000.lock",
    "manifest": "ws/buffers/*/manifest.json",
    "cached images": "cache/datasets/*/train_images.npy",
    "cached labels": "cache/datasets/*/test_labels.npy",
    "cache's manifest": "cache/datasets/*/manifest.json",
}
DAMAGES = ("flip", "truncate", "empty", "missing", "folder", "leftover")

HARMLESS = {
    *((kind, "leftover") for kind in KINDS),
    *((kind, "missing") for kind in ("pulse", "driver", "lock", "evaluation", "frame", "teacher's lock")),
    *(("pulse", how) for how in ("flip", "truncate", "empty")),  # a hint
    ("journal", "truncate"),  # as a kill in the middle of a line leaves it
}
"""What needs no repair: the program makes it again without a word."""

FOR_DOCTOR = {("journal", "flip"), ("teacher's lock", "folder"), *(("export", how) for how in DAMAGES)}
"""What a run neither needs nor repairs."""

NO_BYTES = ("lock", "teacher's lock")
"""Files without contents."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run stopped at iteration 4 of 6, with an export, after its driver was killed; and `finished`, undisturbed."""
    folder = tmp_path_factory.mktemp("base")
    before = {name: os.environ.get(name) for name in ("TESLA_CACHE",)}
    for part in ("finished", "stopped"):
        os.environ["TESLA_CACHE"] = str(folder / part / "cache")
        workspace = Workspace.create(
            folder / part / "ws", resolve_settings(overrides=["dataset.name=digits"]), {"dataset.name"}
        )
        run = workspace.run("ipc-1")
        overrides = ("distill.ipc=1", *(f"{key}={value}" for key, value in SETTINGS.items()))
        events = drive(workspace, run, workspace.settings(ipc=1, overrides=overrides[1:], run=run))
        for event in events:
            if part == "stopped" and at_four(event):
                events.close()
                break
    from engine.tools.exchange.export import exporting

    run_to_end(exporting(workspace, run, run.folder / "exports" / "out"))
    run.heartbeat_file.write_text('{"pid": 1, "host": "elsewhere", "beat": 1.0, "moved": 1.0}')
    for name, value in before.items():
        if value is not None:
            os.environ[name] = value
    return folder


def at_four(event: Event) -> bool:
    return isinstance(event, IterationDone) and event.iteration == 4


Tesla = Callable[..., tuple[int, str]]


@pytest.fixture
def here(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the stopped run, in the current folder."""
    folder = tmp_path / "here"
    shutil.copytree(base / "stopped", folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(beats, "LATE", 0.5)  # seconds until a record that does not beat is given up
    WATCHER._seen.clear()  # as in a new process: it knows files by path, here one relative to the current folder
    monkeypatch.setenv("TESLA_CACHE", str(folder / "cache"))
    monkeypatch.setenv("COLUMNS", "300")
    return folder


@pytest.fixture
def tesla(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tesla:
    call = tesla_here(capsys, monkeypatch)

    def one_line(*arguments: str) -> tuple[int, str]:
        code, said = call(*arguments)
        return code, " ".join(said.split())

    return one_line


def damage(folder: Path, kind: str, how: str) -> Path:
    """Do it; the path of the damaged file, relative to the folder."""
    path = next(folder.glob(KINDS[kind]))
    data = path.read_bytes()
    if how == "flip":
        at = len(data) // 2
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif how == "truncate":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "missing":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
        (path / "something").write_text("precious")
    else:
        dead = temp_name(path.name).replace(f"-{os.getpid()}-", "-4194304-")  # past the largest process id
        path.with_name(dead).write_bytes(data[:10])
    return path


CASES = [(kind, how) for kind in KINDS for how in DAMAGES if not (kind in NO_BYTES and how in DAMAGES[:3])]


@pytest.mark.parametrize(("kind", "how"), CASES)
def test_doctor_names_it_and_repairs_it(here: Path, tesla: Tesla, kind: str, how: str) -> None:
    path = damage(here, kind, how)
    code, words = tesla("doctor", "ws")
    user = kind == "tesla.toml" and how in ("flip", "truncate")  # the user's own text: what is valid is right
    if not user:
        assert code == (0 if (kind, how) in HARMLESS else 1)
    if code == 1:
        assert path.name in words
    if how == "leftover":
        assert f"{path.name}.tmp-" in words
    before = precious(here)
    code, words = tesla("doctor", "ws", "--repair")
    if not (user and code):
        assert code == 0, words
        assert tesla("doctor", "ws")[0] == 0
    assert before <= precious(here)
    assert tesla("status", "ws")[0] == (2 if user and code else 0)


class ReadOnly(System):
    """Refuses one new file its name."""

    def rename(self, source: Path, target: Path) -> None:
        if target.name == "tesla.toml":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), target)
        super().rename(source, target)


def test_repairs_of_both_settings_end_in_one_state(
    here: Path, tesla: Tesla, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The settings of a run are restored from its journal, and their origins from tesla.toml: not before that."""
    paths = [damage(here, kind, "empty").relative_to(here) for kind in ("tesla.toml", "settings")]
    shutil.copytree(here, tmp_path / "other")
    with monkeypatch.context() as patched:
        patched.setattr(disk, "system", ReadOnly())
        code, words = tesla("doctor", "ws", "--repair")
    assert code == 1
    assert "ws/tesla.toml is empty or missing, and must be restored first; nothing was changed." in words
    assert (here / paths[1]).read_bytes() == b""
    assert tesla("doctor", "ws", "--repair")[0] == 0
    monkeypatch.chdir(tmp_path / "other")
    assert tesla("doctor", "ws", "--repair")[0] == 0
    for path in paths:
        assert (here / path).read_bytes() == (tmp_path / "other" / path).read_bytes() != b""


def precious(folder: Path) -> set[bytes]:
    """Contents of every file that nobody could make again: all but leftovers, heartbeats, halves, and a good record of
    who drove the run last (a repair drives it)."""
    return {
        path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
        and ".tmp-" not in path.name
        and not path.name.startswith((".pulse", ".driver", ".trajectory"))
        and not (path.name == "driver.json" and read_holder(path) != UNKNOWN)
    }


@pytest.mark.parametrize(("kind", "how"), [case for case in CASES if case[0] != "tesla.toml"])
def test_the_run_goes_on_to_the_same_bits(here: Path, base: Path, tesla: Tesla, kind: str, how: str) -> None:
    damage(here, kind, how)
    code, words = tesla(*RUN)
    assert code == 0, words
    wanted, found = digests(base / "finished"), digests(here)
    assert not {name for name in wanted if found.get(name) != wanted[name]}
    assert kind == "export" or not list(here.rglob("*.tmp-*"))
    if (kind, how) in FOR_DOCTOR:
        tesla("doctor", "ws", "--repair")
    assert tesla("doctor", "ws")[0] == 0
