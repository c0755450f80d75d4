"""The safetensors format, streamed: tensors go to a file and come back without a second copy of them in memory.

A file is the length of a header (8 bytes), the header (JSON: type, shape and place of every tensor), and the tensors'
bytes. https://github.com/huggingface/safetensors#format.

The safetensors library (0.8) reads and writes files without a second copy too, but it opens them itself. This reader
and writer exist because here

* every byte written goes through `storage.filesystem.disk`, where tests cut the power or fill the disk at any call, and
  a full disk becomes an error with the file's name;
* the sha256 of the record is computed from the same bytes, while they are written or read, not in a second pass;
* a header is checked before anything is allocated: a file that claims 2^60 numbers, or is a hole of a terabyte, is
  refused within milliseconds;
* a trajectory is written row by row, while its rows come from another file, and read row by row.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import psutil
import torch
from torch import Tensor

from engine.storage.filesystem import format_bytes
from engine.storage.untrusted import open_regular, parse_json, whole_number

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}

PIECE = 2**26
"""Bytes handled at once: the host memory that a device's tensor takes while it is written."""

MOST_HEADER = 2**20
"""Longest header that is accepted, bytes; those written here have a few hundred."""
MOST_AXES = 8


def file_parts(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """The bytes of a safetensors file, piece by piece; a piece is valid until the next one."""
    # Wide types first, so that every tensor is aligned; then by name.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {}
    place = 0
    for name in names:
        tensor = tensors[name]
        end = place + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [place, end]}
        place = end
    yield _head(header)
    for name in names:
        flat = tensors[name].detach().contiguous().view(-1)
        for piece in flat.split(PIECE // flat.element_size()):
            yield _bytes(piece.to("cpu"))


def row_parts(name: str, rows: Iterable[Tensor], count: int) -> Iterator[memoryview]:
    """The bytes of a safetensors file with one tensor `(count, P)`, float32, given row by row, one in memory."""
    done = 0
    for row in rows:
        if done == 0:
            size = row.numel() * 4
            yield _head({name: {"dtype": "F32", "shape": [count, row.numel()], "data_offsets": [0, count * size]}})
        yield _bytes(row.detach().to("cpu", torch.float32).contiguous())
        done += 1
    assert done == count, "the header says how many rows there are"


def read_file(path: Path, look: Callable[[memoryview], None]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, in separate memory, on the CPU.

    Args:
        path: the file.
        look: called with every byte of the file, in order, as it is read: for a checksum.

    Raises:
        ValueError: not such a file, or larger than this machine's memory; before anything large is allocated.
        CorruptFileError: not a regular file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        head, text = _header(file, size)
        physical = psutil.virtual_memory().total
        if size > physical:  # a sparse file takes no space on the disk
            raise ValueError(f"it has {format_bytes(size)}, and this machine {format_bytes(physical)} of memory")
        look(memoryview(head))
        look(memoryview(text))
        entries = _entries(text, size - 8 - len(text))
        tensors: dict[str, Tensor] = {}
        for name, dtype, shape in entries:
            tensor = torch.empty(shape, dtype=dtype)
            whole = _bytes(tensor.view(-1))
            for start in range(0, len(whole), PIECE):
                piece = whole[start : start + PIECE]
                _fill(file, piece)
                look(piece)
            tensors[name] = tensor
    return tensors


def _head(header: Mapping[str, Any]) -> memoryview:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return memoryview(len(text).to_bytes(8, "little") + text)


def read_rows(path: Path, name: str, rows: Sequence[int]) -> tuple[list[int], torch.dtype, list[Tensor]]:
    """Shape and type of a tensor in a safetensors file, and some of its rows, in separate memory; no more is read.

    The library's own slices leak some thirty bytes each (measured with safetensors 0.8), and a run
    reads two an iteration, for days.

    Raises:
        ValueError: not such a file, no such tensor, or no such row.
        CorruptFileError: not a regular file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        _, text = _header(file, size)
        place = 8 + len(text)
        for found, dtype, shape in _entries(text, size - place):
            if found == name:
                break
            place += math.prod(shape) * dtype.itemsize
        else:
            raise ValueError(f"it has no tensor {name}")
        if len(shape) == 0 or not all(0 <= row < shape[0] for row in rows):
            raise ValueError(f"it does not have all of the rows {', '.join(map(str, rows))}")
        width = math.prod(shape[1:])
        tensors = []
        for row in rows:
            tensor = torch.empty(width, dtype=dtype)
            file.seek(place + row * width * dtype.itemsize)
            _fill(file, _bytes(tensor))
            tensors.append(tensor.view(shape[1:]))
    return shape, dtype, tensors


def _header(file: BinaryIO, size: int) -> tuple[bytes, bytes]:
    """The first 8 bytes and the JSON after them."""
    head = file.read(8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > size - 8:
        raise ValueError("it is shorter than its header says")
    if length > MOST_HEADER:
        raise ValueError("its header is too long")
    return head, file.read(length)


def _entries(text: bytes, size: int) -> list[tuple[str, torch.dtype, list[int]]]:
    """Name, type and shape of the tensors in the order of their bytes, which must fill `size` without a gap."""
    try:
        header = parse_json(text)
        header.pop("__metadata__", None)
        found = [
            (*map(_length, facts["data_offsets"]), name, DTYPES[facts["dtype"]], [_length(n) for n in facts["shape"]])
            for name, facts in header.items()
        ]
        found.sort(key=lambda entry: entry[:2])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("its header is damaged") from error
    place = 0
    for entry in found:
        if len(entry) != 5:
            raise ValueError("its header is damaged")
        begin, end, _, dtype, shape = entry
        if len(shape) > MOST_AXES or math.prod(max(n, 1) for n in shape) >= 2**60:
            raise ValueError("its header has an impossible shape")
        if begin != place or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError("its header does not fit its contents")
        place = end
    if place != size:
        raise ValueError("its header does not fit its contents")
    return [(name, dtype, shape) for _, _, name, dtype, shape in found]


def _length(value: Any) -> int:
    if not whole_number(value) or value < 0:
        raise ValueError("not a length")
    return int(value)


def _bytes(flat: Tensor) -> memoryview:
    """The memory of a flat tensor on the CPU."""
    return memoryview(flat.view(torch.uint8).numpy().data)


def _fill(file: Any, piece: memoryview) -> None:
    done = 0
    while done < len(piece):
        count = file.readinto(piece[done:])
        if not count:
            raise ValueError("it ends too early")
        done += count
