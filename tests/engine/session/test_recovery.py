"""Damage that a run meets on its way: it goes on from the newest whole state, and ends in the same bits."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import torch

from engine.errors import UsageError
from engine.events import CheckpointSaved, Event, IterationDone, Notice, RunStarted
from engine.runs.journal import JournalWriter, read_journal, repair_journal, unread_lines
from engine.runs.recovery import clean_up, orphaned_checkpoint_files
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.storage.temp_files import OLD, _machine, is_leftover, scratch_folder, set_aside, temp_name
from tests.conftest import Drive
from tests.runs import newest

pytestmark = pytest.mark.slow


def same(a: Run, b: Run) -> bool:
    return max(a.checkpoints()) == max(b.checkpoints()) and all(
        torch.equal(tensor, newest(b)[name]) for name, tensor in newest(a).items()
    )


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_a_teacher_damaged_in_mid_distillation_is_trained_again(tiny_run: Drive, workspace: Workspace) -> None:
    whole = tiny_run("whole")
    files = sorted((workspace.folder / "buffers").glob("*/trajectory-*.safetensors"))
    before = [path.read_bytes() for path in files]
    words: list[str] = []

    def damage(event: Event) -> bool:
        if isinstance(event, IterationDone) and event.iteration == 2:
            for path in files:
                path.write_bytes(path.read_bytes()[:200])
        if isinstance(event, Notice):
            words.append(event.message)
        return False

    run = tiny_run("harmed", until=damage)
    assert same(run, whole)
    assert [path.read_bytes() for path in files] == before
    assert any("trained again" in text for text in words)
    assert (files[0].parent / "damaged").is_dir()


def test_a_damaged_checkpoint_does_not_push_out_whole_ones(tiny_run: Drive) -> None:
    whole = tiny_run("whole")
    settings = ("distill.keep=1", "distill.checkpoint_every=1", "evaluate.every=6")
    run = tiny_run("r", *settings, until=lambda event: isinstance(event, IterationDone) and event.iteration == 4)
    assert {0, 4} <= set(run.checkpoints())
    for path in run.checkpoint_path(3), run.checkpoint_path(3).with_suffix(".json"):
        path.unlink(missing_ok=True)
    flip(run.checkpoint_path(4))
    words: list[str] = []

    def killed(event: Event) -> bool:
        if isinstance(event, Notice):
            words.append(event.message)
        return isinstance(event, CheckpointSaved) and event.iteration == 2

    tiny_run("r", *settings, until=killed)
    assert any("0000004.safetensors does not match its checksum" in text for text in words)
    assert run.newest_valid() is not None and max(run.checkpoints()) == 2
    assert same(tiny_run("r", *settings), whole)


def test_a_damaged_selection_gives_way_to_the_next_best(tiny_run: Drive) -> None:
    run = tiny_run("r")
    for path in (run.folder / "evaluations").glob("*test*"):
        path.unlink()
    from engine.runs.selection import selected_iteration

    chosen = selected_iteration(run, run.frozen().settings)
    assert chosen is not None
    flip(run.checkpoint_path(chosen))
    tiny_run("r")
    tested = [result for result in run.evaluations() if result.split == "test" and result.subject == "distilled"]
    assert tested


def test_settings_that_are_lost_come_back_from_the_journal(tiny_run: Drive, workspace: Workspace) -> None:
    run = tiny_run("r")
    frozen = run.frozen()
    run.settings_file.unlink()
    assert run.frozen().settings == frozen.settings
    # And are kept by a later command that does not name them.
    assert workspace.settings(run=run).settings == frozen.settings
    with pytest.raises(UsageError, match=r"distill\.steps was 4, now 5"):
        tiny_run("r", "distill.steps=5")
    run.journal_file.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        tiny_run("r")


def test_an_altered_setting_is_noticed(tiny_run: Drive) -> None:
    run = tiny_run("r", until=lambda event: isinstance(event, RunStarted))
    text = run.settings_file.read_text()
    run.settings_file.write_text(text.replace("seed = 0", "seed = 1"))
    assert "does not match its checksum" in run.settings_damage
    assert run.frozen().settings.seed == 0


def test_halves_of_checkpoints_are_told_apart(tiny_run: Drive) -> None:
    run = tiny_run("r")
    newest = run.checkpoint_path(6)
    cut_off = run.checkpoint_path(7)
    cut_off.write_bytes(newest.read_bytes())  # a save that was killed before its record
    assert [(half.iteration, half.lost) for half in orphaned_checkpoint_files(run)] == [(7, None)]
    newest.with_suffix(".json").unlink()  # a record that was lost: the journal knows of the checkpoint
    lost = {half.iteration: half.lost for half in orphaned_checkpoint_files(run)}
    assert lost == {6: newest.with_suffix(".json"), 7: None}
    words = clean_up(run)
    assert len(words) == 1 and "0000006.json is missing" in words[0]
    assert not cut_off.exists() and (newest.parent / "damaged" / newest.name).exists()


def test_a_scratch_folder_goes_with_its_process_or_at_the_next_one(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead, living = (tmp_path / f"x.tmp-{_machine()}-{number}-abcdef" for number in (ended.pid, os.getppid()))
    other = tmp_path / f"y.tmp-{_machine()}-{ended.pid}-abcdef"
    for folder in (dead, living, other):
        folder.mkdir()
        (folder / "file").write_text("")
    with scratch_folder(tmp_path, "x") as outer, scratch_folder(tmp_path, "x") as inner:
        assert {path.name for path in tmp_path.iterdir()} == {p.name for p in (living, other, outer, inner)}
        (inner / "file").write_text("")
        assert outer.stat().st_mode & 0o077 == 0
    assert {path.name for path in tmp_path.iterdir()} == {living.name, other.name}


def test_leftovers_are_those_of_dead_writers(tmp_path: Path) -> None:
    living = tmp_path / temp_name("x").replace(f"-{os.getpid()}-", "-1-")
    dead = tmp_path / temp_name("x").replace(f"-{os.getpid()}-", "-4194304-")
    foreign = tmp_path / "x.tmp-000000-1-abcdef"
    for path in (living, dead, foreign):
        path.write_bytes(b"")
    assert is_leftover(dead) and not is_leftover(living) and not is_leftover(foreign)
    old = time.time() - OLD - 60
    os.utime(foreign, (old, old))
    assert is_leftover(foreign)


def test_a_temporary_file_of_another_host_with_this_name_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts that share a name and the number of their first process space: their boots differ."""
    _machine.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr("engine.storage.temp_files.this_machine", lambda: "another boot pid:[4026531836]")
        path = tmp_path / temp_name("x").replace(f"-{os.getpid()}-", "-4194304-")
    _machine.cache_clear()
    path.write_bytes(b"")
    assert not is_leftover(path)
    os.utime(path, (time.time() - OLD - 60,) * 2)
    assert is_leftover(path)


def test_nothing_set_aside_is_overwritten(tmp_path: Path) -> None:
    for text in ("one", "two"):
        (tmp_path / "x").write_text(text)
        set_aside(tmp_path / "x")
    assert {path.read_text() for path in (tmp_path / "damaged").iterdir()} == {"one", "two"}


def test_a_journal_knows_torn_lines_from_altered_ones(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    started = RunStarted(run="r", resumed_from=None, settings={}, environment={})
    for number in range(3):
        writer = JournalWriter(path)
        writer.append(started)
        writer.append(Notice(level="info", message=f"loss 0.12{number}"))
        with open(path, "ab") as file:
            file.write(b'{"schema": 1, "se')
    found = unread_lines(path)
    assert (found.torn, found.altered) == (3, 0)
    path.write_bytes(path.read_bytes().replace(b"loss 0.121", b"loss 0.921"))  # JSON still
    assert unread_lines(path).altered
    messages = [entry.event.message for entry, _ in read_journal(path) if isinstance(entry.event, Notice)]
    assert messages == ["loss 0.120", "loss 0.122"]
    repair_journal(path)
    assert (unread_lines(path).torn, unread_lines(path).altered) == (0, 0)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:1], *lines[2:]]) + b"\n")
    assert unread_lines(path).altered == 1  # a line is missing
    assert [json.loads(line)["seq"] for line in lines] == list(range(len(lines)))
