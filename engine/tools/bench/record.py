"""A benchmark's result as JSON: every raw sample, and the machine it was measured on."""

from typing import Any

import psutil

from engine.runtime.device import environment, resolve_device
from engine.storage.processes import processor_name
from engine.tools.bench.gradient import GradientBench
from engine.tools.bench.stages import StageBench

FORMAT = 1
"""Version of these records."""


def machine(device: str, threads: int | None) -> dict[str, Any]:
    """Versions, processor, memory."""
    found = environment(resolve_device(device))
    physical = psutil.cpu_count(logical=False)
    return {
        **found,
        "threads": threads or found["threads"],
        "processor": _processor(),
        "cores": physical or psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def _processor() -> str:
    """What the processor calls itself."""
    return processor_name()


def gradient_record(bench: GradientBench, where: dict[str, Any], complete: bool) -> dict[str, Any]:
    """All of `tesla bench gradient`.

    Args:
        bench: the measurements.
        where: see `machine`.
        complete: False if it was stopped.
    """
    rows = []
    for row in bench.rows:
        rows.append({**row.as_json(), "of_published": bench.ratio(row), "of_matmul_peak": bench.share(row)})
    return {
        "format": FORMAT,
        "benchmark": "gradient",
        "complete": complete,
        "machine": where,
        "rounds": bench.rounds,
        "matmul_flops_per_second": bench.matmul,
        "rows": rows,
    }


def stage_record(bench: StageBench, where: dict[str, Any], complete: bool) -> dict[str, Any]:
    """All of `tesla bench teachers`, `evaluate` or `data`."""
    return {
        "format": FORMAT,
        "benchmark": bench.stage,
        "complete": complete,
        "machine": where,
        "rounds": bench.rounds,
        "problem": bench.problem,
        "rows": [{**row.as_json(), "of_published": bench.ratio(row)} for row in bench.rows],
    }
