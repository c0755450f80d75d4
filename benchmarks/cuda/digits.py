"""Digits from teachers to the test accuracy: every method, label kind, gradient, store, precision and network."""

import tempfile
import time
from pathlib import Path

from benchmarks.cuda.bits import replaced
from benchmarks.cuda.check import Check, switches
from benchmarks.cuda.problems import DISTILL, new_workspace, session

ONCE = ("distill.iterations=0",)
CASES: dict[str, dict[str, tuple[str, ...]]] = {
    "labels": {
        "hard": (),
        "target": ("labels.kind=target",),
        "last": ("labels.kind=last",),
        "learned": ("labels.kind=learned",),
        "learned raw": ("labels.kind=learned", "labels.parameters=probabilities"),
        "mse": ("labels.loss=mse",),
        "batch of 4": ("distill.batch=4",),
        "zca": ("dataset.zca=true",),
        "k-means init": ("distill.init=kmeans", "distill.ipc=3"),
        "noise init": ("distill.init=noise",),
    },
    "gradients": {
        "paper": ("distill.gradient=paper",),
        "unrolled": ("distill.gradient=unrolled",),
        "host": ("distill.store=host",),
        "checkpoint": ("distill.store=checkpoint",),
        "float64": ("compute.dtype=float64",),
        "tf32": ("compute.precision=tf32",),
        "bf16": ("compute.precision=bf16",),
        "micro-batches of 3": ("compute.micro_batch=3",),
        "cuda:0": ("compute.device=cuda:0",),
    },
    "networks": {
        "vit": ("network.name=vit", "network.width=16", "network.depth=2"),
        "resnet18": ("network.name=resnet18", "distill.lr_images=0.01", "distill.max_pixel=1e9"),
        "three evaluation networks": ('evaluate.networks=["convnet","vit","resnet18"]', "evaluate.epochs=2"),
        "autoaugment": ("evaluate.augment=autoaugment",),
        "randaugment": ("evaluate.augment=randaugment",),
    },
    "peers": {
        "mtt": ("distill.method=mtt",),
        "datm": ("distill.method=datm", "distill.max_loss=10"),
        "dm": ("distill.method=dm",),
        "dsa": ("distill.method=dsa", "peers.outer_loops=2"),
        "dc": ("distill.method=dc", "peers.outer_loops=2"),
        "frepo": ("distill.method=frepo",),
    },
    "selections": {
        "random": ("distill.method=random", *ONCE),
        "herding": ("distill.method=herding", "distill.ipc=3", *ONCE),
        "k-center": ("distill.method=k-center", "distill.ipc=3", *ONCE),
        "k-means": ("distill.method=k-means", "distill.ipc=3", *ONCE),
        "whole": ("distill.method=whole", "evaluate.whole_epochs=2", *ONCE),
    },
}
REHEARSED = ("hard", "paper", "vit", "dm", "random")
"""Those that a rehearsal on the CPU does."""


def run(check: Check, part: str) -> None:
    """A part is a name of `CASES`."""
    for name, more in CASES[part].items():
        if check.tiny and name not in REHEARSED:
            continue
        base = (f"compute.device={check.device.type}", *DISTILL)
        overrides = (*(text for text in base if not replaced(text, more)), *more)
        with check.guarded(name), tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            run, _ = session(new_workspace(Path(folder) / "ws"), overrides)
            tested = [evaluation for evaluation in run.evaluations() if evaluation.split == "test"]
            accuracies = [f"{value:.0%}" for evaluation in tested for value in evaluation.accuracies]
            words = f"{time.monotonic() - began:.1f} s, test {', '.join(accuracies[:4])}"
            check.rows.holds(name, bool(tested), words, "a test accuracy")
        switches()
