"""Local tables through the command line: each refusal names the setting, and with these settings the run works."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import ExitCode
from tesla_tui.main import main
from tests.conftest import TINY
from tests.engine.data.table_files import named, pictures, write

Tesla = Callable[..., tuple[int, str]]


@pytest.fixture
def tesla(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Tesla:
    """`tesla(...)` runs a command, and gives its exit code and everything it printed, on one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["tesla", *map(str, arguments)])
        try:
            code = main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return int(code), " ".join((captured.out + captured.err).split())

    return call


def test_every_refusal_leads_to_a_run(tesla: Tesla, tmp_path: Path) -> None:
    types = {"image": {"_type": "Image"}, "mask": {"_type": "Image"}, "label": named("cat", "dog")}
    for config in ("cropped", "full"):
        for split, count in (("train", 20), ("test", 8), ("extra", 40)):
            columns = {"image": pictures(count), "mask": pictures(count), "label": [0, 1] * (count // 2)}
            write(tmp_path / "data" / config / f"{split}-00000-of-00001.parquet", columns, types)
    (tmp_path / "ws").mkdir()
    toml = tmp_path / "ws" / "tesla.toml"
    known = [
        ("", "several configurations: cropped, full", "dataset.config"),
        ('config = "full"', "several columns of images: image, mask", "dataset.image_column"),
        ('image_column = "image"\ntrain_split = "extr"', "there is no such split", "Did you mean extra?"),
    ]
    settings = f'[dataset]\nname = "someone/pets"\npath = {json.dumps(str(tmp_path / "data"))}\n'
    for lines, message, hint in known:
        settings += f"{lines}\n"
        toml.write_text(settings)
        code, said = tesla("run", "ws", "--ipc", 1)
        assert code == ExitCode.USAGE
        assert message in said
        assert hint in said
        assert "Traceback" not in said
    toml.write_text(settings.replace('"extr"', '"extra"'))
    own = [f"--set={text}" for text in TINY if not text.startswith("dataset.")]
    code, said = tesla("run", "ws", "--ipc", 1, "--set=dataset.holdout=0", "--set=teachers.batch=4", *own)
    assert code == ExitCode.OK, said
