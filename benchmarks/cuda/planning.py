"""`tesla plan`, then the run: seconds of every stage, of an iteration, and the peak."""

import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.cuda.check import Check
from benchmarks.plan import make_folder
from engine.events import EvaluationDone, Event, IterationDone, TeacherEpoch
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.session import drive
from engine.settings import resolve_settings
from engine.tools.plan import plan_run

WITHIN = 0.25
"""Of the run, how far the plan may be off."""

SHORT = 2.0
"""Seconds; a shorter stage is reported, and not judged."""

RUNS = {
    "digits": (
        "teachers.count=3", "teachers.epochs=20", "distill.max_start_epoch=10", "distill.iterations=40",
        "distill.steps=10", "evaluate.every=20", "evaluate.epochs=100", "evaluate.repeats=2",
    ),
    "cifar": (
        "teachers.count=2", "teachers.epochs=10", "distill.max_start_epoch=4", "distill.iterations=40",
        "distill.steps=10", "network.width=128", "network.depth=3", "evaluate.every=20", "evaluate.epochs=100",
        "evaluate.repeats=2",
    ),
}  # fmt: skip
TINY = (
    "teachers.count=1", "teachers.epochs=3", "distill.max_start_epoch=1", "distill.teacher_epochs=1",
    "distill.iterations=3", "distill.steps=2", "network.width=4", "network.depth=2", "evaluate.every=3",
    "evaluate.epochs=2", "evaluate.repeats=1",
)  # fmt: skip


def run(check: Check, part: str) -> None:
    """A part is a dataset: digits, or pictures of random pixels with CIFAR-10's shape."""
    with tempfile.TemporaryDirectory() as folder:
        data: tuple[str, ...] = ("dataset.name=digits",)
        if part == "cifar":
            pictures, count = Path(folder) / "noise", 20 if check.tiny else 800
            make_folder(pictures, 10, count, count // 10, 32)
            data = ("dataset.name=folder", f"dataset.path={pictures}")
        # Random pixels teach nothing, so the loss may be anything.
        base = (*data, f"compute.device={check.device.type}", "distill.max_loss=1e30")
        overrides = (*base, *(TINY if check.tiny else RUNS[part]))
        active = {text.partition("=")[0] for text in overrides}
        workspace = Workspace.create(Path(folder) / "ws", resolve_settings(overrides=list(overrides)), active)
        effective = workspace.settings(run=workspace.run("r"))
        began = time.monotonic()
        plan = run_to_end(plan_run(workspace, workspace.run("r"), effective, seconds=0.3 if check.tiny else 1.5))
        check.rows.add("the plan took", f"{time.monotonic() - began:.0f} s; compiled: {plan.compiled}")
        if check.cuda:
            torch.cuda.reset_peak_memory_stats()
        began = time.monotonic()
        spent = _seconds(drive(workspace, workspace.run("r"), effective))
        spent["everything"] = time.monotonic() - began
        _compare(check, plan, spent)


def _seconds(events: Any) -> dict[str, float]:
    """Of the stages, by what their own events say."""
    spent: dict[str, float] = defaultdict(float)
    each = []
    for event in events:
        _count(event, spent)
        if isinstance(event, IterationDone):
            each.append(event.seconds)
    # The first iteration compiles and warms up.
    spent["iteration"] = sorted(each[1:])[len(each[1:]) // 2] if len(each) > 1 else 0.0
    return spent


def _count(event: Event, spent: dict[str, float]) -> None:
    if isinstance(event, TeacherEpoch):
        spent["teachers"] += event.seconds
    elif isinstance(event, IterationDone):
        spent["distillation"] += event.seconds
    elif isinstance(event, EvaluationDone):
        spent["evaluation"] += event.seconds


def _compare(check: Check, plan: Any, spent: dict[str, float]) -> None:
    rows = [("iteration", plan.seconds_per_iteration, spent["iteration"])]
    for part in plan.time:
        stage = next((stage for stage in spent if part.name.lower().startswith(stage[:7])), None)
        if stage is None:
            check.rows.add(part.name, f"planned {part.seconds:.2g} s")
        else:
            rows.append((part.name, part.seconds, spent[stage]))
    rows.append(("everything", plan.seconds, spent["everything"]))
    for name, planned, took in rows:
        ratio = planned / took if took else float("nan")
        words = f"planned {planned:.3g} s, took {took:.3g} s: {ratio:.2f}"
        judged = not check.tiny and (name == "iteration" or took >= SHORT)
        if judged:
            check.rows.holds(name, abs(ratio - 1) <= WITHIN, words, f"within {WITHIN:.0%}")
        else:
            check.rows.add(name, words)
    if check.cuda:
        peak = torch.cuda.max_memory_allocated()
        planned = max((found.bytes for found in plan.peaks if found.where == "device"), default=0)
        words = f"planned {planned / 1e6:,.0f} MB, took {peak / 1e6:,.0f} MB: {planned / max(1, peak):.2f}"
        check.rows.add("peak on the GPU", words)
