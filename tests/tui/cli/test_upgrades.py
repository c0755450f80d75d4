"""Files of older versions are read, those of newer ones refused by name and left as they are."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.data.cache import prepare_dataset, verify_cache
from engine.data.request import DataRequest
from engine.errors import NewerFormatError, TeslaError
from engine.runs.journal import JournalWriter, read_journal
from engine.runs.preview_frames import read_frame
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.settings.datasets import preset_tables
from engine.training.teacher_buffer import TeacherBuffer
from tesla_tui.main import main
from tests.conftest import TINY

pytestmark = pytest.mark.slow

RELEASED = sorted((Path(__file__).parents[2] / "data").glob("workspace-*"))
Tesla = Callable[..., tuple[int, str]]


@pytest.fixture(params=RELEASED, ids=lambda folder: folder.name)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """A copy of the workspace of a released version."""
    return Workspace(Path(shutil.copytree(request.param, tmp_path / "old")))


@pytest.fixture
def tesla(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tesla:
    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["tesla", *map(str, words)])
        try:
            code = main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, " ".join((said.out + said.err).split())

    return call


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_keeps_the_presets_of_its_version(old: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = old.run("old")
    tables = {name: dict(table) for name, table in preset_tables().items()}
    tables["digits"]["distill"] = {"lr_student_lr": 0.5, "formation": 2}
    tables["digits"]["ipc"] = {"1": {"augment": {"ops": ["crop"]}}}
    monkeypatch.setattr("engine.settings.presets.preset_tables", lambda: tables)
    fresh = old.settings(ipc=1).flat()
    assert (fresh["distill.lr_student_lr"], fresh["distill.formation"], fresh["augment.ops"]) == (0.5, 2, ["crop"])
    again = old.settings(run=run)
    run.check(again)
    assert again.flat() == run.frozen().flat()
    assert again.origins["distill.lr_student_lr"] == "preset digits"


def test_it_opens_goes_on_evaluates_and_exports(old: Workspace, tesla: Tesla, tmp_path: Path) -> None:
    run = old.run("old")
    before = run.load_checkpoint(3)[0]
    code, said = tesla("status", old.folder, "--json")
    assert code == 0 and json.loads(said)["runs"][0]["state"] == "finished"
    code, said = tesla("doctor", old.folder)
    assert code == 0, said
    trained = {path.name: path.read_bytes() for path in (old.folder / "buffers").rglob("*.safetensors")}

    code, said = tesla("run", old.folder, "--run", "old", "--set", "distill.iterations=5")
    assert code == 0 and "resuming from iteration 3" in said and "(all present)" in said, said
    assert run.checkpoints()[-1] == 5
    assert {path.name: path.read_bytes() for path in (old.folder / "buffers").rglob("*.safetensors")} == trained
    after = run.load_checkpoint(5)[0]
    assert not torch.equal(before["images"], after["images"])
    numbers = [entry.seq for entry, _ in read_journal(run.journal_file)]
    assert numbers == list(range(len(numbers))), "the journal goes on where it was"

    assert tesla("evaluate", old.folder, "--iteration", 3, "--set", "evaluate.repeats=1")[0] == 0
    assert tesla("export", old.folder, "--iteration", 3, "--to", tmp_path / "out")[0] == 0
    from safetensors.torch import load_file

    assert torch.equal(load_file(tmp_path / "out" / "distilled.safetensors")["images"], before["images"])


def newer(path: Path, key: str = "format") -> None:
    """Give a JSON file the number of a version to come."""
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, key: 7, "unheard_of": True}))


def newer_toml(path: Path) -> None:
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("format"))
    path.write_text(f"format = 7\nunheard_of = 1\n{text}\n")


FILES: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "tesla.toml": ("tesla.toml", newer_toml),
    "settings.toml": ("runs/r/settings.toml", newer_toml),
    "checkpoint": ("runs/r/checkpoints/0000006.json", newer),
    "evaluation": ("runs/r/evaluations/0000006-holdout-distilled-convnet.json", newer),
    "buffer manifest": ("buffers/*/manifest.json", newer),
    "trajectory": ("buffers/*/trajectory-0001.json", newer),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_newer_file_is_refused_by_name_and_left(
    kind: str, tiny_run: Callable[..., Run], tesla: Tesla, workspace: Workspace
) -> None:
    tiny_run("r")
    pattern, change = FILES[kind]
    path = next(workspace.folder.glob(pattern))
    change(path)
    before = contents(workspace.folder)
    sets = [word for text in (*TINY, "distill.iterations=9") for word in ("--set", text)]
    code, out = tesla("status", workspace.folder)
    assert code == 0 or kind == "tesla.toml"
    if kind == "settings.toml":  # a row, and what to do; other runs would be shown beside it
        assert "broken" in out and "Upgrade tesla-tui" in " ".join(out.split())
    code, said = tesla("run", workspace.folder, "--run", "r", *sets)
    assert code == 2 and "Upgrade tesla-tui" in said and "format 7" in said, said
    assert path.name.split(".")[0] in said
    for name, data in contents(workspace.folder).items():
        assert name not in before or name.name in ("journal.jsonl", "driver.json") or data == before[name]
    if kind in ("tesla.toml", "checkpoint", "trajectory"):
        code, said = tesla("doctor", workspace.folder)
        assert code != 0 and "format 7" in said and "Upgrade tesla-tui" in said


def test_a_newer_journal_is_read_as_far_as_it_goes_and_not_written(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run("r")
    known = sum(1 for _ in read_journal(run.journal_file))
    with open(run.journal_file, "a") as file:
        file.write(json.dumps({"schema": 7, "seq": known, "time": 1.0, "kind": "Teleported", "to": "Mars"}) + "\n")
    before = run.journal_file.read_bytes()
    assert sum(1 for _ in read_journal(run.journal_file)) == known
    with pytest.raises(NewerFormatError, match=r"journal\.jsonl has format 7"):
        JournalWriter(run.journal_file)
    assert run.journal_file.read_bytes() == before


def test_a_newer_cache_entry_is_not_decoded_over(tmp_path: Path, tiny_run: Callable[..., Run]) -> None:
    dataset = run_to_end(prepare_dataset(DataRequest("digits"), cache=tmp_path))
    newer(dataset.folder / "manifest.json")
    before = contents(dataset.folder)
    with pytest.raises(NewerFormatError, match="format 7"):
        run_to_end(prepare_dataset(DataRequest("digits"), cache=tmp_path))
    with pytest.raises(NewerFormatError):
        verify_cache(dataset.folder)
    assert contents(dataset.folder) == before


def test_every_file_carries_its_format(tiny_run: Callable[..., Run], workspace: Workspace, tmp_path: Path) -> None:
    """Everything a run leaves, but for pictures' pixels and tensors, which have a record beside them."""
    from engine.tools.exchange.export import exporting

    run = tiny_run("r", "labels.kind=target")
    run_to_end(exporting(workspace, run, tmp_path / "out"))
    written = [path for path in workspace.folder.rglob("*.json") if ".compiled" not in path.parts]
    assert {path.parent.name for path in written} >= {"checkpoints", "evaluations", "r"}
    assert {path.name for path in written if json.loads(path.read_text()).get("format") != 1} == set()
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["format"] == 1
    for path in (workspace.toml, run.settings_file):
        assert any(line == "format = 1" for line in path.read_text().splitlines()), path
    assert all(json.loads(line)["schema"] == 1 for line in run.journal_file.read_text().splitlines())
    assert all(read_frame(path) for path in run.film.glob("*.png"))


def test_damage_is_not_mistaken_for_a_newer_version(tiny_run: Callable[..., Run], workspace: Workspace) -> None:
    tiny_run("r")
    path = next(workspace.folder.glob("buffers/*/trajectory-0001.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": "seven"}))
    with pytest.raises(TeslaError) as caught:
        TeacherBuffer(path.parent, {}).epochs(1)
    assert not isinstance(caught.value, NewerFormatError)


def test_older_results_are_the_runs_own(old: Workspace, tesla: Tesla) -> None:
    """Their protocols lack what came later; whoever measures otherwise leaves them as they are."""
    run = old.run("old")
    before, own = contents(run.folder / "evaluations"), run.evaluations()
    assert len(own) == len(before)
    assert tesla("evaluate", old.folder, "--set", "evaluate.epochs=2")[0] == 0
    after = contents(run.folder / "evaluations")
    assert {path: after[path] for path in before} == before and len(after) > len(before)
    assert run.evaluations() == own
