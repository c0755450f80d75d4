"""Evaluation of a small set: this engine beside plain loops one after the other, as published code does it.

    python benchmarks/evaluation.py --size fashion --epochs 60 --rounds 3

Each side has its own process, the sides take turns, and the median of the rounds is shown. All have the same allocator
policy; `default` is `plain` with glibc's own, as published code is run. `compile` is listed separately: it is paid once
for all evaluations of a run.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from engine.data.augment import draw_augment
from engine.runtime.allocator import Policy, choose_memory
from engine.runtime.generators import run_to_end
from engine.runtime.subprocesses import run_isolated

SIZES: dict[str, dict[str, Any]] = {
    "digits": {"shape": (100, 1, 8, 8), "classes": 10, "width": 32, "depth": 2},
    "fashion": {"shape": (100, 1, 28, 28), "classes": 10, "width": 32, "depth": 3},
    "cifar": {"shape": (100, 3, 32, 32), "classes": 10, "width": 128, "depth": 3},
}
SIDES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("plain", {"memory": "fast"}), "default": ("plain", {"memory": "default"}),
    "eager": ("ours", {"compile_": "off"}), "compiled": ("ours", {"compile_": "on"}),
}  # fmt: skip
OPS = ("color", "crop", "cutout", "flip", "scale", "rotate")


def small_set(shape: tuple[int, ...], classes: int) -> tuple[Tensor, Tensor]:
    """Random images: the time does not depend on what is in them."""
    labels = torch.arange(shape[0]).repeat_interleave(shape[0] // classes)[: shape[0]] % classes
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)), torch.eye(classes)[labels]


def published_network(shape: tuple[int, ...], classes: int, width: int, depth: int) -> nn.Module:
    """ConvNet from PyTorch's own layers."""
    side = 32 if shape[1:] == (1, 28, 28) else shape[2]
    layers: list[nn.Module] = []
    channels = shape[1]
    for block in range(depth):
        padding = 1 + (side - shape[2]) // 2 if block == 0 else 1
        layers += [nn.Conv2d(channels, width, 3, padding=padding), nn.GroupNorm(width, width), nn.ReLU(True)]
        layers += [nn.AvgPool2d(2, 2)]
        channels = width
    for _ in range(depth):
        side //= 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side * side, classes))


def choose_clock(cpu: bool) -> Callable[[], float]:
    """Wall seconds, or CPU seconds of this process on one thread."""
    if not cpu:
        return time.perf_counter
    torch.set_num_threads(1)
    return time.process_time


def plain(size: str, epochs: int, repeats: int, cpu: bool, memory: Policy) -> dict[str, float]:
    """Seconds of five networks one after the other: eager, NCHW."""
    choose_memory(memory)
    clock = choose_clock(cpu)
    case = SIZES[size]
    images, labels = small_set(case["shape"], case["classes"])
    seconds = 0.0
    for repeat in range(repeats):
        model = published_network(**case)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        generator = torch.Generator().manual_seed(repeat)
        started = clock()
        for _ in range(epochs):
            for index in torch.randperm(len(images), generator=generator).split(256):
                batch = images[index]
                batch = draw_augment(generator, OPS, batch.shape)(batch)
                loss = torch.nn.functional.cross_entropy(model(batch), labels[index])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        seconds += clock() - started
    return {"seconds": seconds, "compile": 0.0}


def ours(size: str, epochs: int, repeats: int, cpu: bool, compile_: str) -> dict[str, float]:
    """Seconds of the same through `train_on_small`, and of compiling before it."""
    from engine.events import Progress
    from engine.networks import initialised_network
    from engine.runs.workspace import Workspace
    from engine.runtime.device import configure
    from engine.runtime.generators import run_to_end
    from engine.session.open_task import open_task
    from engine.settings import resolve_settings
    from engine.training.evaluation import RULE, STAGE, train_on_small
    from engine.training.trainer import trainer
    from engine.training.training_set import SmallSet

    clock = choose_clock(cpu)
    case = SIZES[size]
    overrides = [f"evaluate.epochs={epochs}", f"evaluate.repeats={repeats}", f"compute.compile={compile_}"]
    settings = resolve_settings(overrides=overrides).settings
    configure(settings.compute)
    with TemporaryDirectory() as folder:
        task = run_to_end(open_task(Workspace.create(Path(folder) / "w", resolve_settings(), set()), settings))[0]
        small = SmallSet(*small_set(case["shape"], case["classes"]), 0.01)
        seconds = compiling = 0.0
        for repeat in range(repeats):
            model = initialised_network(
                "convnet", seed=repeat, channels=case["shape"][1], classes=case["classes"],
                resolution=case["shape"][2], width=case["width"], depth=case["depth"],
            )  # fmt: skip
            started = clock()
            batch = (small.images, small.labels)
            at = Progress(stage=STAGE, done=repeat, total=repeats, unit="networks")
            learner = run_to_end(trainer(task, model, "convnet", RULE, [batch], {len(small.images): 10**9}, at))
            compiling += clock() - started
            started = clock()
            for _ in train_on_small(task, learner, small, repeat):
                pass
            seconds += clock() - started
    return {"seconds": seconds, "compile": compiling}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="fashion")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, action="append", help="only these (plain, the measure, always is)")
    parser.add_argument(
        "--cpu", action="store_true", help="CPU seconds of one thread, for a machine that others use too"
    )
    options = parser.parse_args()
    common = {"size": options.size, "epochs": options.epochs, "repeats": options.repeats, "cpu": options.cpu}
    sides = {side: how for side, how in SIDES.items() if side in ["plain", *(options.side or SIDES)]}
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    here = {"PYTHONPATH": str(Path(__file__).parent)}  # where the measured process finds this module
    for _ in range(options.rounds):
        for side, (function, more) in sides.items():
            timing = run_isolated(f"evaluation:{function}", {**common, **more}, environment=here)
            found[side].append(run_to_end(timing))
    threads = 1 if options.cpu else torch.get_num_threads()
    print(f"{options.size}: {options.repeats} networks, {options.epochs} epochs, {threads} threads")
    base = statistics.median(row["seconds"] for row in found["plain"])
    for side, rows in found.items():
        seconds = [row["seconds"] for row in rows]
        middle = statistics.median(seconds)
        compiling = statistics.median(row["compile"] for row in rows)
        print(
            f"{side:9} {1e3 * middle / options.epochs / options.repeats:8.2f} ms a step "
            f"({min(seconds) / middle:.2f}..{max(seconds) / middle:.2f})  {middle / base:.2f} of plain"
            f"  compile {compiling:5.1f} s  peak {max(row['peak_bytes'] for row in rows) / 1e6:,.0f} MB"
        )


if __name__ == "__main__":
    main()
