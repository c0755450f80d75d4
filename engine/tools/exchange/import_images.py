"""Published distilled sets as runs of a workspace: to evaluate, show, compare, export.

A set becomes a run with one checkpoint, at iteration 0, that carries its labels; `origin.json` records its source.
Its settings file is written last and makes it a run. It is never distilled further, since how it was made is unknown.

Reading goes in steps, a module each: the files (`set_files`, `set_pictures`), which tensors (`set_choice`), labels,
classes, values. Nothing is written before all of it is checked.
"""

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.data import Dataset
from engine.errors import DataError, UsageError
from engine.events import Event, Notice
from engine.runs.provenance import SetOrigin
from engine.runs.workspace import OpenDataset, Workspace
from engine.settings import EffectiveSettings
from engine.tools.exchange.set_choice import Chosen, Shape, choose, lone_labels, names_in, rate_in
from engine.tools.exchange.set_classes import ClassOrder, class_order
from engine.tools.exchange.set_files import SetFiles, read_files, read_number
from engine.tools.exchange.set_labels import ReadLabels, order_by_class, read_labels, renumbered
from engine.tools.exchange.set_pictures import read_pictures
from engine.tools.exchange.set_report import SetReport
from engine.tools.exchange.set_run import PreparedSet
from engine.tools.exchange.set_tree import dotted, shapes
from engine.tools.exchange.set_values import Values, encoded, judge, publisher_statistics
from engine.tools.exchange.torch_reader import SourceFile
from engine.training.evaluation import BASELINE_LR


@dataclass(frozen=True)
class Wanted:
    """What to import, and how."""

    images: Path
    """A file, or a folder."""
    labels: Path | None = None
    """None: with the images, or beside them (`labels_best.pt` of `images_best.pt`)."""
    lr: str | None = None
    """A number, or the file of one; None: with the images, or beside them."""
    space: str | None = None
    """`normalised`, `whitened` or `pixels`; None to tell from the values."""
    mean: str | None = None
    """Comma-separated statistics of the publisher's normalisation; None: the workspace's are near enough."""
    std: str | None = None
    label_kind: str = "auto"
    """`auto`, `probabilities`, `logits`, `regression` or `hard`."""
    experiment: int | None = None
    """Which set of a file with several."""
    images_at: str | None = None
    """Path of the images in the file, such as `data.0.0`."""
    labels_at: str | None = None
    epoch: str | None = None
    """Of labels for every epoch: `mean`, or a number."""
    classes: str | None = None
    """`dataset`, `sorted`, or a file of class names in the order of the set's class numbers."""
    per_class: int | None = None
    """Images to keep of each class, the first ones; None for all."""
    formation: int = 1
    """Images on a side of each stored one (IDC's factor)."""

    @property
    def options(self) -> tuple[str, ...]:
        """What was typed to read these files, as words of a command; without the files, `--lr` and `--space`."""
        given = (
            ("--mean", self.mean), ("--std", self.std),
            ("--labels", None if self.label_kind == "auto" else self.label_kind),
            ("--experiment", self.experiment), ("--images-at", self.images_at), ("--labels-at", self.labels_at),
            ("--epoch", self.epoch), ("--classes", self.classes), ("--per-class", self.per_class),
            ("--formation", None if self.formation == 1 else self.formation),
        )  # fmt: skip
        return tuple(str(word) for option, value in given if value is not None for word in (option, value))


def import_images(
    workspace: Workspace, name: str, wanted: Wanted, overrides: tuple[str, ...] = ()
) -> Generator[Event, None, SetOrigin]:
    """Create the run. Use as `yield from`, or iterate it.

    Raises:
        UsageError: the run exists, or an option contradicts the files.
        DataError: a file is damaged, hostile, or does not fit the workspace's dataset.
    """
    prepared = yield from prepare_images(workspace, name, wanted, overrides)
    prepared.write()
    return prepared.origin


def prepare_images(
    workspace: Workspace, name: str, wanted: Wanted, overrides: tuple[str, ...] = ()
) -> Generator[Event, None, PreparedSet]:
    """Read and check everything, and write nothing. Use as `yield from`.

    Raises:
        UsageError, DataError: as `import_images`.
    """
    run = workspace.run(name)
    if run.exists:
        raise UsageError(f"The run {name} already exists.", "Choose another name with --run NAME.")
    if (wanted.mean is None) != (wanted.std is None) or (wanted.mean and wanted.space not in (None, "normalised")):
        raise UsageError("--mean and --std must be used together, with --space normalised.")
    # The teachers have no part in it, so an imported buffer that the workspace names need not be there.
    zca = workspace.settings(overrides=overrides).settings.dataset.zca
    files = yield from read_files(wanted.images, wanted.labels)
    if wanted.space in ("normalised", "whitened"):
        zca = wanted.space == "whitened"
    elif wanted.space is None and _recipe_space(files) is not None:
        zca = _recipe_space(files) == "whitened"
    opened = yield from workspace.open_dataset(_with(workspace, overrides, {"dataset.zca": zca}).settings)
    dataset = opened.dataset
    shape = Shape(dataset.name, len(dataset.classes), dataset.channels, dataset.resolution)
    left_out: list[str] = []
    if files.pictures:
        files.tree, sources, kinds, left_out = yield from read_pictures(files.path, shape, dataset.classes)
        files.sources[:0], files.kinds = sources, {**kinds, **files.kinds}
    known = _recipe_space(files)
    images_at = wanted.images_at
    if images_at is None and ("space.mean",) in files.tree.tensors:
        images_at, known = _own_export(files, opened)
    chosen = choose(files.tree, shape, files.path, images_at, wanted.labels_at, wanted.experiment)
    labels, label_file = _labels(files, chosen, shape, wanted)
    labels_from = f"{label_file.name if files.labels else chosen.labels_at or 'by place'}: {labels.words}"
    order = _class_order(files, chosen, dataset, wanted)
    labels = renumbered(labels, order.numbers)
    own = "whitened" if zca else "normalised"
    space = "normalised" if wanted.mean is not None else wanted.space
    values = judge(chosen.images, space, own, files.path, known)
    if wanted.formation > 1 and values.space != "pixels":
        raise UsageError(f"--formation is for pixels, and the images are {values.space}.", "Give --space pixels.")
    index, counts = order_by_class(labels, order.numbers, label_file, dataset.classes, wanted.per_class)
    images = encoded(
        chosen.images[index], values, opened.space,
        publisher_statistics(wanted.mean, wanted.std, dataset.channels), wanted.formation,
    )  # fmt: skip
    several = wanted.formation**2
    probabilities = labels.probabilities[index].repeat_interleave(several, dim=0)
    if several > 1:
        counts = f"{several * (len(index) // len(dataset.classes))} per class, {several} in each stored one ({counts})"
    lr, lr_from = yield from _rate(files, chosen, wanted)
    if not torch.isfinite(images).all():
        raise DataError(f"{files.path} has values that are infinite or NaN in this workspace's input space.")
    ipc = len(images) // len(dataset.classes)
    effective = _with(
        workspace, overrides,
        {"distill.ipc": ipc, "labels.kind": "given", "dataset.zca": zca, "distill.student_lr": lr},
    )  # fmt: skip
    report = SetReport(
        run=name, files=files.kinds, tensors=_found(files), count=len(images), ipc=ipc,
        images=f"{chosen.images_at}, {chosen.layout}", per_class=counts, labels=labels_from,
        hard=labels.hard, classes=order.words, class_numbers=order.numbers, space=values.space, values=values.words,
        student_lr=lr, student_lr_from=lr_from, left_out=(*_unused(files, chosen), *left_out),
    )  # fmt: skip
    origin = _origin(files.sources, values, wanted, labels.hard, None if lr_from.startswith("not") else lr)
    yield from _warnings(order, lr_from, values, chosen, wanted)
    return PreparedSet(run, effective, opened, images, probabilities, lr, origin, report)


def _with(workspace: Workspace, overrides: tuple[str, ...], keys: dict[str, Any]) -> EffectiveSettings:
    given = {text.partition("=")[0].strip() for text in overrides}
    clash = sorted(given & keys.keys() - {"dataset.zca"})
    if clash:
        raise UsageError(f"{clash[0]} is read from the files and cannot be set.")
    words = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in keys.items()]
    kept = tuple(text for text in overrides if text.partition("=")[0].strip() not in keys)
    return workspace.settings(overrides=(*kept, *words))


def _recipe_space(files: SetFiles) -> str | None:
    """The space that the recipe of an export beside the file names."""
    kind = (files.recipe or {}).get("image", {}).get("space")
    return {"normalise": "normalised", "zca": "whitened"}.get(str(kind))


def _own_export(files: SetFiles, opened: OpenDataset) -> tuple[str, str]:
    """Which images of an export of this program: those in its input space where it is this one, else the pixels."""
    same = all(
        (there := files.tree.tensors.get((f"space.{name}",))) is not None and torch.equal(there, tensor)
        for name, tensor in opened.space.tensors().items()
    )
    return ("images", "whitened" if opened.space.kind == "zca" else "normalised") if same else ("pixels", "pixels")


def _labels(files: SetFiles, chosen: Chosen, shape: Shape, wanted: Wanted) -> tuple[ReadLabels, Path]:
    """The labels by the class numbers of the file, and the file they are from."""
    count, path, stored = len(chosen.images), files.path, chosen.labels
    if files.labels is not None and files.labels_path is not None:
        path = files.labels_path
        stored = lone_labels(files.labels, count, shape, path, wanted.labels_at)
    elif stored is None:
        stored = chosen.implied
    if stored is None:
        raise UsageError(f"{files.path} holds images only.", "Add its labels file as the second argument.")
    return read_labels(stored, count, shape, path, wanted.label_kind, wanted.epoch), path


def _class_order(files: SetFiles, chosen: Chosen, dataset: Dataset, wanted: Wanted) -> ClassOrder:
    named, source = chosen.names, f"{files.path}, {chosen.images_at}"
    for tree, path in ((files.tree, files.path), (files.labels, files.labels_path)):
        if named is None and tree is not None and (found := names_in(tree)) is not None:
            named, source = found[0], f"{path}, {'names of classes' if files.pictures else dotted(found[1])}"
    if named is None and files.recipe is not None:
        named, source = files.recipe["dataset"]["classes"], "recipe.json"
    return class_order(dataset.classes, dataset.name == "folder", wanted.classes, named, source)


def _rate(files: SetFiles, chosen: Chosen, wanted: Wanted) -> Generator[Event, None, tuple[float, str]]:
    """The learned step size, and where it is from."""
    if wanted.lr is not None:
        try:
            lr, source = float(wanted.lr), "--lr"
        except ValueError:
            lr, source = (yield from read_number(Path(wanted.lr))), f"from {Path(wanted.lr).name}"
    elif (found := rate_in(files.tree, chosen.used)) is not None:
        lr, source = found[0], f"from {dotted(found[1])} in {files.path.name}"
    elif files.lr_path is not None:
        lr, source = (yield from read_number(files.lr_path)), f"from {files.lr_path.name} beside the images"
    elif isinstance(stated := (files.recipe or {}).get("training", {}).get("student_lr"), float):
        lr, source = stated, "from recipe.json"
    else:
        lr, source = BASELINE_LR, "not in the files: the default for training on real images"
    if not (math.isfinite(lr) and lr > 0):
        raise DataError(f"The step size is {lr} ({source}); it must be positive.", "Give one with --lr.")
    return lr, source


def _found(files: SetFiles) -> tuple[str, ...]:
    found = [*shapes(files.tree, files.path.name)]
    if files.labels is not None and files.labels_path is not None:
        found += shapes(files.labels, files.labels_path.name)
    return tuple(found)


def _unused(files: SetFiles, chosen: Chosen) -> Iterator[str]:
    """What the file holds besides the set, each with its reason."""
    rate, names = rate_in(files.tree, chosen.used), names_in(files.tree)
    for path, tensor in files.tree.tensors.items():
        if path not in chosen.used and (rate is None or path != rate[1]):
            yield f"{dotted(path)} {tuple(tensor.shape)}: not chosen"
    for path in files.tree.texts:
        if names is None or path != names[1]:
            yield f"{dotted(path)}: text"
    for path, kind in files.tree.others.items():
        yield f"{dotted(path)}: {kind}, no tensor"
    if files.pictures:
        yield "soft labels per epoch (FKD relabelling): not in pictures, not kept"


def _warnings(order: ClassOrder, lr_from: str, values: Values, chosen: Chosen, wanted: Wanted) -> Iterator[Notice]:
    if order.doubtful:
        yield Notice(level="warning", message=f"Class numbers are {order.words}.")
    if lr_from.startswith("not"):
        yield Notice(level="warning", message=f"No --lr was given: networks are trained with {BASELINE_LR}.")
    if wanted.space is None and values.space == "pixels" and values.scale == 1:
        yield Notice(
            level="warning",
            message="All values are within [0, 1]: taken for pixels, as with --space pixels. Otherwise use --space "
            "normalised.",
        )
        if wanted.formation == 1 and chosen.images_at == "0":
            yield Notice(
                level="warning",
                message="If this is a file of IDC, each image may hold several smaller ones (its factor, often 2), "
                "which the file does not say. If so, import it with --formation 2.",
            )


def _origin(sources: list[SourceFile], values: Values, wanted: Wanted, hard: bool, lr: float | None) -> SetOrigin:
    from engine import __version__

    note = f", mean {wanted.mean}, std {wanted.std}" if wanted.mean else ""
    files = tuple({"name": s.path.name, "bytes": s.bytes, "sha256": s.sha256} for s in sources)
    kind = "hard labels" if hard else "soft labels"
    made = f"tesla-tui {__version__}"
    return SetOrigin(files, values.space + note, kind, lr, made, time.time(), wanted.options)
