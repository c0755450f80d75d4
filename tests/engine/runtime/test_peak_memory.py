"""The peak memory of a driver."""

import sys

import pytest
import torch

from engine.runtime.peak_memory import forget_peak, peak_memory

SIZE = 200 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process can be forgotten on Linux only")
def test_a_peak_is_kept_until_it_is_forgotten() -> None:
    cpu = torch.device("cpu")
    forget_peak(cpu)
    before = peak_memory(cpu).peak_bytes
    held = torch.ones(SIZE // 4)
    del held
    during = peak_memory(cpu)
    assert during.peak_bytes - before > 0.9 * SIZE
    assert during.peak_device_bytes is None
    forget_peak(cpu)
    assert peak_memory(cpu).peak_bytes < during.peak_bytes - 0.5 * SIZE
