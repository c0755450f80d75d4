"""Following a run's files: torn lines, foreign lines, other files, going back to a checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.runs.journal import read_lines
from engine.runs.run import Run
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.log import LogLine
from tesla_tui.watch.teachers import BufferReader

Drive = Callable[..., Run]


def iteration(number: int, loss: float = 0.5) -> str:
    line = {
        "schema": 1, "seq": number, "time": 1000.0 + number, "kind": "IterationDone", "iteration": number,
        "iterations": 99, "loss": loss, "student_lr": 0.01, "gradient_norm": 1.0, "student_lr_gradient": 0.0,
        "trajectory": 0, "start_epoch": 0, "seconds": 0.5,
    }  # fmt: skip
    return json.dumps(line) + "\n"


def started(resumed: int | None) -> str:
    line = {
        "schema": 1, "seq": 0, "time": 1000.0, "kind": "RunStarted", "run": "r", "resumed_from": resumed,
        "settings": {"distill.iterations": 99, "evaluate.every": 10}, "environment": {},
    }  # fmt: skip
    return json.dumps(line) + "\n"


def test_a_journal_deleted_between_two_looks_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path / "r")
    run.folder.mkdir()
    run.journal_file.write_text(started(None) + iteration(1))
    feed, more = RunFeed(run), RunFeed._more

    def gone(self: RunFeed) -> bool:
        found = more(self)
        run.journal_file.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(RunFeed, "_more", gone)
    feed.catch_up()  # in a thread of the screens, where an error ends them
    assert feed.view.iteration == 0


def test_a_feed_knows_what_the_run_did(tiny_run: Drive) -> None:
    run = tiny_run()
    feed = RunFeed(run)
    feed.catch_up()
    view = feed.view
    assert feed.state == "finished" and view.iteration == 6 and len(view.loss) == 6
    assert view.data is not None and view.data.names == [str(n) for n in range(10)]
    assert view.best() is not None and view.baseline() is not None and len(view.tests()) == 2
    assert not feed.poll()


def test_piece_by_piece_is_as_all_at_once(tiny_run: Drive, tmp_path: Path) -> None:
    whole = tiny_run()
    data = whole.journal_file.read_bytes()
    run = Run(tmp_path / "piecewise")
    run.folder.mkdir()
    feed = RunFeed(run)
    with open(run.journal_file, "ab") as file:
        for start in range(0, len(data), 97):
            file.write(data[start : start + 97])
            file.flush()
            feed.poll()
    other = RunFeed(whole)
    other.catch_up()
    assert feed.view.events == other.view.events
    assert (feed.view.loss.points().mean == other.view.loss.points().mean).all()
    assert list(feed.view.log) == list(other.view.log) and feed.view.evaluations == other.view.evaluations


def test_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    run = Run(tmp_path)
    lines = [
        started(None),
        iteration(1),
        "no json\n",
        "[1]\n",
        "7\n",
        '{"kind": "Unheard"}\n',
        '{"kind": "IterationDone"}\n',
    ]
    lines += ['{"kind": "IterationDone", "iteration": "x", "loss": {}}\n', iteration(2), "{},{}\n", iteration(3)]
    run.journal_file.write_text("".join(lines) + iteration(4)[:40])
    feed = RunFeed(run)
    feed.catch_up()
    assert feed.view.iteration == 3 and len(feed.view.loss) == 3
    with open(run.journal_file, "a") as file:
        file.write(iteration(4)[40:])
    assert feed.poll() and feed.view.iteration == 4


def test_going_on_from_a_checkpoint_goes_back_in_the_curve(tmp_path: Path) -> None:
    run = Run(tmp_path)
    text = started(None) + "".join(iteration(n, 1.0) for n in range(1, 9)) + started(5)
    run.journal_file.write_text(text + iteration(6, 2.0))
    feed = RunFeed(run)
    feed.catch_up()
    points = feed.view.loss.points()
    assert points.x.tolist() == [1, 2, 3, 4, 5, 6] and points.mean.tolist() == [1, 1, 1, 1, 1, 2]


def test_another_file_under_the_name_starts_over(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.journal_file.write_text(started(None) + iteration(1) + iteration(2))
    feed = RunFeed(run)
    feed.catch_up()
    run.journal_file.write_text(started(None) + iteration(1))
    feed.poll()
    assert feed.view.iteration == 1 and len(feed.view.loss) == 1


@pytest.mark.slow
def test_a_long_journal_takes_bounded_memory(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with open(run.journal_file, "w") as file:
        file.write(started(None))
        for n in range(1, 30_001):
            file.write(iteration(n, 1 / n))
            if n % 3 == 0:
                file.write(
                    json.dumps({"kind": "Notice", "seq": n, "time": 1.0, "level": "info", "message": f"n {n}"}) + "\n"
                )
    feed = RunFeed(run)
    feed.catch_up()
    view = feed.view
    assert view.iteration == 30_000 and len(view.loss) <= 1024 and len(view.log) == 5000
    assert view.log[-1].text == "n 30000" and view.pace == 0.5
    assert view.eta == 0.0 or view.eta is None  # 30,000 of 99: nothing left


def test_lines_are_read_in_batches_of_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text("".join(iteration(n) for n in range(50)))
    found, offset = [], 0
    while True:
        values, after = read_lines(path, offset, 700)
        if after == offset:
            break
        found += values
        offset = after
    assert [value["iteration"] for value in found] == list(range(50))
    path.write_text('{"long": "' + "x" * 5000 + '"}\n')
    assert len(read_lines(path, 0, 100)[0]) == 1  # a line longer than a batch
    assert read_lines(tmp_path / "absent", 0, 100) == ([], 0)


def test_searching_the_log() -> None:
    line = LogLine(0.0, "warning", "Notice", "the Disk is nearly full")
    assert line.matches("disk full", "info") and line.matches("", "warning") and line.matches("notice", "info")
    assert not line.matches("empty", "info") and not line.matches("", "error")


def test_teachers_are_read_from_the_buffer(tiny_run: Drive) -> None:
    run = tiny_run("r", "distill.iterations=1")
    buffer = next((run.folder.parents[1] / "buffers").iterdir())
    reader = BufferReader(buffer)
    there = reader.read()
    assert sorted(there) == [0, 1] and all(t.published and t.epochs == 2 and len(t.losses) == 2 for t in there.values())
    assert there[0].bytes == (buffer / "trajectory-0000.safetensors").stat().st_size
    (buffer / "trajectory-0001.json").write_text("{")
    assert sorted(reader.read()) == [0]
