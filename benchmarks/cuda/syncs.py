"""How often the host waits for the GPU in the loops that matter, and where."""

import json
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.cuda.check import ALL_OPS, Check
from benchmarks.cuda.problems import iterations, pixel_task
from engine.events import Event, IterationDone, IterationSkipped, Progress
from engine.networks.flat import flatten_parameters
from engine.runtime.generators import run_to_end
from engine.training.evaluation import RULE, measure, train_on_small
from engine.training.labels import mean_labels
from engine.training.sgd import EagerTrainer
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.teachers import train_teachers
from engine.training.training_set import SmallSet

MATCHING = (
    ("labels.kind=hard", "distill.gradient=exact", "distill.store=device"),
    ("labels.kind=hard", "distill.gradient=exact", "distill.store=host"),
    ("labels.kind=target", "distill.gradient=paper"),
    ("labels.kind=learned", "distill.gradient=exact"),
)
PEERS = ("dm", "dsa", "dc", "frepo")
Where = Counter[str]


def run(check: Check, part: str) -> None:
    """All loops."""
    with check.guarded("control: one .item()"), counting(check) as counts:
        torch.ones(3, device=check.device).sum().item()
    if check.cuda:
        check.rows.holds("control: one .item()", sum(counts.values()) >= 1, _words(counts, 1), "seen")
    with check.guarded("teacher step"):
        _teacher_step(check)
    with check.guarded("evaluation step"):
        _evaluation_step(check)
    with check.guarded("labels of 1500 images"):
        _labelling(check)
    for overrides in MATCHING:
        with check.guarded("matching iteration"):
            name = ", ".join(text.partition("=")[2] for text in overrides)
            _iteration(check, f"matching iteration, {name}", overrides)
    for method in PEERS:
        with check.guarded(f"iteration of {method}"):
            more = (f"distill.method={method}", "peers.batch_real=64", "peers.outer_loops=2")
            _iteration(check, f"iteration of {method}", more)


@contextmanager
def counting(check: Check) -> Iterator[Where]:
    """Waits inside the block, by the innermost line of the engine."""
    counts: Where = Counter()

    def show(message: Any, *details: Any, **more: Any) -> None:
        # A thread that writes snapshots waits for itself only.
        if "synchroniz" not in str(message).lower() or threading.current_thread() is not threading.main_thread():
            return
        frames = [f for f in traceback.extract_stack()[:-1] if "/engine/" in f.filename]
        last = frames[-1] if frames else None
        counts["outside the engine" if last is None else f"{last.filename.split('/engine/')[-1]}:{last.lineno}"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        if check.cuda:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield counts
        finally:
            if check.cuda:
                torch.cuda.set_sync_debug_mode("default")


def _words(counts: Where, units: int) -> str:
    total = sum(counts.values()) / units
    places = ", ".join(f"{place} x {count / units:g}" for place, count in counts.most_common(4))
    return f"{total:g}" + (f" ({places})" if places else "")


def _row(check: Check, what: str, counts: Where, units: int, limit: float) -> None:
    if not check.cuda:
        check.rows.add(what, "no GPU", "", "not run")
        return
    check.rows.holds(what, sum(counts.values()) / units <= limit, _words(counts, units), f"at most {limit:g}")


def _base(check: Check) -> tuple[str, ...]:
    width, batch = (4, 64) if check.tiny else (32, 256)
    return (
        f"network.width={width}", "network.depth=3", "teachers.count=1", "teachers.epochs=2",
        "distill.max_start_epoch=1", "distill.teacher_epochs=1", f"distill.steps={2 if check.tiny else 10}",
        "distill.iterations=4", f"teachers.batch={batch}", f"augment.ops={json.dumps(list(ALL_OPS))}",
        "distill.max_loss=1e30",
    )  # fmt: skip


def _size(check: Check) -> dict[str, int]:
    return {"side": 16, "train": 640, "measured": 128} if check.tiny else {}


def _teacher_step(check: Check) -> None:
    with pixel_task(check.device, *_base(check), **_size(check)) as (task, teachers):
        buffer = TeacherBuffer(teachers.folder.with_name("fresh"), {})
        buffer.open()
        events = train_teachers(task, buffer)
        steps = _of_kind(events, lambda event: isinstance(event, Progress) and "trajectory 1" in event.detail)
        for _ in range(2):
            next(steps)
        with counting(check) as counts:
            for _ in range(5):
                next(steps)
        _row(check, "teacher step", counts, 5, 0)
        events.close()


def _of_kind(events: Iterator[Event], wanted: Callable[[Event], bool]) -> Iterator[Event]:
    return (event for event in events if wanted(event))


def _evaluation_step(check: Check) -> None:
    with pixel_task(check.device, *_base(check), **_size(check)) as (task, _):
        images = torch.randn((100, *task.image_shape)).to(check.device)
        small = SmallSet(images, torch.randn(100, task.classes).softmax(1).to(check.device), 0.01)
        model = task.fresh_network(0).train()
        training = train_on_small(task, EagerTrainer(model, RULE), small, 0)
        for _ in range(3):
            next(training)
        with counting(check) as counts:
            for _ in range(10):
                next(training)
        _row(check, "evaluation step", counts, 10, 0)
        with counting(check) as counts:
            chunks = sum(1 for _ in measure(model, task.test, 0, 1))
        _row(check, f"measuring {len(task.test)} images ({chunks} chunks)", counts, 1, chunks)


def _labelling(check: Check) -> None:
    with pixel_task(check.device, *_base(check), **_size(check)) as (task, _):
        images = torch.randn((150 if check.tiny else 1500, *task.image_shape)).to(check.device)
        flat, theta = task.flat_network(), flatten_parameters(task.fresh_network(0))
        run_to_end(mean_labels(flat, [theta], images))
        with counting(check) as counts:
            run_to_end(mean_labels(flat, [theta], images))
        _row(check, "labels of 1500 images", counts, 1, 0)


def _iteration(check: Check, what: str, overrides: tuple[str, ...]) -> None:
    with pixel_task(check.device, *_base(check), *overrides, **_size(check)) as (task, buffer):
        done = _of_kind(iterations(task, buffer), lambda event: isinstance(event, IterationDone | IterationSkipped))
        next(done)  # warms
        with counting(check) as counts:
            ended = list(done)
        if any(isinstance(event, IterationSkipped) for event in ended):
            raise RuntimeError("an iteration was skipped")
        _row(check, what, counts, len(ended), 1)
