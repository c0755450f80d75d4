"""Dropout with counted masks: a network made with a seed drops the same numbers on every machine and in every run.

PyTorch's dropout draws from the global generator of the device. Here the mask of a layer is a function of the
network's seed, the layer's number and how often the layer was called in training mode, drawn on the host.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from engine.errors import UsageError
from engine.runtime.rng import counted_generator, counted_seed
from engine.runtime.transfer import to_device

LEVELS = 2**16
"""A number is dropped by 16 random bits: four numbers share one draw of the generator."""

WHOLE_CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
UNCOUNTED = (nn.AlphaDropout, nn.FeatureAlphaDropout)
"""PyTorch's layers that stay as they are."""


class Dropout(nn.Module):
    """Zero a share of the numbers and scale the rest, in training mode.

    Args:
        share: of the numbers, 0..1; rounded to 1/65536.
        channels: drop whole channels of `(B, C, ...)`.
    """

    def __init__(self, share: float, *, channels: bool = False) -> None:
        super().__init__()
        self.share = share
        self.channels = channels
        self.seed = 0
        self.calls = 0
        """In training mode, so far."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        if not self.training or not self.share:
            return x
        if self.share == 1:
            return x * 0
        mask = self.mask((*x.shape[:2], *[1] * (x.ndim - 2)) if self.channels else tuple(x.shape))
        self.calls += 1
        return x * (to_device(mask, x.device).to(x.dtype) / (1 - self.share))

    def mask(self, shape: tuple[int, ...]) -> Tensor:
        """What the next call keeps: booleans of that shape, on the host."""
        count = torch.Size(shape).numel()
        generator = counted_generator(self.seed, "dropout", self.calls)
        bits = torch.empty(-(-count // 4), dtype=torch.int64, device="cpu")
        bits.random_(-(2**63), None, generator=generator)
        return (bits.view(torch.int16)[:count] >= round(self.share * LEVELS) - LEVELS // 2).view(shape)

    def extra_repr(self) -> str:
        """For `print(model)`."""
        return f"share={self.share}"


def count_dropout(model: nn.Module, seed: int) -> None:
    """Make the masks of a network's dropout layers a function of `seed`; they start at their first call."""
    layers = [module for module in model.modules() if isinstance(module, Dropout)]
    for number, layer in enumerate(layers):
        layer.seed, layer.calls = counted_seed(seed, "dropout", number), 0


def replace_dropout(model: nn.Module) -> None:
    """Put `Dropout` where an imported module has PyTorch's layers."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, (nn.Dropout, *WHOLE_CHANNELS)):
                layer = Dropout(child.p, channels=isinstance(child, WHOLE_CHANNELS))
                setattr(parent, name, layer.train(child.training))


def set_dropout_calls(model: nn.Module, calls: int) -> None:
    """Let the counted layers of a network continue as after that many calls in training mode."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.calls = calls


def has_dropout(model: nn.Module) -> bool:
    """Whether a network draws masks in training mode. Layers are looked at; `F.dropout` in a module is not seen."""
    return any(True for _ in _layers(model))


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Switch the layers of `has_dropout` off inside the block. The rest keeps its mode: norms see their batch."""
    layers = [layer for layer in _layers(model) if layer.training]
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """Those that drop something in training mode."""
    for module in model.modules():
        if isinstance(module, Dropout):
            share = module.share
        elif isinstance(module, nn.MultiheadAttention):
            share = module.dropout
        elif isinstance(module, (nn.Dropout, *WHOLE_CHANNELS, *UNCOUNTED)):
            share = module.p
        else:
            continue
        if share > 0:
            yield module


def check_student(name: str, model: nn.Module, method: str) -> None:
    """Refuse a network with dropout in a method that does not replay its masks.

    Raises:
        UsageError: it has dropout.
    """
    if has_dropout(model):
        raise UsageError(
            f"The network {name} has dropout: with new masks in every pass, distill.method = {method} cannot "
            "differentiate its training.",
            f"Use it to evaluate: evaluate.networks, or `tesla evaluate WORKSPACE --network {name}`. Choose "
            "another network.name, one with dropout 0, or a method that matches trajectories (tesla, mtt, datm).",
        )
