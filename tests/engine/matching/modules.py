"""Modules of every kind, and a small matching problem for each."""

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

from engine.networks import flatten_parameters
from engine.networks.dropout import Dropout
from engine.runtime.rng import counted_generator
from tests.engine.matching.test_matching import Case

CLASSES = 3


class StochasticDepth(nn.Module):
    """Leave a layer out at random, by any source of random numbers."""

    def __init__(self, left_out: Callable[[], Any]) -> None:
        super().__init__()
        self.first, self.block, self.head = nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.left_out = left_out

    def forward(self, images: Tensor) -> Tensor:
        x = torch.tanh(self.first(images.flatten(1)))
        return self.head(x if self.left_out() else x + torch.tanh(self.block(x)))


class Noise(nn.Module):
    """Add noise from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(1)
        self.python = random.Random(2)

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.rand(x.shape, generator=self.generator, dtype=x.dtype)
        return x + noise * self.python.random()


class FunctionalDropout(nn.Module):
    """Dropout that no layer shows."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.4, training=self.training)


class TinyViT(nn.Module):
    """PyTorch's encoder layer, with dropout of the attention."""

    def __init__(self, dropout: float = 0.2, **options: Any) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 2, stride=2)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=dropout, batch_first=True, **options)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).mT
        return self.head(self.encoder(tokens).mean(dim=1))


class FusedAttention(nn.Module):
    """A call of the fused function."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.head = nn.Linear(4, 12), nn.Linear(4, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        query, key, value = self.qkv(images[:, 0]).unsqueeze(1).chunk(3, dim=-1)
        found = F.scaled_dot_product_attention(query, key, value, dropout_p=0.3 if self.training else 0.0)
        return self.head(found.mean(dim=(1, 2)))


class Tied(nn.Module):
    """One matrix in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, CLASSES)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(images.flatten(1))))))


class Recurrent(nn.Module):
    """An LSTM over the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head = nn.LSTM(4, 6, num_layers=2, batch_first=True), nn.Linear(6, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        assert not (torch.is_grad_enabled() and torch.backends.cudnn.enabled)  # on CUDA it would have no 2nd derivative
        return self.head(self.rows(images[:, 0])[0][:, -1])


class Shared(nn.Module):
    """One layer in three places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(16, 16), nn.Linear(16, CLASSES)
        self.second = self.first
        self.all = nn.ModuleList([self.first, nn.BatchNorm1d(16), self.head])
        self.norm = self.all[1]

    def forward(self, images: Tensor) -> Tensor:
        return self.all[2](self.norm(torch.tanh(self.second(torch.tanh(self.first(images.flatten(1)))))))


class Checkpointed(nn.Module):
    """A layer whose inner results are computed again in the backward pass."""

    def __init__(self, *layers: nn.Module, **options: Any) -> None:
        super().__init__()
        self.block, self.options = nn.Sequential(nn.Linear(8, 8), *layers), options

    def forward(self, x: Tensor) -> Tensor:
        return x + checkpoint(self.block, x, use_reentrant=False, **self.options)


class InnerGradient(nn.Module):
    """A layer that differentiates itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.func.grad(lambda y: torch.tanh(self.inner(y)).square().sum())(x)


class RareNoise(nn.Module):
    """A layer that a generator of NumPy, which is its own, leaves out once in ten calls."""

    def __init__(self, generator: Any) -> None:
        super().__init__()
        self.generator, self.inner = generator, nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.generator.uniform() < 0.1 else x + torch.tanh(self.inner(x))


class Buffers(nn.Module):
    """Integers that choose pixels, numbers that scale them, and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(16))
        self.register_buffer("scale", torch.rand(16) + 0.5)
        self.register_buffer("calls", torch.tensor(0))
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1  # type: ignore[operator]
        return self.head(torch.tanh(images.flatten(1)[:, self.order] * self.scale))  # type: ignore[index]


class Doubled(Tensor):
    """A kind of parameter whose products are twice as large."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = super().__torch_function__(function, types, args, kwargs or {})
        return 2 * found if function is F.linear else found


class OwnType(nn.Module):
    """A layer whose weight is a tensor subclass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 8)
        self.weight = nn.Parameter(torch.randn(CLASSES, 8, dtype=torch.float64).as_subclass(Doubled))

    def forward(self, images: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.inner(images.flatten(1))), self.weight)


def frozen() -> nn.Module:
    model = mlp(nn.Identity())
    model[1].requires_grad_(False)  # type: ignore[index]
    return model


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        layer = nn.utils.weight_norm(nn.Linear(16, 8))
    return nn.Sequential(nn.Flatten(), layer, nn.Tanh(), nn.Linear(8, CLASSES))


def mlp(*between: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.GELU(), *between, nn.Linear(8, CLASSES))


def convolutions(*between: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), *between, nn.Tanh(), nn.Flatten(), nn.Linear(16, CLASSES))


DRAWING: dict[str, Callable[[], nn.Module]] = {
    "Dropout": lambda: mlp(nn.Dropout(0.5)),
    "Dropout1d": lambda: nn.Sequential(nn.Flatten(2), nn.Dropout1d(0.5), mlp()),
    "Dropout2d": lambda: convolutions(nn.Dropout2d(0.5)),
    "Dropout3d": lambda: nn.Sequential(nn.Unflatten(3, (2, 2)), nn.Dropout3d(0.4), mlp()),
    "AlphaDropout": lambda: mlp(nn.AlphaDropout(0.3)),
    "FeatureAlphaDropout": lambda: convolutions(nn.FeatureAlphaDropout(0.3)),
    "counted dropout": lambda: mlp(Dropout(0.5)),
    "F.dropout": lambda: mlp(FunctionalDropout()),
    "attention dropout": TinyViT,
    "dropout of fused attention": FusedAttention,
    "a layer left out, by PyTorch": lambda: StochasticDepth(lambda: torch.rand(()) < 0.5),
    "a layer left out, by Python": lambda: StochasticDepth(lambda: random.random() < 0.5),
    "a layer left out, by NumPy": lambda: StochasticDepth(lambda: np.random.rand() < 0.5),
    "generators of its own": lambda: mlp(Noise()),
    "a generator of NumPy": lambda: mlp(RareNoise(np.random.default_rng(0)), RareNoise(np.random.default_rng(1))),
    "a Mersenne Twister": lambda: mlp(*(RareNoise(np.random.Generator(np.random.MT19937(n))) for n in range(2))),
    "an old generator of NumPy": lambda: mlp(*(RareNoise(np.random.RandomState(n)) for n in range(2))),
    "checkpoints with dropout": lambda: mlp(Checkpointed(nn.Tanh(), nn.Dropout(0.4))),
    "checkpoints that draw anew": lambda: mlp(Checkpointed(nn.Tanh(), nn.Dropout(0.4), preserve_rng_state=False)),
}

STILL: dict[str, Callable[[], nn.Module]] = {
    "an MLP": mlp,
    "BatchNorm2d": lambda: convolutions(nn.BatchNorm2d(4)),
    "BatchNorm2d in evaluation": lambda: convolutions(nn.BatchNorm2d(4)).eval(),
    "LayerNorm": lambda: mlp(nn.LayerNorm(8)),
    "Dropout in evaluation": lambda: mlp(nn.Dropout(0.5)).eval(),
    "a tiny ViT in evaluation": lambda: TinyViT().eval(),
    "a tiny ViT with norms first": lambda: TinyViT(0.0, norm_first=True),
    "GroupNorm": lambda: convolutions(nn.GroupNorm(2, 4)),
    "transposed convolution": lambda: nn.Sequential(
        nn.ConvTranspose2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(72, 3)
    ),
    "an LSTM": Recurrent,
    "activations in place": lambda: mlp(nn.ReLU(inplace=True)),
    "weight normalisation": lambda: nn.Sequential(
        nn.Flatten(), weight_norm(nn.Linear(16, 8)), nn.Tanh(), nn.Linear(8, 3)
    ),
    "weight normalisation by a hook": old_weight_norm,
    "a layer in three places": Shared,
    "checkpoints": lambda: mlp(Checkpointed(nn.Tanh())),
    "a gradient inside": lambda: mlp(InnerGradient()),
    "spectral normalisation": lambda: nn.Sequential(nn.Flatten(), spectral_norm(nn.Linear(16, 8)), nn.Linear(8, 3)),
    "tied weights": Tied,
    "frozen parameters": frozen,
    "buffers": Buffers,
    "a tensor subclass": OwnType,
}


def case_of(make: Callable[[], nn.Module], steps: int = 4, augment: Callable[[Tensor], Tensor] = lambda x: x) -> Case:
    """A small problem for a module of 1x4x4 images."""
    generator = counted_generator(0, "any module")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().double()
    start = flatten_parameters(model)
    assert type(start) is Tensor
    schedule = [(torch.randint(7, (5 - step % 2,), generator=generator), augment) for step in range(steps)]
    arguments = {
        "start": start,
        "target": start + 0.1 * torch.randn(start.shape, generator=generator, dtype=torch.float64),
        "images": torch.randn(7, 1, 4, 4, generator=generator, dtype=torch.float64),
        "labels": torch.randn(7, CLASSES, generator=generator, dtype=torch.float64).softmax(dim=1),
        "student_lr": 0.3,
        "schedule": schedule,
    }
    return Case(model, arguments)
