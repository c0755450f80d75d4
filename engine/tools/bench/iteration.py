"""In the measured process: one matching problem, and iterations of it by one mode."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any, cast

import torch

from engine.data import draw_augment
from engine.matching import Mode, Schedule, matching_gradient
from engine.matching.parameter_store import Store
from engine.networks import build_network, flatten_parameters, initialised_network
from engine.runtime.device import configure, resolve_device
from engine.runtime.rng import counted_generator, forked_global_rng
from engine.settings import AugmentSettings, ComputeSettings
from engine.tools.bench.cases import PUBLISHED, Compute, Configuration, configuration
from engine.tools.bench.flops import matmul_flops
from engine.tools.bench.measuring import MemoryMeter, Stopwatch
from engine.tools.bench.reference_implementation import reference_gradient, reference_network
from engine.tools.bench.turns import repeat_for
from engine.training.labels import hard_labels

LEAST = 0.3
"""Seconds of one measurement; shorter iterations are repeated."""
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

    Ours run as in a session, with its memory policy; `published` in a process as it is.
    """
    chosen = configuration(arguments)
    if chosen.mode == PUBLISHED:
        if chosen.compute.threads:
            torch.set_num_threads(chosen.compute.threads)
        device = resolve_device(chosen.compute.device)
    else:
        device = configure(_settings(chosen.compute))
    make = reference_network if chosen.mode == PUBLISHED else build_network
    with forked_global_rng(0):
        model = make(chosen.shape.network, **chosen.shape.size()).to(device)
    inputs = problem(chosen, device)
    if chosen.compile:
        # The compiler is loaded like PyTorch itself, before the memory is measured.
        importlib.import_module("torch._inductor.compile_fx")
    meter = MemoryMeter(device)
    meter.forget()

    def iterate() -> None:
        if chosen.mode == PUBLISHED:
            reference_gradient(model, **inputs)
        else:
            matching_gradient(
                model, **inputs, mode=cast(Mode, chosen.mode), store=cast(Store, chosen.store), compile=chosen.compile
            )

    first = True

    def measure() -> dict[str, Any]:
        nonlocal first
        seconds, notes = [], []
        for _ in repeat_for(0 if first else LEAST):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                watch = Stopwatch(device)
                iterate()
                seconds.append(watch.seconds())
            notes += [str(w.message) for w in caught if "not used: " in str(w.message)]
        answer = {"seconds": seconds, "peak": meter.peak(), "base": meter.base, "notes": notes}
        if first:
            meter.forget()  # what compiling needed is not what an iteration needs
        first = False
        return answer

    return measure


def prepare_matmul(device: str, threads: int | None) -> Callable[[], dict[str, Any]]:
    """The same for the machine's matrix products."""
    if threads:
        torch.set_num_threads(threads)
    there = resolve_device(device)
    return lambda: {"flops": matmul_flops(there)}


def _settings(compute: Compute) -> ComputeSettings:
    return ComputeSettings.model_validate(
        {"device": compute.device, "threads": compute.threads or "auto", "memory": compute.memory}
    )
