"""Seconds per iteration and peak memory of published, exact and paper; float32 and TF32; eager, compiled, graphs."""

from typing import Any

import engine.matching.compiled as compiled
from benchmarks.cuda.check import Check, switches
from benchmarks.cuda.shapes import inputs_of, iteration, model_of, shape_of
from benchmarks.cuda.timing import Times, forget_peak, graph_launches, peak_megabytes, reserved_megabytes, seconds_of
from engine.tools.bench.cases import PUBLISHED, Shape

PRECISIONS = ("tf32", "float32")
STEPS = {"cifar": (10, 50, 100), "imagenet": (10,)}
"""T; the time grows in proportion to it."""

COMPILED = {"cifar": ("exact", "paper"), "imagenet": ("exact",)}

GOALS = {"exact": 0.33, "paper": 0.25}
"""Time over that of the published loop at T = 10, of what a run does by default: compiled."""


def run(check: Check, part: str) -> None:
    """A part is a shape."""
    shape = shape_of(check, part)
    for precision in ("float32",) if check.tiny else PRECISIONS:
        switches(tf32=precision == "tf32", deterministic=False)
        for steps in (2,) if check.tiny else STEPS[part]:
            base = _time(check, part, shape, precision, steps, PUBLISHED)
            for mode in ("exact", "paper"):
                _time(check, part, shape, precision, steps, mode, base)
            for mode in ("exact",) if check.tiny else COMPILED[part]:
                _time(check, part, shape, precision, steps, mode, base, compile=True)
    if not check.tiny and part == "cifar":
        compiled.launch_bound = lambda images: False
        switches(tf32=True, deterministic=False)
        _time(check, part, shape, "tf32", 10, "exact", compile=True, about=", CUDA graphs off")


def _time(
    check: Check, part: str, shape: Shape, precision: str, steps: int, mode: str,
    base: float | None = None, *, compile: bool = False, about: str = "",  # noqa: A002
) -> float | None:  # fmt: skip
    """A row; the median."""
    name = mode + (" compiled" if compile else "")
    what = f"{precision}, T = {steps}, {name}{about}"
    with check.guarded(what):
        model, inputs = _model(check, part, shape, precision, mode, compile, about), inputs_of(check, shape, steps)
        work = iteration(model, mode, inputs, compile=compile)
        forget_peak(check)
        # Longer ones repeat what T = 10 has warmed up, and take seconds.
        times = seconds_of(check, work, 4 if steps <= 10 else 1, warm=steps <= 10)
        peak = peak_megabytes(check)
        note = f", peak {peak:,.0f} MB" if check.cuda and not compile else ""
        if compile and check.cuda:
            # A replayed graph allocates nothing: its memory was set aside when it was recorded.
            count = graph_launches(check, iteration(model, mode, inputs_of(check, shape, 1), compile=True))
            note = f", {reserved_megabytes():,.0f} MB reserved, {count} CUDA graphs a step"
        _row(check, what, times, base, note, GOALS.get(mode) if compile and steps == 10 and not about else None)
        return times.median
    return None


_models: dict[tuple[Any, ...], Any] = {}
"""One network for each precision and mode: its compiled steps are kept with it."""


def _model(check: Check, part: str, shape: Shape, precision: str, mode: str, compile: bool, about: str) -> Any:  # noqa: A002
    if not compile:
        return model_of(check, shape, mode)
    key = (part, precision, mode, about)
    if key not in _models:
        _models[key] = model_of(check, shape, mode)
    return _models[key]


def _row(check: Check, what: str, times: Times, base: float | None, note: str, goal: float | None) -> None:
    ratio = f", {times.median / base:.2f} of published" if base else ""
    words = times.words + ratio + note
    if goal is None or base is None or check.tiny:
        check.rows.add(what, words)
    else:
        check.rows.holds(what, times.median / base <= goal, words, f"{goal:g} of published")
