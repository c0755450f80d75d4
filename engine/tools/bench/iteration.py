"""In the measured process: one matching problem, and iterations of it by one mode."""

import importlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch

from engine.data import draw_augment
from engine.matching import Mode, Schedule, matching_gradient
from engine.matching.parameter_store import Store
from engine.networks import build_network, flatten_parameters, initialised_network
from engine.runtime.rng import counted_generator, forked_global_rng
from engine.settings import AugmentSettings
from engine.tools.bench.cases import PUBLISHED, Compute, Configuration, configuration
from engine.tools.bench.flops import matmul_flops
from engine.tools.bench.measuring import MemoryMeter, Stopwatch
from engine.tools.bench.reference_implementation import reference_gradient, reference_network
from engine.tools.bench.switches import apply_switches, read_switches
from engine.tools.bench.turns import repeat_for
from engine.training.labels import hard_labels

LEAST = 0.3
"""Seconds of one measurement; shorter iterations are repeated."""
WARM_UPS = 3
"""Iterations on CUDA before any is timed."""
NOT_USED = "not used: "
"""In the warnings of what was asked for and is left out: `torch.compile is not used: ...`."""
STUDENT_LR = 0.01
DISTANCE = 0.01
"""Standard deviation of target - start, per parameter."""


def problem(chosen: Configuration, device: torch.device) -> dict[str, Any]:
    """Keyword arguments of `matching_gradient`, all but the model: random images, a schedule as a run draws it."""
    shape = chosen.shape
    model = initialised_network(shape.network, seed=0, **shape.size())
    generator = counted_generator(0, "bench")
    size = (shape.batch, shape.channels, shape.resolution, shape.resolution)
    start = flatten_parameters(model)
    target = start + DISTANCE * torch.randn(start.shape, generator=generator)
    images = torch.randn(size, generator=generator)
    labels = hard_labels(torch.arange(shape.batch) % shape.classes, shape.classes, torch.float32)
    return {
        "start": start.to(device), "target": target.to(device), "images": images.to(device),
        "labels": labels.to(device), "student_lr": STUDENT_LR, "schedule": schedule(chosen, device),
    }  # fmt: skip


def schedule(chosen: Configuration, device: torch.device) -> Schedule:
    """T permutations of the batch with an augmentation each."""
    shape = chosen.shape
    ops = AugmentSettings().ops
    if (shape.channels, shape.resolution) == (1, 28):
        ops = tuple(op for op in ops if op != "flip")
    size = (shape.batch, shape.channels, shape.resolution, shape.resolution)
    found = []
    for step in range(chosen.steps):
        index = torch.randperm(shape.batch, generator=counted_generator(0, "bench-batch", step))
        augment = draw_augment(counted_generator(0, "bench-augment", step), ops, size, device)
        found.append((index.to(device), augment))
    return found


def prepare(**arguments: Any) -> Callable[[], dict[str, Any]]:
    """What a process of the benchmark does: each call is one measurement of `Configuration(**arguments)`.

    The first call warms up and compiles. On CUDA it does so several times: a graph is warmed up, recorded, and only
    then replayed.
    """
    chosen = configuration(arguments)
    device = apply_switches(chosen.compute)
    inputs = problem(chosen, device)
    iterate = iteration(chosen, inputs, device)
    # Loaded like PyTorch itself, before the memory is measured: `autograd.grad` with weights needs the first.
    for name in ("torch.fx.experimental.symbolic_shapes", *(["torch._inductor.compile_fx"] if chosen.compile else [])):
        importlib.import_module(name)
    meter = MemoryMeter(device)
    meter.forget()
    warm_ups = WARM_UPS if device.type == "cuda" else 1
    first = True

    def measure() -> dict[str, Any]:
        nonlocal first
        seconds, cpu_seconds, notes = [], [], []
        for _ in range(warm_ups) if first else repeat_for(LEAST):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                watch = Stopwatch(device)
                iterate()
                seconds.append(watch.seconds())
                cpu_seconds.append(watch.cpu_seconds())
            notes += [str(w.message) for w in caught if NOT_USED in str(w.message)]
        answer = {
            "seconds": seconds, "cpu_seconds": cpu_seconds, "peak": meter.peak(), "base": meter.base, "notes": notes,
            "switches": read_switches(chosen.compute, device),
        }  # fmt: skip
        if first:
            meter.forget()  # what compiling needed is not what an iteration needs
        first = False
        return answer

    return measure


def iteration(chosen: Configuration, inputs: dict[str, Any], device: torch.device) -> Callable[[], object]:
    """One iteration of this configuration, to be called again and again."""
    plain = chosen.mode == PUBLISHED or chosen.modules == "plain"
    with forked_global_rng(0):
        model = (reference_network if plain else build_network)(chosen.shape.network, **chosen.shape.size()).to(device)
    if chosen.mode == PUBLISHED:
        return lambda: reference_gradient(model, **inputs)
    mode, store = cast(Mode, chosen.mode), cast(Store, chosen.store)
    return lambda: matching_gradient(model, **inputs, mode=mode, store=store, compile=chosen.compile)


def prepare_matmul(**compute: Any) -> Callable[[], dict[str, Any]]:
    """The same for the machine's matrix products, in TF32 where convolutions may take it."""
    chosen = Compute(**compute)
    device = apply_switches(replace(chosen, precision="float32" if chosen.precision == "float32" else "tf32"))
    return lambda: {"flops": matmul_flops(device)}
