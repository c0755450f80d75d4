"""Peak memory and time of one matching gradient by mode and T, each in its own process.

    python benchmarks/gradient_memory.py            ConvNetD3 width 128, 3x32x32, 100 classes, batch 100, T = 1 and 100
    python benchmarks/gradient_memory.py --width 32 --batch 50 --steps 1 20
    python benchmarks/gradient_memory.py --resolution 64 --classes 1000 --batch 50 --steps 1 200 --compile

Peak is the process's resident set, less what it holds before the gradient.
"""

import argparse
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.runtime.allocator import Policy

CASES = (("paper", "auto"), ("exact", "checkpoint"), ("exact", "device"))


def one(
    mode: str, store: str, steps: int, threads: int, memory: "Policy", width: int, batch: int, resolution: int,
    classes: int, compile_: bool,
) -> dict[str, float]:  # fmt: skip
    """Measure in this process; peak in bytes, seconds for the whole gradient."""
    import torch

    from engine.data import draw_augment
    from engine.matching import matching_gradient
    from engine.networks import flatten_parameters, initialised_network
    from engine.runtime.allocator import choose_memory
    from engine.runtime.rng import counted_generator
    from engine.tools.bench.measuring import MemoryMeter

    choose_memory(memory)
    torch.set_num_threads(threads)
    model = initialised_network("convnet", seed=0, channels=3, classes=classes, resolution=resolution, width=width)
    start = flatten_parameters(model)
    generator = counted_generator(0, "benchmark")
    shape = (batch, 3, resolution, resolution)
    ops = ("color", "crop", "cutout", "flip", "scale", "rotate")
    schedule = [(torch.arange(batch), draw_augment(generator, ops, shape)) for _ in range(steps)]
    images = torch.randn(shape, generator=generator)
    labels = torch.full((batch, classes), 1 / classes)
    problem = {
        "start": start, "target": start + 0.01, "images": images, "labels": labels, "student_lr": 0.01, "mode": mode,
        "store": store, "compile": compile_,
    }  # fmt: skip
    meter = MemoryMeter(torch.device("cpu"))
    if compile_:
        matching_gradient(model, **problem, schedule=schedule[:1])
        meter.forget()  # what compiling needed; what it leaves behind counts
    began = time.perf_counter()
    matching_gradient(model, **problem, schedule=schedule)
    return {"peak": meter.peak(), "seconds": time.perf_counter() - began}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 100])
    sizes = {"width": 128, "batch": 100, "resolution": 32, "classes": 100}
    for name, value in {**sizes, "threads": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--memory", choices=("flat", "fast"), default="flat")
    parser.add_argument("--mode", choices=("paper", "exact"), help="only this (default: both)")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    chosen = {name: getattr(options, name) for name in (*sizes, "threads", "memory")}
    if options.one:
        print(json.dumps(one(*options.one, steps=options.steps[0], **chosen, compile_=options.compile)))
        return
    shared = [f"--{name}={value}" for name, value in chosen.items()] + ["--compile"] * options.compile
    print(f"{'mode':8}{'store':12}{'T':>5}{'peak MB':>10}{'growth':>10}{'s/step':>9}")
    for mode, store in [case for case in CASES if options.mode in (None, case[0])]:
        first = 0.0
        for steps in options.steps:
            command = [sys.executable, __file__, "--one", mode, store, "--steps", str(steps), *shared]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            first = first or found["peak"]
            print(
                f"{mode:8}{store:12}{steps:5}{found['peak'] / 1e6:10.0f}{found['peak'] / first:10.3f}"
                f"{found['seconds'] / steps:9.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
