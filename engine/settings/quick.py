"""What `tesla run --quick` changes: a first result in two minutes of a core, below what the preset reaches."""

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from engine.settings.facts import FIELDS
from engine.settings.layers import EffectiveSettings
from engine.settings.methods import fixed_table, method_traits
from engine.settings.quick_cost import Seconds, Size, dataset_size, estimated
from engine.settings.tables import Flat, flatten

FEW = 20_000
"""Training images up to which there is time for several teachers and start epochs."""
SIDE, LEAST_SIDE = 32, 16
"""Largest side of the images, pixels: usually, and where teachers would take too long."""
WIDTH = 16
"""Largest width of the network."""
BATCH, LEAST_BATCH = 100, 25
"""Synthetic images of a matching step, at most."""
ITERATIONS, LEAST_ITERATIONS = 100, 25
EPOCHS, LEAST_EPOCHS = 100, 12
"""Of an evaluation."""
STAGE = 40.0
"""Seconds that each of teachers, distillation and evaluation may take on one core."""
RATE = 1_000.0
"""Rate of the images of a large dataset, at least. Fashion-MNIST after 100 iterations, test accuracy of 2 networks:
61.7 %; with the preset's 100 and 10 matching steps 53.9; real images 52.3."""
CONVNET = "convnet"
"""What the names of all ConvNets start with."""
DEEPEST = 10
"""Depth whose halvings the largest images allow."""
IMPORTED = ("teachers.", "network.", "dataset.", "distill.teacher_epochs", "distill.max_start_epoch")
"""What imported teachers decide."""
KEYS = (
    "dataset.resolution", "network.width", "network.depth", "teachers.count", "teachers.epochs",
    "distill.teacher_epochs", "distill.min_start_epoch", "distill.max_start_epoch", "distill.current_max_start_epoch",
    "distill.iterations", "distill.steps", "distill.formation", "distill.batch", "distill.lr_images", "evaluate.every",
    "evaluate.epochs", "evaluate.repeats", "evaluate.selection_repeats",
)  # fmt: skip
"""What it may change."""


def quick_settings(effective: EffectiveSettings, said: Flat | None = None) -> Flat:
    """The settings that `--quick` changes, by key: no larger than they were, but for the rate of the images.

    They follow from the settings and from how many images and classes there are, so the same command gives the same.

    Args:
        effective: settings of the run without `--quick`, and without those of the command line that are in `KEYS`.
        said: the latter. They stay, and the others are chosen to fit them.
    """
    now, said = effective.flat(), said or {}
    kept = {*said, *flatten(fixed_table(effective.settings.distill.method)[1])}
    if effective.settings.teachers.buffer is not None:
        kept |= {key for key in KEYS if key.startswith(IMPORTED)}
    size = dataset_size(effective)
    pinned = {key: value for key, value in said.items() if _is_valid(key, value)}
    timed = size if quick_seconds(effective) is not None else None
    for side in (SIDE, LEAST_SIDE):
        values = {**now, **_small(effective, size, side, kept), **pinned}
        _fit_start_epochs(values, kept, _is_few(size))
        _fit_side(values, kept, now["dataset.resolution"] or SIDE)
        if "evaluate.every" not in kept:
            values["evaluate.every"] = max(1, values["distill.iterations"])
        fits = timed is None or _fit_time(values, kept, timed)
        if fits or "dataset.resolution" in kept:
            break
    return {key: values[key] for key in KEYS if key not in kept and values[key] != now[key]}


def _is_valid(key: str, value: Any) -> bool:
    """Whether a setting can have this value. One that cannot is refused later, with a message."""
    field = FIELDS[key]
    kind: Any = Annotated[field.annotation, field]
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def quick_seconds(effective: EffectiveSettings) -> Seconds | None:
    """How long the stages of a run take on one core; None for a dataset of unknown size, or a method or network whose
    speed is not known."""
    settings, size = effective.settings, dataset_size(effective)
    networks = {settings.network.name, *(settings.evaluate.networks or ())}
    known = method_traits(settings.distill.method).teachers and all(name.startswith(CONVNET) for name in networks)
    return estimated(effective.flat(), size) if size is not None and known else None


def _is_few(size: Size | None) -> bool:
    """Whether there is time for several teachers and start epochs."""
    return size is not None and size.train <= FEW


def _small(effective: EffectiveSettings, size: Size | None, side: int, kept: Collection[str]) -> Flat:
    """What is changed for a dataset of a usual size, with images of at most that side."""
    settings, few = effective.settings, _is_few(size)
    teachers, distill, evaluate = settings.teachers, settings.distill, settings.evaluate
    wanted: Flat = {
        "dataset.resolution": min(settings.dataset.resolution or SIDE, side),
        "teachers.count": min(teachers.count, 3 if few else 1),
        "distill.teacher_epochs": distill.teacher_epochs if few else 1,
        "distill.current_max_start_epoch": "max",
        "distill.iterations": min(distill.iterations, ITERATIONS),
        "distill.steps": min(distill.steps, 20),
        "distill.formation": 1,
        "evaluate.epochs": min(evaluate.epochs, EPOCHS),
        "evaluate.repeats": min(evaluate.repeats, 2),
        "evaluate.selection_repeats": 1,
    }
    if not few:
        wanted["distill.lr_images"] = max(distill.lr_images, RATE)
    if settings.network.name.startswith(CONVNET):
        wanted["network.width"] = min(settings.network.width or WIDTH, WIDTH)
    images = distill.ipc * (size.classes if size is not None else 1)
    if images > BATCH and (distill.batch == "full" or distill.batch > BATCH):
        wanted["distill.batch"] = BATCH
    return {key: value for key, value in wanted.items() if key not in kept}


def _fit_start_epochs(values: Flat, kept: Collection[str], few: bool) -> None:
    """Few start epochs, among those that the kept settings leave, and teachers just long enough for them."""
    least, most, epochs = "distill.min_start_epoch", "distill.max_start_epoch", "teachers.epochs"
    if epochs in kept and "distill.teacher_epochs" not in kept:
        values["distill.teacher_epochs"] = min(values["distill.teacher_epochs"], values[epochs])
    apart, first = values["distill.teacher_epochs"], values["distill.current_max_start_epoch"]
    if most not in kept:
        wanted = 5 if few else 1
        wanted = max(wanted, values[least] + 1 if least in kept else 1, first if isinstance(first, int) else 1)
        if epochs in kept:
            wanted = min(wanted, max(1, values[epochs] - apart + 1))
        values[most] = min(values[most], wanted)
    if least not in kept:
        values[least] = min(values[least], values[most] - 1)
    if epochs not in kept:
        values[epochs] = min(values[epochs], values[most] - 1 + apart)


def _fit_side(values: Flat, kept: Collection[str], most: int) -> None:
    """Images large enough for the depth of a ConvNet, or the other way round, and a multiple of a kept formation.

    Args:
        values: settings, changed in place.
        kept: keys that stay.
        most: largest side, pixels.
    """
    side, depth = "dataset.resolution", "network.depth"
    if side not in kept:
        if depth in kept and values[depth] is not None:
            values[side] = max(values[side], min(most, 2 ** min(values[depth], DEEPEST)))
        values[side] -= values[side] % values["distill.formation"]
    if depth not in kept and None not in (values[depth], values[side]):
        values[depth] = min(values[depth], max(2, (values[side] - 1).bit_length() - 2))


def _fit_time(values: Flat, kept: Collection[str], size: Size) -> bool:
    """Less of everything until each stage takes its share of the time or nothing is left to reduce; whether it does."""
    batch, iterations, every = "distill.batch", "distill.iterations", "evaluate.every"
    if estimated(values, size).teachers > STAGE and "teachers.count" not in kept:
        values["teachers.count"] = 1
    if estimated(values, size).distillation > STAGE and values[batch] == "full" and batch not in kept:
        values[batch] = size.classes * values["distill.ipc"]
    while estimated(values, size).distillation > STAGE and (
        _halve(values, batch, LEAST_BATCH, kept) or _halve(values, iterations, LEAST_ITERATIONS, kept)
    ):
        pass
    if every not in kept:
        values[every] = max(1, values[iterations])
    while estimated(values, size).evaluation > STAGE and _halve(values, "evaluate.epochs", LEAST_EPOCHS, kept):
        pass
    seconds = estimated(values, size)
    return max(seconds.teachers, seconds.distillation, seconds.evaluation) <= STAGE


def _halve(values: Flat, key: str, least: int, kept: Collection[str]) -> bool:
    """Halve a value, or as much of that as leaves the least; whether it changed."""
    value = values[key]
    if key in kept or not isinstance(value, int) or value <= least:
        return False
    values[key] = max(least, value // 2)
    return True
