"""What the stages share: the settings, the data on the device, and how to make a network."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from engine.data import Dataset, InputSpace, ResidentImages
from engine.data.decoder import Decoder, decoder_of
from engine.networks import initialised_network
from engine.networks.dropout import check_student
from engine.networks.flat import FlatNetwork
from engine.runtime.distributed.ranks import ALONE, Ranks
from engine.runtime.transfer import module_to_device, to_device
from engine.settings import Settings

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, eq=False)
class Split:
    """Real images with their classes."""

    images: ResidentImages
    """In the input space through `.encoded(index)`, raw through `.batch(index)`."""
    labels: Tensor
    """Class numbers `(N,)`, int64, on the host."""

    @cached_property
    def _resident_labels(self) -> Tensor:
        return to_device(self.labels, self.images.device)

    def targets(self, index: Tensor) -> Tensor:
        """Class numbers `(B,)` on the device, by an index on the host; the host does not wait for them."""
        return self._resident_labels[to_device(index, self.images.device)]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Task:
    """One learning problem on one device."""

    settings: Settings
    dataset: Dataset
    space: InputSpace
    device: torch.device
    train: Split
    """What teachers see and synthetic images start from."""
    holdout: Split
    """Kept from both; selects the checkpoint. Empty with dataset.holdout = 0."""
    test: Split
    ranks: Ranks = ALONE
    """The processes that share the work."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of images and parameters."""
        return DTYPES[self.settings.compute.dtype]

    @property
    def classes(self) -> int:
        """K."""
        return len(self.dataset.classes)

    @cached_property
    def decoder(self) -> Decoder:
        """How stored synthetic images become those that networks see.

        Raises:
            UsageError: `distill.formation` does not divide the side of the images.
        """
        return decoder_of(self.settings.distill, self.image_shape)

    @property
    def matching_batch(self) -> int:
        """Images in a matching step: `distill.batch`; `full` is as many as are stored, whatever these decode to."""
        size = self.settings.distill.batch
        return self.classes * self.settings.distill.ipc if size == "full" else size

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.dataset.channels, self.dataset.resolution, self.dataset.resolution)

    @cached_property
    def class_members(self) -> list[Tensor]:
        """For each class the indices of its images in `train`."""
        labels = self.train.labels.numpy()
        return [torch.from_numpy(np.flatnonzero(labels == k)) for k in range(self.classes)]

    @property
    def teacher_batch(self) -> int:
        """Images in a step of a teacher: `teachers.batch`, or all training images where they are fewer."""
        return min(self.settings.teachers.batch, len(self.train))

    @property
    def network_name(self) -> str:
        """The teachers' network."""
        return self.settings.network.name

    def fresh_network(self, seed: int, name: str | None = None) -> nn.Module:
        """A network with weights that are a function of `seed`, on the device.

        Width and depth settings are the teachers'; another network gets its own defaults. Without a name: the network
        of teachers and students.

        Raises:
            UsageError: no such network, sizes that it does not have, or dropout in a method that does not replay it.
        """
        own = name is None or name == self.network_name
        network = self.settings.network
        model = initialised_network(
            name or network.name,
            seed=seed,
            channels=self.dataset.channels,
            classes=self.classes,
            resolution=self.dataset.resolution,
            width=network.width if own else None,
            depth=network.depth if own else None,
        )
        model = module_to_device(model, self.device, self.dtype)
        traits = self.settings.traits
        if name is None and traits.iterates and not traits.teachers:
            check_student(network.name, model, self.settings.distill.method)
        return model

    def flat_network(self) -> FlatNetwork:
        """The functional view of the teachers' network; its own weights are never used."""
        settings = self.settings
        model = self.fresh_network(0).train()
        return FlatNetwork(model, bf16=settings.compute.precision == "bf16", loss=settings.labels.loss)
