"""Every command that makes something is one transaction: killed or refused at any call, the same command, given again,
ends in the same state, and no temporary file stays."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from engine.errors import DiskError, TeslaError, UsageError
from engine.runs.create import plan_workspace
from engine.runs.preview_writer import save_picture
from engine.runs.status import read_statuses
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.session import drive
from engine.storage.atomic import TEMP_MARK, disk, publishing_folder
from engine.tools.doctor import examine_workspace
from engine.tools.exchange.export import exporting
from engine.tools.exchange.export_buffers import export_buffers
from engine.tools.exchange.import_buffers import import_buffers
from engine.tools.exchange.import_images import Wanted, import_images
from engine.tools.studies.groups import find_whole
from engine.tools.studies.points import Points
from tesla_tui.cli.studying import named_runs
from tesla_tui.report.page import write_report
from tests.conftest import TINY
from tests.faults import Dying, Fault, Faulty, Killed, Refusing
from tests.runs import break_run, digits_workspace
from tests.tui.cli.test_cli import Tesla, one_paragraph, tesla  # noqa: F401

KILLS = ("before", "half", "after")
REFUSALS = ("ENOSPC", "EIO", "EROFS", "EDQUOT")
SPREAD = 24
"""Calls of a command at which a test strikes it: even ones of all."""


@pytest.fixture(autouse=True)
def own_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test installs ends with it."""
    monkeypatch.setattr(disk, "system", disk.system)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace that has a finished run, and files to import."""
    folder = tmp_path_factory.mktemp("made")
    workspace = digits_workspace(folder / "ws")
    run = workspace.run("healthy")
    for _ in drive(workspace, run, workspace.settings(ipc=1, overrides=TINY)):
        pass
    settings = run.frozen().settings
    run_to_end(export_buffers(workspace, settings, folder / "teachers", per_file=1))
    torch.save(torch.randn((10, 1, 8, 8), generator=torch.Generator().manual_seed(0)), folder / "images_best.pt")
    torch.save(torch.arange(10), folder / "labels_best.pt")
    return folder


Command = Callable[[Path], object]


def images(folder: Path) -> None:
    wanted = Wanted(folder / "images_best.pt", folder / "labels_best.pt", lr="0.02")
    run_to_end(import_images(Workspace(folder / "ws"), "mtt", wanted, TINY))


def buffers_in(folder: Path) -> None:
    workspace = Workspace(folder / "ws")
    files = sorted((folder / "teachers").glob("*.pt"))
    run_to_end(import_buffers(workspace, workspace.settings(overrides=TINY), files, "mtt"))


def buffers_out(folder: Path) -> None:
    workspace = Workspace(folder / "ws")
    run_to_end(export_buffers(workspace, workspace.run("healthy").frozen().settings, folder / "out", per_file=1))


def folder_out(folder: Path) -> None:
    workspace = Workspace(folder / "ws")
    run_to_end(exporting(workspace, workspace.run("healthy"), folder / "out"))


def published_out(folder: Path) -> None:
    workspace = Workspace(folder / "ws")
    run_to_end(exporting(workspace, workspace.run("healthy"), folder / "out", layout="pt"))


def report(folder: Path) -> None:
    workspace = Workspace(folder / "ws")
    write_report(workspace, workspace.run("healthy"), folder / "report.html")


def init(folder: Path) -> None:
    plan = plan_workspace(folder / "new", "digits", ())
    found = run_to_end(plan.data.look())
    assert found is not None
    plan.make(found.report)


def study(folder: Path) -> None:
    Points(folder / "ws" / "studies" / "s", {"network": "convnet"}).put("one", {"loss": 1.0})


def picture(folder: Path) -> None:
    save_picture(folder / "images.png", Image.new("L", (8, 8)))


COMMANDS = (init, study, picture, images, buffers_in, buffers_out, folder_out, published_out, report)

CLOCKED = re.compile(rb"\d{4}-\d\d-\d\d[T ][\d:+]+( UTC)?|\"?(time|imported_at|checksum|crc|seconds)\"?: ?[^,}\n]*")
TIMED = ("journal.jsonl", "SHA256SUMS", ".html", ".lock", "README.md")
"""Files with moments of the clock, or checksums of such: compared by their names."""


def state(folder: Path) -> dict[str, str]:
    """A digest of every file, without moments of the clock."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and ".import-" not in path.name:
            data = b"" if path.name.endswith(TIMED) else path.read_bytes()
            data = CLOCKED.sub(b"", data) if path.suffix == ".json" else data
            found[path.relative_to(folder).as_posix()] = hashlib.sha256(data).hexdigest()
    return found


def trials(calls: int, shift: int) -> Iterator[tuple[int, str]]:
    """Numbers of calls spread over a command, each with what happens there."""
    hows = (*KILLS, *REFUSALS)
    step = max(1, calls // SPREAD)
    for number, at in enumerate(range(shift % step, calls, step)):
        yield at, hows[(number + shift) % len(hows)]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_the_same_command_after_any_strike_ends_in_the_same_state(command: Command, made: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(made, whole)
    counted = Faulty()
    disk.system = counted
    command(whole)
    wanted = state(whole)
    struck = 0
    for shift in range(2):
        for at, how in trials(counted.count, shift):
            folder = tmp_path / "trial"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(made, folder)
            disk.system = Dying(Fault(how, at))
            try:
                command(folder)
            except (Killed, DiskError):
                struck += 1
            disk.system = type(disk.system).__mro__[2]()  # the real one again
            words = f"{how} at call {at} of {counted.count}"
            (healthy,) = [run for run in read_statuses(Workspace(folder / "ws").runs()) if run.name == "healthy"]
            assert healthy.finished, words
            if state(folder) != wanted:
                command(folder)
            assert state(folder) == wanted, words
            assert not list(folder.rglob(f"*{TEMP_MARK}*")), words
            assert not list(folder.rglob("damaged")), words
    assert struck >= 4


def test_an_interrupted_import_of_teachers_is_in_order(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "t"
    shutil.copytree(made, folder)
    real = disk.system
    disk.system = Faulty(Fault("EIO", _first_record(made, tmp_path)))
    with pytest.raises(DiskError):
        buffers_in(folder)
    disk.system = real
    (buffer,) = (folder / "ws" / "buffers").glob("*.importing")
    assert {path.suffix for path in buffer.glob("trajectory-0000.*")} == {".safetensors"}
    found = examine_workspace(folder / "ws")
    assert [finding.words for finding in found if not finding.good] == []
    assert "the same command resumes it" in " ".join(finding.words for finding in found)


def _first_record(made: Path, tmp_path: Path) -> int:
    """Number of the call of `import-buffers` that writes the record of the first trajectory."""
    shutil.copytree(made, tmp_path / "counted")
    disk.system = Faulty(report=tmp_path / "calls")
    buffers_in(tmp_path / "counted")
    lines = (line.split("\t") for line in (tmp_path / "calls").read_text().splitlines())
    return next(int(number) for number, call, path in lines if call == "open" and "trajectory-0000.json.tmp" in path)


def test_a_new_workspace_takes_no_file_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "dataset.json").write_text('{"mine": 1}')
    with pytest.raises(UsageError, match="not empty"):
        init(tmp_path)
    assert (tmp_path / "new" / "dataset.json").read_text() == '{"mine": 1}'


def test_a_run_that_was_being_built_when_killed_is_no_run(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "ws", tmp_path / "ws")
    workspace = Workspace(tmp_path / "ws")
    half = workspace.run("healthy").folder.with_name(f"mtt{TEMP_MARK}b92660-4999999-abcdef")
    half.mkdir()
    (half / "journal.jsonl").write_text("")
    assert [run.name for run in workspace.runs()] == ["healthy"]
    assert [run.name for run in read_statuses(workspace.runs())] == ["healthy"]
    assert [finding.words for finding in examine_workspace(tmp_path / "ws") if not finding.good] == []


def test_an_import_that_an_earlier_version_left_unfinished_is_replaced(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "t"
    shutil.copytree(made, folder)
    images(folder)
    run = Workspace(folder / "ws").run("mtt")
    whole = run.load_checkpoint(0)[0]
    for path in (run.settings_file, run.journal_file):  # it wrote them last
        path.unlink()
    images(folder)
    assert all(torch.equal(tensor, run.load_checkpoint(0)[0][name]) for name, tensor in whole.items())
    assert (run.folder.parent / "damaged" / "mtt" / "checkpoints").is_dir()
    with pytest.raises(UsageError, match="already exists"):
        images(folder)


def test_a_folder_made_by_another_meanwhile_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another process"), publishing_folder(tmp_path / "x") as temp:
        (temp / "mine").write_text("")
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "theirs").write_text("")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["x", "x/theirs"]


def test_a_broken_run_is_a_row_and_the_others_are_shown(
    made: Path,
    tmp_path: Path,
    tesla: Tesla,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    shutil.copytree(made / "ws", tmp_path / "ws")
    workspace = Workspace(tmp_path / "ws")
    shutil.copytree(workspace.run("healthy").folder, workspace.run("broken").folder)
    break_run(workspace.run("broken"))
    states = {run.name: run.state for run in read_statuses(workspace.runs())}
    assert states == {"healthy": "finished", "broken": "broken"}
    code, out, _ = tesla("status", tmp_path / "ws")
    assert code == 0
    assert "healthy" in out and "broken" in out and "settings.toml" in out
    code, out, _ = tesla("status", tmp_path / "ws", "--json")
    assert code == 0 and '"state": "broken"' in out
    code, _, err = tesla("report", tmp_path / "ws", "--run", "broken")
    assert code == 2 and "The journal does not have its settings either." in one_paragraph(err)
    assert tesla("report", tmp_path / "ws", "--run", "healthy", "--to", tmp_path / "r.html")[0] == 0
    assert [run.name for run in named_runs(workspace, None)] == ["healthy"]
    assert find_whole(workspace, workspace.run("healthy").frozen().settings) is None


@pytest.mark.parametrize(
    "words",
    [
        ("show",), ("show", "--film", "f.webp"), ("report",), ("export", "--to", "out"), ("evaluate",),
        ("log", "--csv", "numbers.csv"), ("export-buffers", "--to", "teachers"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_newest_run_is_broken_and_another_is_named(
    made: Path, tmp_path: Path, tesla: Tesla, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made / "ws", "ws")
    workspace = Workspace(Path("ws"))
    for name in ("old", "broken", "worse"):  # each newer than the one before
        shutil.copytree(workspace.run("healthy").folder, workspace.run(name).folder)
    for age, name in enumerate(("worse", "broken", "healthy", "old")):
        if name in ("broken", "worse"):
            break_run(workspace.run(name))
        stamp = 2e9 - age
        os.utime(workspace.run(name).journal_file, (stamp, stamp))
    command, *options = words
    before = sorted(Path().rglob("*"))
    code, _, err = tesla(command, "ws", *options)
    said = one_paragraph(err)
    assert code == 2
    assert "The newest run is worse, and it cannot be used: ws/runs/worse/settings.toml" in said
    assert "add: --run healthy." in said
    assert sorted(Path().rglob("*")) == before
    if command == "show":
        assert tesla(command, "ws", "--run", "healthy", *options)[0] == 0
        for name in ("healthy", "old"):
            break_run(workspace.run(name))
        code, _, err = tesla(command, "ws", *options)
        assert code == 2 and "--run healthy" not in err and "The journal does not have its settings either." in err


@pytest.mark.parametrize("how", ["EACCES", "EIO", "ESTALE"])
def test_the_newest_run_cannot_be_read_now_and_another_is_named(made: Path, tmp_path: Path, how: str) -> None:
    shutil.copytree(made / "ws", tmp_path / "ws")
    workspace = Workspace(tmp_path / "ws")
    shutil.copytree(workspace.run("healthy").folder, workspace.run("away").folder)
    os.utime(workspace.run("away").journal_file, (2e9, 2e9))
    disk.system = Refusing("runs/away/settings.toml$", how, times=float("inf"))
    with pytest.raises(TeslaError, match="The newest run is away, and it cannot be used") as caught:
        workspace.existing_run(None)
    assert "--run healthy" in caught.value.hint
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("call", ["open", "status"])
def test_a_run_that_cannot_be_read_now_is_a_row_too(made: Path, tmp_path: Path, call: str) -> None:
    shutil.copytree(made / "ws", tmp_path / "ws")
    workspace = Workspace(tmp_path / "ws")
    shutil.copytree(workspace.run("healthy").folder, workspace.run("away").folder)
    disk.system = Refusing("runs/away/settings.toml$", "ESTALE", call, times=float("inf"))
    found = {run.name: run for run in read_statuses(workspace.runs())}
    assert found["healthy"].finished
    if call == "open":
        assert found["away"].state == "broken" and "Stale file handle" in found["away"].message
    assert [f for f in examine_workspace(tmp_path / "ws") if f.repair] == []


def test_a_refused_read_is_one_sentence_of_a_command(made: Path, tmp_path: Path, tesla: Tesla) -> None:  # noqa: F811
    shutil.copytree(made / "ws", tmp_path / "ws")
    disk.system = Refusing("trajectory-0000.safetensors$", "EMFILE")
    code, _, err = tesla("export-buffers", tmp_path / "ws", "--run", "healthy", "--to", tmp_path / "out")
    said = one_paragraph(err)
    assert code == 1
    assert re.search(r"trajectory-0000.safetensors cannot be read now \(Too many open files\)\.", said)
    assert "run the same command again: it resumes. Nothing was changed." in said
    assert tesla("export-buffers", tmp_path / "ws", "--run", "healthy", "--to", tmp_path / "out")[0] == 0


def test_doctor_and_run_say_the_same_of_double_damage(made: Path, tmp_path: Path, tesla: Tesla) -> None:  # noqa: F811
    shutil.copytree(made / "ws", tmp_path / "ws")
    run = Workspace(tmp_path / "ws").run("healthy")
    whole = {path.name: path.read_bytes() for path in (run.folder / "checkpoints").iterdir()}
    break_run(run)
    code, _, err = tesla("run", tmp_path / "ws", "--run", "healthy", "--ipc", 1)
    said = one_paragraph(err)
    assert code == 2
    assert "The journal does not have its settings either." in said
    assert "restore" not in said
    assert re.search(r"tesla doctor \S+ws --repair", said)
    findings = [finding for finding in examine_workspace(tmp_path / "ws") if finding.what == "run healthy"]
    (finding,) = [finding for finding in findings if not finding.good]
    assert "The journal does not have its settings either." in finding.words
    tesla("doctor", tmp_path / "ws", "--repair")
    aside = run.folder.parent / "damaged" / "healthy"
    assert {path.name: path.read_bytes() for path in (aside / "checkpoints").iterdir()} == whole
    assert not run.folder.exists()
    assert [finding.words for finding in examine_workspace(tmp_path / "ws") if not finding.good] == []
    assert read_statuses(Workspace(tmp_path / "ws").runs()) == []
