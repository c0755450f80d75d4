"""Images of a cached array by number: from memory that all processes of a host share, or read from the file.

Pages of a mapped file count as memory of every process that touched them, and random batches touch all of them. Reading
leaves them in the system's page cache alone, which is as quick but for the system calls: some 2 us an image.
"""

import mmap
import os
import weakref
from pathlib import Path

import numpy as np

from engine.data.dataset import Classes, Pixels
from engine.errors import CorruptFileError
from engine.storage.reading import close_quietly, told_reads

MOST_BUFFERS = 1024
"""Buffers one system call may fill (IOV_MAX of Linux and macOS)."""


class Rows:
    """Reads rows of an array. Safe to share between threads.

    Args:
        pixels: `(N, C, H, W)`, possibly memory-mapped from a file.
        mapped: use the mapping; else read a mapped array's file. An array in memory is used as it is.
    """

    def __init__(self, pixels: Pixels, *, mapped: bool) -> None:
        self._pixels = pixels
        self.shape: tuple[int, ...] = pixels.shape[1:]
        """(C, H, W)."""
        self._file: int | None = None
        # A part of a mapping has the offset of the whole.
        whole = isinstance(pixels, np.memmap) and isinstance(pixels.base, mmap.mmap) and pixels.flags.c_contiguous
        if isinstance(pixels, np.memmap) and whole and not mapped and pixels.size:
            self._path, self._offset = str(pixels.filename), pixels.offset
            with told_reads(Path(self._path)):
                self._file = os.open(self._path, os.O_RDONLY)
            weakref.finalize(self, close_quietly, self._file)

    def read(self, index: Classes) -> Pixels:
        """The rows `(n, C, H, W)` with these numbers `(n,)`, in separate memory."""
        found = np.empty((len(index), *self.shape), dtype=np.uint8)
        self.read_into(found, index)
        return found

    def read_into(self, found: Pixels, index: Classes) -> None:
        """Write the rows with these numbers `(n,)` to an array `(n, C, H, W)`.

        Raises:
            CorruptFileError: the file is shorter than it was.
            UnreadableFileError: the system refuses to read it now.
        """
        if self._file is None:
            np.take(self._pixels, index, axis=0, out=found, mode="clip")  # "raise" would make a copy first
            return
        if not len(index):
            return
        order = np.argsort(index, kind="stable")  # the file is read in its order
        wanted = index[order]
        size = found[0].size
        flat = found.reshape(-1).data
        buffers = [flat[at * size : (at + 1) * size] for at in order.tolist()]
        # Neighbours in the file are read in one call.
        ends = [*(np.flatnonzero(np.diff(wanted) != 1) + 1).tolist(), len(wanted)]
        begin = 0
        for end in ends:
            for first in range(begin, end, MOST_BUFFERS):
                part = buffers[first : min(end, first + MOST_BUFFERS)]
                self._fill(part, self._offset + int(wanted[first]) * size)
            begin = end

    def _fill(self, buffers: list[memoryview], offset: int) -> None:
        """Read from there until the buffers are full: one call may return less, as on network file systems."""
        assert self._file is not None
        while buffers:
            with told_reads(Path(self._path)):
                count = os.preadv(self._file, buffers, offset)
            if not count:
                raise CorruptFileError(
                    f"{self._path} is shorter than when it was opened.",
                    "Run the same command again: the dataset is then checked, and decoded again if it is damaged.",
                )
            offset += count
            while buffers and count >= len(buffers[0]):
                count -= len(buffers.pop(0))
            if count:
                buffers[0] = buffers[0][count:]
