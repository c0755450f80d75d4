"""How the C library's allocator treats large tensors on the CPU: flat or fast. Nothing happens without glibc.

By default glibc's threshold for new mappings grows with what is freed, so the peak rises with the number of steps. Two
fixed policies instead, measured for a matching step of ConvNetD3 width 128, batch 100, on 2 cores:

* flat: every tensor over 256 kB is a mapping of its own, returned when freed; huge pages keep the faults few. The peak
  does not depend on T. As fast as the default.
* fast: freed memory is kept for the next tensor, no page is zeroed twice. About 0.6 of the time per step, but the heap
  fragments: a peak up to three times that of flat.

default leaves glibc as it is, for measurements.
"""

import contextlib
import ctypes
import os
from typing import Literal

Policy = Literal["flat", "fast", "default"]

_chosen: Policy | None = None

# From malloc.h: M_TRIM_THRESHOLD -1, M_TOP_PAD -2, M_MMAP_THRESHOLD -3, M_MMAP_MAX -4, M_ARENA_MAX -8.
_OPTIONS: dict[Policy, tuple[tuple[int, int], ...]] = {
    "flat": ((-3, 2**18),),
    "fast": ((-4, 0), (-1, 2**31 - 1), (-2, 2**26), (-8, 1)),
    "default": (),
}


def choose_memory(policy: Policy) -> None:
    """Set the process's policy; the first choice stands, a process cannot change it back."""
    global _chosen
    if _chosen is not None:
        return
    _chosen = policy
    if policy == "flat":
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch's own switch for huge pages
    with contextlib.suppress(OSError, AttributeError):
        mallopt = _glibc().mallopt
        for parameter, value in _OPTIONS[policy]:
            mallopt(parameter, value)


def has_policies() -> bool:
    """Whether a choice has an effect here."""
    with contextlib.suppress(OSError):
        return hasattr(_glibc(), "mallopt")
    return False


def _glibc() -> ctypes.CDLL:
    return ctypes.CDLL("libc.so.6")
