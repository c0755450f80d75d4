"""What the machine is doing: GPUs through NVML, processor and memory through psutil. An unknown fact is None."""

import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import psutil

from tesla_tui.watch.nvml import Board, Gpu, boards, look, processes
from tesla_tui.watch.run_gpus import NOT_DRIVEN, Job, Use, given, is_unsure

HISTORY = 600
"""Samples that are remembered of every fact."""
CPU = "cpu"
"""Label of the processor in the history."""


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
    """The run's first."""
    processor: Processor
    use: Use = NOT_DRIVEN
    """Of the run that was looked for."""
    unsure: bool = False
    """CUDA may count the GPUs otherwise, and none was seen to be used by the run."""

    @property
    def words(self) -> str:
        """Which of these devices are the run's; empty where there is nothing to tell."""
        ours, count = sum(gpu.ours for gpu in self.gpus), len(self.gpus)
        if self.use.elsewhere:
            return f"of this machine; the run is on {self.use.elsewhere}"
        if self.use.pid is None:
            return f"CUDA_VISIBLE_DEVICES shows {ours} of {count} GPUs" if ours < count else ""
        if not count or not ours:
            return "the run is on the CPU" if count else ""
        guess = "perhaps " if self.unsure else ""
        return f"the run uses {guess}{ours} of {count} GPUs" if count > 1 else ""


class Devices:
    """Looks at the machine, at most once a second, and remembers how it went.

    Args:
        nvml: the `pynvml` module or a stand-in for it; None to find out.
    """

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml
        self._boards: list[Board] | None = None
        self._job: Job | None = None
        self._process: psutil.Process | None = None
        self._looking = threading.Lock()
        self._taken = 0.0
        self.last: Sample | None = None
        """The newest sample."""
        self.history: dict[tuple[str, str], deque[float]] = {}
        """By the label of a device and a fact (memory, utilisation, power, temperature, driver), oldest first."""
        psutil.cpu_percent()  # the first call only sets the mark the next one measures from

    @property
    def due(self) -> bool:
        """Whether a sample would be a new one, and no other thread is taking it."""
        return not self._looking.locked() and (self.last is None or time.monotonic() - self._taken >= 1.0)

    def sample(self, use: Use = NOT_DRIVEN) -> Sample:
        """The machine now, and which of its GPUs a run has. May take long: NVML answers slowly for a broken GPU."""
        with self._looking:
            now = time.monotonic()
            if self.last is not None and now - self._taken < 1.0:
                return self.last
            self._taken = now
            gpus, unsure = self._gpus(use)
            self.last = Sample(gpus, self._processor(use.pid), use, unsure)
            self._remember(self.last)
            return self.last

    def past(self, label: str, fact: str) -> Sequence[float]:
        """How a fact of a device went; empty where nothing is known."""
        return tuple(self.history.get((label, fact), ()))

    def _remember(self, sample: Sample) -> None:
        cpu = sample.processor
        facts: dict[str, Mapping[str, float | None]] = {
            CPU: {"utilisation": cpu.utilisation, "memory": cpu.memory_used / cpu.memory_total, "driver": cpu.rss}
        }
        for gpu in sample.gpus:
            memory = gpu.used / gpu.total if gpu.used is not None and gpu.total else None
            facts[gpu.label] = {
                "memory": memory, "utilisation": gpu.utilisation, "power": gpu.power, "temperature": gpu.temperature,
            }  # fmt: skip
        for label, values in facts.items():
            for fact, value in values.items():
                if value is not None:
                    self.history.setdefault((label, fact), deque(maxlen=HISTORY)).append(value)

    def _open(self) -> list[Board]:
        if self._boards is None:
            self._boards = []
            with suppress(Exception):  # no driver, no library, no permission: no GPUs to show
                if self._nvml is None:
                    import pynvml

                    self._nvml = pynvml
                self._nvml.nvmlInit()
                self._boards = boards(self._nvml)
        return self._boards

    def _gpus(self, use: Use) -> tuple[tuple[Gpu, ...], bool]:
        """All GPUs, the run's first; and whether it is unsure that they are."""
        there = self._open()
        if use.pid is None or self._job is None or self._job.pid != use.pid:
            self._job = None if use.pid is None else Job(use.pid)
        job = self._job
        users = [processes(self._nvml, board) or {} if job is not None else {} for board in there]
        shares = [[memory for pid, memory in found.items() if job is not None and job.has(pid)] for found in users]
        seen = [board for board, share in zip(there, shares, strict=True) if share]
        mine = seen or ([] if use.elsewhere else given(use.device, job, there))
        gpus = []
        for board, share in zip(there, shares, strict=True):
            known = bool(seen) and all(memory is not None for memory in share)
            own = sum(memory for memory in share if memory is not None) if known else None
            gpus.append(replace(look(self._nvml, board), own=own, ours=board in mine))
        variables = os.environ if job is None or job.environment is None else job.environment
        unsure = not seen and 0 < len(mine) < len(there) and is_unsure(variables, there)
        return tuple(sorted(gpus, key=lambda gpu: not gpu.ours)), unsure

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
