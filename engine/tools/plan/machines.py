"""Accelerators by name, with what their makers publish: for plans of a machine that one does not sit at."""

from dataclasses import dataclass
from difflib import get_close_matches

from engine.errors import UsageError


@dataclass(frozen=True)
class Machine:
    """An accelerator."""

    title: str
    kind: str
    """Type of its device in PyTorch."""
    fp32: float
    """Peaks in operations a second, a multiply and an add as two, dense."""
    tf32: float
    bf16: float
    bandwidth: float
    """Of its memory, bytes a second."""
    memory: int
    """Bytes."""
    source: str
    """Where the peaks are published."""

    def peak(self, precision: str) -> float:
        """Of products in `compute.precision`."""
        return {"tf32": self.tf32, "bf16": self.bf16}.get(precision, self.fp32)


MACHINES = {
    "a100": Machine("NVIDIA A100 SXM 80 GB", "cuda", 19.5e12, 156e12, 312e12, 2.039e12, 80 * 10**9,
                    "NVIDIA A100 datasheet"),
    "h100": Machine("NVIDIA H100 SXM", "cuda", 67e12, 494e12, 989e12, 3.35e12, 80 * 10**9, "NVIDIA H100 datasheet"),
    "h200": Machine("NVIDIA H200 SXM", "cuda", 67e12, 494e12, 989e12, 4.8e12, 141 * 10**9, "NVIDIA H200 datasheet"),
    "4090": Machine("NVIDIA GeForce RTX 4090", "cuda", 82.6e12, 82.6e12, 165.2e12, 1.008e12, 24 * 10**9,
                    "NVIDIA Ada architecture whitepaper"),
    "a6000": Machine("NVIDIA RTX A6000", "cuda", 38.7e12, 77.4e12, 154.8e12, 0.768e12, 48 * 10**9,
                     "NVIDIA GA102 architecture whitepaper"),
    "m-series": Machine("Apple M2 (10 GPU cores, 16 GB)", "mps", 3.6e12, 3.6e12, 3.6e12, 0.1e12, 16 * 10**9,
                        "Apple's technical specifications"),
}  # fmt: skip
"""Peaks without sparsity. `m-series` is a small one: an M2 Max has about four times as much of everything."""


def find_machine(name: str) -> Machine:
    """The machine of that name, in any case.

    Raises:
        UsageError: there is none.
    """
    wanted = name.strip().lower()
    if wanted in MACHINES:
        return MACHINES[wanted]
    near = get_close_matches(wanted, MACHINES, n=1, cutoff=0.5)
    guess = f"Did you mean {near[0]}? " if near else ""
    raise UsageError(
        f"There are no published figures for a device {name!r} here.",
        f"{guess}Known: {', '.join(MACHINES)}. Without --device, this machine is measured.",
    )
