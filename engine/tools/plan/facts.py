"""The sizes of a dataset, without downloading or decoding it."""

from dataclasses import dataclass

from engine.data import DataRequest, Dataset, cached_dataset, find_source, split_holdout
from engine.data.resolve import ResolvedData, resolve
from engine.data.space import space_path
from engine.errors import UsageError
from engine.settings import Settings, dataset_facts


@dataclass(frozen=True)
class Facts:
    """What planning needs to know about a dataset."""

    classes: int
    channels: int
    resolution: int
    train: int
    """Images that teachers see."""
    holdout: int
    test: int
    origin: str
    """How these are known, for people."""
    dataset: Dataset | None = None
    """The dataset itself where the cache has it."""
    whitened: bool = False
    """Whether the cache has the whitening of the images that teachers see."""
    to_download: bool = False
    """Whether its files are not on this machine yet."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Classes, channels, resolution."""
        return (self.classes, self.channels, self.resolution)

    @property
    def values(self) -> int:
        """Numbers in an image, C H W."""
        return self.channels * self.resolution**2

    @property
    def images(self) -> int:
        """Images of all splits."""
        return self.train + self.holdout + self.test


def find_facts(settings: Settings, request: DataRequest) -> Facts:
    """The sizes of the dataset that settings name: from the cache, from local files, or as published.

    Args:
        settings: of the run.
        request: what they ask of the dataset.

    Raises:
        UsageError: the dataset is neither on this machine nor known.
        DataError: local files that cannot be read.
    """
    name, wanted = settings.dataset.name, settings.dataset.resolution
    there = cached_dataset(request)
    if there is not None:
        kept, held = split_holdout(there.train_labels, settings.dataset.holdout, settings.teacher_seed, there.classes)
        return Facts(
            len(there.classes), there.channels, there.resolution, len(kept), len(held), len(there.test_labels),
            "the cached dataset", there, space_path(there, kept, True).exists(),
        )  # fmt: skip
    source = find_source(request)
    if source.local:
        return _from_files(settings, resolve(source, request))
    known = dataset_facts(name)
    chosen = sorted(request.changed().keys() & {"classes", "train_split", "test_split", "config", "label_column"})
    if known is not None and known.train and not chosen:
        held_out = round(settings.dataset.holdout * known.train)
        origin = f"published sizes; {known.hub} is not downloaded yet"
        side = wanted or known.resolution
        return Facts(
            known.classes, known.channels, side, known.train - held_out, held_out, known.test, origin, to_download=True
        )
    raise UsageError(
        f"The sizes of {name}{f' with dataset.{chosen[0]}' if chosen else ''} are not known before it is downloaded.",
        "`tesla teach` downloads and decodes it; then plan again.",
    )


def _from_files(settings: Settings, data: ResolvedData) -> Facts:
    labels = data.train.split.labels[data.train.index]
    kept, held = split_holdout(labels, settings.dataset.holdout, settings.teacher_seed, data.classes)
    return Facts(
        len(data.classes), data.channels, data.resolution, len(kept), len(held), len(data.test.index),
        "files, not decoded yet",
    )  # fmt: skip
