"""Operations of a model that autograd cannot differentiate twice, found in the graph of one forward pass.

An error of PyTorch would come late, or never: with `torch.autograd.grad`, a function marked `@once_differentiable` is
left out of the second derivative in silence, and the gradient is wrong.
"""

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.utils.checkpoint import CheckpointFunction


def check_derivable(logits: Tensor) -> None:
    """Refuse what has no second derivative.

    Args:
        logits: of a model, with their graph.

    Raises:
        ValueError: names the operation.
    """
    if logits.grad_fn is None:
        raise ValueError(
            "model's logits do not depend on its parameters (no_grad, detach or NumPy in its forward pass), so there "
            "is nothing to match."
        )
    seen: set[Any] = set()
    waiting: list[Any] = [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        function = getattr(type(node), "_forward_cls", None)
        if function is not None:
            _check_function(function)
        waiting += [following for following, _ in node.next_functions if following is not None]


def _check_function(function: type[Function]) -> None:
    """Of a `torch.autograd.Function`, which Python code has made.

    Raises:
        ValueError: it has no second derivative.
    """
    if function.__name__ == "CompiledFunction":
        raise ValueError(
            "model, or a part of it, is compiled by torch.compile, which has no second derivatives. Give the module "
            "that it was made from (model._orig_mod), and compile=True."
        )
    if issubclass(function, CheckpointFunction):
        raise ValueError("model has a checkpoint with use_reentrant=True, which fails here. Give use_reentrant=False.")
    inner = getattr(function.backward, "__wrapped__", None)
    if inner is not None and "once_differentiable" in function.backward.__code__.co_qualname:
        raise ValueError(
            f"model's function {function.__name__} is marked @once_differentiable: it has no second derivative. "
            "Compute the same with PyTorch's own operations."
        )
