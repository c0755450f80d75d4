"""A distilled dataset as a folder that is useful with nothing of ours installed.

images/<k>-<class>/0000.png    what it looks like: un-whitened, 8 bits
distilled.safetensors          what to train on: exact floats in the input space, labels, the way to and from pixels
data/*.parquet                 the pictures and labels for Hugging Face `datasets`
recipe.json  README.md  train.py
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from engine.errors import UsageError
from engine.evaluate import BATCH, RULE
from engine.export.card import dataset_card
from engine.export.parquet import write_parquet
from engine.film import enlarged, image_grid
from engine.generators import result_of
from engine.labels import class_index
from engine.methods import method_of
from engine.preview import to_pixels
from engine.run import Run, checkpoint_to_use
from engine.session import open_task
from engine.storage import disk, publishing_folder
from engine.task import Task
from engine.tensor_file import file_parts
from engine.workspace import Workspace


@dataclass(frozen=True)
class Exported:
    """What was written."""

    images: int
    classes: int
    iteration: int


def export_run(
    workspace: Workspace, run: Run, to: Path, *, iteration: int | None = None, with_test: bool = False
) -> Exported:
    """Write a checkpoint of a run as a dataset.

    Args:
        workspace: the run's workspace; its dataset must be at hand, for the input space.
        run: an existing run.
        to: a folder that is new or empty.
        iteration: which checkpoint; None for the selected one.
        with_test: also write the real test images, for the script to measure on.

    Raises:
        UsageError: `to` is not empty, or there is no such checkpoint.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"{to} exists and is not empty.", "Choose a new folder with --to.")
    settings = run.frozen().settings
    method = method_of(settings)
    if method.shipped_labels is None:
        raise UsageError(
            f"The run {run.name} has distill.method = {method.name}: there is no small set to export.",
            "Its result is the accuracy; `tesla show` prints it.",
        )
    chosen = checkpoint_to_use(run, settings, iteration)
    task, buffer = result_of(open_task(workspace, settings))
    state = method.restored_state(*run.load_checkpoint(chosen), task)
    labels = method.shipped_labels(task, buffer, state)
    to.parent.mkdir(parents=True, exist_ok=True)
    with publishing_folder(to) as temp:
        pixels = to_pixels(state.images, task.space)
        ipc = settings.distill.ipc
        folders = [f"{k:0{len(str(task.classes - 1))}d}-{_safe(name)}" for k, name in enumerate(task.dataset.classes)]
        names = _write_pictures(temp, pixels, folders, ipc)
        shown = min(ipc, 10)
        first = pixels.reshape(task.classes, ipc, *pixels.shape[1:])[:, :shown].reshape(-1, *pixels.shape[1:])
        enlarged(image_grid(first, shown), task.dataset.resolution).save(temp / "grid.png")
        facts = _recipe(task, run, chosen, state.student_lr.item())
        disk.write(temp / "recipe.json", (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode())
        _write_tensors(temp / "distilled.safetensors", task, state.images, labels)
        if with_test:
            _write_test(temp / "test.safetensors", task)
        write_parquet(temp / "data", names, temp, labels.float().cpu().numpy(), task.dataset.classes, ipc)
        results = [r for r in run.evaluations() if r.split == "test" and r.iteration in (chosen, 0)]
        disk.write(temp / "README.md", dataset_card(facts, results, task.dataset.classes, with_test).encode())
        disk.write(temp / "train.py", files("engine.export").joinpath("train.py.txt").read_bytes())
    return Exported(len(pixels), task.classes, chosen)


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[:60] or "class"


def _write_pictures(folder: Path, pixels: np.ndarray, folders: list[str], ipc: int) -> list[str]:
    names = []
    for number, image in enumerate(pixels):
        place = folder / "images" / folders[number // ipc]
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{number % ipc:04d}.png"
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(path, optimize=True)
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
    from safetensors.numpy import save_file

    save_file({"images": np.ascontiguousarray(task.dataset.test_images), "labels": task.dataset.test_labels}, path)


def _recipe(task: Task, run: Run, iteration: int, student_lr: float) -> dict[str, Any]:
    settings = task.settings
    from engine import __version__

    return {
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
        "settings": run.frozen().flat(),
    }
