"""A functional view of any `nn.Module` over one flat parameter vector.

Trajectory matching treats a network as a point in parameter space, so everything above this module works on
flat vectors `(P,)` in `model.parameters()` order, and the module itself is only a shape.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.backends import cudnn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from engine.networks.attention import attends, differentiable_attention

LossName = Literal["cross-entropy", "mse"]
"""As `labels.loss` spells it."""


class FlatNetwork:
    """`network(theta, x) -> logits`, a pure function of a flat vector and images.

    Buffers (running statistics) are passed as copies, so that a call never changes the module: a network with
    batch norm in training mode uses batch statistics, and its running averages stay as they were. Parameters are all
    that a teacher's snapshot keeps; a buffer's value never reaches a student.

    Parameters with `requires_grad = False` are constants: they are part of `theta`, and no gradient reaches them. A
    parameter that modules share is in `theta` once. Attention and recurrent layers are computed in a form that has
    second derivatives.

    Args:
        model: any module with floating-point parameters; its mode (`train`/`eval`) is respected. A call draws what the
            module draws (dropout); for two calls with the same numbers see matching/draws.py.
        bf16: convolutions and products in bfloat16; parameters, logits and gradients keep their type.
        loss: what a student with this network minimises (see `student_loss` in matching/steps.py).
    """

    def __init__(self, model: nn.Module, *, bf16: bool = False, loss: LossName = "cross-entropy") -> None:
        named = _named_parameters(model)
        self.model = model
        self.names = [name for name, _ in named]
        self.shapes = [parameter.shape for _, parameter in named]
        self.sizes = [parameter.numel() for _, parameter in named]
        self.size = sum(self.sizes)
        """P, the number of parameters."""
        self.bf16 = bf16
        self.loss = loss
        self.frozen = frozenset(name for name, parameter in named if not parameter.requires_grad)
        """Names of the parameters that are constants."""
        self._kinds = {name: type(parameter) for name, parameter in named if _is_subclass(parameter)}
        self._buffers = dict(model.named_buffers())
        self._attends = attends(model)
        self._recurs = any(isinstance(module, nn.RNNBase) for module in model.modules())

    def __call__(self, theta: Tensor, images: Tensor) -> Tensor:
        """Logits `(B, K)` of `images` `(B, C, H, W)` under the parameters `theta` `(P,)`."""
        images = in_memory_order(images)
        state: dict[str, Tensor] = self.unflatten(theta)
        for name in self.frozen:
            state[name] = state[name].detach()
        for name, kind in self._kinds.items():
            state[name] = state[name].as_subclass(kind)
        for name, buffer in self._buffers.items():
            state[name] = buffer.to(theta.dtype).clone() if buffer.is_floating_point() else buffer.clone()
        with differentiable_attention(self._attends), _differentiable_recurrence(self._recurs):
            if self.bf16:
                # Without the cache of cast weights: it would outlive a functional call.
                with torch.autocast(theta.device.type, dtype=torch.bfloat16, cache_enabled=False):
                    coarse: Tensor = functional_call(self.model, state, (images,))
                return coarse.to(theta.dtype)
            logits: Tensor = functional_call(self.model, state, (images,))
        return logits.as_subclass(Tensor) if self._kinds else logits

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Views of `theta` `(P,)`, by parameter name.

        Raises:
            ValueError: `theta` is not a vector of P numbers.
        """
        if theta.shape != (self.size,):
            raise ValueError(f"The parameter vector has shape {tuple(theta.shape)}; the model needs ({self.size},).")
        parts = torch.split(theta, self.sizes)
        return {name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}


def _differentiable_recurrence(known: bool) -> AbstractContextManager[None]:
    """cuDNN's LSTM and GRU have no second derivative; PyTorch's own, without cuDNN, have."""
    if known and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return cudnn.flags(enabled=False)
    return nullcontext()


def _named_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    named = list(model.named_parameters())
    if not named:
        raise ValueError("The model has no parameters.")
    lazy = next((name for name, parameter in named if is_lazy(parameter)), None)
    if lazy is not None:
        raise ValueError(f"The model's parameter {lazy} has no shape yet. Call the model on a batch once.")
    return named


def _is_subclass(tensor: Tensor) -> bool:
    """Whether a tensor has methods of its own over ordinary numbers; a device's own kind of tensor has not."""
    kind = type(tensor)
    return kind not in (Tensor, nn.Parameter) and not issubclass(kind, nn.Parameter) and not wraps(kind)


def wraps(kind: type) -> bool:
    """Whether tensors of that class are computed by their own dispatcher, as distributed and simulated ones are."""
    return kind.__torch_dispatch__ is not Tensor.__torch_dispatch__  # type: ignore[attr-defined]


def in_memory_order(images: Tensor) -> Tensor:
    """The same images `(B, C, H, W)` with the strides of a new tensor of that shape.

    A channels-last batch of few channels makes oneDNN (torch 2.13, three threads or more) write beyond its memory in
    the double backward of a convolution.
    """
    usual = images.stride() == torch.empty(images.shape, device="meta").stride()
    return images if usual else images.clone(memory_format=torch.contiguous_format)


def flatten_parameters(model: nn.Module) -> Tensor:
    """A detached copy `(P,)` of the model's parameters, in `model.parameters()` order.

    A copy, never an alias: snapshots that share memory with a network in training are all equal in the end.

    Raises:
        ValueError: it has none, or one without a shape.
    """
    _named_parameters(model)
    parts = [parameter.detach().reshape(-1) for parameter in model.parameters()]
    return torch.cat([part.as_subclass(Tensor) if _is_subclass(part) else part for part in parts])


@torch.no_grad()
def load_parameters(model: nn.Module, theta: Tensor) -> None:
    """Copy the flat vector `theta` `(P,)` into the model's own parameters."""
    views = FlatNetwork(model).unflatten(theta)
    for parameter, view in zip(model.parameters(), views.values(), strict=True):
        parameter.copy_(view)
