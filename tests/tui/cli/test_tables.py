"""Tables in narrow terminals, files and pipes: what is shown is whole."""

import io

import pytest
from rich.console import Console

from engine.tools.studies.outcome import Column, Outcome
from engine.tools.studies.statistics import Interval
from engine.tools.studies.tables import ACCURACY, DIFFERENCE, GAIN, OF_WHOLE, PACE, RANDOM, RUNS
from tesla_tui.render.study import print_outcome
from tests.tui.cli.test_cli import SETS, Tesla, tesla  # noqa: F401


@pytest.mark.slow
def test_a_narrow_terminal_sees_fewer_columns_not_pieces_of_all(
    tesla: Tesla,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tesla("init", "ws", "--dataset", "digits")
    assert tesla("run", "ws", "--ipc", 1, *SETS)[0] == 0
    shown: dict[int, int] = {}
    for width in (120, 80, 60, 40):
        monkeypatch.setenv("COLUMNS", str(width))
        status, result, config = (
            tesla(*words)[1] for words in (("status", "ws"), ("evaluate", "ws"), ("config", "ws"))
        )
        table = result[result.index("Test accuracy, 1 image per class") :]
        for text in (status, table, config):
            assert "…" not in text
            assert max(map(len, text.splitlines())) <= width
        header = next(line for line in status.splitlines() if "test %" in line)  # below what the dataset is
        assert "run" in header
        assert "convnet" in table and table.count(" %") >= 2
        assert "distill.lr_student_lr" in config and "preset digits" in " ".join(config.split())
        shown[width] = len(header.split("  "))
    assert shown[120] > shown[60] > shown[40]


@pytest.mark.slow
def test_what_goes_into_a_pipe_is_neither_cut_nor_wrapped(
    tesla: Tesla,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "a-run-with-a-long-name-" + "x" * 40
    tesla("init", "ws", "--dataset", "digits")
    code, out, _ = tesla("run", "ws", "--run", name, "--ipc", 1, *SETS)
    assert code == 0
    monkeypatch.delenv("COLUMNS")
    line, gained = [line for line in tesla("status", "ws")[1].splitlines() if name in line]
    assert "95 % interval" in gained and "2 and 2 networks" in gained
    assert "finished" in line and "6/6" in line and line.rstrip().endswith(("just now", "ago"))
    out = tesla("config", "ws", "--run", name, "--set", "distill.iterations=7")[1]
    (line,) = [line for line in out.splitlines() if line.startswith("augment.ops")]
    assert "color, crop, cutout, scale, rotate" in line and "preset digits" in line


@pytest.mark.parametrize(
    ("width", "dropped"),
    [
        (120, ""),
        (96, ""),
        (80, "random real images; an iteration"),
        (60, "% of whole; random real images; gained; an iteration"),
    ],
)
def test_a_study_is_shown_in_whole_words_and_numbers(width: int, dropped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracy, gain = Interval(0.221, -0.54, 0.982, 2), Interval(-0.263, -0.741, 0.215, 2)
    row = {"accuracy": accuracy, "difference": gain, "of_whole": 0.503, "random": accuracy, "gain": gain, "pace": 0.2}
    columns = [
        Column("gradient", "distill.gradient"), ACCURACY, DIFFERENCE, OF_WHOLE, RANDOM, GAIN, PACE, RUNS,
    ]  # fmt: skip
    outcome = Outcome("x", "Title", "Which?", columns, [{"gradient": "exact", "n": 2, **row}])
    monkeypatch.setenv("COLUMNS", str(width))
    file = io.StringIO()
    print_outcome(Console(file=file, width=width), outcome)
    table, _, said = file.getvalue().partition("Not shown in")
    assert max(map(len, table.splitlines())) <= width
    assert " ".join(said.split()) == (f"{width} characters: {dropped}." if dropped else "")
    (line,) = (line for line in table.splitlines() if "exact" in line)
    assert "22.1 ± 76.1" in line and "-26.3 ± 47.8" in line
    words = set(table.replace("┃", " ").split())
    for column in columns:
        if column.heading.removesuffix(", %") not in dropped.split("; "):
            assert set(column.heading.split()) <= words
