"""Published distilled sets as runs of a workspace: to evaluate, show, compare, export.

A set becomes a run with one checkpoint, at iteration 0, that carries its labels; `origin.json` records its source.
The run is built beside its name, which it gets when it is whole. It is never distilled further, since how it was made
is unknown.

Reading goes in steps, a module each: the files (`set_files`, `set_pictures`), which tensors (`set_choice`), labels and
classes (`set_contents` calls these), values. Nothing is written before all of it is checked.
"""

import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from engine.data.decoder import decoder_of
from engine.errors import DataError, UsageError
from engine.events import Event, Notice
from engine.runs.provenance import SetOrigin
from engine.runs.workspace import Workspace
from engine.settings import EffectiveSettings
from engine.settings.decoders import formation_words
from engine.tools.exchange.set_contents import Contents, Wanted, read_contents
from engine.tools.exchange.set_files import SetFiles, read_files
from engine.tools.exchange.set_labels import order_by_class
from engine.tools.exchange.set_report import SetReport
from engine.tools.exchange.set_run import PreparedSet, is_unfinished_import
from engine.tools.exchange.set_values import LARGEST_INPUT, Values, encoded, judge, publisher_statistics
from engine.tools.exchange.torch_reader import SourceFile
from engine.training.evaluation import BASELINE_LR

__all__ = ["Wanted", "import_images", "prepare_images"]


def import_images(
    workspace: Workspace, name: str, wanted: Wanted, overrides: tuple[str, ...] = ()
) -> Generator[Event, None, SetOrigin]:
    """Create the run. Use as `yield from`, or iterate it.

    Raises:
        UsageError: the run exists, or an option contradicts the files.
        DataError: a file is damaged, hostile, or does not fit the workspace's dataset.
    """
    prepared = yield from prepare_images(workspace, name, wanted, overrides)
    return (yield from prepared.write())


def prepare_images(
    workspace: Workspace, name: str, wanted: Wanted, overrides: tuple[str, ...] = ()
) -> Generator[Event, None, PreparedSet]:
    """Read and check everything, and write nothing. Use as `yield from`.

    Raises:
        UsageError, DataError: as `import_images`.
    """
    run = workspace.run(name)
    if run.exists and not is_unfinished_import(run):
        raise UsageError(f"The run {name} already exists.", "Choose another name with --run NAME.")
    if (wanted.mean is None) != (wanted.std is None) or (wanted.mean and wanted.space not in (None, "normalised")):
        raise UsageError("--mean and --std must be used together, with --space normalised.")
    zca = workspace.settings(overrides=overrides, teachers=False).settings.dataset.zca
    files = yield from read_files(wanted.images, wanted.labels)
    if wanted.space in ("normalised", "whitened"):
        zca = wanted.space == "whitened"
    elif wanted.space is None and files.recipe and files.recipe.space and not _sets(overrides, "dataset.zca"):
        zca = files.recipe.space == "whitened"
    opened = yield from workspace.open_dataset(_with(workspace, overrides, {"dataset.zca": zca}).settings)
    contents = yield from read_contents(files, opened, wanted)
    names = opened.dataset.classes
    values = _values(contents, files.path, wanted, zca)
    index, counts = order_by_class(
        contents.labels, contents.order.numbers, contents.labels_path, names, wanted.per_class
    )
    images = encoded(
        contents.chosen.images[index], values, opened.space,
        publisher_statistics(wanted.mean, wanted.std, opened.dataset.channels), wanted.formation,
    )  # fmt: skip
    if not images.abs().max() <= LARGEST_INPUT:  # NaN is not, either
        raise DataError(
            f"{files.path} has values beyond {LARGEST_INPUT:g}, or that are no numbers, in this workspace's input "
            "space, which no image has.",
            "Check --mean and --std, if you gave them; otherwise use an earlier file from that run.",
        )
    several = wanted.formation**2
    if several > 1:
        counts = f"{len(images) // len(names)} per class, {several} in each stored one ({counts})"
    # Whatever the workspace distils to: images are whole, unless an export of this program says otherwise.
    factor = files.recipe.formation if files.recipe and wanted.formation == 1 else 1
    stored = {"distill.formation": factor, "distill.decoder": "formation"}
    counts += f"; {formation_words(factor)}" if factor > 1 else ""
    keys = {"distill.ipc": len(images) // len(names), "labels.kind": "given", **stored}
    effective = _with(workspace, overrides, {**keys, "dataset.zca": zca, "distill.student_lr": contents.lr})
    decoder_of(effective.settings.distill, (opened.dataset.channels, *images.shape[2:]))  # the recipe may be wrong
    report = _report(name, files, contents, values, len(images), len(names), counts)
    yield from _warnings(contents, values, wanted)
    probabilities = contents.labels.probabilities[index].repeat_interleave(several, dim=0)
    origin = _origin(files.sources, values, wanted, contents)
    return PreparedSet(run, effective, opened, images, probabilities, contents.lr, origin, report)


def _values(contents: Contents, path: Path, wanted: Wanted, zca: bool) -> Values:
    own = "whitened" if zca else "normalised"
    space = "normalised" if wanted.mean is not None else wanted.space
    values = judge(contents.chosen.images, space, own, path, contents.space)
    if values.space not in ("pixels", own) and wanted.mean is None:
        raise UsageError(
            f"The images of {path} are {values.space}, and dataset.zca = {str(zca).lower()} makes this run's {own}.",
            f"Leave out --set dataset.zca; or, if they are {own}, use --space {own}.",
        )
    if wanted.formation > 1 and values.space != "pixels":
        raise UsageError(f"--formation is for pixels, and the images are {values.space}.", "Give --space pixels.")
    return values


def _report(
    run: str, files: SetFiles, contents: Contents, values: Values, count: int, classes: int, per_class: str
) -> SetReport:
    chosen, order = contents.chosen, contents.order
    return SetReport(
        run=run, files=files.kinds, tensors=contents.found, count=count, ipc=count // classes,
        images=f"{chosen.images_at}, {chosen.layout}", per_class=per_class, labels=contents.labels_from,
        hard=contents.labels.hard, classes=order.words, class_numbers=order.numbers, space=values.space,
        values=values.words, student_lr=contents.lr, student_lr_from=contents.lr_from, left_out=contents.left_out,
    )  # fmt: skip


def _sets(overrides: tuple[str, ...], key: str) -> bool:
    return any(text.partition("=")[0].strip() == key for text in overrides)


def _with(workspace: Workspace, overrides: tuple[str, ...], keys: dict[str, Any]) -> EffectiveSettings:
    if clash := [key for key in keys if key != "dataset.zca" and _sets(overrides, key)]:
        whole = "--formation F splits images that hold several."
        hint = whole if clash[0] in ("distill.formation", "distill.decoder") else ""
        raise UsageError(f"{clash[0]} is read from the files and cannot be set.", hint)
    words = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in keys.items()]
    kept = tuple(text for text in overrides if text.partition("=")[0].strip() not in keys)
    return workspace.settings(overrides=(*kept, *words), teachers=False)


def _warnings(contents: Contents, values: Values, wanted: Wanted) -> Iterator[Notice]:
    if contents.order.doubtful:
        yield Notice(level="warning", message=f"Class numbers are {contents.order.words}.")
    if not contents.lr_known:
        yield Notice(level="warning", message=f"No --lr was given: networks are trained with {BASELINE_LR}.")
    if values.assumed:
        yield Notice(
            level="warning",
            message="All values are within [0, 1]: taken for pixels, as with --space pixels. Otherwise use --space "
            "normalised.",
        )
        if wanted.formation == 1 and contents.chosen.images_at == "0":
            yield Notice(
                level="warning",
                message="If this is a file of IDC, each image may hold several smaller ones (its factor, often 2), "
                "which the file does not say. If so, import it with --formation 2.",
            )


def _origin(sources: list[SourceFile], values: Values, wanted: Wanted, contents: Contents) -> SetOrigin:
    from engine import __version__

    note = f", mean {wanted.mean}, std {wanted.std}" if wanted.mean else ""
    files = tuple({"name": s.path.name, "bytes": s.bytes, "sha256": s.sha256} for s in sources)
    kind = "hard labels" if contents.labels.hard else "soft labels"
    made = f"tesla-tui {__version__}"
    lr = contents.lr if contents.lr_known else None
    return SetOrigin(files, values.space + note, kind, lr, made, time.time(), wanted.options)
