"""Peak memory at T = 100 over that at T = 1; each mode in a process of its own."""

from benchmarks.cuda.check import Check, switches
from benchmarks.cuda.shapes import inputs_of, iteration, model_of, shape_of
from benchmarks.cuda.timing import forget_peak, peak_megabytes
from engine.tools.bench.cases import PUBLISHED

FLAT = 1.1
"""Peak at T = 100 over T = 1 that the exact and paper gradients may have (first run: 1.01)."""


def run(check: Check, part: str) -> None:
    """A part is a mode."""
    switches(deterministic=False)
    shape = shape_of(check, "cifar")
    most = 4 if check.tiny else 100
    peaks = {}
    for steps in (1, most):
        model, inputs = model_of(check, shape, part), inputs_of(check, shape, steps)
        work = iteration(model, part, inputs)
        if steps == 1:
            work()  # cuDNN's workspaces are chosen here
        forget_peak(check)
        work()
        peaks[steps] = peak_megabytes(check)
        del work, model, inputs
    words = ", ".join(f"T = {steps}: {peak:,.0f} MB" for steps, peak in peaks.items())
    if not check.cuda:
        check.rows.add(part, "no GPU", "", "not run")
        return
    ratio = peaks[most] / peaks[1]
    if part == PUBLISHED:
        check.rows.add(f"{part}, T = {most} over T = 1", f"{ratio:.2f} ({words})")
    else:
        check.rows.holds(f"{part}, T = {most} over T = 1", ratio <= FLAT, f"{ratio:.2f} ({words})", f"at most {FLAT}")
