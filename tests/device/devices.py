"""The device that `pytest --device` names, and what the host waits for and draws on it."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

from tests import simulated_device
from tests.simulated_device import REPOSITORY, Record

NAMES = ("cpu", "sim", "cuda")


class Device:
    """The CPU, where nothing waits: a base for the others.

    Args:
        name: of `NAMES`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.torch = torch.device("cpu") if name == "cpu" else torch.device(name, 0)

    @contextmanager
    def recorded(self) -> Iterator[Record]:
        """Fill a record while the block runs; draws from global generators when it ends."""
        before = self._generators()
        with self._transfers() as record:
            yield record
        for state, now in zip(before, self._generators(), strict=True):
            if not torch.equal(state, now):
                record.draws.append("a global generator has moved")

    def _transfers(self) -> AbstractContextManager[Record]:
        return nullcontext(Record())

    def _generators(self) -> list[torch.Tensor]:
        return [torch.get_rng_state()]

    def in_use(self) -> AbstractContextManager[None]:
        """Around a test."""
        return nullcontext()

    def without_float64(self) -> AbstractContextManager[None]:
        """Refuse float64 on the device, where that can be simulated."""
        return nullcontext()


class SimulatedDevice(Device):
    """See tests/simulated_device.py."""

    def in_use(self) -> AbstractContextManager[None]:
        """See `Device`. PyTorch's own thread for the backward passes of a device crashes now and then with this one."""
        return torch.autograd.set_multithreading_enabled(False)

    def _transfers(self) -> AbstractContextManager[Record]:
        return simulated_device.recorded()

    def without_float64(self) -> AbstractContextManager[None]:
        """See `Device`."""
        return simulated_device.without_float64()


class CudaDevice(Device):
    """Blocking transfers by PyTorch's own account, of all threads."""

    @contextmanager
    def _transfers(self) -> Iterator[Record]:
        record = Record()

        def note(message: Warning | str, category: type[Warning], filename: str, line: int, *others: object) -> None:
            if "synchronizing CUDA operation" in str(message):
                path = Path(filename)
                short = path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path
                record.blocking.append(f"{short}:{line}")

        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = note
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield record
            finally:
                torch.cuda.set_sync_debug_mode(before)

    def _generators(self) -> list[torch.Tensor]:
        return [torch.get_rng_state(), torch.cuda.get_rng_state()]


def named_device(name: str) -> Device:
    """The device of this name."""
    return {"cpu": Device, "sim": SimulatedDevice, "cuda": CudaDevice}[name](name)
