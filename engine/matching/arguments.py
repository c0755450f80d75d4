"""Checks of what a caller gives: one sentence each, with the argument, what it is, and what to give instead."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.networks.flat import FlatNetwork, wraps

SUM = 1e-3
"""How far the probabilities of an image may be from a sum of 1; in bfloat16 and float16 ten times as far."""

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)

INDEX_TYPES = (torch.int64, torch.int32)


def check_model(model: Any) -> None:
    """Refuse what is no module. `Steps` are a protocol: they have a network.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(model, (nn.Module, FlatNetwork)) and not hasattr(model, "network"):
        raise ValueError(f"model is {_kind(model)}; it must be a torch.nn.Module.")
    for name, module in model.named_modules() if isinstance(model, nn.Module) else ():
        if isinstance(module, WRAPPERS):
            where = f"model.{name}" if name else "model"
            raise ValueError(f"{where} is {_kind(module)}, which takes no other parameters. Give {where}.module.")
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError("model is compiled by torch.jit, which takes no other parameters. Give the original.")


def check_tensors(network: FlatNetwork, start: Any, target: Any, images: Any, labels: Any, student_lr: Any) -> None:
    """Shapes, types and devices that fit each other.

    Raises:
        ValueError: they do not.
    """
    _check_parameters(network, start)
    tensors = {"start": start, "target": target, "images": images, "labels": labels}
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} is {_kind(value)}; it must be a tensor.{_conversion(name, value)}")
        if value.layout != torch.strided:
            raise ValueError(f"{name} is sparse; it must be an ordinary tensor. Give {name}.to_dense().")
        if value.is_inference():
            raise ValueError(f"{name} was made in torch.inference_mode(), so it has no gradient. Give {name}.clone().")
    if torch.is_inference_mode_enabled():
        raise ValueError("torch.inference_mode() is on, so nothing has a gradient. Call this outside of it.")
    if not labels.is_floating_point() and labels.ndim == 1:
        raise ValueError(
            f"labels has shape {tuple(labels.shape)} and type {_type(labels)}, so it holds class indices; it must hold "
            "probabilities (N, K). Give F.one_hot(labels, K).float()."
        )
    if images.ndim != 4 or labels.ndim != 2 or len(images) != len(labels) or not labels.numel():
        raise ValueError(
            f"images must be (N, C, H, W) and labels (N, K); got {tuple(images.shape)} and {tuple(labels.shape)}."
        )
    for name in ("start", "target"):
        if tensors[name].shape != (network.size,):
            raise ValueError(
                f"{name} has shape {tuple(tensors[name].shape)}; the model needs ({network.size},), as "
                "flatten_parameters(model) gives."
            )
    for name, value in tensors.items():
        if not value.is_floating_point():
            raise ValueError(f"{name} is {_type(value)}; it must be floating point. {_HINTS[name]}")
        if value.dtype != start.dtype:
            raise ValueError(
                f"{name} is {_type(value)} and start is {_type(start)}; they must be alike. Give "
                f"{name}.to(start.dtype)."
            )
        if value.device != start.device:
            raise ValueError(
                f"{name} is on {value.device} and start is on {start.device}. Give {name}.to({str(start.device)!r})."
            )
    if start.is_meta:
        raise ValueError("start is on the device meta, so it has no numbers.")
    if isinstance(student_lr, Tensor):
        number = not student_lr.shape and student_lr.dtype != torch.bool and not student_lr.is_complex()
        what = f"a tensor {tuple(student_lr.shape)}" if student_lr.shape else f"a tensor of type {_type(student_lr)}"
    else:
        number, what = isinstance(student_lr, Real) and not isinstance(student_lr, bool), _kind(student_lr)
    if not number:
        raise ValueError(f"student_lr is {what}; it must be a positive number.")


_HINTS = {
    "start": "Give flatten_parameters(model).",
    "target": "Give flatten_parameters(model).",
    "images": "Give images in the network's input space, such as images.float() / 255.",
    "labels": "Give probabilities, such as labels.float().",
}


def _check_parameters(network: FlatNetwork, start: Any) -> None:
    if len(network.frozen) == len(network.names):
        raise ValueError(
            "model has no parameter to train: all have requires_grad = False, which makes them constants. Call "
            "model.requires_grad_() for those that the student trains."
        )
    for name, parameter in network.model.named_parameters():
        if wraps(type(parameter)) and not isinstance(start, type(parameter)):
            raise ValueError(
                f"model's parameter {name} is a {type(parameter).__name__}, a tensor that computes in its own way; "
                "a vector start has none of it. Give a model with ordinary parameters."
            )


def check_schedule(schedule: Any, images: Tensor) -> None:
    """Pairs of an index and a function.

    Raises:
        ValueError: they are not.
    """
    if not isinstance(schedule, Sequence):
        raise ValueError(f"schedule is {_kind(schedule)}; it must be a list of pairs (index, augment).")
    if not schedule:
        raise ValueError("The schedule is empty: matching needs at least one student step.")
    for step, pair in enumerate(schedule):
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise ValueError(f"schedule[{step}] is {_kind(pair)}; it must be a pair (index, augment).")
        if not callable(pair[1]):
            raise ValueError(
                f"schedule[{step}]'s augment is {_kind(pair[1])}; it must be a function of a batch. For no "
                "augmentation give lambda batch: batch."
            )
        index = pair[0]
        if not isinstance(index, Tensor) or index.dtype not in INDEX_TYPES or index.ndim != 1 or not len(index):
            what = f"{_type(index)} {tuple(index.shape)}" if isinstance(index, Tensor) else _kind(index)
            raise ValueError(f"schedule[{step}]'s index is {what}; it must be a LongTensor (B,).{_index_hint(index)}")
        if index.is_inference():
            raise ValueError(
                f"schedule[{step}]'s index was made in torch.inference_mode(), so no graph can keep it. Give "
                "index.clone()."
            )
        if index.device != images.device:
            raise ValueError(
                f"schedule[{step}]'s index is on {index.device} and images is on {images.device}. Give index.to("
                f"{str(images.device)!r})."
            )


def check_augmented(step: int, given: Tensor, found: Any, *, changed: bool) -> None:
    """What an augmentation returned.

    Args:
        step: its number.
        given: `(B, C, H, W)`.
        found: what it returned.
        changed: whether it wrote into the batch that it was given.

    Raises:
        ValueError: not as many images, of the same type; without their gradient, or written in place.
    """
    if changed:
        raise ValueError(
            f"schedule[{step}]'s augmentation changes its batch in place, where the gradient of the images is needed. "
            "Let it begin with batch = batch.clone()."
        )
    if isinstance(found, Tensor) and found.ndim == 4 and len(found) == len(given) and found.dtype == given.dtype:
        if given.requires_grad and not found.requires_grad:
            raise ValueError(
                f"schedule[{step}]'s augmentation cuts the gradient of the images (detach, no_grad or NumPy). Compute "
                "with the batch's own tensor."
            )
        return
    what = f"{_type(found)} {tuple(found.shape)}" if isinstance(found, Tensor) else _kind(found)
    raise ValueError(
        f"schedule[{step}]'s augmentation made {what} of {_type(given)} {tuple(given.shape)}; it must return as many "
        "images (B, C, H, W), of the same type."
    )


def check_values(
    start: Tensor, target: Tensor, images: Tensor, labels: Tensor, student_lr: Tensor, schedule: Any,
    *, probabilities: bool,
) -> None:  # fmt: skip
    """What only the numbers tell: reads them from the device once.

    Args:
        start: `(P,)`.
        target: `(P,)`.
        images: `(N, C, H, W)`.
        labels: `(N, K)`.
        student_lr: a scalar.
        schedule: checked already.
        probabilities: whether labels must be some; a squared error takes any numbers.

    Raises:
        ValueError: numbers that have no gradient, or a wrong one.
    """
    every = torch.cat([index for index, _ in schedule])
    sums = labels.sum(dim=1)
    worst = (sums - 1).abs().argmax()
    tensors = {"start": start, "target": target, "images": images, "labels": labels}
    sizes = [torch.linalg.vector_norm(tensor, math.inf) for tensor in tensors.values()]  # no copy, as `isfinite` makes
    numbers = ((start - target).norm(), student_lr, sums[worst], labels.min(), *sizes)
    distance, rate, total, least, *largest = torch.stack([number.to(start.dtype) for number in numbers]).tolist()
    lowest, highest, row = torch.stack([every.min().long(), every.max().long(), worst]).tolist()
    for name, size in zip(tensors, largest, strict=True):
        if not math.isfinite(size):
            raise ValueError(f"{name} has numbers that are not finite (NaN or infinity).")
    if not distance:
        raise ValueError(
            "start and target are equal, so there is no distance to match. Give a target of another epoch."
        )
    if not 0 < rate < math.inf:
        raise ValueError(f"student_lr is {rate:g}; it must be a positive number.")
    allowed = SUM if labels.dtype.itemsize > 2 else 10 * SUM
    if probabilities and (abs(total - 1) > allowed or least < -allowed):
        raise ValueError(
            f"labels must be probabilities, which are at least 0 and sum to 1 for every image; row {row} sums to "
            f"{total:g}, and the least is {least:g}. Give labels / labels.sum(dim=1, keepdim=True), or "
            "logits.softmax(dim=1)."
        )
    if lowest < 0 or highest >= len(labels):
        outside = lowest if lowest < 0 else highest
        step = next(step for step, (index, _) in enumerate(schedule) if bool((index == outside).any()))
        raise ValueError(
            f"schedule[{step}]'s index has {outside}; there are {len(labels)} images, 0 to {len(labels) - 1}."
        )


def _kind(value: Any) -> str:
    """Its type, with an article."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIO' or name == 'ndarray' else 'a'} {name}"


def _conversion(name: str, value: Any) -> str:
    return f" Give torch.as_tensor({name})." if isinstance(value, (np.ndarray, list, tuple)) else ""


def _index_hint(index: Any) -> str:
    if not isinstance(index, Tensor):
        return " Give torch.as_tensor(index)."
    if not index.numel():
        return " Give at least one image."
    if index.ndim != 1:
        return " Give index.flatten()."
    return " Give index.nonzero().flatten()." if index.dtype == torch.bool else " Give index.long()."


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
