"""Stage 1: train teacher trajectories by SGD on the real data, a snapshot at initialisation and after each epoch.

Steps are plain ones, or with `teachers.kind = ftd` sharpness-aware ones (`gsam.py`).

Trajectories are independent: each is claimed with a lock, so any number of processes may work on one buffer, and
published whole. Which images a step sees and how they are augmented depends on counters alone, so a teacher that is
stopped in mid-epoch ends in the same bits.

A teacher that diverges is not published: its loss and parameters are checked after every epoch (not every step, where
the device would have to wait), and published ones when the stage starts.

Snapshots are written, synced and hashed beside the next epoch, at most one at a time: a killed process loses
at most one epoch more, and trains it again.
"""

import math
import time
from collections.abc import Generator

import torch
from torch import Tensor, nn

from engine.data.augment import draw_augment
from engine.errors import DivergedError, LostHoldError, UsageError
from engine.events import Event, Notice, Progress, TeacherEpoch, TeacherPublished, TeachersPlanned
from engine.networks.dropout import set_dropout_calls
from engine.networks.flat import flatten_parameters
from engine.runtime.disk_space import buffer_bytes, bytes_in, check_room
from engine.runtime.finite import is_finite
from engine.runtime.rng import counted_generator, counted_seed
from engine.runtime.threads import SingleWorker
from engine.settings import Settings
from engine.storage.lock import LeaseLock
from engine.training.divergence import teacher_problem
from engine.training.sgd import SgdRule, Trainer
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.trainer import Batch, say_spelling, trainer
from engine.training.trajectory import Position, TrajectoryWriter

STAGE = "teachers"


def teacher_rule(settings: Settings) -> SgdRule:
    """What a teacher's step does."""
    teachers = settings.teachers
    return SgdRule(rho=teachers.rho, alpha=teachers.alpha) if teachers.kind == "ftd" else SgdRule()


def plan_teachers(task: Task, buffer: TeacherBuffer) -> TeachersPlanned:
    """What is missing, and how much is saved by not training epochs that no iteration can read."""
    settings = task.settings
    epochs = settings.trained_epochs
    missing = sum(buffer.epochs(trajectory) < epochs for trajectory in range(settings.teachers.count))
    rows = settings.teachers.count * (epochs + 1)
    return TeachersPlanned(
        buffer=buffer.folder.name,
        count=settings.teachers.count,
        epochs=epochs,
        epochs_asked=settings.teachers.epochs,
        missing=missing,
        bytes=rows * task.flat_network().size * 4,
        gradients=teacher_rule(settings).gradients,
    )


def train_teachers(task: Task, buffer: TeacherBuffer) -> Generator[Event, None, None]:
    """Train every trajectory that is missing or too short.

    A trajectory that another process trains is waited for at the end; if that process dies, it is taken over.

    Raises:
        DivergedError: a teacher's parameters or loss are not finite, or its loss is worse than guessing.
        UsageError: an imported buffer lost a trajectory, nothing is trained into it; or the buffer was moved.
    """
    yield from _mended(task, buffer)
    plan = plan_teachers(task, buffer)
    yield plan
    if task.ranks.writes:
        needed = buffer_bytes(plan.missing, plan.bytes // plan.count) - bytes_in(buffer.folder, "*.part")
        yield from check_room(buffer.folder, needed, "teachers", task.settings.compute.room)
    for trajectory in range(plan.count):
        record = buffer.record(trajectory)
        if record is not None:
            _check(task, buffer, trajectory, record.losses)
    waiting = [trajectory for trajectory in range(plan.count) if buffer.epochs(trajectory) < plan.epochs]
    claims = {trajectory: buffer.claim(trajectory) for trajectory in waiting}
    if waiting and task.settings.teachers.buffer is not None:
        raise UsageError(
            f"Trajectory {waiting[0]} of the imported teacher buffer {buffer.folder.name} is lost, or too short.",
            "The same `tesla import-buffers` command as before restores it.",
        )
    if waiting and task.teacher_batch < task.settings.teachers.batch:
        yield Notice(
            level="warning",
            message=f"teachers.batch = {task.settings.teachers.batch} is more than the {len(task.train)} training "
            f"images: teachers are trained with batches of {task.teacher_batch}, one step an epoch.",
        )
    while waiting:
        left = []
        other = ""
        for trajectory in waiting:
            claim = claims[trajectory]
            buffer.check_there()
            owner = claim.try_acquire()
            if owner is not None:
                left.append(trajectory)
                other = other or owner.words
                continue
            try:
                with claim:
                    buffer.forget(trajectory)
                    if buffer.epochs(trajectory) < plan.epochs:
                        yield from _train_one(task, buffer, trajectory, plan.count, plan.epochs, claim)
            except LostHoldError:  # this machine slept so long that another process took it over
                buffer.check_there()
                left.append(trajectory)
        if left == waiting:
            yield Progress(
                stage=STAGE, done=plan.count - len(left), total=plan.count, unit="trajectories",
                detail=f"waiting for {other or 'another worker'}",
            )  # fmt: skip
            time.sleep(0.5)
            for trajectory in left:
                buffer.forget(trajectory)
        waiting = [trajectory for trajectory in left if buffer.epochs(trajectory) < plan.epochs]


def _mended(task: Task, buffer: TeacherBuffer) -> Generator[Event, None, None]:
    """Set damaged trajectories aside, so that they are trained again."""
    for trajectory in range(task.settings.teachers.count):
        if buffer.damage(trajectory) or buffer.cut_off(trajectory):
            claim = buffer.claim(trajectory)
            if claim.try_acquire() is not None:
                continue  # another process trains it
            with claim:
                for words in buffer.repair(trajectory):
                    yield Notice(level="warning", message=words)


def _train_one(
    task: Task, buffer: TeacherBuffer, trajectory: int, count: int, epochs: int, claim: LeaseLock
) -> Generator[Event, None, None]:
    seed = task.settings.teacher_seed
    model = task.fresh_network(counted_seed(seed, "teacher-init", trajectory)).train()
    yield from say_spelling(task, task.network_name)
    at = Progress(stage=STAGE, done=trajectory * epochs, total=count * epochs, unit="epochs")
    counts = _counts(task, epochs)
    rule = teacher_rule(task.settings)
    learner = yield from trainer(task, model, task.network_name, rule, _samples(task), counts, at)
    writer = buffer.begin(trajectory, flatten_parameters(model).numel())
    with SingleWorker("snapshots") as writing:
        row = writer.last_row()
        if row is None:
            claim.check()
            _snapshot(task, learner, writer, writing)
        else:
            learner.load(row.to(task.device, task.dtype))
        # The row in flight counts as written: if it fails, nothing after it is.
        for epoch in range(max(writer.record.rows, 1), epochs + 1):
            started = time.monotonic()
            done = trajectory * epochs + epoch - 1
            loss, accuracy = yield from _train_epoch(
                task, model, learner, writer, writing, trajectory, epoch, done, count * epochs
            )
            # The last step's parameters are in no loss yet.
            shown = loss if is_finite(learner.theta()) else math.nan
            _check(task, buffer, trajectory, [*writer.record.losses, shown])
            claim.check()
            _snapshot(task, learner, writer, writing, loss, accuracy)
            yield TeacherEpoch(
                trajectory=trajectory, epoch=epoch, epochs=epochs, loss=loss, accuracy=accuracy,
                seconds=time.monotonic() - started,
            )  # fmt: skip
        writing.wait()
        claim.check()
        writer.publish()
    yield TeacherPublished(trajectory=trajectory, path=str(buffer.path(trajectory)))


def _check(task: Task, buffer: TeacherBuffer, trajectory: int, losses: list[float]) -> None:
    problem = teacher_problem(losses, task.classes)
    if problem:
        raise DivergedError(
            f"Teacher {trajectory} of {buffer.folder.name} diverged {problem}; its trajectory is not used.",
            f"Start a new run (--run NAME) with a smaller teachers.lr (now {task.settings.teachers.lr:g}): each "
            "learning rate has its own buffer.",
        )


def _samples(task: Task) -> list[Batch]:
    """A batch of every size an epoch has."""
    size, total = task.teacher_batch, len(task.train)
    sizes = [size] if total % size == 0 else [size, total % size]
    return [
        (task.train.images.encoded(torch.arange(n)).to(task.dtype), task.train.targets(torch.arange(n))) for n in sizes
    ]


def _counts(task: Task, epochs: int) -> dict[int, int]:
    """Steps of all trajectories by batch size, trained already or not."""
    size, total = task.teacher_batch, len(task.train)
    every = task.settings.teachers.count * epochs
    return {size: every * (total // size), total % size: every}


def _snapshot(
    task: Task,
    learner: Trainer,
    writer: TrajectoryWriter,
    writing: SingleWorker,
    loss: float | None = None,
    accuracy: float | None = None,
) -> None:
    """Append the parameters; the teacher continues from what is written, as it would after a resume."""
    theta = learner.theta()
    writing.submit(lambda: writer.append(theta, loss, accuracy))
    if task.dtype is not torch.float32:  # rows are float32
        learner.load(theta.float().to(task.dtype))


def _train_epoch(
    task: Task, model: nn.Module, learner: Trainer, writer: TrajectoryWriter, writing: SingleWorker,
    trajectory: int, epoch: int, done: int, total: int,
) -> Generator[Event, None, tuple[float, float]]:  # fmt: skip
    settings = task.settings
    images = task.train.images
    order = torch.randperm(
        len(task.train), generator=counted_generator(settings.teacher_seed, "teacher-order", trajectory, epoch)
    )
    batches = order.split(task.teacher_batch)
    # On the device until the epoch ends: reading them every step would make the host wait for it.
    losses = torch.zeros(len(batches), dtype=task.dtype, device=task.device)
    correct = torch.zeros((), dtype=torch.int64, device=task.device)
    first, loss_before, correct_before = 0, 0.0, 0.0
    position = writer.position(epoch)
    if position is not None:
        learner.load(position.theta.to(task.device, task.dtype))
        first, loss_before, correct_before = position.step, position.loss, position.correct
    # Where a teacher is resumed, its masks continue too.
    set_dropout_calls(model, ((epoch - 1) * len(batches) + first) * teacher_rule(settings).gradients)
    step = first
    try:
        for step in range(first, len(batches)):
            index = batches[step]
            target = task.train.targets(index)
            batch = images.encoded(index)
            generator = counted_generator(settings.teacher_seed, "teacher-augment", trajectory, epoch, step)
            augment = draw_augment(generator, settings.augment.ops, batch.shape, task.device)
            loss, logits = learner.step(augment(batch), target, settings.teachers.lr)
            losses[step] = loss * len(index)
            correct += (logits.argmax(dim=1) == target).sum()
            step += 1
            yield Progress(
                stage=STAGE, done=done + step / len(batches), total=total, unit="epochs",
                detail=f"trajectory {trajectory + 1}, epoch {epoch}",
            )  # fmt: skip
    except GeneratorExit:
        writing.wait()  # the row before this epoch comes first: it forgets older positions
        theta, loss_so_far = learner.theta(), _added(loss_before, losses)
        if math.isfinite(loss_so_far) and is_finite(theta):  # else the epoch is repeated, with the same result
            writer.save_position(Position(theta, epoch, step, loss_so_far, correct_before + correct.item()))
        raise
    return _added(loss_before, losses) / len(order), (correct_before + correct.item()) / len(order)


def _added(total: float, losses: Tensor) -> float:
    """The sum of an epoch's losses `(steps,)`, in double precision and in their order on every device and Python."""
    for loss in losses.tolist():
        total += loss  # not `sum`, which Python 3.12 rounds in another way
    return total
