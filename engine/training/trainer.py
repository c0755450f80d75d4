"""How a network is trained, eager or compiled: decided by cost, see compile_policy.py."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from engine.events import Event, Notice, Progress, with_progress
from engine.matching.compiled import in_words
from engine.networks.dropout import has_dropout
from engine.networks.flat import FlatNetwork, flatten_parameters
from engine.networks.imported import spelling_words
from engine.runtime.compiler_cache import compiled_key, remember
from engine.runtime.out_of_memory import is_out_of_memory
from engine.runtime.threads import run_in_thread
from engine.settings import Settings
from engine.settings.trust import is_import_path
from engine.training.compile_policy import TRAINING, pays
from engine.training.sgd import (
    CompiledTrainer,
    SgdRule,
    Step,
    Trainer,
    compiled_step,
    difference,
    eager_trainer,
    recorded_step,
)
from engine.training.task import Task

Batch = tuple[Tensor, Tensor]
"""Images `(B, C, H, W)`; classes `(B,)` or probabilities `(B, K)`."""


@dataclass(frozen=True)
class Kind:
    """What steps can share a compilation."""

    network: str
    rule: SgdRule
    images: torch.Size
    targets: torch.Size
    dtype: torch.dtype


_compiled: "WeakKeyDictionary[Task, dict[Kind, Step | None]]" = WeakKeyDictionary()
"""Checked steps of a task, so that only the first of many networks compiles; None where compiling failed."""


def trainer(
    task: Task,
    model: nn.Module,
    network: str,
    rule: SgdRule,
    batches: Sequence[Batch],
    counts: Mapping[int, int],
    at: Progress,
) -> Generator[Event, None, Trainer]:
    """A trainer for a fresh network, as `compute.compile` says and the cost decides.

    Args:
        task: its settings decide.
        model: the network, in the mode and with the weights it is to be trained from.
        network: its name.
        rule: of the update.
        batches: one of every size there will be.
        counts: steps of the whole stage, by batch size.
        at: progress of the stage, reported again while something compiles.
    """
    if not may_compile(task.settings, model):
        return eager_trainer(model, rule)
    functional = FlatNetwork(model)
    theta = flatten_parameters(model)
    known = _compiled.setdefault(task, {})
    steps: dict[int, Step] = {}
    for images, targets in batches:
        size = len(images)
        if task.settings.compute.compile == "auto" and not worth_compiling(model, images, counts.get(size, 0)):
            continue
        kind = Kind(network, rule, images.shape, targets.shape, images.dtype)
        if kind not in known:
            yield Notice(
                level="info",
                message=f"Compiling the training step of {network} for batches of {size}; this takes about 15 seconds.",
            )
            compiling = run_in_thread(partial(_checked, task, functional, rule, theta, images, targets))
            known[kind], reason = yield from with_progress(compiling, at, "compiling")
            if reason:
                yield Notice(level="warning", message=f"{reason}.")
            if known[kind] is not None:
                remember(compiled_key(training_words(rule), task.settings, network, images.shape, task.classes))
        found = known[kind]
        if found is not None:
            steps[size] = found
    return CompiledTrainer(functional, theta, rule, steps) if steps else eager_trainer(model, rule)


_told: "WeakKeyDictionary[Task, set[str]]" = WeakKeyDictionary()
"""Networks of a task whose user was told how they are made."""


def say_spelling(task: Task, network: str) -> Iterator[Event]:
    """Say once how the factory of an import path is called, where it has its own names for the arguments."""
    known = _told.setdefault(task, set())
    if network in known or not is_import_path(network):
        return
    known.add(network)
    channels, resolution, _ = task.image_shape
    words = spelling_words(network, {"channels": channels, "classes": task.classes, "resolution": resolution})
    if words:
        yield Notice(level="info", message=words)


def may_compile(settings: Settings, model: nn.Module) -> bool:
    """Whether training steps of that network are compiled where it pays."""
    # Running statistics are changed by a forward pass, and dropout counts it, which a pure function cannot do.
    frozen = not all(parameter.requires_grad for parameter in model.parameters())  # weight decay would change them
    return not (settings.compute.stays_eager or frozen or any(True for _ in model.buffers()) or has_dropout(model))


def training_words(rule: SgdRule) -> str:
    """What the training step with that rule is called among compiled things."""
    words = f"training, momentum {rule.momentum:g}, decay {rule.weight_decay:g}"
    return f"{words}, rho {rule.rho:g}, alpha {rule.alpha:g}" if rule.rho else words


def worth_compiling(model: nn.Module, images: Tensor, steps: int) -> bool:
    """Whether that many steps on batches like this save clearly more than compiling one costs."""
    return pays(TRAINING, model, images, steps)


def _checked(
    task: Task, functional: FlatNetwork, rule: SgdRule, theta: Tensor, images: Tensor, targets: Tensor
) -> tuple[Step | None, str]:
    try:
        step = compiled_step(functional, rule, task.settings.compute.cpu_kernels)
        reason = difference(functional, rule, step, theta, images, targets)
    except Exception as error:  # the compiler's own errors have no common base, and none of them may end a run
        if is_out_of_memory(error):
            raise
        reason = in_words(error)
    if reason:
        return None, f"torch.compile is not used: {reason}"
    return recorded_step(functional, rule, step, theta, images, targets)
