"""A functional view of any `nn.Module` over one flat parameter vector.

Trajectory matching treats a network as a point in parameter space, so everything above this module works on
flat vectors `(P,)` in `model.parameters()` order, and the module itself is only a shape.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.backends import cudnn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from engine.networks.attention import attends, differentiable_attention
from engine.networks.checkpoints import without_checkpoints
from engine.networks.weight_norm import differentiable_weight_norm, has_weight_norm

LossName = Literal["cross-entropy", "mse"]
"""As `labels.loss` spells it."""


class FlatNetwork:
    """`network(theta, x) -> logits`, a pure function of a flat vector and images.

    Buffers (running statistics) are passed as copies, so that a call never changes the module: a network with
    batch norm in training mode uses batch statistics, and its running averages stay as they were. Parameters are all
    that a teacher's snapshot keeps; a buffer's value never reaches a student.

    Parameters with `requires_grad = False` are constants: they are part of `theta`, and no gradient reaches them. A
    parameter that modules share is in `theta` once. Attention, recurrent layers and weight norm are computed in a form
    that has second derivatives, and checkpointed parts without their checkpoints.

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
        self._places = _places(model)
        self._attends = attends(model)
        self._recurs = any(isinstance(module, nn.RNNBase) for module in model.modules())
        self._normalises = has_weight_norm(model)

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
        state = {place: state[name] for place, name in self._places.items()}
        with (
            differentiable_attention(self._attends),
            _differentiable_recurrence(self._recurs),
            differentiable_weight_norm(self._normalises),
            without_checkpoints(),
        ):
            if self.bf16:
                # Without the cache of cast weights: it would outlive a functional call.
                with torch.autocast(theta.device.type, dtype=torch.bfloat16, cache_enabled=False):
                    coarse: Tensor = functional_call(self.model, state, (images,), tie_weights=False)
                return coarse.to(theta.dtype)
            logits: Tensor = functional_call(self.model, state, (images,), tie_weights=False)
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


def _places(model: nn.Module) -> dict[str, str]:
    """The name of every parameter and buffer by every place that holds it.

    A module that is part of several others has its places once. PyTorch's own `tie_weights` replaces a parameter once
    for each of its module's names, and puts back what it found the second time: not the parameter.
    """

    def named(module: nn.Module, prefix: str, *, inner: bool) -> Iterator[tuple[str, Tensor]]:
        yield from module.named_parameters(prefix, recurse=inner, remove_duplicate=inner)
        yield from module.named_buffers(prefix, recurse=inner, remove_duplicate=inner)

    names = {id(tensor): name for name, tensor in named(model, "", inner=True)}
    return {
        place: names[id(tensor)]
        for prefix, module in model.named_modules()
        for place, tensor in named(module, prefix, inner=False)
    }


def _named_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    named = list(model.named_parameters())
    if not named:
        raise ValueError("The model has no parameters.")
    for kind, tensors in (("parameter", named), ("buffer", model.named_buffers())):
        lazy = next((name for name, tensor in tensors if is_lazy(tensor)), None)
        if lazy is not None:
            raise ValueError(f"The model's {kind} {lazy} has no shape yet. Call the model on a batch once.")
    for name, parameter in named:
        if not parameter.is_floating_point():
            instead = (
                "Keep it as two real ones, with torch.view_as_complex in the forward pass"
                if parameter.is_complex()
                else "Make it a buffer"
            )
            kind = str(parameter.dtype).removeprefix("torch.")
            raise ValueError(f"The model's parameter {name} is {kind}; it must be floating point. {instead}.")
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
