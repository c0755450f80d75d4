"""Real out-of-memory errors: a process that may use only a share of what it needs."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.cuda.check import Check, relative, switches
from benchmarks.cuda.problems import iterations, pixel_task
from engine.errors import TeslaError
from engine.events import IterationDone, IterationSkipped, Notice, stage_events
from engine.session.memory_hints import explain_out_of_memory
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.teachers import train_teachers

SHARES = (0.7, 0.4)
"""Of the peak of a run with enough memory: 200 and 100 images at once instead of 400."""

LITTLE = 600_000_000
"""Bytes, where nothing can be divided: under a third of that peak."""

CLOSE = 5e-3
"""Relative difference of the images' update from that of whole batches, float32 (first run: 3e-4)."""


def run(check: Check, part: str) -> None:
    """A part is `matching`, with less and less memory; or `errors`, of what cannot be divided."""
    width = 4 if check.tiny else 128
    base = (
        f"network.width={width}", "network.depth=3", "teachers.count=1", "teachers.epochs=2",
        "distill.max_start_epoch=1", "distill.teacher_epochs=1", "distill.steps=3", "distill.iterations=2",
        "distill.max_loss=1e30", "distill.lr_images=1e-3", "augment.ops=[]", "distill.ipc=4",
    )  # fmt: skip
    classes = 4 if check.tiny else 100
    if part == "errors":
        _errors(check, base, classes)
        return
    free, told, rows, peak = _distil(check, base, classes)
    good = not told
    words = f"peak {peak / 1e9:.2f} GB" + "".join(f"; {text}" for text in told)
    check.rows.holds(f"enough memory, {4 * classes} images a step", good, words, "no warning")
    if not check.cuda:
        check.rows.add("less memory", "no GPU", "", "not run")
        return
    for share in SHARES:
        with check.guarded(f"{share:.0%} of it"):
            with _limit(int(peak * share)):
                images, told, rows, used = _distil(check, base, classes)
            error = relative(images, free)
            words = f"{rows or 4 * classes} images at once, peak {used / 1e9:.2f} GB, update differs by {error:.1e}"
            what = f"{share:.0%} of it, {share * peak / 1e9:.2f} GB"
            check.rows.holds(what, bool(rows) and error <= CLOSE, words, f"finishes, within {CLOSE:g}")
            check.rows.add(f"{share:.0%}: what it says", " / ".join(told))
            switches()


def _errors(check: Check, base: tuple[str, ...], classes: int) -> None:
    """Without micro-batches, and teachers: an error that says what to change."""
    if not check.cuda:
        check.rows.add("without micro-batches, teachers", "no GPU", "", "not run")
        return
    for what, more in (("without micro-batches", ("compute.micro_batch=off",)), ("teachers", ())):
        with check.guarded(what), _limit(LITTLE):
            try:
                if more:
                    _distil(check, (*base, *more), classes)
                else:
                    _teach(check, base)
                check.rows.add(f"{what}: an error with a hint", "no error", "an error", "fail")
            except TeslaError as error:
                good = bool(error.hint) and "memory" in error.message.lower()
                check.rows.holds(f"{what}: an error with a hint", good, f"{error.message} {error.hint}", "with a hint")


@contextmanager
def _limit(allowed: int) -> Iterator[None]:
    total = torch.cuda.get_device_properties(0).total_memory
    gc.collect()  # what an earlier failure keeps
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (allowed + 8e6) / total))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def _distil(check: Check, overrides: tuple[str, ...], classes: int) -> tuple[torch.Tensor, list[str], int, int]:
    """Two iterations: the last update of the images, what was said, images at once (0: all), and the peak."""
    side = 16 if check.tiny else 32
    with pixel_task(check.device, *overrides, classes=classes, side=side, train=4 * classes, measured=10) as (
        task,
        buffer,
    ):
        if check.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        state: Any = None

        def stage() -> Any:
            nonlocal state
            state = yield from iterations(task, buffer)

        told, done = [], 0
        for event in explain_out_of_memory(stage_events("distillation", stage()), task):
            if isinstance(event, Notice):
                told.append(event.message)
            if isinstance(event, IterationSkipped):
                told.append(event.reason)
            done += isinstance(event, IterationDone)
        if done != 2:
            raise RuntimeError(f"{done} of 2 iterations were done: {told}")
        peak = torch.cuda.max_memory_allocated() if check.cuda else 0
        return state.velocity_images.clone(), told, state.health.rows, peak


def _teach(check: Check, overrides: tuple[str, ...]) -> None:
    more = ("teachers.batch=4096",)
    with pixel_task(check.device, *overrides, *more, classes=10, train=4096, measured=10) as (task, teachers):
        buffer = TeacherBuffer(teachers.folder.with_name("fresh"), {})
        buffer.open()
        for _ in explain_out_of_memory(stage_events("teachers", train_teachers(task, buffer)), task):
            pass
