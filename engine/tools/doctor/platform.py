"""What depends on the system: Apple's GPU, and settings without an effect."""

import torch

from engine.runtime.allocator import has_policies
from engine.runtime.mps import mps_words
from engine.tools.doctor.device_check import MOST, difference_from_cpu
from engine.tools.doctor.finding import Finding


def examine_platform() -> list[Finding]:
    """Nothing on Linux with glibc."""
    findings = []
    if words := mps_words():
        findings.append(Finding(True, "MPS", words))
    if torch.backends.mps.is_available():
        findings.append(examine_gradient(torch.device("mps")))
    if not has_policies():
        findings.append(Finding(True, "compute.memory", "no effect: this system's C library is not glibc"))
    return findings


def examine_gradient(device: torch.device) -> Finding:
    """Whether a device computes gradients as the CPU does."""
    what = f"gradient on {device}"
    try:
        difference = difference_from_cpu(device)
    except (RuntimeError, NotImplementedError) as error:
        return Finding(False, what, f"fails ({str(error).splitlines()[0]}); use compute.device = cpu")
    if not difference < MOST:  # nor if it is not a number
        return Finding(False, what, f"differs from the CPU's by {difference:.1e}; use compute.device = cpu")
    return Finding(True, what, f"as on the CPU (relative difference {difference:.0e})")
