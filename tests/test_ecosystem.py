"""docs/ecosystem.md: its commands run, and show what the table says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.tools.exchange.export import exporting
from engine.tools.exchange.import_images import Wanted, import_images
from tests.conftest import TINY
from tests.runs import digits_workspace

ROOT = Path(__file__).parents[1]
SHOWS = {
    "dataset card": "'license': 'cc-by-4.0'",
    "`datasets`": "ClassLabel(names=['0', '1', '2'",
    "safetensors": "'images', 'labels'",
    "plain PyTorch": "trained on 10 images",
    "checksums": "distilled.safetensors: OK",
    "published": "Wrote 10 images",
    "DD-Ranking": "again: imported",
    "the hub": "Would upload 17 files",
    "TensorBoard": "logs",
}
"""By how the first cell of a row begins, what its command prints; the last three rows are not run here."""


def rows() -> dict[str, str]:
    """The command of each row of the first table, by its first cell."""
    table = (ROOT / "docs" / "ecosystem.md").read_text().split("|---|---|---|\n")[1].split("\n\n")[0]
    cells = [line.strip("|").split(" | ") for line in table.splitlines()]
    return {first.strip(): re.findall(r"`(.+?)`", last)[0] for first, _, last in cells}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a workspace `my-run`, a set in it, its exports, and the programs `python` and `tesla`."""
    where = tmp_path
    workspace: Workspace = digits_workspace(where / "my-run")
    images = torch.rand((10, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    torch.save({"images": images, "labels": torch.arange(10), "lr": 0.01}, where / "set.pt")
    run_to_end(import_images(workspace, "r", Wanted(where / "set.pt", space="pixels"), TINY))
    run_to_end(exporting(workspace, workspace.run("r"), where / "out"))
    for name, words in {"python": "", "tesla": " -m tesla_tui.main"}.items():
        program = where / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{words} "$@"\n')
        program.chmod(0o755)
    return where


@pytest.mark.slow
def test_the_commands_show_what_the_table_says(folder: Path) -> None:
    """In the order of the table: one uses what another made."""
    env = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    for (first, command), (row, shown) in zip(list(rows().items())[:-3], SHOWS.items(), strict=True):
        assert first.startswith(row)
        done = subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
        assert shown in done.stdout, (command, done.stdout)
    assert list((folder / "logs").rglob("events.out.tfevents*"))
