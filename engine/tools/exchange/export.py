"""A distilled dataset as a self-contained folder, useful without tesla installed.

images/<k>-<class>/0000.png    what it looks like: un-whitened, 8 bits
distilled.safetensors          what to train on: exact floats in the input space, labels, the way to and from pixels
data/*.parquet                 the pictures and labels for Hugging Face `datasets`
recipe.json  README.md  train.py  SHA256SUMS
"""

import errno
import json
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from engine.errors import UsageError
from engine.events import Event, Progress, with_progress
from engine.methods.registry import method_of
from engine.runs.preview_frames import enlarged, image_grid
from engine.runs.preview_writer import png_bytes, to_pixels
from engine.runs.run import Run
from engine.runs.selection import checkpoint_to_use
from engine.runs.workspace import Workspace
from engine.runtime.threads import run_in_thread
from engine.session.open_task import open_task
from engine.storage.atomic import TEMP_MARK, disk, publishing_folder
from engine.storage.checksums import SUMS, folder_sums
from engine.storage.temp_files import leftovers
from engine.storage.tensors import file_parts
from engine.tools.exchange.card import dataset_card
from engine.tools.exchange.export_pt import write_published
from engine.tools.exchange.parquet import write_parquet
from engine.training.evaluation import BATCH, RULE
from engine.training.labels import class_index
from engine.training.task import Task

STAGE = "export"

FORMAT = 1
"""Version of an export, in its recipe.json."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    images: int
    classes: int
    iteration: int


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
    task, buffer = yield from open_task(workspace, settings)
    tensors, record = yield from with_progress(
        run_in_thread(lambda: run.load_checkpoint(chosen)), at, "reading the checkpoint"
    )
    state = method.restore_state(tensors, record, task)
    labels = yield from method.export_labels(task, buffer, state, replace(at, detail="labels"))
    disk.make_folder(to.parent)
    for dead in leftovers(to.parent):
        if dead.name.startswith(f"{to.name}{TEMP_MARK}"):
            disk.remove_tree(dead)
    facts = _recipe(task, run, chosen, state.student_lr.item())
    if layout == "pt":
        with _as_new(to), publishing_folder(to) as temp:
            write_published(temp, task, state.images, labels, state.student_lr, facts)
        return Exported(len(state.images), task.classes, chosen)
    with _as_new(to), publishing_folder(to) as temp:
        pixels = to_pixels(state.images, task.space)
        ipc = settings.distill.ipc
        folders = [f"{k:0{len(str(task.classes - 1))}d}-{_safe(name)}" for k, name in enumerate(task.dataset.classes)]
        names = yield from _write_pictures(temp, pixels, folders, ipc)
        shown = min(ipc, 10)
        first = pixels.reshape(task.classes, ipc, *pixels.shape[1:])[:, :shown].reshape(-1, *pixels.shape[1:])
        disk.write(temp / "grid.png", png_bytes(enlarged(image_grid(first, shown), task.dataset.resolution)))
        disk.write(temp / "recipe.json", (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode())
        _write_tensors(temp / "distilled.safetensors", task, state.images, labels)
        if with_test:
            _write_test(temp / "test.safetensors", task)
        soft = labels.float().cpu().numpy()
        yield replace(at, detail="Parquet")
        write_parquet(temp / "data", names, temp, soft, task.dataset.classes, ipc)
        yield at
        results = [
            r for r in run.evaluations() if r.split == "test" and (r.subject == "random" or r.iteration == chosen)
        ]
        disk.write(temp / "README.md", dataset_card(facts, results, task.dataset.classes, with_test).encode())
        disk.write(temp / "train.py", files("engine.tools.exchange").joinpath("train.py.txt").read_bytes())
        disk.write(temp / SUMS, folder_sums(temp).encode())
    return Exported(len(pixels), task.classes, chosen)


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


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[:60] or "class"


def _write_pictures(
    folder: Path, pixels: np.ndarray, folders: list[str], ipc: int
) -> Generator[Event, None, list[str]]:
    names = []
    for number, image in enumerate(pixels):
        yield Progress(stage=STAGE, done=number, total=len(pixels), unit="images")
        place = folder / "images" / folders[number // ipc]
        disk.make_folder(place)
        path = place / f"{number % ipc:04d}.png"
        disk.write(path, png_bytes(Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)))
        names.append(str(path.relative_to(folder)))
    return names


def _write_tensors(path: Path, task: Task, images: torch.Tensor, labels: torch.Tensor) -> None:
    tensors = {
        "images": images,
        "labels": labels,
        "classes": class_index(task.classes, task.settings.distill.ipc),
        "pixels": task.space.decode(images),
        **{f"space.{name}": tensor for name, tensor in task.space.tensors().items()},
    }
    disk.write_parts(path, file_parts(tensors))


def _write_test(path: Path, task: Task) -> None:
    # Mapped again, copied when written to: PyTorch does not take memory that may only be read.
    images, labels = (
        torch.from_numpy(np.load(task.dataset.folder / f"test_{part}.npy", mmap_mode="c", allow_pickle=False))
        for part in ("images", "labels")
    )
    disk.write_parts(path, file_parts({"images": images, "labels": labels}))


def _recipe(task: Task, run: Run, iteration: int, student_lr: float) -> dict[str, Any]:
    settings = task.settings
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
            "source": task.dataset.source,
            "fingerprint": task.dataset.fingerprint,
            "classes": list(task.dataset.classes),
            "train_images": len(task.train),
            "test_images": len(task.test),
        },
        "ipc": settings.distill.ipc,
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
            "batch": BATCH,
            "epochs": settings.evaluate.epochs,
            "lr_decay": "x0.1 after half the epochs",
            "augment": [] if settings.evaluate.augment == "none" else list(settings.augment.ops),
            "measured_with": settings.evaluate.augment,
        },
        "origin": None if run.origin is None else asdict(run.origin),
        "settings": run.frozen().flat(),
    }
