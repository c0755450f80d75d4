"""Stage 2: trajectory matching. The main loop is `distill`; what an iteration draws is a function of its number."""

import time
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine import labels as label_rules
from engine.background import beside
from engine.buffers import TeacherBuffer
from engine.compiling import matching_compiles
from engine.data.augment import draw_augment
from engine.errors import DivergedError
from engine.events import Event, IterationDone, IterationSkipped, Notice, Progress, RunRecovered, told
from engine.matching import WHOLE, EagerSteps, MatchingGradient, Parts, Schedule, Steps, checked_steps, matching_sweeps
from engine.method import Method
from engine.networks import flatten_parameters
from engine.randomness import counted_generator, counted_seed
from engine.selection import initial_images, random_real, real_images
from engine.settings import Settings
from engine.task import Task

STAGE = "distillation"

PATIENCE = 5
"""Skipped iterations in a row before student_lr is halved."""

MOST_RECOVERIES = 8
"""Halvings before the run stops with an error."""

MOST_CHANGE = 0.1
"""student_lr changes by at most a factor exp(0.1) an iteration."""

MOST_SHIP = 100
"""Snapshots whose labels are averaged for a dataset that ships `target` or `last` labels."""


@dataclass
class DistillState:
    """Everything that is carried from one iteration to the next; a checkpoint holds just this."""

    images: Tensor
    """`(N, C, H, W)` in the input space, ordered by class."""
    student_lr: Tensor
    """Positive scalar."""
    logits: Tensor | None
    """Learned labels `(N, K)`, as logits or, with `labels.parameters = probabilities`, as those; None for the other
    kinds."""
    velocity_images: Tensor
    velocity_student_lr: Tensor
    velocity_logits: Tensor | None
    iteration: int = 0
    """Iterations complete."""
    skipped: int = 0
    """Skips in a row."""
    recoveries: int = 0
    labels: Tensor | None = None
    """Soft labels `(N, K)` of the last iteration, for pictures; not carried. None while labels are hard."""

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint file."""
        found = {
            "images": self.images, "student_lr": self.student_lr, "logits": self.logits,
            "velocity_images": self.velocity_images, "velocity_student_lr": self.velocity_student_lr,
            "velocity_logits": self.velocity_logits,
        }  # fmt: skip
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def counters(self) -> dict[str, int]:
        """For a checkpoint's record."""
        return {"iteration": self.iteration, "skipped": self.skipped, "recoveries": self.recoveries}


def initial_state(task: Task) -> DistillState:
    """The state before iteration 1."""
    settings = task.settings
    images = initial_images(task)
    student_lr = torch.tensor(settings.distill.student_lr, dtype=task.dtype, device=task.device)
    logits = None
    if settings.labels.kind == "learned":
        index = label_rules.class_index(task.classes, settings.distill.ipc).to(task.device)
        initial = label_rules.hard_labels if _raw(settings) else label_rules.initial_logits
        logits = initial(index, task.classes, task.dtype)
    return DistillState(
        images=images,
        student_lr=student_lr,
        logits=logits,
        velocity_images=torch.zeros_like(images),
        velocity_student_lr=torch.zeros_like(student_lr),
        velocity_logits=None if logits is None else torch.zeros_like(logits),
    )


def restored_state(tensors: dict[str, Tensor], counters: dict[str, int], task: Task) -> DistillState:
    """The state in a checkpoint."""
    there = {name: tensor.to(task.device, task.dtype) for name, tensor in tensors.items()}
    return DistillState(
        images=there["images"],
        student_lr=there["student_lr"],
        logits=there.get("logits"),
        velocity_images=there["velocity_images"],
        velocity_student_lr=there["velocity_student_lr"],
        velocity_logits=there.get("velocity_logits"),
        iteration=counters["iteration"],
        skipped=counters["skipped"],
        recoveries=counters["recoveries"],
    )


def distill(task: Task, buffer: TeacherBuffer, state: DistillState) -> Generator[Event, None, None]:
    """Update `state` until `distill.iterations` are done. Close the generator to stop within one matching step.

    `state` changes only between the last matching step of an iteration and its event, so it is whole at every yield.

    Raises:
        DivergedError: the matching loss stayed bad through every recovery.
    """
    steps = yield from _steps(task, state)
    total = task.settings.distill.iterations
    gradient: MatchingGradient | None = None
    while state.iteration < total:
        started = time.monotonic()
        iteration = state.iteration
        draw = draw_iteration(task, iteration)
        gradient, logit_gradient = yield from _matching_gradient(task, steps, buffer, state, draw, gradient)
        # The one point of an iteration where the host waits for the device.
        numbers = torch.stack([gradient.loss, gradient.images.norm(), gradient.student_lr]).tolist()
        loss, norm, lr_gradient = task.ranks.agreed(numbers)
        problem = _problem(loss, norm, lr_gradient, task.settings)
        if problem:
            yield from _skip(state, problem, loss)
            continue
        update(state, gradient, logit_gradient, task.settings)
        yield IterationDone(
            iteration=state.iteration, iterations=total, loss=loss, student_lr=state.student_lr.item(),
            gradient_norm=norm, student_lr_gradient=lr_gradient, trajectory=draw.trajectory,
            start_epoch=draw.start_epoch, seconds=time.monotonic() - started,
        )  # fmt: skip


def _steps(task: Task, state: DistillState) -> Generator[Event, None, Steps]:
    """Eager or compiled student steps, as `compute.compile` says."""
    network = task.flat_network()
    settings = task.settings
    if not matching_compiles(settings, task.image_shape, task.classes, network.model):
        return EagerSteps(network)
    # All iterations cut their permutation in chunks of the same sizes, the ragged last one included.
    by_size = {len(index): (index, augment) for index, augment in draw_iteration(task, 0).schedule}
    yield Notice(
        level="info",
        message="Compiling the matching steps: a minute or so for a new network or batch size, seconds if this "
        "workspace has seen it before.",
    )
    # Checked on the same real images whatever iteration this is: a resumed run decides as the first one did.
    real = random_real(task, settings.distill.ipc, "init-real")
    classes = label_rules.class_index(task.classes, settings.distill.ipc)
    batches = []
    for index, augment in by_size.values():
        images = real_images(task, real[index.cpu()])
        labels = label_rules.hard_labels(classes[index.cpu()].to(task.device), task.classes, task.dtype)
        batches.append((augment(images), labels))
    theta = flatten_parameters(task.fresh_network(counted_seed(settings.seed, "compile-check")))
    exact = settings.distill.gradient == "exact"
    compiling = beside(lambda: checked_steps(network, theta, batches, hessian=exact))
    at = Progress(stage=STAGE, done=state.iteration, total=settings.distill.iterations, unit="iterations")
    steps, reason = yield from told(compiling, at, "compiling")
    if reason:
        yield Notice(level="warning", message=f"torch.compile is not used: {reason}.")
    return steps


@dataclass(frozen=True)
class Draw:
    """The random choices of one iteration."""

    trajectory: int
    start_epoch: int
    schedule: Schedule
    """This rank's part of every batch."""
    shares: tuple[float, ...]
    """The share of every batch that this is."""


def draw_iteration(task: Task, iteration: int) -> Draw:
    """Trajectory, start epoch, and T batches with their augmentations, from the iteration's number alone.

    Batches: a random permutation of all N images is cut into chunks of `distill.batch`; when it is used up a new one
    is drawn. Every rank draws the whole and keeps its rows, so that nothing depends on how many there are.
    """
    settings = task.settings
    distill = settings.distill
    generator = counted_generator(settings.seed, "draw", iteration)
    trajectory = int(torch.randint(settings.teachers.count, (), generator=generator))
    start_epoch = int(torch.randint(distill.max_start_epoch, (), generator=generator))
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
    probabilities = (
        label_rules.teacher_labels(steps.network, snapshots[2 if kind == "last" else 1], state.images, task.ranks)
        if kind in ("target", "last")
        else fixed_labels(task, state)
    )
    sweeps = matching_sweeps(
        steps, start=snapshots[0], target=snapshots[1], images=state.images, labels=probabilities,
        student_lr=state.student_lr, schedule=draw.schedule, mode=settings.distill.gradient,
        store=settings.distill.store, reuse=reuse,
        shares=WHOLE if task.ranks.size == 1 else Parts(task.ranks, draw.shares, labels=kind == "learned"),
    )  # fmt: skip
    if kind != "hard":
        state.labels = label_rules.nearest_probabilities(probabilities) if _raw(settings) else probabilities
    total = settings.distill.iterations
    while True:
        try:
            share = next(sweeps)
        except StopIteration as end:
            gradient: MatchingGradient = end.value
            break
        yield Progress(stage=STAGE, done=state.iteration + min(share, 0.999), total=total, unit="iterations")
    if state.logits is None:
        return gradient, None
    if _raw(settings):
        return gradient, gradient.labels
    # d(softmax)/d(logits), applied to dL/dprobabilities.
    inner = (gradient.labels * probabilities).sum(dim=1, keepdim=True)
    return gradient, probabilities * (gradient.labels - inner)


def fixed_labels(task: Task, state: DistillState) -> Tensor:
    """Hard or learned labels `(N, K)` as students see them: probabilities, or what raw ones have become."""
    if state.logits is not None:
        return state.logits if _raw(task.settings) else state.logits.softmax(dim=1)
    index = label_rules.class_index(task.classes, task.settings.distill.ipc).to(task.device)
    return label_rules.hard_labels(index, task.classes, task.dtype)


def _raw(settings: Settings) -> bool:
    """Whether labels are learned as probabilities, without a softmax."""
    return settings.labels.kind == "learned" and settings.labels.parameters == "probabilities"


def shipped_labels(task: Task, buffer: TeacherBuffer, state: DistillState) -> Tensor:
    """The labels `(N, K)` that go with the images of this state, a function of the state and the buffer alone.

    hard, learned: as they are (raw probabilities: the nearest ones). target, last: by default the mean over all
    teachers and all target epochs an iteration can draw (evenly thinned to at most 100 snapshots); with
    `labels.ship = last-iteration`, the labels of the teacher that the last iteration drew, as published code does.
    """
    settings = task.settings
    kind = settings.labels.kind
    if kind in ("hard", "learned"):
        labels = fixed_labels(task, state)
        return label_rules.nearest_probabilities(labels) if _raw(settings) else labels
    if settings.labels.ship == "last-iteration":
        draw = draw_iteration(task, max(state.iteration - 1, 0))
        epoch = settings.teachers.epochs if kind == "last" else draw.start_epoch + settings.distill.teacher_epochs
        pairs = [(draw.trajectory, epoch)]
    else:
        epochs = (
            [settings.teachers.epochs]
            if kind == "last"
            else range(settings.distill.teacher_epochs, settings.reachable_epochs + 1)
        )
        every = [(trajectory, epoch) for epoch in epochs for trajectory in range(settings.teachers.count)]
        count = min(len(every), MOST_SHIP)
        pairs = [every[i * len(every) // count] for i in range(count)]
    thetas = (buffer.read(trajectory, epoch)[0] for trajectory, epoch in pairs)
    return label_rules.mean_labels(task.flat_network(), thetas, state.images)


def update(state: DistillState, gradient: MatchingGradient, logit_gradient: Tensor | None, settings: Settings) -> None:
    """SGD with momentum on images, labels and student_lr; the iteration is complete after it.

    student_lr takes the published step d = -lr * velocity as a factor, beta <- beta * exp(d / beta), which is beta + d
    to first order and can reach neither zero nor infinity; the exponent is held within +-0.1.
    """
    momentum = settings.distill.momentum
    state.velocity_images.mul_(momentum).add_(gradient.images)
    state.images.sub_(state.velocity_images, alpha=settings.distill.lr_images)
    state.velocity_student_lr.mul_(momentum).add_(gradient.student_lr)
    step = -settings.distill.lr_student_lr * state.velocity_student_lr
    state.student_lr.mul_((step / state.student_lr).clamp(-MOST_CHANGE, MOST_CHANGE).exp())
    if state.logits is not None and state.velocity_logits is not None and logit_gradient is not None:
        state.velocity_logits.mul_(momentum).add_(logit_gradient)
        state.logits.sub_(state.velocity_logits, alpha=settings.labels.lr)
    state.iteration += 1
    state.skipped = 0


def _problem(loss: float, norm: float, lr_gradient: float, settings: Settings) -> str:
    """Why these numbers must not be used for an update; empty if they may."""
    finite = torch.isfinite(torch.tensor([loss, norm, lr_gradient]))
    if not finite.all():
        names = [
            name for name, ok in zip(("loss", "image gradient", "student_lr gradient"), finite, strict=True) if not ok
        ]
        return f"{' and '.join(names)} not finite"
    if loss > settings.distill.max_loss:
        return f"matching loss above distill.max_loss = {settings.distill.max_loss:g}"
    return ""


def _skip(state: DistillState, reason: str, loss: float) -> Generator[Event, None, None]:
    """Skip, then shrink, then stop. Images are untouched: no bad update was ever applied to them."""
    state.iteration += 1
    state.skipped += 1
    iteration = state.iteration
    finite = loss == loss and abs(loss) != float("inf")
    shrink = state.skipped >= PATIENCE
    if shrink:
        state.recoveries += 1
        state.skipped = 0
        state.student_lr.mul_(0.5)
        for velocity in (state.velocity_images, state.velocity_student_lr, state.velocity_logits):
            if velocity is not None:
                velocity.zero_()
    yield IterationSkipped(
        iteration=iteration, reason=reason, loss=loss if finite else None, consecutive=state.skipped or PATIENCE
    )
    if not shrink:
        return
    if state.recoveries > MOST_RECOVERIES:
        raise DivergedError(
            f"The matching loss stayed bad ({reason}) after student_lr was halved {MOST_RECOVERIES} times.",
            "Start a new run with a smaller distill.student_lr or distill.lr_images; the last checkpoint is intact.",
        )
    yield RunRecovered(iteration=iteration, student_lr=state.student_lr.item(), recoveries=state.recoveries)


TESLA = Method(
    name="tesla",
    title="trajectory matching with constant memory (TESLA, Cui et al., ICML 2023)",
    initial_state=initial_state,
    restored_state=restored_state,
    iterate=distill,
    shipped_labels=shipped_labels,
    reads=("distill.", "labels.", "teachers."),
    shares=True,
)
