"""The device panel: GPUs through a stand-in for NVML, and a machine without any."""

import os
from types import SimpleNamespace
from typing import Any

import pytest
from textual.pilot import Pilot

from tesla_tui.live.widgets.bars import bar, strip
from tesla_tui.watch.devices import HISTORY, Devices
from tests.tui.live.conftest import Show, screen_text

GB = 10**9


class NotSupportedError(Exception):
    """As NVML answers for a fact a board does not tell."""


class FakeNvml:
    """Two boards; the second tells neither power nor utilisation, and gives its name as bytes."""

    NVML_TEMPERATURE_GPU = 0

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        """Ready."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:  # noqa: N802
        return "NVIDIA A100-SXM4-80GB" if handle == 0 else b"Quadro \x1b[31mK620"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(used=31 * GB, total=80 * GB)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        if handle:
            raise NotSupportedError
        return SimpleNamespace(gpu=97)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:  # noqa: N802
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        if handle:
            raise NotSupportedError
        return 285_000

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:  # noqa: N802
        if handle:
            raise NotSupportedError
        return 400_000


@pytest.mark.slow
def test_two_gpus_one_of_them_silent(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        text = screen_text(pilot)
        assert "GPU 0 97 %  61 °C  285/400 W  NVIDIA A100-SXM4-80GB" in text
        assert (
            "GPU 1 n/a  61 °C  n/a  Quadro" in text
        )  # the second one, its name cleaned of what would steer the terminal
        assert "\x1b" not in text and "31.0 GB of 80.0 GB" in text
        assert "▄" in text.split("31.0 GB")[1][:40] or "▃" in text.split("31.0 GB")[1][:40]

    show(body, run="soft", size=(160, 50), devices=Devices(nvml=FakeNvml()))


def test_no_nvml_is_no_gpu_and_no_error() -> None:
    sample = Devices(nvml=object()).sample(os.getpid())
    assert sample.gpus == () and sample.processor.cores >= 1
    assert sample.processor.rss is not None and sample.processor.rss > 10**6


def test_a_driver_that_is_gone_has_no_memory() -> None:
    assert Devices(nvml=object()).sample(2**22 - 3).processor.rss is None


def test_history_is_bounded() -> None:
    devices = Devices(nvml=FakeNvml())
    for _ in range(3 * HISTORY):
        devices._taken = 0.0
        devices.sample()
    assert all(len(values) == HISTORY for values in devices.history.values())


def test_bars_and_strips() -> None:
    assert [bar(share, 4, "red", "blue").plain for share in (-1, 0, 0.125, 0.5, 0.9, 1, 7)] == [
        "────", "────", "╸───", "━━──", "━━━╸", "━━━━", "━━━━",
    ]  # fmt: skip
    assert strip([0, 1, 2, 4], 3) == "▂▄█" and strip([], 5) == "" and strip([0, 0], 5) == "▁▁"
    assert strip([0.5], 9, 1.0) == "▄"
