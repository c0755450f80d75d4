"""The safetensors format, streamed: tensors go to a file and come back without a second copy of them in memory.

A file is the length of a header (8 bytes), the header (JSON: type, shape and place of every tensor), and the tensors'
bytes. https://github.com/huggingface/safetensors#format. The library's own `save` and `load` hold a file as one string
beside its tensors; a checkpoint of 50,000 images of 3x64x64 with momentum has five gigabytes.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}

PIECE = 2**26
"""Bytes handled at once: what a device's tensor takes on the host while it is written."""


def file_parts(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """The bytes of a safetensors file, piece by piece; a piece is good until the next one is asked for."""
    # Wide types first, so that every tensor is aligned; then by name.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {}
    place = 0
    for name in names:
        tensor = tensors[name]
        end = place + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield memoryview(len(text).to_bytes(8, "little") + text)
    for name in names:
        flat = tensors[name].detach().contiguous().view(-1)
        for piece in flat.split(PIECE // flat.element_size()):
            yield _bytes(piece.to("cpu"))


def read_file(path: Path, look: Callable[[memoryview], None]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, in memory of their own, on the CPU.

    Args:
        path: the file.
        look: is shown every byte of it, in order, as it is read: for a checksum.

    Raises:
        ValueError: not such a file; before anything large is allocated.
    """
    size = path.stat().st_size
    with open(path, "rb", buffering=0) as file:
        head = file.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or length > size - 8:
            raise ValueError("it is shorter than its header says")
        text = file.read(length)
        look(memoryview(head))
        look(memoryview(text))
        entries = _entries(text, size - 8 - length)
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


def read_rows(path: Path, name: str, rows: Sequence[int]) -> tuple[list[int], list[Tensor]]:
    """The shape of a tensor in a safetensors file, and some of its rows, in memory of their own; nothing else is read.

    The library's own slices leak some thirty bytes each (measured with safetensors 0.8), and a run
    reads two an iteration, for days.

    Raises:
        ValueError: not such a file, no such tensor, or no such row.
    """
    size = path.stat().st_size
    with open(path, "rb", buffering=0) as file:
        head = file.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or length > size - 8:
            raise ValueError("it is shorter than its header says")
        place = 8 + length
        for found, dtype, shape in _entries(file.read(length), size - place):
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
    return shape, tensors


def _entries(text: bytes, size: int) -> list[tuple[str, torch.dtype, list[int]]]:
    """Name, type and shape of the tensors in the order of their bytes, which must fill `size` without a gap."""
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        found = sorted(
            (*facts["data_offsets"], name, DTYPES[facts["dtype"]], facts["shape"]) for name, facts in header.items()
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("its header is damaged") from error
    place = 0
    for begin, end, _, dtype, shape in found:
        if begin != place or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError("its header does not fit its contents")
        place = end
    if place != size:
        raise ValueError("its header does not fit its contents")
    return [(name, dtype, shape) for _, _, name, dtype, shape in found]


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
