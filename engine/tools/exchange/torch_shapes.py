"""Which network a list of parameter shapes belongs to: compared with a workspace's, and inferred where they differ."""

import math
from dataclasses import dataclass

import torch

from engine.data import Dataset
from engine.errors import DataError, UsageError
from engine.networks.registry import NETWORKS, initialised_network
from engine.settings import NetworkSettings

Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]


@dataclass(frozen=True)
class ConvNetShapes:
    """A ConvNet's sizes, read off its parameters."""

    width: int
    depth: int
    channels: int
    classes: int
    side: int
    """Of the images the network was made for, after padding (28x28 digits are padded to 32)."""

    @property
    def words(self) -> str:
        """In a sentence."""
        return (
            f"a ConvNet of width {self.width} and depth {self.depth} for {self.channels}-channel "
            f"{self.side}x{self.side} images of {self.classes} classes"
        )


def network_shapes(network: NetworkSettings, dataset: Dataset) -> tuple[Shapes, tuple[str, ...]]:
    """Shapes and names of a network's parameters in `parameters()` order; built-in networks take no memory for them.

    Raises:
        UsageError: there is no such network.
    """
    # A user's own network may compute when it is made, which the meta device cannot do.
    with torch.device("cpu" if ":" in network.name else "meta"):
        model = initialised_network(
            network.name, seed=0, channels=dataset.channels, classes=len(dataset.classes),
            resolution=dataset.resolution, width=network.width, depth=network.depth,
        )  # fmt: skip
    named = list(model.named_parameters())
    return tuple(tuple(p.shape) for _, p in named), tuple(name for name, _ in named)


def check_shapes(found: Shapes, network: NetworkSettings, dataset: Dataset, where: str) -> None:
    """Compare a snapshot with the network of the settings.

    Raises:
        DataError: they differ; the message names the first parameter that does, the hint what would fit.
    """
    wanted, names = network_shapes(network, dataset)
    if found == wanted:
        return
    if len(found) != len(wanted):
        problem = f"{where} has {len(found)} parameter tensors, the network of this workspace has {len(wanted)}."
    else:
        i = next(i for i in range(len(found)) if found[i] != wanted[i])
        problem = (
            f"{where}: parameter {i + 1} of {len(found)}, {names[i]}, has shape {found[i]} in the file and "
            f"{wanted[i]} in the network of this workspace."
        )
    raise DataError(problem, _what_fits(found, dataset))


def same_shapes(network: NetworkSettings, dataset: Dataset) -> list[str]:
    """The other built-in networks whose parameters have the shapes of this one's: ConvNets with another norm."""
    wanted = network_shapes(network, dataset)[0]
    found = []
    for name in NETWORKS.keys() - {network.name}:
        try:
            if network_shapes(network.model_copy(update={"name": name}), dataset)[0] == wanted:
                found.append(name)
        except UsageError:  # not in this size
            continue
    return sorted(found)


def as_convnet(shapes: Shapes) -> ConvNetShapes | None:
    """The ConvNet with these parameters, None if they are not a ConvNet's.

    Blocks of convolution (W, C, 3, 3), (W,) and norm (W,), (W,); then linear (K, W * s * s), (K,).
    """
    *blocks, weight, bias = shapes if len(shapes) >= 6 else ((), (), ())
    if len(blocks) % 4 or not blocks or len(blocks[0]) != 4 or len(weight) != 2:
        return None
    width, channels = blocks[0][:2]
    depth, (classes, features) = len(blocks) // 4, weight
    side = math.isqrt(features // width) if width > 0 else 0
    inputs = [channels, *[width] * (depth - 1)]
    expected = [shape for c in inputs for shape in ((width, c, 3, 3), (width,), (width,), (width,))]
    if blocks != expected or bias != (classes,) or side < 1 or side * side * width != features:
        return None
    return ConvNetShapes(width, depth, channels, classes, side * 2**depth)


def _what_fits(found: Shapes, dataset: Dataset) -> str:
    convnet = as_convnet(found)
    candidates = [NetworkSettings(name=name) for name in NETWORKS]
    if convnet is not None:
        candidates.insert(0, NetworkSettings(name="convnet", width=convnet.width, depth=convnet.depth))
    else:
        candidates += _sizes(found)
    for candidate in candidates:
        try:
            fits = network_shapes(candidate, dataset)[0] == found
        except UsageError:
            continue
        if fits:
            given = candidate.model_dump(exclude_none=True)
            return "The file fits: " + " ".join(f"--set network.{key}={value}" for key, value in given.items())
    here = (
        f"{dataset.name} has {dataset.channels}-channel {dataset.resolution}x{dataset.resolution} images of "
        f"{len(dataset.classes)} classes"
    )
    if convnet is not None:
        return f"The file is for {convnet.words}; {here}. Use a workspace with that dataset and resolution."
    tried = "; ".join(_words(candidate) for candidate in candidates)
    return (
        f"It fits none of the networks tried for this dataset ({here}): {tried}. If it is one of them in another size, "
        "say so with --set network.name=NAME --set network.width=N (and network.depth); your own network is "
        "--set network.name=package.module:callable."
    )


def _sizes(found: Shapes) -> list[NetworkSettings]:
    """The networks whose width, and depth for a ViT, the shapes give away."""
    if not found or any(0 in shape for shape in found):
        return []
    stem = next((shape[0] for shape in found if len(shape) == 4), None)  # the first convolution
    if stem is None:
        return []
    blocks = sum(shape == (3 * stem, stem) for shape in found)  # query, key and value of a ViT's block
    sizes = [NetworkSettings(name="resnet18", width=stem)]
    return sizes + ([NetworkSettings(name="vit", width=stem, depth=blocks)] if blocks else [])


def _words(network: NetworkSettings) -> str:
    sizes = [f"{key} {value}" for key, value in (("width", network.width), ("depth", network.depth)) if value]
    return f"{network.name} of {' and '.join(sizes) or 'its default size'}"
