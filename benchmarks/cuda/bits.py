"""Everything twice: gradients, training steps, policies, k-means, sessions, and sessions that were stopped."""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cuda.check import ALL_OPS, Check, relative
from benchmarks.cuda.problems import (
    DISTILL,
    SIZES,
    TINY,
    iteration_is,
    matching_problem,
    new_workspace,
    pixel_task,
    session,
)
from engine.data import draw_augment
from engine.data.policies import PolicyAugment
from engine.events import Event, Progress
from engine.matching import matching_gradient
from engine.networks import initialised_network
from engine.runs.workspace import Workspace
from engine.runtime.device import configure
from engine.settings import ComputeSettings
from engine.training.labels import nearest_probabilities
from engine.training.real_images import nearest_to_centres
from engine.training.sgd import EagerTrainer, SgdRule
from engine.training.task import Split

SESSIONS = {
    "tesla": (),
    "tesla, target labels, k-means": ("labels.kind=target", "distill.init=kmeans", "distill.ipc=3"),
    "dsa": ("distill.method=dsa", "peers.outer_loops=2"),
    "resnet18": ("network.name=resnet18", "distill.lr_images=0.01", "distill.max_pixel=1e9"),
    "vit": ("network.name=vit", "network.width=16", "network.depth=2"),
}
COMPILED = {"tesla, compiled": ("compute.compile=on",)}


def run(check: Check, part: str) -> None:
    """A part is what is repeated."""
    configure(ComputeSettings(device=check.device.type))
    if part == "gradients":
        _gradients(check)
    elif part == "training":
        _training(check)
        _others(check)
    else:
        for name, overrides in (COMPILED if "compiled" in part else SESSIONS).items():
            if check.tiny and name not in ("tesla", "dsa"):
                check.rows.add(name, "left out of the rehearsal", "", "not run")
                continue
            with check.guarded(name):
                _session(check, name, overrides)


def repeated(check: Check, what: str, function: Callable[[], Sequence[Tensor]], times: int = 4) -> None:
    """A row: whether all tensors are equal every time."""
    with check.guarded(what):
        first = [tensor.detach().clone() for tensor in function()]
        worst, equal = 0.0, True
        for _ in range(times - 1):
            for old, new in zip(first, function(), strict=True):
                equal = equal and torch.equal(old, new)
                worst = max(worst, relative(new, old))
        words = "equal" if equal else f"different by {worst:.1e}"
        check.rows.holds(f"{what}, {times} times", equal, words, "equal")


def _gradients(check: Check) -> None:
    """One augmentation at a time, so that a difference names its operator."""
    width = {} if check.tiny else {"width": 64}
    for network, op in [*(("convnet", op) for op in ("", *ALL_OPS)), ("resnet18", ""), ("vit", "")]:
        for mode in ("exact", "paper"):
            ops = (op,) if op else ()
            size: dict[str, Any] = width if network == "convnet" else {}
            model, inputs = matching_problem(
                network, ops, check.device, tiny=check.tiny, steps=4, images=50, batch=50, **size
            )

            def gradient(model: Any = model, inputs: Any = inputs, mode: Any = mode) -> Sequence[Tensor]:
                found = matching_gradient(model, **inputs, mode=mode)
                return found.images, found.labels, found.student_lr

            repeated(check, f"gradient, {mode}, {network}, {op or 'no augmentation'}", gradient)


def _training(check: Check) -> None:
    for network in SIZES:
        size = (TINY if check.tiny else SIZES)[network]

        def trained(network: str = network, size: dict[str, Any] = size) -> Sequence[Tensor]:
            model = initialised_network(network, seed=0, channels=3, classes=10, **size).to(check.device).train()
            learner = EagerTrainer(model, SgdRule(0.9, 5e-4))
            generator = torch.Generator().manual_seed(0)
            for _ in range(2 if check.tiny else 10):
                images = torch.randn(64, 3, size["resolution"], size["resolution"], generator=generator)
                target = torch.randint(10, (64,), generator=generator).to(check.device)
                drawn = draw_augment(generator, ALL_OPS, images.shape, check.device)
                learner.step(drawn(images.to(check.device)), target, 0.02)
            return (learner.theta(),)

        repeated(check, f"training steps, {network}, all augmentations", trained, 3)


def _augmented(policy: PolicyAugment, images: Tensor) -> list[Tensor]:
    return [policy(images, seed) for seed in range(8)]


class _Fixed:
    """Images of a split that are given."""

    def __init__(self, images: Tensor) -> None:
        self._images = images

    def encoded(self, index: Tensor) -> Tensor:
        """By index."""
        return self._images[index.to(self._images.device)]


def _others(check: Check) -> None:
    table = torch.randn(1000, 1000, generator=torch.Generator().manual_seed(0)).to(check.device)
    repeated(check, "nearest probabilities", lambda: (nearest_probabilities(table),), 5)
    images = table[:64, :768].reshape(64, 3, 16, 16)
    with pixel_task(check.device, "distill.ipc=8", "distill.init=kmeans", train=200, measured=10) as (task, _):
        for name in ("autoaugment", "randaugment"):
            with check.guarded(name):
                policy = PolicyAugment(name, task.space, 16)
                repeated(check, name, partial(_augmented, policy, images), 3)
        # Of each class, half the images are one image: some of the first centres are equal, and clusters empty.
        points = torch.randn((200, *task.image_shape), generator=torch.Generator().manual_seed(1))
        points[:100] = points[0]
        kept = Split(_Fixed(points.to(check.device)), task.train.labels)  # type: ignore[arg-type]
        doubled = replace(task, train=kept)
        before = torch.cuda.get_rng_state() if check.cuda else None
        repeated(check, "k-means with empty clusters", lambda: (nearest_to_centres(doubled),), 4)
        if before is not None:
            same = torch.equal(before, torch.cuda.get_rng_state())
            check.rows.holds("k-means draws on the GPU", same, "no" if same else "yes", "no")


def _session(check: Check, name: str, more: Sequence[str]) -> None:
    """Run it; again in another workspace; and once more, stopped among the teachers and in distillation."""
    overrides = (*(text for text in DISTILL if not replaced(text, more)), *more)
    overrides = (*overrides, f"compute.device={check.device.type}")
    if check.tiny:
        overrides = (*overrides, "teachers.epochs=3", "evaluate.epochs=2")
    with tempfile.TemporaryDirectory() as folder:
        spaces = [new_workspace(Path(folder) / str(number)) for number in range(3)]
        first = _results(spaces[0], overrides)
        _compare(check, f"{name}: run again", first, _results(spaces[1], overrides))
        seen = 0

        def among_teachers(event: Event) -> bool:
            nonlocal seen
            seen += isinstance(event, Progress) and event.stage == "teachers"
            return seen == 30

        if "distill.method=dsa" not in more:
            session(spaces[2], overrides, among_teachers)
        session(spaces[2], overrides, iteration_is(2))
        _compare(check, f"{name}: stopped and resumed", first, _results(spaces[2], overrides))


def replaced(text: str, more: Sequence[str]) -> bool:
    """Whether one of `more` sets the same key."""
    return any(text.partition("=")[0] == other.partition("=")[0] for other in more)


def _results(workspace: Workspace, overrides: Sequence[str]) -> dict[str, Any]:
    """What a finished run has: tensors of its last checkpoint, teachers, accuracies."""
    run, _ = session(workspace, overrides)
    found: dict[str, Any] = dict(run.load_checkpoint(max(run.checkpoints()))[0])
    for path in sorted(workspace.folder.glob("buffers/*/trajectory-*.safetensors")):
        found[f"teacher {path.stem[-1]}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    accuracies = [(e.iteration, e.subject, e.split, e.network, tuple(e.accuracies)) for e in run.evaluations()]
    return {**found, "accuracies": sorted(accuracies)}


def _compare(check: Check, what: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    bad = []
    for name in sorted({*one, *other}):
        a, b = one.get(name), other.get(name)
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            if not torch.equal(a, b):
                bad.append(f"{name} by {relative(b, a):.1e}")
        elif a != b:
            bad.append(name)
    check.rows.holds(what, not bad, f"different: {', '.join(bad)}" if bad else "equal", "equal")
