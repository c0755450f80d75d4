"""What a network is trained on when it is evaluated: a small set, or all training images."""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from engine.data.decoder import Decoder, Whole
from engine.runtime.transfer import to_device
from engine.training.task import Split


class TrainingSet(Protocol):
    """Images with labels, one batch at a time."""

    @property
    def lr(self) -> float:
        """Learning rate to train with."""

    @property
    def epochs(self) -> int | None:
        """Epochs to train for; None for `evaluate.epochs`."""

    def __len__(self) -> int:
        """N."""

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images `(B, C, H, W)` and labels on the device; `index` `(B,)` is on the host."""


@dataclass(frozen=True)
class SmallSet:
    """A synthetic set, or as many real images."""

    images: Tensor
    """`(N, C, H, W)` in the input space."""
    labels: Tensor
    """Probabilities `(N, K)`."""
    lr: float
    epochs: None = None

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """See `TrainingSet`."""
        there = to_device(index, self.images.device)
        return self.images[there], self.labels[there]


@dataclass(frozen=True)
class DecodedSet:
    """A set whose stored images decode to several, each batch decoded as it is needed."""

    stored: SmallSet
    decoder: Decoder

    @property
    def lr(self) -> float:
        """See `TrainingSet`."""
        return self.stored.lr

    @property
    def epochs(self) -> None:
        """See `TrainingSet`."""
        return None

    def __len__(self) -> int:
        return len(self.stored) * self.decoder.views

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """See `TrainingSet`."""
        views = self.decoder.views
        stored, labels = self.stored.batch(torch.div(index, views, rounding_mode="floor"))
        return self.decoder.decode(stored, to_device(index % views, stored.device)), labels


def at_rate(images: TrainingSet, lr: float) -> TrainingSet:
    """The same images, trained on at another learning rate."""
    if isinstance(images, DecodedSet):
        return replace(images, stored=replace(images.stored, lr=lr))
    assert isinstance(images, (SmallSet, WholeSet))
    return replace(images, lr=lr)


def small_set(stored: SmallSet, decoder: Decoder) -> TrainingSet:
    """What networks are trained on, given what is stored."""
    return stored if isinstance(decoder, Whole) else DecodedSet(stored, decoder)


@dataclass(frozen=True)
class WholeSet:
    """Real images with their classes, read as they are needed."""

    split: Split
    lr: float
    epochs: int

    def __len__(self) -> int:
        return len(self.split)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """See `TrainingSet`; labels are class numbers `(B,)`."""
        return self.split.images.encoded(index), self.split.targets(index)
