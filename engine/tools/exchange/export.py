"""Exporting a checkpoint of a run as a dataset, in the layout of tesla or of published code."""

from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from engine.data.decoder import Whole, decode_all
from engine.data.formation import Formation
from engine.errors import UsageError
from engine.events import Event
from engine.methods.registry import method_of
from engine.runs.history import read_history
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.session.finished import finished_set
from engine.storage.atomic import publishing_folder
from engine.tools.exchange.data_facts import check_licence, dataset_entry, local_paths, without_paths
from engine.tools.exchange.export_folder import write_folder
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
    title: str | None = None,
    licence: str | None = None,
) -> Generator[Event, None, Exported]:
    """Write a checkpoint of a run as a dataset. Use as `yield from`; closing leaves nothing behind.

    Args:
        workspace: the run's workspace; its dataset must be available, for the input space.
        run: an existing run.
        to: a folder that is new or empty.
        iteration: which checkpoint; None for the selected one.
        with_test: also write the real test images, for the script to measure on.
        layout: `folder`, which is self-contained; or `pt`, the three files of published code.
        title: of the real data, for the card; None for the dataset's name.
        licence: of the real data, as the hub spells it (`cc-by-4.0`); None for what is known, else `unknown`.

    Raises:
        UsageError: `to` is not empty, there is no such checkpoint, or `licence` is not spelled as the hub does.
    """
    check_licence(licence)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"{to} already exists and is not empty.", "Choose a new folder.")
    found = yield from finished_set(workspace, run, iteration)
    task, images, labels = found.task, found.images, found.labels
    results = [
        result for result in run.evaluations()
        if result.split == "test" and (result.subject == "random" or result.iteration == found.iteration)
    ]  # fmt: skip
    facts = _recipe(task, run, found.iteration, found.student_lr.item(), workspace.folder)
    facts["dataset"] |= {key: text for key, text in (("title", title), ("license", licence)) if text is not None}
    if layout == "pt" or not isinstance(task.decoder, Whole | Formation):
        # What is beside the files, published code or train.py, knows no such decoder.
        images, labels = decode_all(task.decoder, images), labels.repeat_interleave(task.decoder.views, dim=0)
        facts |= {"ipc": facts["ipc"] * task.decoder.views, "formation": 1}
    with publishing_folder(to) as temp:
        if layout == "pt":
            write_published(temp, task, images, labels, found.student_lr, facts)
        else:
            yield from write_folder(temp, task, images, labels, facts, results, with_test=with_test)
    return Exported(len(images), task.classes, found.iteration, facts["formation"], len(found.images))


def _recipe(task: Task, run: Run, iteration: int, student_lr: float, workspace: Path) -> dict[str, Any]:
    """The facts about a set. None is of the clock: equal sets have equal checksums."""
    settings, origin = task.settings, run.origin
    from engine import __version__

    return {
        "format": FORMAT,
        "made_by": f"tesla-tui {__version__}",
        "run": run.name,
        "method": method_of(settings).title,
        "iteration": iteration,
        "dataset": {
            **dataset_entry(task.dataset, settings.dataset, workspace),
            "train_images": len(task.train),
            "test_images": len(task.test),
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
        "origin": None if origin is None else {k: v for k, v in asdict(origin).items() if k != "imported_at"},
        "settings": without_paths(run.frozen().flat(), local_paths(settings.dataset, workspace)),
    }
