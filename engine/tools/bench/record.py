"""A benchmark's result as JSON: every raw sample, and the machine it was measured on."""

from typing import Any

import psutil

from engine.runtime.device import environment, resolve_device
from engine.storage.processes import processor_name
from engine.tools.bench.gradient import GradientBench
from engine.tools.bench.stages import StageBench

FORMAT = 2
"""Version of these records."""


def machine(device: str, threads: int | None) -> dict[str, Any]:
    """Versions, processor, memory. What a measured process chose for itself is in its row's `switches`."""
    found = environment(resolve_device(device))
    found = {name: value for name, value in found.items() if name not in ("tf32", "deterministic")}  # this process's
    physical = psutil.cpu_count(logical=False)
    return {
        **found,
        "threads": threads or found["threads"],
        "processor": processor_name(),
        "cores": physical or psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def gradient_record(bench: GradientBench, where: dict[str, Any], complete: bool, command: str) -> dict[str, Any]:
    """All of `tesla bench gradient`.

    Args:
        bench: the measurements.
        where: see `machine`.
        complete: False if it was stopped.
        command: what was typed.
    """
    rows = [
        {
            **row.as_json(),
            "of_published": bench.ratio(row),
            "of_published_cpu_time": bench.ratio(row, cpu=True),
            "of_published_default_allocator": bench.ratio(row, "default"),
            "of_matmul_peak": bench.share(row),
        }
        for row in bench.rows
    ]
    peaks: dict[str, dict[str, float]] = {}
    for (precision, size), rate in bench.matmul.items():
        peaks.setdefault(precision, {})[size] = rate
    return {
        **_head("gradient", where, complete, command),
        "rounds": bench.rounds,
        "load_average": bench.load.as_json(),
        "matmul_flops_per_second": peaks,
        "rows": rows,
    }


def stage_record(bench: StageBench, where: dict[str, Any], complete: bool, command: str) -> dict[str, Any]:
    """All of `tesla bench teachers`, `evaluate` or `data`; arguments as of `gradient_record`."""
    rows = [
        {
            **row.as_json(),
            "of_published": bench.ratio(row),
            "of_published_default_allocator": bench.ratio(row, "default"),
        }
        for row in bench.rows
    ]
    return {
        **_head(bench.stage, where, complete, command),
        "rounds": bench.rounds,
        "load_average": bench.load.as_json(),
        "problem": bench.problem,
        "rows": rows,
    }


def _head(name: str, where: dict[str, Any], complete: bool, command: str) -> dict[str, Any]:
    return {"format": FORMAT, "benchmark": name, "complete": complete, "command": command, "machine": where}
