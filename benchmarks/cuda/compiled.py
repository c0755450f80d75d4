"""Compiled steps against eager ones, replayed with other inputs; and several compilations in one process."""

import re
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.cuda.check import Check, relative, switches
from benchmarks.cuda.problems import DISTILL, matching_problem, new_workspace, session
from benchmarks.cuda.timing import graph_launches
from engine.matching import EagerSteps, checked_steps
from engine.networks import FlatNetwork
from engine.runtime.generators import run_to_end
from engine.runtime.threads import run_in_thread

LIMITS = {"float32": 1e-4, "tf32": 2e-2, "bf16": 0.3, "vit": 1e-4}
"""Relative difference from eager steps of the same precision (first run: 7e-7 in float32)."""

REPLAYS = 6

NOT_USED = re.compile(r"(torch\.compile|CUDA graphs) (is|are) not used")
"""What a run says where it falls back."""


def run(check: Check, part: str) -> None:
    """A part is precision and mode, or `sessions`."""
    if part == "sessions":
        _sessions(check)
        return
    precision, mode = part.split()
    network = "vit" if precision == "vit" else "convnet"
    size: dict[str, Any] = {} if check.tiny or network == "vit" else {"width": 32}
    model, inputs = matching_problem(network, (), check.device, tiny=check.tiny, images=10, steps=1, **size)
    switches(tf32=precision == "tf32")
    flat = FlatNetwork(model, bf16=precision == "bf16")
    start, batch = inputs["start"], (inputs["images"], inputs["labels"])
    exact = mode == "exact"
    # In a thread, as a run does it.
    steps, reason = run_to_end(run_in_thread(lambda: checked_steps(flat, start, [batch], hessian=exact)))
    check.rows.holds("compiles and passes its own check", not reason, reason or "yes", "yes")
    if isinstance(steps, EagerSteps):
        return
    limit = LIMITS[precision]
    with check.guarded("replays"):
        # As another thread: not the one that compiled.
        for name, error in _replays(check, EagerSteps(flat), steps, inputs, hessian=exact).items():
            check.rows.at_most(f"{name}, {REPLAYS} other inputs", error, limit)
    with check.guarded("CUDA graphs"), torch.no_grad():
        count = graph_launches(check, lambda: steps.gradient(start, *batch))
        if check.cuda:
            check.rows.holds("a step is one CUDA graph", count == 1, f"{count} launched", "1 launched")
        else:
            check.rows.add("a step is one CUDA graph", "no GPU", "", "not run")


def _replays(check: Check, eager: Any, steps: Any, inputs: dict[str, Any], *, hessian: bool) -> dict[str, float]:
    """The greatest relative differences, by name."""
    worst: dict[str, float] = {}
    for seed in range(REPLAYS):
        generator = torch.Generator().manual_seed(seed)

        def drawn(like: torch.Tensor, by: float = 1.0, generator: torch.Generator = generator) -> torch.Tensor:
            return by * torch.randn(like.shape, generator=generator).to(like)

        images, labels = drawn(inputs["images"]), drawn(inputs["labels"]).softmax(1)
        theta = inputs["start"] + drawn(inputs["start"], 0.01)
        adjoint = drawn(theta)
        wanted = eager.derivatives(theta, images, labels, adjoint, hessian=hessian)._asdict()
        # A result is overwritten by the next call.
        found = steps.derivatives(theta, images, labels, adjoint, hessian=hessian)._asdict()
        errors = {name: relative(found[name], value) for name, value in wanted.items() if value is not None}
        gradient = eager.gradient(theta, images, labels)
        # A product that nearly cancels is measured by its factors.
        errors["along"] = float((found["along"] - wanted["along"]).abs() / (gradient.norm() * adjoint.norm()))
        errors["first-order gradient"] = relative(steps.gradient(theta, images, labels), gradient)
        worst = {name: max(error, worst.get(name, 0.0)) for name, error in errors.items()}
    return worst


def _sessions(check: Check) -> None:
    """Three runs of one process that compile: each must be compiled, and replay graphs, as the first one does."""
    with tempfile.TemporaryDirectory() as folder:
        for number, width in enumerate((4, 6, 8), start=1):
            what = f"session {number} of one process"
            with check.guarded(what):
                more = (f"compute.device={check.device.type}", f"network.width={width}", "evaluate.baseline=false")
                overrides = (*DISTILL, *more, "compute.compile=on")
                workspace = new_workspace(Path(folder) / str(number))
                notices: list[str] = []

                def go(workspace: Any = workspace, overrides: Any = overrides, notices: Any = notices) -> None:
                    notices.extend(session(workspace, overrides)[1])

                count = graph_launches(check, go)
                said = [words for words in notices if NOT_USED.search(words)]
                words = said[0] if said else f"compiled, {count} graphs launched" if check.cuda else "compiled"
                good = not said and (bool(count) or not check.cuda)
                check.rows.holds(what, good, words, "compiled, with graphs" if check.cuda else "compiled")
