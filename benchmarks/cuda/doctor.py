"""The machine: GPU, driver, versions, numeric switches after `configure`, and what `tesla doctor` says."""

import os
import platform
import subprocess
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch

from benchmarks.cuda.check import Check
from benchmarks.cuda.markdown import MACHINE
from engine.runtime.device import configure, environment
from engine.settings import ComputeSettings
from engine.tools.doctor.machine import examine_machine


def run(check: Check, part: str) -> None:
    """Everything that figures depend on."""
    with check.guarded(MACHINE):
        check.rows.add(MACHINE, _machine(check))
    with check.guarded("numeric switches"):
        device = configure(ComputeSettings(device=check.device.type))
        check.rows.add("a session's switches", _switches())
        facts = environment(device)
        check.rows.add("recorded with every run", ", ".join(f"{key} {value}" for key, value in facts.items()))
    with check.guarded("tesla doctor"):
        for finding in examine_machine():
            good = finding.good or _optional(finding.words)
            check.rows.add(f"doctor: {finding.what}", finding.words, "", "" if good else "fail")
    with check.guarded("a C compiler"):
        check.rows.add("C compiler (torch.compile)", _first_line("cc", "--version") or "none")
    if check.cuda:
        with check.guarded("matrix products"):
            _products(check)


def _machine(check: Check) -> str:
    words = [f"{os.cpu_count()} CPU cores, Python {platform.python_version()}, PyTorch {torch.__version__}"]
    with suppress(PackageNotFoundError):
        words.append(f"Triton {version('triton')}")
    if not check.cuda:
        return ", ".join(words)
    gpu = torch.cuda.get_device_properties(0)
    driver = _first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    cudnn = torch.backends.cudnn.version() or 0
    first = [
        f"{torch.cuda.device_count()} x {gpu.name} ({gpu.total_memory / 1e9:.0f} GB, "
        f"{gpu.multi_processor_count} multiprocessors)",
        f"driver {driver or 'unknown'}",
        f"CUDA {torch.version.cuda}",
        f"cuDNN {cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100}",
    ]
    return ", ".join([*first, *words])


def _switches() -> str:
    return ", ".join((
        f"TF32 in convolutions {torch.backends.cudnn.allow_tf32}",
        f"in products {torch.backends.cuda.matmul.allow_tf32}",
        f"deterministic {torch.are_deterministic_algorithms_enabled()}",
        f"fills {torch.utils.deterministic.fill_uninitialized_memory}",  # type: ignore[attr-defined]
        f"cuDNN benchmark {torch.backends.cudnn.benchmark}",
    ))  # fmt: skip


def _optional(words: str) -> bool:
    """A package that these checks do without."""
    return words == "not installed"


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else ""


def _products(check: Check) -> None:
    """What matrix products reach while other processes run: a lower bound, to see a slow machine."""
    from benchmarks.cuda.timing import seconds_of

    found = []
    for name, dtype, tf32 in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(4096, 4096, device=check.device, dtype=dtype) for _ in range(2))
        found.append(f"{name} {2 * 4096**3 / seconds_of(check, partial(torch.mm, a, b), 5).median / 1e12:.0f}")
    check.rows.add("4096³ products, TFLOP/s", ", ".join(found) + " (other processes run)")
