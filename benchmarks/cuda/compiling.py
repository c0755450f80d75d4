"""Compile the shapes that the speed tables measure, beside the other groups, and compare them with eager."""

import time
import warnings

from benchmarks.cuda.check import Check, relative, switches
from benchmarks.cuda.compiled import NOT_USED
from benchmarks.cuda.shapes import inputs_of, iteration, model_of, other_inputs, shape_of
from benchmarks.cuda.stages import first_steps


def run(check: Check, part: str) -> None:
    """A part is shape, mode and precision; or the steps of teachers and evaluations."""
    if part == "teachers":
        began = time.monotonic()
        told = first_steps(check)
        words = told or f"first steps after {time.monotonic() - began:.0f} s"
        check.rows.holds("training steps", not told, words, "compiled")
        return
    shape_name, mode, precision = part.split()
    # As the speed tables do: equal switches for all, nothing deterministic.
    switches(tf32=precision == "tf32", deterministic=False)
    shape = shape_of(check, shape_name)
    model = model_of(check, shape, mode)
    inputs = inputs_of(check, shape, 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        began = time.monotonic()
        iteration(model, mode, inputs, compile=True)()
        check.sync()
        seconds = time.monotonic() - began
    said = [str(warning.message) for warning in caught if NOT_USED.search(str(warning.message))]
    check.rows.holds("first call", not said, said[0] if said else f"{seconds:.0f} s", "compiled")
    worst = 0.0
    for seed in (1, 2):
        changed = other_inputs(inputs, seed)
        found = iteration(model, mode, changed, compile=True)()
        wanted = iteration(model, mode, changed)()
        worst = max(worst, relative(found.images, wanted.images))
    # Signs under ReLUs: what the first call accepted is the limit.
    check.rows.add("images' gradient against eager", f"{worst:.2g}")
