"""Stage 2: trajectory matching. The main loop is `distill`; what an iteration draws is a function of its number."""

import gc
import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from engine.data.augment import draw_augment
from engine.errors import CorruptFileError
from engine.events import (
    Event,
    IterationDone,
    IterationSkipped,
    Notice,
    Progress,
    RunRecovered,
    share_done,
    with_progress,
)
from engine.matching import (
    WHOLE,
    EagerSteps,
    MatchingGradient,
    MicroSteps,
    Parts,
    Schedule,
    Steps,
    checked_steps,
    matching_sweeps,
    part_sizes,
)
from engine.matching.parameter_store import Store
from engine.methods.batch_coupling import batch_sizes, couples_images
from engine.methods.method import Earlier, Method
from engine.methods.teacher_init import begun_state
from engine.methods.tesla_state import MOST_LEARNED, DistillState, initial_state, outcome, restored_state, update
from engine.networks import flatten_parameters
from engine.runtime.generators import map_events, run_to_end
from engine.runtime.out_of_memory import asked_bytes, available_bytes, is_out_of_memory, size_words
from engine.runtime.rng import counted_generator, counted_seed
from engine.runtime.threads import run_in_thread
from engine.settings import DistillSettings, Settings
from engine.training import labels as label_rules
from engine.training.compile_policy import matching_compiles
from engine.training.divergence import MOST_RECOVERIES, PATIENCE, WINDOW, Numbers, exhausted, problem
from engine.training.real_images import random_real, real_images
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer

STAGE = "distillation"

MOST_SHIP = 100
"""Snapshots whose labels are averaged for a dataset that ships `target` or `last` labels."""


def distill(
    task: Task, buffer: TeacherBuffer, state: DistillState, earlier: Earlier | None = None
) -> Generator[Event, None, None]:
    """Update `state` until `distill.iterations` are done. Close the generator to stop within one matching step.

    `state` changes only between the last matching step of an iteration and its event, so it is whole at every yield.

    Args:
        task: the problem.
        buffer: its teachers.
        state: where to begin.
        earlier: gives the checkpoint to roll back to; without it images stay as they are. Only the first rank's is
            asked.

    Raises:
        DivergedError: the numbers stayed bad through every recovery, or a teacher is not usable.
    """
    settings = task.settings
    store = settings.distill.store
    steps: Steps | None = None
    total = settings.distill.iterations
    least = settings.distill.student_lr / MOST_LEARNED
    told_of_least = False
    gradient: MatchingGradient | None = None
    while state.iteration < total:
        started = time.monotonic()
        iteration = state.iteration
        draw = draw_iteration(task, iteration)
        smaller = None
        try:
            steps = steps or (yield from _steps(task, state))
            gradient, logit_gradient = yield from _matching_gradient(task, steps, buffer, state, draw, store, gradient)
        except Exception as error:
            smaller = _smaller_parts(task, state, error)
            if smaller is None:
                raise
        if smaller is not None:  # outside of the handler, whose error keeps what filled the memory alive
            steps = gradient = logit_gradient = None
            store = "checkpoint" if store == "auto" else store  # to the same bits
            gc.collect()  # an error that came through a thread is in a cycle with its frames
            if task.device.type == "cuda":
                torch.cuda.empty_cache()
            yield smaller
            continue
        assert gradient is not None
        # The one point of an iteration where the host waits for the device.
        after = outcome(state, gradient, logit_gradient, settings)
        judged = torch.stack([gradient.loss, gradient.images.norm(), gradient.student_lr, *after]).tolist()
        numbers = Numbers(*task.ranks.agreed(judged))
        reason = problem(numbers, state.health, settings)
        if reason:
            yield from _skip(task, state, reason, numbers, earlier)
            continue
        update(state, gradient, logit_gradient, settings)
        student_lr = state.student_lr.item()
        health = state.health
        health.accept(numbers)
        mean, lowest = health.loss, health.lowest
        recovered = None
        if health.loss_drifting:
            recovered = _recover(task, state, earlier, roll_back=True)
        elif saves_at(state.iteration, settings):
            health.mark(state.iteration)
        yield IterationDone(
            iteration=state.iteration, iterations=total, loss=numbers.loss, student_lr=student_lr,
            gradient_norm=numbers.norm, student_lr_gradient=numbers.lr_gradient, trajectory=draw.trajectory,
            start_epoch=draw.start_epoch, seconds=time.monotonic() - started,
        )  # fmt: skip
        if recovered is not None:
            reason = f"the mean matching loss of {WINDOW} iterations crept up to {mean:.3g}, from {lowest:.3g} at best"
            yield Notice(level="warning", message=f"Iteration {state.iteration}: {reason}.")
            if health.recoveries > MOST_RECOVERIES:
                raise exhausted(reason, health.good)
            yield recovered
        elif health.not_improving:
            yield Notice(
                level="warning",
                message=f"The matching loss is {health.loss:.3g} on average: students end further from the teachers "
                "than they begin. A smaller distill.student_lr, or fewer distill.steps, may be what is missing.",
            )
        if student_lr <= least * 1.001 and not told_of_least:
            told_of_least = True
            yield Notice(
                level="warning",
                message=f"student_lr was learned down to {student_lr:.3g}, a thousandth of where it began, and is held "
                "there: students hardly move, so images hardly learn. Lower distill.lr_student_lr in a new run.",
            )


def saves_at(iteration: int, settings: Settings) -> bool:
    """Whether a checkpoint is saved after that iteration in the regular course, whoever else asks for one."""
    return iteration % settings.distill.checkpoint_every == 0 or iteration % settings.evaluate.every == 0


def _steps(task: Task, state: DistillState) -> Generator[Event, None, Steps]:
    """Eager or compiled student steps, as `compute.compile` says."""
    network = task.flat_network()
    settings = task.settings
    rows = parts_of(state, settings)

    def in_parts(steps: Steps) -> Steps:
        return MicroSteps(steps, rows) if rows else steps

    if not matching_compiles(settings, task.image_shape, task.classes, network.model):
        return in_parts(EagerSteps(network))
    # All iterations cut their permutation in chunks of the same sizes, the ragged last one included.
    by_size = {len(index): (index, augment) for index, augment in draw_iteration(task, 0).schedule}
    sizes = {size: batch for batch in by_size for size in part_sizes(batch, rows)}
    yield Notice(
        level="info",
        message="Compiling the matching steps: a minute or so for a new network or batch size, seconds if you have "
        "compiled it on this machine before.",
    )
    # Checked on the same real images whatever iteration this is: a resumed run decides as the first one did.
    real = random_real(task, settings.distill.ipc, "init-real")
    classes = label_rules.class_index(task.classes, settings.distill.ipc)
    batches = []
    for size, batch in sizes.items():
        index, augment = by_size[batch]
        images = real_images(task, real[index.cpu()])
        labels = label_rules.hard_labels(classes[index.cpu()].to(task.device), task.classes, task.dtype)
        batches.append((augment(images)[:size], labels[:size]))
    theta = flatten_parameters(task.fresh_network(counted_seed(settings.seed, "compile-check")))
    exact = settings.distill.gradient == "exact"
    compiling = run_in_thread(lambda: checked_steps(network, theta, batches, hessian=exact))
    at = Progress(stage=STAGE, done=state.iteration, total=settings.distill.iterations, unit="iterations")
    steps, reason = yield from with_progress(compiling, at, "compiling")
    if reason:
        yield Notice(level="warning", message=f"torch.compile is not used: {reason}.")
    return in_parts(steps)


def parts_of(state: DistillState, settings: Settings) -> int:
    """Images that are differentiated at once; 0 for a whole batch. What memory forced before is kept."""
    wanted = settings.compute.micro_batch
    if settings.distill.gradient == "unrolled" or wanted == "off":
        return 0
    return state.health.rows if wanted == "auto" else wanted


def _in_parts(task: Task) -> bool:
    """Whether the network may be asked for parts of a batch; looking takes memory for four images."""
    try:
        return not couples_images(task.flat_network(), task)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False


def _smaller_parts(task: Task, state: DistillState, error: Exception) -> Notice | None:
    """Go on with half as many images at once, if this is what the error is about and it can be done."""
    settings = task.settings
    most = max(batch_sizes(task))
    now = min(parts_of(state, settings) or most, most)
    if (
        not is_out_of_memory(error) or settings.compute.micro_batch != "auto" or now == 1
        or settings.distill.gradient == "unrolled"
        or task.ranks.size > 1  # the others wait in the middle of a step
        or not _in_parts(task)
    ):  # fmt: skip
        return None
    state.health.rows = now // 2
    asked = asked_bytes(error)
    words = "" if asked is None else f" ({size_words(asked)} asked for, {size_words(available_bytes())} free)"
    return Notice(
        level="warning",
        message=f"Out of memory in a matching step of {now} images{words}: from here on {now // 2} are differentiated "
        "at once and their gradients added up, which is the same but for rounding. The run remembers it "
        f"(compute.micro_batch = {now // 2} asks for it).",
    )


@dataclass(frozen=True)
class Draw:
    """The random choices of one iteration."""

    trajectory: int
    start_epoch: int
    schedule: Schedule
    """This rank's part of every batch."""
    shares: tuple[float, ...]
    """The share of every batch that this is."""


def start_epochs(distill: DistillSettings, iteration: int) -> range:
    """The teacher epochs that this iteration's student can start from.

    With a curriculum (DATM, Guo et al., ICLR 2024) the upper end grows linearly with the iteration, rounded to the
    nearest epoch, from `current_max_start_epoch` to `max_start_epoch` at iteration `expansion_end`.
    """
    most, first, end = distill.max_start_epoch, distill.first_max_start_epoch, distill.expansion_end
    if first < most and end is not None:
        most = first + (2 * (most - first) * min(iteration, end) + end) // (2 * end)
    return range(distill.min_start_epoch, most)


def draw_iteration(task: Task, iteration: int) -> Draw:
    """Trajectory, start epoch, and T batches with their augmentations, from settings and the iteration's number alone.

    Batches: a random permutation of all N images is cut into chunks of `distill.batch`; when it is used up a new one
    is drawn. Every rank draws the whole and keeps its rows, so that nothing depends on how many there are.
    """
    settings = task.settings
    distill = settings.distill
    generator = counted_generator(settings.seed, "draw", iteration)
    trajectory = int(torch.randint(settings.teachers.count, (), generator=generator))
    starts = start_epochs(distill, iteration)
    start_epoch = starts[int(torch.randint(len(starts), (), generator=generator))]
    count = task.classes * distill.ipc
    size = count if distill.batch == "full" else distill.batch
    chunks: list[Tensor] = []
    schedule, shares = [], []
    for step in range(distill.steps):
        if not chunks:
            chunks = list(torch.randperm(count, generator=generator).split(size))
        index = chunks.pop(0)
        shape = (len(index), *task.image_shape)
        augment = draw_augment(
            counted_generator(settings.seed, "augment", iteration, step), settings.augment.ops, shape, task.device
        )
        part = task.ranks.part(len(index))
        shares.append((part.stop - part.start) / len(index))
        schedule.append((index[part].to(task.device, non_blocking=True), augment.rows(part)))
    return Draw(trajectory, start_epoch, schedule, tuple(shares))


def _matching_gradient(
    task: Task,
    steps: Steps,
    buffer: TeacherBuffer,
    state: DistillState,
    draw: Draw,
    store: Store,
    reuse: MatchingGradient | None = None,
) -> Generator[Event, None, tuple[MatchingGradient, Tensor | None]]:
    settings = task.settings
    target_epoch = draw.start_epoch + settings.distill.teacher_epochs
    kind = settings.labels.kind
    epochs = [draw.start_epoch, target_epoch]
    if kind == "last":
        epochs.append(settings.teachers.epochs)
    snapshots = [row.to(task.device, task.dtype) for row in buffer.read(draw.trajectory, *epochs)]
    state.labels = None  # the last iteration's need not be held beside this one's
    total = settings.distill.iterations
    at = Progress(stage=STAGE, done=state.iteration, total=total, unit="iterations")
    if kind in ("target", "last"):
        asked = label_rules.labelling(steps.network, snapshots[2 if kind == "last" else 1], state.images, task.ranks)
        # Told each time the labels get on: of many images they take minutes.
        probabilities = yield from map_events(asked, lambda _: at)
    else:
        probabilities = fixed_labels(task, state)
    sweeps = matching_sweeps(
        steps, start=snapshots[0], target=snapshots[1], images=state.images, labels=probabilities,
        student_lr=state.student_lr, schedule=draw.schedule, mode=settings.distill.gradient,
        store=store, reuse=reuse,
        shares=WHOLE if task.ranks.size == 1 else Parts(task.ranks, draw.shares, labels=kind == "learned"),
    )  # fmt: skip
    if kind != "hard":
        state.labels = (
            label_rules.nearest_probabilities(probabilities) if label_rules.are_raw(settings) else probabilities
        )
    gradient = yield from map_events(sweeps, partial(share_done, at))
    if state.logits is None:
        return gradient, None
    if label_rules.are_raw(settings):
        return gradient, gradient.labels
    # d(softmax)/d(logits), applied to dL/dprobabilities.
    inner = (gradient.labels * probabilities).sum(dim=1, keepdim=True)
    return gradient, probabilities * (gradient.labels - inner)


def fixed_labels(task: Task, state: DistillState) -> Tensor:
    """Hard or learned labels `(N, K)` as students see them: probabilities, or what raw ones have become."""
    if state.logits is not None:
        return state.logits if label_rules.are_raw(task.settings) else state.logits.softmax(dim=1)
    index = label_rules.class_index(task.classes, task.settings.distill.ipc).to(task.device)
    return label_rules.hard_labels(index, task.classes, task.dtype)


def shipped_labels(task: Task, buffer: TeacherBuffer, state: DistillState) -> Tensor:
    """As `shipping_labels`, without the reports."""
    return run_to_end(shipping_labels(task, buffer, state, Progress(stage="", done=0, total=0, unit="")))


def shipping_labels(
    task: Task, buffer: TeacherBuffer, state: DistillState, at: Progress
) -> Generator[Event, None, Tensor]:
    """The labels `(N, K)` that go with the images of this state, a function of the state and the buffer alone.

    hard, learned, given: as they are (raw probabilities: the nearest ones). target, last: by default the mean over all
    teachers and all target epochs an iteration can draw (evenly thinned to at most 100 snapshots); with
    `labels.ship = last-iteration`, the labels of the teacher that the last iteration drew, as published code does.

    Args:
        task: of the run.
        buffer: its teachers.
        state: whose labels.
        at: where the stage stands, to be told again as it gets on.
    """
    settings = task.settings
    kind = settings.labels.kind
    if kind == "given":
        if state.labels is None:
            raise CorruptFileError("The checkpoint of an imported set has no labels.", "Import it again.")
        return state.labels
    if kind in ("hard", "learned"):
        labels = fixed_labels(task, state)
        return label_rules.nearest_probabilities(labels) if label_rules.are_raw(settings) else labels
    if settings.labels.ship == "last-iteration":
        draw = draw_iteration(task, max(state.iteration - 1, 0))
        epoch = settings.teachers.epochs if kind == "last" else draw.start_epoch + settings.distill.teacher_epochs
        pairs = [(draw.trajectory, epoch)]
    else:
        epochs = [settings.teachers.epochs] if kind == "last" else settings.target_epochs
        every = [(trajectory, epoch) for epoch in epochs for trajectory in range(settings.teachers.count)]
        count = min(len(every), MOST_SHIP)
        pairs = [every[i * len(every) // count] for i in range(count)]
    thetas = (buffer.read(trajectory, epoch)[0] for trajectory, epoch in pairs)
    return (yield from map_events(label_rules.mean_labels(task.flat_network(), thetas, state.images), lambda _: at))


def _skip(
    task: Task, state: DistillState, reason: str, numbers: Numbers, earlier: Earlier | None
) -> Generator[Event, None, None]:
    """Skip; after too many in a row recover; after too many recoveries stop. No bad update was ever applied."""
    state.iteration += 1
    health = state.health
    health.skipped += 1
    consecutive = health.skipped
    recovered = None
    if consecutive >= PATIENCE:
        recovered = _recover(task, state, earlier, roll_back=health.recoveries > 0)
    yield IterationSkipped(
        iteration=state.iteration, reason=reason, loss=numbers.loss if math.isfinite(numbers.loss) else None,
        consecutive=consecutive,
    )  # fmt: skip
    if recovered is None:
        return
    if health.recoveries > MOST_RECOVERIES:
        raise exhausted(reason, health.good)
    yield recovered


def _recover(task: Task, state: DistillState, earlier: Earlier | None, *, roll_back: bool) -> RunRecovered:
    """Halve student_lr and clear the momentum; `roll_back`: from the last good checkpoint. The iteration goes on: a
    draw is a function of its number, and the same ones would end the same way."""
    health = state.health
    health.recover()
    found = earlier(health.good) if roll_back and earlier is not None and task.ranks.writes else None
    target = task.ranks.led(None if found is None else found[1]["iteration"])
    for name, tensor in state.tensors().items():
        if name.startswith("velocity"):
            tensor.zero_()
        elif target is not None:
            if found is not None:
                tensor.copy_(found[0][name])
            task.ranks.lead_(tensor)
    # Every recovery since is a halving of what the checkpoint has.
    state.student_lr.mul_(0.5 if target is None else 0.5**health.recoveries)
    return RunRecovered(
        iteration=state.iteration, student_lr=state.student_lr.item(), recoveries=health.recoveries,
        rolled_back_to=target,
    )  # fmt: skip


TESLA = Method(
    name="tesla",
    initial_state=initial_state,
    begin=begun_state,
    restored_state=restored_state,
    iterate=distill,
    shipped_labels=shipped_labels,
    shipping_labels=shipping_labels,
    reads=("distill.", "labels.", "teachers."),
    shares=True,
)
