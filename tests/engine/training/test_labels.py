"""Learned labels as logits or raw probabilities, and the student's loss, through whole runs (TESLA, App. A.7)."""

from collections.abc import Callable

import pytest
import torch

from engine.events import Progress
from engine.matching import matching_gradient
from engine.methods.tesla import TESLA
from engine.methods.tesla_labels import DistillState, draw_iteration, export_labels
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from tests.runs import assert_same_bits, newest, stop_at_iteration

RunIt = Callable[..., Run]
RAW = ("labels.kind=learned", "labels.parameters=probabilities", "labels.lr=0.5")


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [RAW, (*RAW, "labels.loss=mse"), ("labels.loss=mse",), ("labels.kind=learned", "labels.loss=mse", "labels.lr=5")],
)
def test_every_choice_resumes_to_the_same_bits(tiny_run: RunIt, overrides: tuple[str, ...]) -> None:
    a = tiny_run("a", *overrides)
    tiny_run("b", *overrides, until=stop_at_iteration(2))
    assert_same_bits(a, tiny_run("b", *overrides))
    assert not torch.equal(a.load_checkpoint(0)[0]["images"], newest(a)["images"])


def test_raw_probabilities_start_one_hot_follow_their_gradient_and_ship_as_probabilities(tiny_run: RunIt) -> None:
    more = (*RAW, "distill.iterations=1", "compute.dtype=float64", "labels.loss=mse")
    run = tiny_run("a", *more)
    settings = run.frozen().settings
    task, buffer = run_to_end(open_task(Workspace(run.folder.parents[1]), settings))
    before, after = run.load_checkpoint(0)[0], newest(run)
    assert torch.equal(before["logits"], torch.eye(10, dtype=torch.float64))
    draw = draw_iteration(task, 0)
    start, target = (row.double() for row in buffer.read(draw.trajectory, draw.start_epoch, draw.start_epoch + 1))
    found = matching_gradient(
        task.fresh_network(0).train(), start=start, target=target, images=before["images"], labels=before["logits"],
        student_lr=before["student_lr"], schedule=draw.schedule, mode="unrolled", loss="mse",
    )  # fmt: skip
    assert torch.allclose(after["logits"], before["logits"] - 0.5 * found.labels, rtol=1e-9, atol=1e-12)
    assert torch.allclose(after["images"], before["images"] - 10 * found.images, rtol=1e-9, atol=1e-12)
    state = TESLA.restore_state(*run.load_checkpoint(1), task)
    assert isinstance(state, DistillState)
    assert state.logits is not None
    state.logits += torch.randn(10, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at = Progress(stage="evaluation", done=0, total=1, unit="networks")
    shipped = run_to_end(export_labels(task, buffer, state, at))
    assert float(shipped.min()) >= 0
    assert torch.allclose(shipped.sum(dim=1), torch.ones(10, dtype=torch.float64))
