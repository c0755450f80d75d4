"""Published distilled sets (`images_*.pt`, `labels_*.pt`) as runs of a workspace: to evaluate, show, compare, export.

A set becomes a run with one checkpoint, at iteration 0, that carries its labels; `origin.json` records its source.
Its settings file is written last and makes it a run. It is never distilled further, since how it was made is unknown.
"""

import math
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.data import Dataset, InputSpace
from engine.errors import DataError, UsageError
from engine.events import CheckpointSaved, DataReady, Event, Notice, RunFinished, RunStarted
from engine.runs.journal import JournalWriter
from engine.runs.preview_writer import PreviewWriter
from engine.runs.provenance import SetOrigin
from engine.runs.run import Run
from engine.runs.workspace import OpenDataset, Workspace, acquire_run
from engine.runtime.device import environment
from engine.runtime.generators import run_to_end
from engine.settings import EffectiveSettings
from engine.storage.atomic import disk, write_json
from engine.tools.exchange.arrays import read_arrays, read_number
from engine.tools.exchange.torch_reader import SourceFile
from engine.training.evaluation import BASELINE_LR
from engine.training.labels import hard_labels, nearest_probabilities

SUM = 1e-3
"""How far the sum of published probabilities may be from 1."""
LARGEST_PIXEL = 10.0
"""Beyond this, numbers said to be pixels in the scale of [0, 1] are taken for 0..255 and refused; distilled images do
leave [0, 1], but not that far."""


@dataclass(frozen=True)
class Wanted:
    """What to import, and how."""

    images: Path
    labels: Path | None = None
    """None: in the same `.npz` as the images."""
    lr: str | None = None
    """A number, or the file of one."""
    space: str | None = None
    """`normalised`, `whitened` or `pixels`; None for the workspace's own."""
    mean: str | None = None
    """Comma-separated statistics of the publisher's normalisation; None: the workspace's are near enough."""
    std: str | None = None
    label_kind: str = "auto"
    """`auto`, `probabilities`, `logits`, `regression` or `hard`."""


def import_images(
    workspace: Workspace, name: str, wanted: Wanted, overrides: tuple[str, ...] = ()
) -> Generator[Event, None, SetOrigin]:
    """Create the run. Use as `yield from`, or iterate it.

    Raises:
        UsageError: the run exists, or an option contradicts the files.
        DataError: a file is damaged, hostile, or does not fit the workspace's dataset.
    """
    run = workspace.run(name)
    if run.exists:
        raise UsageError(f"The run {name} already exists.", "Choose another name with --run NAME.")
    # The teachers have no part in it, so an imported buffer that the workspace names need not be there.
    settings = workspace.settings(overrides=overrides).settings
    zca = settings.dataset.zca if wanted.space in (None, "pixels") else wanted.space == "whitened"
    space_name = wanted.space or ("whitened" if zca else "normalised")
    if (wanted.mean is None) != (wanted.std is None) or (wanted.mean is not None and space_name != "normalised"):
        raise UsageError("--mean and --std must be used together, with --space normalised.")
    sources, found = yield from read_arrays(wanted.images, wanted.labels)
    lr = BASELINE_LR if wanted.lr is None else (yield from read_number(wanted.lr))
    if not (math.isfinite(lr) and lr > 0):
        raise DataError(f"The step size is {lr}; it must be positive.", "Give one with --lr.")
    opened = yield from workspace.open_dataset(_with(workspace, overrides, {"dataset.zca": zca}).settings)
    dataset = opened.dataset
    images = _checked_images(found["images"], dataset, wanted.images)
    probabilities, order, kind = _read_labels(found["labels"], len(images), dataset, wanted)
    ipc = len(images) // len(dataset.classes)
    effective = _with(
        workspace, overrides,
        {"distill.ipc": ipc, "labels.kind": "given", "dataset.zca": zca, "distill.student_lr": lr},
    )  # fmt: skip
    images = _in_our_space(images, space_name, wanted, opened.space)[order]
    origin = _origin(sources, space_name, wanted, kind, None if wanted.lr is None else lr)
    if wanted.lr is None:
        yield Notice(level="warning", message=f"No --lr was given: networks are trained with {BASELINE_LR}.")
    if space_name != "pixels" and images.min() >= 0 and images.max() <= 1:
        yield Notice(
            level="warning", message="All values are within [0, 1]. If they are pixels, import with --space pixels."
        )
    _publish(run, effective, opened, images, probabilities[order], lr, origin)
    return origin


def _with(workspace: Workspace, overrides: tuple[str, ...], keys: dict[str, Any]) -> EffectiveSettings:
    given = {text.partition("=")[0].strip() for text in overrides}
    clash = sorted(given & keys.keys() - {"dataset.zca"})
    if clash:
        raise UsageError(f"{clash[0]} is read from the files and cannot be set.")
    words = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in keys.items()]
    kept = tuple(text for text in overrides if text.partition("=")[0].strip() not in keys)
    return workspace.settings(overrides=(*kept, *words))


def _checked_images(images: Tensor, dataset: Dataset, path: Path) -> Tensor:
    """`(N, C, H, W)` of the dataset's size; channels may come last in the file."""
    shape = (dataset.channels, dataset.resolution, dataset.resolution)
    if images.ndim == 4 and tuple(images.shape[1:]) != shape and tuple(images.shape[1:]) == (*shape[1:], shape[0]):
        images = images.permute(0, 3, 1, 2)
    if images.ndim != 4 or tuple(images.shape[1:]) != shape:
        raise DataError(
            f"The images of {path} have shape {tuple(images.shape)}; {dataset.name} has images of {shape}.",
            "Use a workspace with the dataset that the set was distilled from "
            "(and --set dataset.resolution=N if the size differs).",
        )
    classes = len(dataset.classes)
    if len(images) == 0 or len(images) % classes:
        raise DataError(
            f"{path} has {len(images)} images, which cannot be the same number for each of {classes} classes.",
            "Use a workspace with the dataset that the set was distilled from.",
        )
    if images.is_floating_point() and not torch.isfinite(images).all():
        raise DataError(f"{path} has values that are infinite or NaN.", "Use an earlier file from that run.")
    return images


def _read_labels(labels: Tensor, count: int, dataset: Dataset, wanted: Wanted) -> tuple[Tensor, Tensor, str]:
    """Probabilities `(N, K)`, the order that sorts the images by class, and a description of the labels."""
    path, classes = wanted.labels or wanted.images, len(dataset.classes)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if len(labels) != count:
        raise DataError(
            f"{path} has {len(labels)} labels for {count} images.", "Use images and labels that were saved together."
        )
    if labels.is_floating_point() and not torch.isfinite(labels).all():
        raise DataError(f"{path} has labels that are infinite or NaN.")
    if labels.ndim == 2 and labels.shape[1] != classes:
        raise DataError(f"{path} has labels of {labels.shape[1]} classes; {dataset.name} has {classes}.")
    if labels.ndim == 2 and wanted.label_kind != "hard":
        return *_soft(labels, path, wanted.label_kind, count // classes), "soft labels"
    if labels.ndim > 2 or (labels.ndim == 1 and labels.is_floating_point() and (labels != labels.round()).any()):
        raise DataError(f"{path} has labels of shape {tuple(labels.shape)} and type {labels.dtype}.", "See --labels.")
    index = labels.argmax(dim=1) if labels.ndim == 2 else labels.to(torch.int64)
    if index.min() < 0 or index.max() >= classes:
        outside = index[(index < 0) | (index >= classes)][0].item()
        raise DataError(f"{path} has a label {outside}; {dataset.name} has the classes 0 to {classes - 1}.")
    sizes = torch.bincount(index, minlength=classes)
    if sizes.min() != sizes.max():
        few, many = int(sizes.argmin()), int(sizes.argmax())
        raise DataError(
            f"{path}: class {few} has {sizes[few]} images and class {many} has {sizes[many]}.",
            "Every class needs the same number of images.",
        )
    return hard_labels(index, classes, torch.float32), index.argsort(stable=True), "hard labels"


def _soft(labels: Tensor, path: Path, kind: str, ipc: int) -> tuple[Tensor, Tensor]:
    values = labels.to(torch.float32)
    if kind == "logits":
        values = values.softmax(dim=1)
    elif kind == "regression":
        # Projected, not scaled: the result is the same for targets that were centred, as KIP's are (one-hot - 1/K).
        values = nearest_probabilities(values)
    elif (values < 0).any() or ((values.sum(dim=1) - 1).abs() > SUM).any():
        raise DataError(
            f"The labels of {path} are not probabilities: their sums range from {values.sum(dim=1).min():.3g} to "
            f"{values.sum(dim=1).max():.3g}.",
            "Specify their kind: --labels logits (converted with a softmax), --labels regression (regression targets, "
            "as KIP's; converted to the nearest probabilities) or --labels hard (the largest).",
        )
    best = values.argmax(dim=1)
    # Soft labels may put another class first, so the order of their file is trusted where it is possible.
    even = bool((torch.bincount(best, minlength=values.shape[1]) == ipc).all())
    return values, best.argsort(stable=True) if even else torch.arange(len(values))


def _in_our_space(images: Tensor, name: str, wanted: Wanted, space: InputSpace) -> Tensor:
    """Float32 in the run's input space; the same bits where that is the publisher's."""
    if name == "pixels":
        if images.is_floating_point() and images.abs().max() > LARGEST_PIXEL:
            raise DataError(
                f"The images range from {images.min():.3g} to {images.max():.3g}, so they are not pixels scaled to "
                "[0, 1].",
                "Divide 0..255 by 255, or choose another --space.",
            )
        return space.encode(images if images.dtype == torch.uint8 else images.to(torch.float32))
    if not images.is_floating_point():
        raise DataError(f"The images are whole numbers ({images.dtype}).", "Import them with --space pixels.")
    images = images.to(torch.float32)
    if wanted.mean is None or wanted.std is None:
        return images
    mean, std = (_channels(text, images.shape[1]) for text in (wanted.mean, wanted.std))
    if (std <= 0).any():
        raise UsageError("--std must be positive.")
    return space.encode(images * std + mean)


def _channels(text: str, channels: int) -> Tensor:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{text!r} is not a list of numbers.", "Example: --mean 0.4914,0.4822,0.4465") from error
    if len(values) != channels or not all(map(math.isfinite, values)):
        raise UsageError(f"{text!r} has {len(values)} numbers for {channels} channels.")
    return torch.tensor(values).view(1, -1, 1, 1)


def _origin(sources: list[SourceFile], space: str, wanted: Wanted, kind: str, lr: float | None) -> SetOrigin:
    from engine import __version__

    note = f", mean {wanted.mean}, std {wanted.std}" if wanted.mean else ""
    files = tuple({"name": s.path.name, "bytes": s.bytes, "sha256": s.sha256} for s in sources)
    return SetOrigin(files, space + note, kind, lr, f"tesla-tui {__version__}", time.time())


def _publish(
    run: Run,
    effective: EffectiveSettings,
    opened: OpenDataset,
    images: Tensor,
    labels: Tensor,
    lr: float,
    origin: SetOrigin,
) -> None:
    dataset, settings = opened.dataset, effective.settings
    tensors = {"images": images.contiguous(), "labels": labels.contiguous(), "student_lr": torch.tensor(lr)}
    with run_to_end(acquire_run(run)):
        disk.remove(run.journal_file)  # of an import that was stopped
        path = run.save_checkpoint(tensors, {"iteration": 0, "skipped": 0, "recoveries": 0})
        camera = PreviewWriter(run.film, opened.space, len(dataset.classes), settings.distill.ipc, dataset.resolution)
        camera.write(0, images, None if origin.labels == "hard labels" else labels, lasting=True)
        write_json(run.origin_file, asdict(origin))
        journal = JournalWriter(run.journal_file)
        events: tuple[Event, ...] = (
            RunStarted(
                run=run.name, resumed_from=None, settings=effective.flat(),
                environment=environment(torch.device("cpu")),
            ),
            Notice(level="info", message=origin.words),
            DataReady(
                name=dataset.name, classes=len(dataset.classes), channels=dataset.channels,
                resolution=dataset.resolution, train=len(opened.kept), holdout=len(opened.held),
                test=len(dataset.test_labels), names=list(dataset.classes),
            ),
            CheckpointSaved(iteration=0, path=str(path.relative_to(run.folder))),
            RunFinished(seconds=0.0),
        )  # fmt: skip
        for event in events:
            journal.append(event)
        run.freeze(effective)
