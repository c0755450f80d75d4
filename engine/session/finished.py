"""What a run has made, read back: its set as it is exported, on the device."""

from collections.abc import Generator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.errors import UsageError
from engine.events import Event, Progress, with_progress
from engine.methods.registry import method_of
from engine.runs.protocol import tunes_network
from engine.runs.run import Run
from engine.runs.same_data import check_data
from engine.runs.selection import checkpoint_to_use
from engine.runs.workspace import Workspace
from engine.runtime.threads import run_in_thread
from engine.session.open_task import open_finished
from engine.settings import Settings
from engine.training.task import Task

STAGE = "export"


@dataclass(frozen=True, eq=False)
class FinishedSet:
    """The set in a checkpoint of a run."""

    task: Task
    images: Tensor
    """As stored, `(N, C, H, W)` in the input space; `task.decoder` makes what networks see."""
    labels: Tensor
    """`(N, K)`, probabilities."""
    student_lr: Tensor
    """Scalar; tuned, where the method has none of its own."""
    iteration: int


def finished_set(workspace: Workspace, run: Run, iteration: int | None) -> Generator[Event, None, FinishedSet]:
    """Read the set of a run. Use as `yield from`.

    Args:
        workspace: the run's workspace; its dataset must be available, for the input space.
        run: an existing run.
        iteration: which checkpoint; None for the selected one.

    Raises:
        UsageError: there is no such checkpoint, or the run's method makes no small set.
        DataError: the dataset is not the one that the run was made with.
    """
    settings = run.frozen().settings
    method = method_of(settings)
    if method.export_labels is None:
        raise UsageError(
            f"The run {run.name} has distill.method = {method.name}, which makes no small set.",
            "Its result is the accuracy; `tesla show` prints it.",
        )
    chosen = checkpoint_to_use(run, settings, iteration)
    task, buffer = yield from open_finished(workspace, settings)
    check_data(run, task.dataset.classes, task.dataset.fingerprint)
    at = Progress(stage=STAGE, done=0, total=1, unit="datasets")
    tensors, record = yield from with_progress(
        run_in_thread(lambda: run.load_checkpoint(chosen)), at, "reading the checkpoint"
    )
    state = method.restore_state(tensors, record, task)
    labels = yield from method.export_labels(task, buffer, state, replace(at, detail="labels"))
    tuned = _tuned(run, settings, chosen)
    student_lr = state.student_lr if tuned is None else torch.full_like(state.student_lr, tuned)
    return FinishedSet(task, state.images, labels, student_lr, chosen)


def _tuned(run: Run, settings: Settings, iteration: int) -> float | None:
    """The rate of the method random; that of another network, where it has its own, is not the set's."""
    own = [r for r in run.evaluations() if (r.split, r.subject, r.iteration) == ("test", "distilled", iteration)]
    return next((r.lr for r in own if not tunes_network(settings, "distilled", r.network) and r.lr is not None), None)
