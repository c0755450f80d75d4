"""Images a second of teachers, ours and the published loop; steps a second of evaluations."""

import json
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.cuda.check import ALL_OPS, Check, switches
from benchmarks.cuda.problems import pixel_task
from benchmarks.cuda.timing import seconds_of
from engine.data import draw_augment
from engine.events import Notice, Progress, TeacherEpoch
from engine.runtime.generators import run_to_end
from engine.runtime.rng import counted_generator
from engine.tools.bench.reference_implementation import reference_network
from engine.training.evaluation import RULE, measure, train_on_small
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.teachers import train_teachers
from engine.training.trainer import trainer
from engine.training.training_set import SmallSet

PRECISIONS = ("float32", "tf32")
COUNT = 100
"""Images of an evaluation's step."""


def run(check: Check, part: str) -> None:
    """Teachers, then evaluations."""
    for precision in _precisions(check):
        for compile_ in ("off", "on"):
            with check.guarded(f"teachers, {precision}"):
                rates, told = _teachers(check, precision, compile_, epochs=4)
                name = "compiled" if compile_ == "on" else "eager"
                # The first epoch warms up.
                words = f"{max(rates[1:]):,.0f} images/s" + "".join(f"; {text}" for text in told)
                check.rows.add(f"teachers, {precision}, {name}", words)
        with check.guarded(f"teachers, published loop, {precision}"):
            check.rows.add(f"teachers, {precision}, published loop", f"{_published(check, precision):,.0f} images/s")
    for compile_ in ("off", "on"):
        with check.guarded("evaluation"):
            _evaluation(check, compile_)


def _precisions(check: Check) -> tuple[str, ...]:
    return PRECISIONS[:1] if check.tiny else PRECISIONS


def first_steps(check: Check) -> str:
    """Compile what this group measures; why that failed, or nothing."""
    said = []
    for precision in _precisions(check):
        said += _teachers(check, precision, "on", epochs=2, batches=2)[1]
    said += _evaluation(check, "on", report=False)
    return "; ".join(said)


def _overrides(check: Check, precision: str, compile_: str, epochs: int) -> tuple[str, ...]:
    return (
        f"network.width={4 if check.tiny else 128}", "network.depth=3", "teachers.count=1", f"teachers.epochs={epochs}",
        "distill.max_start_epoch=1", f"distill.teacher_epochs={epochs - 1}", "evaluate.epochs=10000",
        f"compute.compile={compile_}", f"compute.precision={precision}", f"augment.ops={json.dumps(list(ALL_OPS))}",
        f"teachers.batch={32 if check.tiny else 256}", "compute.deterministic=false",
    )  # fmt: skip


def _sizes(check: Check, batches: int = 40) -> dict[str, int]:
    if check.tiny:
        return {"classes": 10, "side": 16, "train": 64, "measured": 64}
    return {"classes": 100, "train": 256 * batches, "measured": 10240}


def _teachers(
    check: Check, precision: str, compile_: str, *, epochs: int, batches: int = 40
) -> tuple[Sequence[float], list[str]]:
    """Images a second of each epoch, its end included; and warnings."""
    sizes = _sizes(check, batches)
    with pixel_task(check.device, *_overrides(check, precision, compile_, epochs), **sizes) as (task, teachers):
        buffer = TeacherBuffer(teachers.folder.with_name("fresh"), {})
        buffer.open()
        rates, told, last = [], [], time.perf_counter()
        for event in train_teachers(task, buffer):
            if isinstance(event, TeacherEpoch):
                now = time.perf_counter()
                rates.append(sizes["train"] / (now - last))
                last = now
            told += [event.message] if isinstance(event, Notice) and event.level == "warning" else []
        return rates, told


def _published(check: Check, precision: str) -> float:
    """Images a second of the published training loop with our augmentations."""
    switches(tf32=precision == "tf32", deterministic=False)
    sizes, width, batch = _sizes(check), 4 if check.tiny else 128, 32 if check.tiny else 256
    side = sizes.get("side", 32)
    shape = (sizes["train"], 3, side, side)
    labels = (torch.arange(sizes["train"]) % sizes["classes"]).to(check.device)
    data = TensorDataset(torch.randn(shape).to(check.device), labels)
    net = reference_network("convnet", channels=3, classes=sizes["classes"], resolution=side, width=width, depth=3)
    net = net.to(check.device).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    criterion = torch.nn.CrossEntropyLoss()
    generator = counted_generator(0, "published")

    def epoch() -> None:
        right, total = 0.0, 0.0
        for images, target in DataLoader(data, batch_size=batch, shuffle=True):
            logits = net(draw_augment(generator, ALL_OPS, images.shape, check.device)(images))
            loss = criterion(logits, target)
            # As published code: both numbers are read at every step.
            right += float((logits.argmax(1) == target).sum().item())
            total += loss.item() * len(target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return sizes["train"] / seconds_of(check, epoch, 2).least


def _evaluation(check: Check, compile_: str, *, report: bool = True) -> list[str]:
    """A row for training on 100 images and one for measuring; warnings."""
    with pixel_task(check.device, *_overrides(check, "float32", compile_, 2), **_sizes(check, 1)) as (task, _):
        images = torch.randn((COUNT, *task.image_shape)).to(check.device)
        small = SmallSet(images, torch.randn(COUNT, task.classes).softmax(1).to(check.device), 0.01)
        model = task.fresh_network(0).train()
        learner, told = _learner(task, model, small)
        training = train_on_small(task, learner, small, 0)
        steps = 2 if check.tiny or not report else 100

        def some() -> None:
            for _ in range(steps):
                next(training)

        times = seconds_of(check, some, 3)
        if report:
            name = "compiled" if compile_ == "on" else "eager"
            words = f"{steps / times.median:,.0f} steps/s" + "".join(f"; {text}" for text in told)
            check.rows.add(f"evaluation, {COUNT} images a step, float32, {name}", words)
            if compile_ == "off":
                seconds = seconds_of(check, lambda: run_to_end(measure(model, task.test, 0, 1)), 3).median
                check.rows.add("evaluation, measuring", f"{len(task.test) / seconds:,.0f} images/s")
        return told


def _learner(task: Task, model: Any, small: SmallSet) -> tuple[Any, list[str]]:
    told: list[str] = []
    at = Progress(stage="evaluation", done=0, total=1, unit="networks")
    events = trainer(task, model, "convnet", RULE, [small.batch(torch.arange(COUNT))], {COUNT: 10**6}, at)
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            return end.value, told
        told += [event.message] if isinstance(event, Notice) and event.level == "warning" else []
