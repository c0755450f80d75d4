"""A task like the run's on random pixels, so that its stages can be measured without the dataset.

Time and memory of the stages depend on shapes and settings alone.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.data import Dataset, InputSpace, ResidentImages
from engine.networks import flatten_parameters
from engine.runtime.device import configure
from engine.runtime.subprocesses import peak_bytes
from engine.settings import Settings
from engine.training.task import DTYPES, Split, Task
from engine.training.teacher_buffer import TeacherBuffer

KEPT_FREE = 0.9
"""Share of the available memory that a measurement may take."""

Shape = tuple[int, int, int]
"""Classes, channels, resolution."""


def changed(settings: Settings, section: str, **values: Any) -> Settings:
    """Settings with some values of one section replaced; not validated again."""
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


def random_task(settings: Settings, shape: Shape, folder: Path, *, train: int, measured: int) -> Task:
    """A task of `train` random images to learn from and `measured` others to measure on; configures the process."""
    classes, channels, side = shape
    device = configure(settings.compute)
    if device.type == "cpu":
        _bound_memory()
    noise = np.random.default_rng(0)

    def images(count: int) -> Any:
        return noise.integers(0, 256, (count, channels, side, side), dtype=np.uint8)

    dataset = Dataset(
        name="random", source="", classes=tuple(map(str, range(classes))), channels=channels, resolution=side,
        fingerprint="", train_images=images(train), train_labels=np.arange(train) % classes,
        test_images=images(measured), test_labels=np.arange(measured) % classes, folder=folder,
    )  # fmt: skip
    values = channels * side**2
    tensors = {"mean": torch.full((channels,), 0.5), "std": torch.full((channels,), 0.25)}
    if settings.dataset.zca:
        tensors = {"mean": torch.zeros(1, values), "matrix": torch.eye(values), "inverse": torch.eye(values)}
    space = InputSpace("zca" if settings.dataset.zca else "normalise", tensors).to(
        device, DTYPES[settings.compute.dtype]
    )

    def split(pixels: Any, labels: Any) -> Split:
        return Split(ResidentImages(pixels, np.arange(len(labels)), space, device), torch.from_numpy(labels))

    taught = split(dataset.train_images, dataset.train_labels)
    other = split(dataset.test_images, dataset.test_labels)
    return Task(settings, dataset, space, device, train=taught, holdout=other, test=other)


def _bound_memory() -> None:
    """Let this process run out of memory before the system has to kill one, which might be another."""
    import psutil

    if sys.platform == "linux":
        import resource

        limit = int(KEPT_FREE * psutil.virtual_memory().available) + psutil.Process().memory_info().rss
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def random_trajectory(task: Task, folder: Path) -> TeacherBuffer:
    """A buffer with one trajectory of one epoch: initial parameters, and others near them."""
    buffer = TeacherBuffer(folder, {})
    buffer.open()
    theta = flatten_parameters(task.fresh_network(0))
    noise = torch.randn(theta.shape, generator=torch.Generator().manual_seed(1)).to(theta)
    writer = buffer.begin(0, theta.numel())
    writer.append(theta)
    writer.append(theta + 0.01 * noise, 0.0, 0.0)
    writer.publish()
    return buffer


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that times are right."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


DISTURBED = 1.25
"""Times its CPU time that a piece of work may take before it counts as disturbed."""


class Stopwatch:
    """Seconds of work, as they would be if nothing else ran on the machine.

    On a CPU that has other work, a process waits, and two threads that take turns wait for each other: a step was seen
    to take two hundred times as long. So where work took much longer than the main thread was on a CPU, the latter
    counts. It is there all the time, computing or waiting for other threads, where the machine is quiet.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.restart()

    def restart(self) -> None:
        """What was before counts for nothing."""
        self._wall, self._cpu = time.perf_counter(), time.thread_time()

    def lap(self) -> float:
        """Seconds since the last lap or restart."""
        synchronise(self._device)
        wall, cpu = time.perf_counter(), time.thread_time()
        passed, worked = wall - self._wall, cpu - self._cpu
        self._wall, self._cpu = wall, cpu
        seconds = worked if self._device.type == "cpu" and passed > DISTURBED * worked > 0 else passed
        return seconds


class Meter:
    """Memory that a stage takes, above what the process held before."""

    def __init__(self, device: torch.device) -> None:
        import psutil

        self._cuda = device if device.type == "cuda" else None
        self._host = psutil.Process().memory_info().rss
        self._device = 0
        if self._cuda is not None:
            torch.cuda.reset_peak_memory_stats(self._cuda)
            self._device = torch.cuda.memory_allocated(self._cuda)

    def read(self) -> dict[str, int]:
        """Bytes: `base` the process held before; `host` and `device` at most above that since."""
        device = torch.cuda.max_memory_allocated(self._cuda) - self._device if self._cuda is not None else 0
        return {"base": self._host, "host": max(0, peak_bytes() - self._host), "device": device}
