"""What every check is given, and the few things most of them do."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.cuda.rows import Rows

ALL_OPS = ("color", "crop", "cutout", "flip", "scale", "rotate")


@dataclass(frozen=True)
class Check:
    """The device and where rows go."""

    rows: Rows
    device: torch.device
    tiny: bool
    """On a CPU: the same checks at the smallest sizes."""

    @property
    def cuda(self) -> bool:
        """Whether this is a GPU."""
        return self.device.type == "cuda"

    def sync(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize()

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """See `Rows.guarded`; memory is given back after it."""
        with self.rows.guarded(what):
            yield
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()


def switches(*, tf32: bool = False, deterministic: bool = True) -> None:
    """The process-wide numeric switches, all of them."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def relative(found: Tensor, wanted: Tensor) -> float:
    """Relative Euclidean distance, in float64 on the CPU."""
    a, b = found.detach().double().cpu(), wanted.detach().double().cpu()
    return float((a - b).norm() / b.norm().clamp_min(1e-300))
