"""How fast this CPU is beside the one that the costs of compiling were measured on.

Measured once for a kind of processor and kept in the user's cache, so that what depends on it is decided the same in a
plan, in a run and after a resume. Only a resume without that cache measures again; the power of two then mostly agrees.
"""

import math
import os
import time
from contextlib import suppress

import torch

from engine.errors import TeslaError
from engine.runtime.compiler_cache import private_folder
from engine.storage.atomic import read_json, write_json
from engine.storage.processes import processor_name

REFERENCE = 3.0e11
"""Operations per second of square float32 products on the 2 cores of an AMD EPYC (AVX2)."""

SIDE = 512
"""Of the products that are measured."""

FILE = "machine.json"

_known: dict[str, float] = {}


def cpu_speed() -> float:
    """Speed of this CPU with as many threads as now, in units of the reference: a power of two, which hides noise."""
    name = f"{processor_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    if name not in _known:
        kept = _kept()
        _known[name] = kept.get(name) or 2.0 ** round(math.log2(_rate() / REFERENCE))
        if name not in kept:
            with suppress(OSError, TeslaError):  # without a place to keep it, the next process measures again
                write_json(private_folder() / FILE, {**kept, name: _known[name]})
    return _known[name]


def _kept() -> dict[str, float]:
    """What earlier processes measured; nothing where the file is missing or damaged."""
    with suppress(OSError, TeslaError):
        kept = read_json(private_folder() / FILE)
        return {name: value for name, value in kept.items() if isinstance(value, float) and 0 < value < math.inf}
    return {}


def _rate() -> float:
    """Operations per second of all threads: of one, in its own CPU time, so that other processes hardly matter."""
    threads = torch.get_num_threads()
    square = torch.ones(SIDE, SIDE)
    best = math.inf
    torch.set_num_threads(1)
    try:
        for _ in range(20):
            started = time.thread_time()
            square @ square
            best = min(best, time.thread_time() - started)
    finally:
        torch.set_num_threads(threads)
    return threads * 2 * SIDE**3 / best
