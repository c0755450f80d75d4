"""Files are whole or absent."""

import os
import tracemalloc
from pathlib import Path

import pytest
import torch

from engine.errors import CorruptFileError, NewerFormatError, UsageError
from engine.storage.atomic import publishing_folder, read_tensors, write_bytes, write_json, write_tensors
from engine.storage.tensors import read_file
from tests.live_bytes import LiveBytes

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}


def test_tensors_come_back_with_their_record(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.safetensors"
    write_tensors(path, TENSORS, {"iteration": 3})
    tensors, record = read_tensors(path)
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert record["iteration"] == 3


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "no record", "record", "no tensors", "newer"])
def test_every_damage_is_noticed(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {})
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
        path.write_bytes(data)
    elif damage == "truncate":
        path.write_bytes(data[:-5])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no record":
        path.with_suffix(".json").unlink()
    elif damage == "record":
        path.with_suffix(".json").write_text("{")
    elif damage == "no tensors":
        path.unlink()
    else:
        text = path.with_suffix(".json").read_text().replace('"format": 1', '"format": 99')
        path.with_suffix(".json").write_text(text)
    refusal = NewerFormatError if damage == "newer" else CorruptFileError
    with pytest.raises(refusal, match=r"x\.(safetensors|json)"):
        read_tensors(path)


def test_the_format_is_that_of_the_library(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    kinds = {
        "d": torch.randn(2, 3, dtype=torch.float64), "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4),
        "half": torch.randn(3).half(), "brain": torch.randn(3).bfloat16(), "b": torch.tensor([True, False, True]),
        "i": torch.arange(7), "turned": torch.randn(3, 5).T, "bytes": torch.arange(5, dtype=torch.uint8),
    }  # fmt: skip
    write_tensors(tmp_path / "ours.safetensors", kinds, {})
    theirs = load_file(tmp_path / "ours.safetensors")
    assert theirs.keys() == kinds.keys()
    assert all(torch.equal(theirs[name], kinds[name]) for name in kinds)
    save_file(
        {name: tensor.contiguous() for name, tensor in kinds.items()}, tmp_path / "theirs.safetensors", {"a": "b"}
    )
    seen: list[bytes] = []
    ours = read_file(tmp_path / "theirs.safetensors", lambda part: seen.append(bytes(part)))
    assert all(torch.equal(ours[name], kinds[name]) and ours[name].dtype == kinds[name].dtype for name in kinds)
    assert b"".join(seen) == (tmp_path / "theirs.safetensors").read_bytes()


def test_saving_and_reading_hold_no_second_copy(tmp_path: Path) -> None:
    tensors = {"images": torch.randn(2_000_000), "velocity": torch.randn(2_000_000)}
    size = sum(tensor.nbytes for tensor in tensors.values())
    path = tmp_path / "x.safetensors"
    with LiveBytes():  # what it imports is not to be counted
        torch.zeros(1).add_(1)
    tracemalloc.start()  # byte strings and buffers
    with LiveBytes(*tensors.values()) as written:  # tensors
        write_tensors(path, tensors, {})
    with LiveBytes() as read:
        back, _ = read_tensors(path)
    strings = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert written.peak == 0
    assert read.peak == size
    assert strings < size / 20
    assert torch.equal(back["images"], tensors["images"])


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(RuntimeError), publishing_folder(target) as temp:
        write_bytes(temp / "a", b"1")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with publishing_folder(target) as temp:
        write_bytes(temp / "a", b"1")
    assert (target / "a").read_bytes() == b"1"


def test_json_refuses_numbers_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_rows_of_a_tensor_are_read_alone(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from engine.storage.tensors import read_rows

    path = tmp_path / "t.safetensors"
    rows = torch.arange(12, dtype=torch.float32).view(4, 3)
    save_file({"before": torch.ones(5), "parameters": rows, "wide": torch.ones(2, dtype=torch.float64)}, path)
    shape, dtype, found = read_rows(path, "parameters", (3, 0))
    assert shape == [4, 3] and dtype is torch.float32
    assert torch.equal(torch.stack(found), rows[[3, 0]])
    for name, wanted in (("absent", (0,)), ("parameters", (4,)), ("parameters", (-1,))):
        with pytest.raises(ValueError, match="it"):
            read_rows(path, name, wanted)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="does not fit"):
        read_rows(path, "parameters", (0,))


@pytest.mark.parametrize("through", ["its name", "a link"])
def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path, through: str) -> None:
    """Root may replace `/dev/stdout`, and it would be a file for every program from then on."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    with pytest.raises(UsageError, match="not an ordinary file"):
        write_bytes(pipe if through == "its name" else link, b"x")
    assert pipe.is_fifo() and link.is_symlink() and sorted(tmp_path.iterdir()) == [link, pipe]
