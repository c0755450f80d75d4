"""Operations of a model that autograd cannot differentiate twice, found in the graph of one forward pass.

An error of PyTorch would come late, or never: with `torch.autograd.grad`, a function marked `@once_differentiable` is
left out of the second derivative in silence, and the gradient is wrong.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils.checkpoint import CheckpointFunction

from engine.runtime.out_of_memory import is_out_of_memory


def check_derivable(logits: Tensor, theta: Tensor, images: Tensor) -> None:
    """Refuse what has no second derivative.

    Args:
        logits: of a model, with their graph.
        theta: its parameters `(P,)`, a leaf of the graph.
        images: its images `(B, C, H, W)`, a leaf of the graph.

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
            node.register_hook(partial(_check_gradients, function))
        waiting += [following for following, _ in node.next_functions if following is not None]
    try:
        _derive(logits, theta, images)
    except ValueError:
        raise
    except Exception as error:  # PyTorch's are of several kinds, and a user's function has its own
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"model has no second derivative: {in_words(error)}. Compute the same with other operations of PyTorch."
        ) from error


def _derive(logits: Tensor, theta: Tensor, images: Tensor) -> None:
    """Differentiate twice.

    Raises:
        ValueError: the logits do not depend on the parameters or the images.
    """
    loss = logits.square().sum()
    by_theta, by_images = torch.autograd.grad(loss, (theta, images), create_graph=True, allow_unused=True)
    for name, found in (("parameters", by_theta), ("images", by_images)):
        if found is None:
            raise ValueError(
                f"model's logits do not depend on its {name} (no_grad, detach, NumPy or integers in its forward pass), "
                "so there is nothing to match."
            )
    torch.autograd.grad(by_theta, (theta, images), grad_outputs=by_theta.detach(), materialize_grads=True)


def in_words(error: Exception) -> str:
    """What an error says, in its first sentence."""
    said = str(error).strip() or type(error).__name__
    return said.splitlines()[0].split(". ")[0].rstrip(".")


def _check_gradients(function: type[Function], inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Of a function, in a backward pass that is differentiated again.

    Its gradients by the inputs are linear in those by the outputs, so one that is no function of them any more was
    computed without a graph.

    Raises:
        ValueError: one is, and is not 0.
    """
    depends = any(isinstance(given, Tensor) and given.requires_grad for given in outputs)
    cut = (found for found in inputs if isinstance(found, Tensor) and not found.requires_grad)
    if depends and any(bool(found.any()) for found in cut):
        raise ValueError(
            f"model's function {function.__name__} has a backward pass in NumPy, no_grad or detach: it has no second "
            "derivative. Compute the same with PyTorch's own operations."
        )


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
