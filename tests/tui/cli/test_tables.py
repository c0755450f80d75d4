"""Tables in narrow terminals, files and pipes: what is shown is whole."""

import pytest

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
