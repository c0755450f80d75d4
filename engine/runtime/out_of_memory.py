"""Out of memory: recognise it in what Python, NumPy and PyTorch raise, and measure how much memory there is.

PyTorch raises its own error on accelerators and a plain RuntimeError on the CPU; both say how much was requested.
"""

import errno
import re
from typing import TYPE_CHECKING

import psutil

from engine.runtime.memory_limits import tightest_bound

if TYPE_CHECKING:
    import torch

WORDS = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory", "bad_alloc")
"""In the message of a RuntimeError that is about memory: of CUDA and MPS, of PyTorch's CPU allocator, of C++."""

UNMAPPED = ("failed to map segment", "cannot allocate memory")
"""In the message of an ImportError that is about memory, of the system's loader."""

METAL = "invalid buffer size"
"""The same of Metal, for more than it gives in one piece."""

MUTE = ("could not create a primitive", "could not execute a primitive", "could not create a memory")
"""oneDNN's messages when it gets no memory, and for other reasons: they count where little memory is left."""

LITTLE = 2**30
"""Available bytes below which such a message counts."""

_ASKED = re.compile(r"(?:allocate|buffer size:) ([\d.]+) ?(bytes|Ki?B|Mi?B|Gi?B|Ti?B)?", re.IGNORECASE)
_UNITS = {"bytes": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40}
"""MPS writes kB for what CUDA writes as KiB."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the host or of a device, ran out."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if any(kind.__name__ == "OutOfMemoryError" and kind.__module__.startswith("torch") for kind in type(error).__mro__):
        return True
    said = str(error).lower()
    if isinstance(error, ImportError):
        return any(words in said for words in UNMAPPED)
    if not isinstance(error, RuntimeError):
        return False
    return any(words in said for words in (*WORDS, METAL)) or (said.startswith(MUTE) and available_bytes() < LITTLE)


def asked_bytes(error: BaseException) -> int | None:
    """Bytes that the failed allocation requested; None if the error does not say."""
    found = _ASKED.search(str(error))
    return None if found is None else int(float(found[1]) * _UNITS[(found[2] or "bytes").lower().replace("i", "")])


def process_bytes() -> int:
    """Resident memory of this process, bytes."""
    return int(psutil.Process().memory_info().rss)


def available_bytes() -> int:
    """Host memory this process can still get: by the machine, by its control group, by its own limits."""
    return tightest_bound().left


def free_bytes(device: "torch.device") -> int:
    """Memory that a process can still get on a device."""
    if device.type == "mps":
        from engine.runtime.mps import mps_free_bytes

        return mps_free_bytes()
    if device.type != "cuda":
        return available_bytes()
    from engine.runtime import cuda

    return cuda.free_bytes(device)
