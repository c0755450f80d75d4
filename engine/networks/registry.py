"""Networks by name or import path."""

import difflib
from typing import Any

import psutil
import torch
from torch import nn

from engine.errors import UsageError
from engine.networks.alexnet import AlexNet
from engine.networks.convnet import ConvNet, ConvNetBatchNorm, ConvNetLayerNorm, ConvNetNoNorm
from engine.networks.dropout import count_dropout
from engine.networks.imported import imported_network
from engine.networks.lenet import LeNet
from engine.networks.mlp import MLP
from engine.networks.resnet import ResNet18
from engine.networks.vgg import VGG11
from engine.networks.vit import ViT
from engine.networks.vit_benchmark import BenchmarkViT
from engine.runtime.rng import forked_global_rng
from engine.settings.trust import is_import_path
from engine.storage.filesystem import format_bytes

NETWORKS: dict[str, type[nn.Module]] = {
    "convnet": ConvNet,
    "convnet-batchnorm": ConvNetBatchNorm,
    "convnet-layernorm": ConvNetLayerNorm,
    "convnet-nonorm": ConvNetNoNorm,
    "resnet18": ResNet18,
    "vgg11": VGG11,
    "alexnet": AlexNet,
    "lenet": LeNet,
    "mlp": MLP,
    "vit": ViT,
    "vit-benchmark": BenchmarkViT,
}
"""docs/networks.md has their sizes and sources."""


def default_depth(resolution: int) -> int:
    """ConvNet blocks: halve down to about 4 pixels, at least two blocks (8 -> 2, 28 and 32 -> 3, 64 -> 4)."""
    return max(2, (resolution - 1).bit_length() - 2)


def build_network(
    name: str, *, channels: int, classes: int, resolution: int, width: int | None = None, depth: int | None = None
) -> nn.Module:
    """Make a network; its initial weights come from the global generator (see `initialised_network`).

    Args:
        name: one of `NETWORKS`, or `package.module:callable`, which is called with the keyword arguments channels,
            classes and resolution, and with width and depth where they are given (see imported.py).
        channels: C of the images.
        classes: K, the size of the logits.
        resolution: side of the images, pixels.
        width: None for the network's own default.
        depth: None for the network's own default; for the ConvNets
            `default_depth(resolution)`.

    Raises:
        UsageError: no such network, an import path that does not import or returns no module, or a module whose
            output is not `(B, K)`; code without consent; or more parameters than there is memory.
    """
    arguments: dict[str, Any] = {"channels": channels, "classes": classes, "resolution": resolution}
    if width is not None:
        arguments["width"] = width
    if depth is not None:
        arguments["depth"] = depth
    elif issubclass(NETWORKS.get(name, nn.Module), ConvNet):
        arguments["depth"] = default_depth(resolution)
    if name in NETWORKS:
        _check_size(name, arguments)
        return NETWORKS[name](**arguments)
    if not is_import_path(name):
        near = difflib.get_close_matches(name, NETWORKS, n=1)
        raise UsageError(
            f"There is no network {name!r}. Known: {', '.join(NETWORKS)}.",
            f"Did you mean {near[0]}?" if near else "For your own network, use an import path: package.module:callable",
        )
    return imported_network(name, arguments)


def initialised_network(
    name: str, *, seed: int, channels: int, classes: int, resolution: int,
    width: int | None = None, depth: int | None = None,
) -> nn.Module:  # fmt: skip
    """As `build_network`, with initial weights and dropout masks that are functions of `seed`.

    The global generator is not changed.
    """
    with forked_global_rng(seed):
        model = build_network(name, channels=channels, classes=classes, resolution=resolution, width=width, depth=depth)
    count_dropout(model, seed)
    return model


def _check_size(name: str, arguments: dict[str, Any]) -> None:
    """Refuse a network whose parameters alone do not fit this machine, before any of it is allocated."""
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in NETWORKS[name](**arguments).parameters())
    physical = psutil.virtual_memory().total
    if 4 * count > physical:
        raise UsageError(
            f"This {name} would have {count:,} parameters, {format_bytes(4 * count)}; this machine has "
            f"{format_bytes(physical)} of memory.",
            "Set a smaller network.width or network.depth.",
        )
