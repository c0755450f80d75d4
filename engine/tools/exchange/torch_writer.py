"""`torch.save` through `storage.filesystem.disk`: a full disk is an error with the file's name, as everywhere."""

from pathlib import Path
from typing import Any

import torch

from engine.storage.filesystem import Write, disk

HELD = 2**16
"""Bytes held back."""


def save_tensors(path: Path, value: Any) -> None:
    """Write a new file of `torch.save`; its caller publishes it.

    Raises:
        DiskError: the system refused.
    """
    with disk.writing(path) as write:
        sink = _Sink(write)
        try:
            torch.save(value, sink)  # type: ignore[arg-type]  # it writes and flushes, no more
            sink.flush()
        except BaseException as error:
            raise sink.refused or error from None  # PyTorch's own words only say that it could not write


class _Sink:
    """A file that can only be written on, as `torch.save` needs it; what its first refusal was."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._held = bytearray()
        self.refused: BaseException | None = None

    def write(self, data: "bytes | memoryview") -> int:
        """Write on. An archive's headers are held back and written together: they are many and small."""
        if len(self._held) + len(data) > HELD:
            self.flush()
        if len(data) > HELD:
            self._now(data)
        else:
            self._held += data
        return len(data)

    def flush(self) -> None:
        """Write what is held back."""
        held, self._held = bytes(self._held), bytearray()
        self._now(held)

    def _now(self, data: "bytes | memoryview") -> None:
        if self.refused is not None or not len(data):
            return
        try:
            self._write(data)
        except BaseException as error:
            self.refused = error
            raise
