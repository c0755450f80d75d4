"""What the machine is doing: GPUs through NVML, processor and memory through psutil. An unknown fact is None."""

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil

HISTORY = 120
"""Samples of the strips."""

T = TypeVar("T")


@dataclass(frozen=True)
class Gpu:
    """One GPU, now."""

    index: int
    name: str | None
    used: int | None
    """Memory, bytes."""
    total: int | None
    utilisation: int | None
    """Percent."""
    temperature: int | None
    """Degrees Celsius."""
    power: float | None
    """Watts."""
    power_limit: float | None


@dataclass(frozen=True)
class Processor:
    """The processor, and the process that drives the run (this one if it is unknown)."""

    cores: int
    utilisation: float
    """Percent of all cores."""
    load: float | None
    """Processes that want to run, mean of a minute."""
    memory_used: int
    memory_total: int
    rss: int | None
    """Resident bytes of the driver; None if it is on another machine or gone."""


@dataclass(frozen=True)
class Sample:
    """One look at the machine."""

    gpus: tuple[Gpu, ...]
    processor: Processor


class Devices:
    """Looks at the machine, at most once a second, and remembers how memory went.

    Args:
        nvml: the `pynvml` module or a stand-in for it; None to find out.
    """

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml
        self._handles: list[Any] | None = None
        self._process: psutil.Process | None = None
        self._last: Sample | None = None
        self._taken = 0.0
        self.history: dict[int, deque[float]] = {}
        """By GPU index (-1: the driver's resident memory, bytes): share of memory used, 0..1, oldest first."""
        psutil.cpu_percent()  # the first call only sets the mark the next one measures from

    def sample(self, pid: int | None = None) -> Sample:
        """The machine now. `pid`: the driver's process, if it is on this machine."""
        now = time.monotonic()
        if self._last is not None and now - self._taken < 1.0:
            return self._last
        self._taken = now
        gpus = tuple(self._gpu(index, handle) for index, handle in enumerate(self._open()))
        for gpu in gpus:
            if gpu.used is not None and gpu.total:
                self._remember(gpu.index, gpu.used / gpu.total)
        processor = self._processor(pid)
        if processor.rss is not None:
            self._remember(-1, float(processor.rss))
        self._last = Sample(gpus, processor)
        return self._last

    def _remember(self, key: int, value: float) -> None:
        self.history.setdefault(key, deque(maxlen=HISTORY)).append(value)

    def _open(self) -> list[Any]:
        if self._handles is None:
            self._handles = []
            with suppress(Exception):  # no driver, no library, no permission: no GPUs to show
                if self._nvml is None:
                    import pynvml

                    self._nvml = pynvml
                self._nvml.nvmlInit()
                self._handles = [
                    self._nvml.nvmlDeviceGetHandleByIndex(i) for i in range(self._nvml.nvmlDeviceGetCount())
                ]
        return self._handles

    def _gpu(self, index: int, handle: Any) -> Gpu:
        nvml = self._nvml

        def ask(question: Callable[[], T]) -> T | None:
            # Boards differ in what they tell; each fact fails alone (NVMLError_NotSupported, a GPU that fell off).
            try:
                return question()
            except Exception:
                return None

        memory = ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        rates = ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        name = ask(lambda: nvml.nvmlDeviceGetName(handle))
        power = ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000)
        limit = ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000)
        heat = ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        return Gpu(
            index=index,
            name=name.decode(errors="replace") if isinstance(name, bytes) else name,
            used=getattr(memory, "used", None),
            total=getattr(memory, "total", None),
            utilisation=getattr(rates, "gpu", None),
            temperature=heat,
            power=power,
            power_limit=limit,
        )

    def _processor(self, pid: int | None) -> Processor:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        memory = psutil.virtual_memory()
        rss = None
        if pid is not None:
            with suppress(psutil.Error):
                if self._process is None or self._process.pid != pid:
                    self._process = psutil.Process(pid)
                rss = self._process.memory_info().rss
        return Processor(
            cores=psutil.cpu_count() or 1,
            utilisation=psutil.cpu_percent(),
            load=load,
            memory_used=memory.total - memory.available,
            memory_total=memory.total,
            rss=rss,
        )
