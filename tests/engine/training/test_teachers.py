"""Teachers: trajectories that stop, resume, extend and are shared."""

from pathlib import Path

import pytest
import torch

from engine.errors import CorruptFileError
from engine.events import (
    Progress,
)
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.session import drive
from engine.settings import resolve_settings
from engine.training.teacher_buffer import TeacherBuffer
from tests.conftest import TINY, Drive


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_teachers_stopped_in_mid_epoch_are_the_same_bits(tmp_path: Path, dtype: str) -> None:
    buffers = []
    for name in ("whole", "stopped"):
        workspace = Workspace.create(tmp_path / name, resolve_settings(), set())
        run = workspace.run("r")
        effective = workspace.settings(overrides=(*TINY, f"compute.dtype={dtype}"), run=run)
        if name == "stopped":
            for share in (0.3, 1.6, 3.2):
                events = drive(workspace, run, effective)
                for event in events:
                    if isinstance(event, Progress) and event.stage == "teachers" and event.done >= share:
                        break
                events.close()
                assert list((workspace.folder / "buffers").glob("*/*.position.safetensors"))
        for _ in drive(workspace, run, effective):
            pass
        buffers.append(next((workspace.folder / "buffers").iterdir()))
    for number in range(2):
        name = f"trajectory-{number:04d}.safetensors"
        assert (buffers[0] / name).read_bytes() == (buffers[1] / name).read_bytes()
    left = [path.name for path in buffers[1].iterdir() if "part" in path.name or "position" in path.name]
    assert left == []


def test_snapshots_are_copies_and_rows_are_checked(tiny_run: Drive) -> None:
    run = tiny_run()
    folder = next((run.folder.parents[1] / "buffers").iterdir())
    buffer = TeacherBuffer(folder, {})
    rows = buffer.read(0, 0, 1, 2)
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[1], rows[2])
    path = buffer.path(0)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert torch.equal(TeacherBuffer(folder, {}).read(0, 0)[0], rows[0])  # the damage is in the last row
    with pytest.raises(CorruptFileError, match="epoch 2"):
        TeacherBuffer(folder, {}).read(0, 2)


@pytest.mark.slow
def test_more_epochs_extend_the_same_trajectories(tiny_run: Drive) -> None:
    run = tiny_run("short")
    folder = next((run.folder.parents[1] / "buffers").iterdir())
    before = TeacherBuffer(folder, {}).read(1, 0, 1, 2)
    tiny_run("long", "distill.max_start_epoch=3")
    after = TeacherBuffer(folder, {})
    assert after.epochs(1) == 3
    assert all(torch.equal(a, b) for a, b in zip(before, after.read(1, 0, 1, 2), strict=True))


def test_teachers_are_shared_between_precisions_that_train_them_alike(workspace: Workspace) -> None:
    folders = {}
    for precision in ("float32", "bf16", "tf32"):
        settings = workspace.settings(overrides=(f"compute.precision={precision}",)).settings
        dataset = run_to_end(workspace.open_dataset(settings)).dataset
        folders[precision] = workspace.buffer_folder(settings, workspace.buffer_identity(settings, dataset))
    assert folders["float32"] == folders["bf16"] != folders["tf32"]
