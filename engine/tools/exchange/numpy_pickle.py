"""Numpy's arrays and numbers inside a pickle, rebuilt without running anything of numpy's unpickling.

PyTorch's restricted reader knows no numpy. It lets a caller map names in a pickle to objects of its own: those here
take what numpy would get, check it, and keep plain numbers and texts; object and structured arrays are refused.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

CODE = re.compile(r"[biuf](1|2|4|8)|U\d{1,4}")
MOST_AXES = 8


class Dtype:
    """Stands for `numpy.dtype`: numbers and texts only."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        text = _text(code)
        if not CODE.fullmatch(text):
            raise ValueError(f"an array of type {text!r} is not one of numbers")
        self.numpy = np.dtype(text)

    def __setstate__(self, state: Any) -> None:
        _, order, subtype, names, fields, *_ = state
        if subtype is not None or names is not None or fields is not None:
            raise ValueError("an array of a structured type is not one of numbers")
        if _text(order) == ">":
            self.numpy = self.numpy.newbyteorder(">")


class Array:
    """Stands for `numpy.ndarray`, filled by its state."""

    values: np.ndarray[Any, Any] = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.values = _numbers(shape, dtype, raw, "F" if fortran else "C")

    def plain(self) -> Tensor | list[str]:
        """The numbers as a tensor; texts as a list."""
        return as_plain(self.values)


class Namespace:
    """Stands for `argparse.Namespace`, and for types, which published code saves beside its tensors; never read."""


def as_plain(values: np.ndarray[Any, Any]) -> Tensor | list[str]:
    """A numpy array of numbers as a tensor in separate memory; an array of texts as a list.

    Raises:
        TypeError: another type of array.
    """
    if values.dtype.kind == "U":
        return [str(text) for text in values.reshape(-1).tolist()]
    if values.dtype.kind == "u" and values.dtype.itemsize > 1:
        values = values.astype(np.int64)  # PyTorch computes little with wide unsigned types
    return torch.from_numpy(np.array(values, dtype=values.dtype.newbyteorder("="), order="C"))


def stand_ins() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """For `torch.serialization.safe_globals`: what stands for each of these names in a pickle."""
    cores = ("numpy.core.multiarray", "numpy._core.multiarray")
    return [
        (Array, "numpy.ndarray"),
        (Dtype, "numpy.dtype"),
        (Namespace, "argparse.Namespace"),
        (_default_dict, "collections.defaultdict"),
        *((Namespace, f"builtins.{factory}") for factory in ("list", "dict", "int", "float")),
        *((_reconstruct, f"{core}._reconstruct") for core in cores),
        *((_scalar, f"{core}.scalar") for core in cores),
    ]


def _default_dict(*factory: Any) -> dict[Any, Any]:
    """A plain dictionary, which is filled next. The function for missing keys is not kept."""
    return {}


def _reconstruct(kind: Any, shape: Any, code: Any) -> Array:
    return Array()


def _scalar(dtype: Any, raw: Any) -> Any:
    return _numbers((), dtype, raw, "C").item()


def _numbers(shape: Any, dtype: Any, raw: Any, order: Any) -> np.ndarray[Any, Any]:
    if not isinstance(dtype, Dtype) or not isinstance(raw, bytes) or not isinstance(shape, tuple):
        raise ValueError("an array's state is not one of numbers")
    if len(shape) > MOST_AXES or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"an array has the shape {shape}")
    if math.prod(shape) * dtype.numpy.itemsize != len(raw):
        raise ValueError(f"an array of shape {shape} has {len(raw)} bytes")
    return np.frombuffer(raw, dtype=dtype.numpy).reshape(shape, order=order)


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)
