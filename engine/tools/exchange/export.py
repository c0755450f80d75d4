"""Exporting a checkpoint of a run as a dataset, in the layout of tesla or of published code."""

import errno
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from engine.data.decoder import Whole, decode_all
from engine.data.formation import Formation
from engine.errors import UsageError
from engine.events import Event, Progress, with_progress
from engine.methods.registry import method_of
from engine.runs.history import read_history
from engine.runs.run import Run
from engine.runs.same_data import check_data
from engine.runs.selection import checkpoint_to_use
from engine.runs.workspace import Workspace
from engine.runtime.threads import run_in_thread
from engine.session.open_task import open_finished
from engine.storage.atomic import TEMP_MARK, disk, publishing_folder
from engine.storage.temp_files import leftovers
from engine.tools.exchange.data_facts import data_facts, without_paths
from engine.tools.exchange.export_folder import STAGE, write_folder
from engine.tools.exchange.export_pt import write_published
from engine.training.evaluation import RULE
from engine.training.task import Task

FORMAT = 1
"""Version of an export, in its recipe.json."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    images: int
    classes: int
    iteration: int
    formation: int = 1
    """f: how many images on a side each of them holds."""
    stored: int = 0
    """Images of the run, each of which may have been decoded to several."""


def exporting(
    workspace: Workspace,
    run: Run,
    to: Path,
    *,
    iteration: int | None = None,
    with_test: bool = False,
    layout: Literal["folder", "pt"] = "folder",
) -> Generator[Event, None, Exported]:
    """Write a checkpoint of a run as a dataset. Use as `yield from`; closing leaves nothing behind.

    Args:
        workspace: the run's workspace; its dataset must be available, for the input space.
        run: an existing run.
        to: a folder that is new or empty.
        iteration: which checkpoint; None for the selected one.
        with_test: also write the real test images, for the script to measure on.
        layout: `folder`, which is self-contained; or `pt`, the three files of published code.

    Raises:
        UsageError: `to` is not empty, or there is no such checkpoint.
    """
    at = Progress(stage=STAGE, done=0, total=1, unit="datasets")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"{to} already exists and is not empty.", "Choose a new folder with --to.")
    settings = run.frozen().settings
    method = method_of(settings)
    if method.export_labels is None:
        raise UsageError(
            f"The run {run.name} has distill.method = {method.name}, which makes no small set to export.",
            "Its result is the accuracy; `tesla show` prints it.",
        )
    chosen = checkpoint_to_use(run, settings, iteration)
    task, buffer = yield from open_finished(workspace, settings)
    check_data(run, task.dataset.classes, task.dataset.fingerprint)
    tensors, record = yield from with_progress(
        run_in_thread(lambda: run.load_checkpoint(chosen)), at, "reading the checkpoint"
    )
    state = method.restore_state(tensors, record, task)
    labels = yield from method.export_labels(task, buffer, state, replace(at, detail="labels"))
    disk.make_folder(to.parent)
    for dead in leftovers(to.parent):
        if dead.name.startswith(f"{to.name}{TEMP_MARK}"):
            disk.remove_tree(dead)
    results = [r for r in run.evaluations() if r.split == "test" and (r.subject == "random" or r.iteration == chosen)]
    tuned = next((r.lr for r in results if r.subject == "distilled" and r.lr is not None), None)
    student_lr = state.student_lr if tuned is None else torch.full_like(state.student_lr, tuned)
    facts = _recipe(task, run, chosen, student_lr.item())
    images = state.images
    if layout == "pt" or not isinstance(task.decoder, Whole | Formation):
        # What is beside the files, published code or train.py, knows no such decoder.
        images, labels = decode_all(task.decoder, images), labels.repeat_interleave(task.decoder.views, dim=0)
        facts |= {"ipc": facts["ipc"] * task.decoder.views, "formation": 1}
    with _as_new(to), publishing_folder(to) as temp:
        if layout == "pt":
            write_published(temp, task, images, labels, student_lr, facts)
        else:
            yield from write_folder(temp, task, images, labels, facts, results, with_test=with_test)
    return Exported(len(images), task.classes, chosen, facts["formation"], len(state.images))


@contextmanager
def _as_new(to: Path) -> Iterator[None]:
    """The error for a folder that another process filled in the meantime."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) and not isinstance(error, FileExistsError):
            raise
        raise UsageError(
            f"{to} was created by another process during the export.",
            "It was left unchanged. Choose a new folder with --to.",
        ) from error


def _recipe(task: Task, run: Run, iteration: int, student_lr: float) -> dict[str, Any]:
    settings = task.settings
    flat = run.frozen().flat()
    from engine import __version__

    return {
        "format": FORMAT,
        "made_by": f"tesla-tui {__version__}",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": run.name,
        "method": method_of(settings).title,
        "iteration": iteration,
        "dataset": {
            "name": task.dataset.name,
            "source": without_paths(task.dataset.source, flat),
            "fingerprint": task.dataset.fingerprint,
            "classes": list(task.dataset.classes),
            "train_images": len(task.train),
            "test_images": len(task.test),
            "report": data_facts(task.dataset.folder, flat),
        },
        "ipc": settings.distill.ipc,
        "formation": settings.distill.formation,
        "stored_ipc": settings.distill.ipc,
        "image": {"channels": task.dataset.channels, "resolution": task.dataset.resolution, "space": task.space.kind},
        "network": {
            "name": settings.network.name,
            "width": settings.network.width,
            "depth": settings.network.depth,
        },
        "training": {
            "student_lr": student_lr,
            "momentum": RULE.momentum,
            "weight_decay": RULE.weight_decay,
            "batch": settings.evaluate.batch,
            "epochs": settings.evaluate.epochs,
            "lr_decay": "x0.1 after half the epochs"
            + (", momentum cleared" if settings.evaluate.reset_momentum else ""),
            "reset_momentum": settings.evaluate.reset_momentum,
            "augment": [] if settings.evaluate.augment == "none" else list(settings.augment.ops),
            "measured_with": settings.evaluate.augment,
        },
        "environment": read_history(run).environment,
        "origin": None if run.origin is None else asdict(run.origin),
        "settings": without_paths(flat, flat),
    }
