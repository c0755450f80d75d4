"""What a run compiles, whether this machine has compiled it before, and what compiled steps save where they cannot be
measured: compiling them takes longer than a plan may."""

from dataclasses import dataclass

from torch import nn

from engine.events import COMPILING, Event, Progress
from engine.runtime.compiler_cache import compiled_key, was_compiled
from engine.settings import Settings
from engine.tools.plan.growing import Allowance, busy
from engine.training.compile_policy import MATCHING, TRAINING
from engine.training.sgd import SgdRule
from engine.training.task import Task
from engine.training.trainer import may_compile, training_words, worth_compiling

READY = 8.0
"""Seconds to load compiled steps from the compiler's cache: PyTorch's compiler is imported and traces them again."""


@dataclass(frozen=True)
class Compiling:
    """What a run compiles of a stage."""

    wanted: bool
    """Whether it does."""
    ready: bool = False
    """Whether every shape was compiled on this machine before."""
    cold: float = 0.0
    """Seconds of compiling all shapes without a cache."""
    shapes: int = 1

    def fits(self, allowance: Allowance, besides: float) -> bool:
        """Whether compiled steps can be had within an allowance of which `besides` seconds are for something else."""
        needed = READY if self.ready else 1.5 * self.cold / self.shapes
        return self.wanted and allowance.left - besides > needed * busy()

    @property
    def expected(self) -> float:
        """Seconds of compiling in the run, if they are not measured."""
        return 0.0 if self.ready or not self.wanted else self.cold


def matching_compiling(settings: Settings, task: Task, wanted: bool, sizes: set[int]) -> Compiling:
    """Of the matching steps, for batches of these sizes."""
    if not wanted:
        return Compiling(False)
    keys = [
        compiled_key("matching", settings, task.network_name, (size, *task.image_shape), task.classes)
        for size in sizes
    ]  # fmt: skip
    each = MATCHING.get(task.device.type, MATCHING["cuda"]).seconds
    return Compiling(True, all(map(was_compiled, keys)), each * len(keys), len(keys))


def training_compiling(
    settings: Settings, task: Task, model: nn.Module, network: str, rule: SgdRule, counts: dict[int, int]
) -> Compiling:
    """Of training steps; `counts` are the run's steps by batch size. The rule is that of `trainer`."""
    mode = settings.compute.compile
    if not may_compile(settings, model):
        return Compiling(False)
    first = next(model.parameters())
    blank = first.new_zeros((1, *task.image_shape))
    sizes = [
        size for size, count in counts.items()
        if count and (mode == "on" or worth_compiling(model, blank.expand(size, -1, -1, -1), count))
    ]  # fmt: skip
    if max(counts, default=0) not in sizes:
        return Compiling(False)  # a rest of an epoch at most
    keys = [
        compiled_key(training_words(rule), settings, network, (size, *task.image_shape), task.classes) for size in sizes
    ]
    each = TRAINING.get(task.device.type, TRAINING["cuda"]).seconds
    return Compiling(True, all(map(was_compiled, keys)), each * len(keys), len(keys))


def is_compiling(event: Event) -> bool:
    """Whether an event tells that something is being compiled."""
    return isinstance(event, Progress) and event.detail.startswith(COMPILING)
