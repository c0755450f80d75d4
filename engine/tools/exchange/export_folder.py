"""A distilled dataset as a self-contained folder, useful without tesla installed.

images/<k>-<class>/0000.png    what it looks like: un-whitened, 8 bits
decoded/, stored/              with formation: what networks see of each image, 8 bits; Parquet of the images as stored
distilled.safetensors          what to train on: exact floats in the input space, labels, the way to and from pixels
data/*.parquet                 the pictures and labels for Hugging Face `datasets`
recipe.json  README.md  train.py  SHA256SUMS
"""

import json
import re
from collections.abc import Generator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.data.decoder import decode_all
from engine.events import EvaluationDone, Event, Progress
from engine.runs.preview_frames import enlarged, image_grid
from engine.runs.preview_writer import png_bytes, to_pixels
from engine.session.finished import STAGE
from engine.storage.atomic import disk
from engine.storage.checksums import SUMS, folder_sums
from engine.storage.tensors import file_parts
from engine.tools.exchange.card import dataset_card
from engine.tools.exchange.parquet import write_parquet
from engine.training.labels import class_index
from engine.training.task import Task


def write_folder(
    folder: Path,
    task: Task,
    images: Tensor,
    labels: Tensor,
    facts: dict[str, Any],
    results: list[EvaluationDone],
    *,
    with_test: bool,
) -> Generator[Event, None, None]:
    """Write everything into an empty folder. Use as `yield from`.

    Args:
        folder: where.
        task: for the input space and the classes.
        images: `(N, C, H, W)` in the input space, ordered by class.
        labels: `(N, K)` probabilities.
        facts: the recipe.
        results: test accuracies of this checkpoint and of the random baseline, for the card.
        with_test: also write the real test images, for the script to measure on.
    """
    names, ipc, factor = task.dataset.classes, facts["ipc"], facts["formation"]
    pixels = to_pixels(images, task.space)
    folders = [f"{k:0{len(str(task.classes - 1))}d}-{_safe(name)}" for k, name in enumerate(names)]
    pictures = yield from _write_pictures(folder / "images", pixels, folders, ipc)
    shown = min(ipc, 10)
    first = pixels.reshape(task.classes, ipc, *pixels.shape[1:])[:, :shown].reshape(-1, *pixels.shape[1:])
    disk.write(folder / "grid.png", png_bytes(enlarged(image_grid(first, shown), task.dataset.resolution)))
    disk.write(folder / "recipe.json", (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode())
    _write_tensors(folder / "distilled.safetensors", task, images, labels, ipc)
    if with_test:
        _write_test(folder / "test.safetensors", task)
    at = Progress(stage=STAGE, done=0, total=1, unit="datasets")
    yield replace(at, detail="Parquet")
    soft = labels.float().cpu().numpy()
    tables: dict[str, str] = {}
    if factor > 1:
        tables["stored"] = write_parquet(folder / "stored", pictures, folder, soft, names, ipc)
        ipc, soft = ipc * factor**2, soft.repeat(factor**2, axis=0)
        seen = to_pixels(decode_all(task.decoder, images), task.space)
        pictures = yield from _write_pictures(folder / "decoded", seen, folders, ipc)
    tables = {"default": write_parquet(folder / "data", pictures, folder, soft, names, ipc), **tables}
    yield at
    disk.write(folder / "README.md", dataset_card(facts, results, names, tables, with_test).encode())
    disk.write(folder / "train.py", files("engine.tools.exchange").joinpath("train.py.txt").read_bytes())
    disk.write(folder / SUMS, folder_sums(folder).encode())


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[:60] or "class"


def _write_pictures(
    folder: Path, pixels: np.ndarray, folders: list[str], ipc: int
) -> Generator[Event, None, list[str]]:
    names = []
    for number, image in enumerate(pixels):
        yield Progress(stage=STAGE, done=number, total=len(pixels), unit="images")
        place = folder / folders[number // ipc]
        disk.make_folder(place)
        path = place / f"{number % ipc:04d}.png"
        disk.write(path, png_bytes(Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)))
        names.append(str(path.relative_to(folder.parent)))
    return names


def _write_tensors(path: Path, task: Task, images: Tensor, labels: Tensor, ipc: int) -> None:
    tensors = {
        "images": images,
        "labels": labels,
        "classes": class_index(task.classes, ipc),
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
