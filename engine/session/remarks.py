"""What a session says about its own numbers: notices, each once in the life of a run, and what the run ends with."""

import platform
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import torch

from engine.errors import CorruptFileError, DivergedError
from engine.events import Event, IterationDone, Notice
from engine.methods.method import State
from engine.methods.tesla_state import MOST_LEARNED
from engine.runs.history import LATELY, RunHistory, read_history
from engine.runs.journal import Entry
from engine.runs.judgement import loss_problem, no_update_words, student_lr_problem
from engine.runs.run import Run
from engine.settings import Settings
from engine.training.task import Task

Events = Generator[Event, None, None]

BIT_RELEVANT = {
    "tesla": "tesla", "torch": "PyTorch", "device_name": "the processor", "cuda": "CUDA", "cudnn": "cuDNN",
    "driver": "the driver", "tf32": "TF32",
}  # fmt: skip
"""Recorded facts of which each can change the last bits of results, and what they are called."""


def with_remarks(run: Run, settings: Settings, stages: Events) -> Events:
    """The events of a run's stages, with notices about what they say.

    Everything is judged by the journal: a run that was stopped gets the same notices, and none twice.
    """
    history = read_history(run)
    try:
        for event in stages:
            if isinstance(event, Notice) and event.about in history.noticed:
                continue
            yield event
            if not event.journaled:
                continue
            history.add(Entry(0, time.time(), event))
            if isinstance(event, IterationDone) and event.trajectory is not None:
                for notice in _remarks(history, event, settings):
                    history.add(Entry(0, time.time(), notice))
                    yield notice
    finally:
        stages.close()


def _remarks(history: RunHistory, event: IterationDone, settings: Settings) -> Iterator[Notice]:
    """Notices that are due after an iteration of trajectory matching."""
    start, now = settings.distill.student_lr, event.student_lr
    found = {
        "matching loss": loss_problem(
            history.recent_loss or 0.0, history.recent_losses, event.iteration, event.iterations, LATELY
        ),
        "student_lr": student_lr_problem(now, start),
        "student_lr bound": _bound_words(now, start),
    }
    for about, words in found.items():
        if words and about not in history.noticed:
            yield Notice(level="warning", message=words, about=about)


def _bound_words(now: float, start: float) -> str:
    if now <= start / MOST_LEARNED * 1.001:
        return (
            f"student_lr fell to {now:.3g}, a thousandth of its initial value, and is held there: students barely "
            "move, so the images barely learn. Lower distill.lr_student_lr in a new run."
        )
    if now >= start * MOST_LEARNED / 1.001:
        return (
            f"student_lr rose to {now:.3g}, a thousand times its initial value, and is held there. Lower "
            "distill.lr_student_lr in a new run."
        )
    return ""


def changed_environment(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What to say where a run resumes with other software or on another processor; empty where it does not.

    Args:
        before: the environment that its last driver recorded; older versions recorded less, and of a processor its
            architecture alone.
        now: this one.
    """
    changes = [
        f"{words} changed from {before[key]} to {now[key]}"
        for key, words in BIT_RELEVANT.items()
        if before.get(key) not in (None, "", platform.machine()) and now.get(key) not in (None, before[key])
    ]
    if not changes:
        return ""
    return (
        f"Since this run was last driven, {', '.join(changes)}: it continues, but its numbers may differ in rounding."
    )


def check_updated(task: Task, run: Run, state: State) -> None:
    """Refuse a run that ends as it began; the same on every rank.

    Raises:
        DivergedError: every iteration was skipped, or none changed anything.
    """
    found = task.ranks.led(_no_update(task.settings, run, state) if task.ranks.writes else None)
    if found is not None:
        raise DivergedError(*found)


def _no_update(settings: Settings, run: Run, state: State) -> tuple[str, str] | None:
    iterations = settings.distill.iterations
    if iterations == 0:
        return None
    same = _unchanged(run, state)
    if same is not None and "images" not in same:
        return None
    history = read_history(run)
    if history.skipped < iterations and (same is None or "student_lr" not in same):
        return None  # student_lr alone was learned; or nothing is known
    return no_update_words(iterations, history.skips, history.gradient_norm.latest == 0)


def _unchanged(run: Run, state: State) -> set[str] | None:
    """What has the bits of checkpoint 0: `images` (with the labels learned for them), `student_lr`; None if that
    checkpoint is damaged or was deleted."""
    try:
        start = run.load_checkpoint(0)[0]
    except CorruptFileError:
        return None
    now = state.tensors()
    same: set[str] = {
        name for name in ("images", "logits", "student_lr")
        if name in now and name in start and torch.equal(now[name].cpu(), start[name].to(now[name].dtype))
    }  # fmt: skip
    return same - {"images"} if "logits" in now and "logits" not in same else same
