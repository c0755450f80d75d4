"""Files made to break a reader: bombs, lies about sizes, numbers no computer holds. A clear refusal, at once."""

import gzip
import json
import mmap
import os
import resource
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine.data import DataRequest, prepare_dataset
from engine.data.decoding.pictures import load_picture, open_header
from engine.data.idx import read_idx
from engine.errors import CorruptFileError, DataError, SettingsError, TeslaError, UsageError
from engine.events import EvaluationDone, IterationDone, event_from_json
from engine.networks import build_network
from engine.runs.heartbeat import read_heartbeat
from engine.runs.journal import MOST_LINE, JournalWriter, last_entry, read_journal, read_lines
from engine.runs.liveness import driver_of
from engine.runs.preview_frames import frame_iterations, read_frame
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.settings import resolve_settings
from engine.storage.atomic import read_json, read_tensors, sha256_file, write_json
from engine.storage.holder import UNKNOWN
from engine.storage.tensors import read_rows
from engine.storage.untrusted import emptiness, read_bounded, typed
from engine.tools.exchange.torch_reader import examine, file_size
from tesla_tui.process.detached import ask_to_stop
from tests.fuzz.harness import resident
from tests.fuzz.reader import png_of

MOST_SECONDS = 5.0
MOST_MEMORY = 300e6


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    """What a library takes to be imported is no bomb."""
    import datasets  # noqa: F401
    import pyarrow.parquet  # noqa: F401


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """No test here takes long or much memory: a bomb that goes off would."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")
    before, begun = resident("VmRSS"), time.process_time()
    yield
    assert time.process_time() - begun < MOST_SECONDS
    assert resident("VmHWM") - before < MOST_MEMORY


# --- TOML


def refused(path: Path, text: str) -> SettingsError:
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        resolve_settings(path)
    assert len(str(caught.value)) < 600
    return caught.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 50_000, "not valid TOML|too deeply"),
        ("a = " + "{b = " * 10_000 + "1" + "}" * 10_000, "not valid TOML|too deeply"),
        (".".join(["a"] * 40_000) + " = 1", "too deeply|not valid TOML"),
        ("[" + ".".join(["distill"] * 5_000) + "]\nx = 1", "too deeply"),
        ("x = '" + "y" * 2**19 + "'", "has 524,294 bytes"),
        ("\n".join(f"[t{i}]\nx = 1" for i in range(12_000)), "There is no setting"),
        ("'" + "k" * 100_000 + "' = 1", "There is no setting"),
        ("seed = " + "9" * 5000, "not valid TOML"),
        ("seed = 0x" + "f" * 50_000, "`seed` must be"),
        ("seed = 9223372036854775808", "`seed` must be"),
        ("seed = -1", "`seed` must be"),
        ("seed = inf", "`seed` must be"),
        ("[distill]\nipc = 1e400", "`distill.ipc` must be"),
        ("[distill]\nipc = 1180591620717411303424", "`distill.ipc` must be less than"),
        ("[distill]\nlr_images = nan", "`distill.lr_images` must be"),
        ("[distill]\nlr_images = 1e400", "`distill.lr_images` must be"),
        ("[distill]\nsteps = 2000000000", "`distill.steps` must be less than"),
        ("[distill]\nbatch = [[[]]]", "`distill.batch` must be"),
        ("[network]\nwidth = 1000000", "`network.width` must be less than"),
        ("[compute]\nthreads = 1000000", "`compute.threads` must be"),
        ("[dataset]\nname = [1, 2]", "`dataset.name` must be"),
        ("[dataset]\nname = {a = 1}", "dataset.name"),
        ("ipc = 5", "group of tables"),
        ("ipc = {10 = 5}", "group of tables"),
        ("[ipc.10.distill.steps]\nx = 1", "There is no setting"),
        ("[evaluate]\nnetworks = [1, 2]", "`evaluate.networks` must be"),
        ("seed = 1979-05-27T07:32:00Z", "`seed` must be"),
        ("seed = 1\n\x00", "not valid TOML"),
    ],
    ids=range(28),
)
def test_settings_bombs(tmp_path: Path, text: str, words: str) -> None:
    import re

    assert re.search(words, str(refused(tmp_path / "tesla.toml", text)))


def test_settings_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "tesla.toml"
    path.write_bytes(b"seed = 1\n# \xff\xfe")
    with pytest.raises(SettingsError, match="not valid TOML"):
        resolve_settings(path)


@pytest.mark.parametrize("text", ["provenance = 5", "[provenance]\nseed = 5", "[provenance.seed]\nx = 1"])
def test_a_frozen_provenance_that_is_none(workspace: Workspace, text: str) -> None:
    run = workspace.run("r")
    run.folder.mkdir(parents=True)
    run.settings_file.write_text(text)
    with pytest.raises(SettingsError, match="provenance"):
        run.frozen()


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("convnet", {"width": 65536}), ("vit", {"width": 65536, "depth": 64}), ("resnet18", {"width": 65536})],
)
def test_a_network_larger_than_the_machine_is_refused_before_it_is_made(name: str, sizes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"would have .* parameters, .* [GT]B; this machine has"):
        build_network(name, channels=3, classes=10, resolution=32, **sizes)


# --- JSON: pulse, driver, evaluations, events


@pytest.mark.parametrize(
    "text",
    [b"[" * 200_000, b'{"a":' * 100_000, b"9" * 10_000, b"{}", b"[]", b"null", b'"\\ud800"', b"\xff", b"", b"NaN"],
)
def test_json_that_is_none_of_ours(workspace: Workspace, text: bytes) -> None:
    run = workspace.run("r")
    run.folder.mkdir(parents=True)
    for path in (run.heartbeat_file, run.folder / "driver.json", run.folder / "evaluations" / "x.json"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text)
    assert read_heartbeat(run.heartbeat_file) is None
    assert driver_of(run) == UNKNOWN
    assert run.evaluations() == []


def test_a_json_file_with_a_hole_of_a_gigabyte(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.touch()
    os.truncate(path, 2**30)
    with pytest.raises(CorruptFileError, match="1,073,741,824 bytes"):
        read_json(path)


@pytest.mark.parametrize(
    "facts",
    [
        {"pid": -1}, {"pid": 0}, {"pid": 1}, {"pid": 2**40}, {"pid": 1.5}, {"pid": True}, {"pid": "7"},
        {"since": 1e300}, {"since": float("inf")}, {"since": -1}, {"host": 5},
    ],
)  # fmt: skip
def test_a_driver_that_cannot_be(workspace: Workspace, facts: dict[str, Any]) -> None:
    """`tesla stop` signals the process that is named here; -1 would be every process of the user."""
    run = workspace.run("r")
    run.folder.mkdir(parents=True)
    (run.folder / "driver.json").write_text(json.dumps({"pid": 77, "host": "h", "since": 1.0, **facts}))
    assert driver_of(run) == UNKNOWN
    with pytest.raises(UsageError):
        ask_to_stop(run)
    write_json(run.folder / "driver.json", {"pid": 77, "host": "h", "since": 1.0})
    assert driver_of(run) is not None


EVALUATION = {
    "iteration": 1, "subject": "distilled", "split": "test", "network": "n", "mean": 0.5, "std": 0.0,
    "accuracies": [0.5], "seconds": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mean", "0.5"), ("mean", None), ("mean", float("nan")), ("mean", float("inf")), ("mean", True), ("mean", []),
        ("iteration", 1.5), ("iteration", 2**63), ("iteration", 10**400), ("iteration", True), ("network", 5),
        ("accuracies", 5), ("accuracies", ["x"]), ("accuracies", {"a": 1}),
    ],
)  # fmt: skip
def test_fields_of_the_wrong_type(key: str, value: Any) -> None:
    assert typed(EvaluationDone, EVALUATION)
    with pytest.raises(ValueError, match=key):
        typed(EvaluationDone, {**EVALUATION, key: value})
    assert event_from_json({"kind": "EvaluationDone", **EVALUATION, key: value}) is None
    assert event_from_json({"kind": "EvaluationDone", **EVALUATION, "later": value}) is not None
    assert event_from_json({"kind": value, **EVALUATION}) is None


# --- the journal


def line(iteration: int = 1) -> bytes:
    event = IterationDone(
        iteration=iteration, iterations=9, loss=1.0, student_lr=0.1, gradient_norm=1.0, student_lr_gradient=0.1,
        trajectory=0, start_epoch=0, seconds=0.1,
    )  # fmt: skip
    return json.dumps({"schema": 1, "seq": iteration, "time": 5.0, "kind": "IterationDone", **vars(event)}).encode()


def test_a_journal_of_two_gigabytes_without_a_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line(1) + b"\n" + line(2) + b"\n")
    os.truncate(path, 2**31)
    found, offset = read_lines(path, 0, 2**20)
    assert [value["iteration"] for value in found] == [1, 2]
    assert read_lines(path, offset, MOST_LINE) == ([], offset + 2 * MOST_LINE)  # it goes on, piece by piece
    assert last_entry(path) is None
    journal = JournalWriter(path)
    event = event_from_json(json.loads(line(3)))
    assert event is not None
    journal.append(event)
    last = last_entry(path)
    assert last is not None
    assert last.event == event


def test_a_line_longer_than_any_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line(1) + b"\n" + b'{"kind": "' + b"x" * (2 * MOST_LINE) + b'"}\n' + line(2) + b"\n")
    found = list(read_journal(path))
    assert [entry.event.iteration for entry, _ in found if isinstance(entry.event, IterationDone)] == [1, 2]
    assert found[-1][1] == path.stat().st_size
    values, offset = [], 0
    while True:
        new, after = read_lines(path, offset, 1000)
        values += [value["iteration"] for value in new]
        if after == offset:
            break
        offset = after
    assert values == [1, 2]


# --- tensors


def tensor_file(path: Path, header: Any, size: int = 64, length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text)
    os.truncate(path, path.stat().st_size + size)
    path.with_suffix(".json").write_text(json.dumps({"format": 1, "sha256": "0" * 64, "iteration": 1}))


def entry(shape: Any = (16,), offsets: Any = (0, 64), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("header", "arguments"),
    [
        ({"a": entry()}, {"length": 2**60}),
        ({"a": entry()}, {"length": 2**64 - 1}),
        ({"a": entry([2**58], [0, 2**60])}, {}),
        ({"a": entry([8], [0, 32]), "b": entry([12], [16, 64])}, {}),
        ({"a": entry([8], [0, 32])}, {}),
        ({"a": entry([-4, -4])}, {}),
        ({"a": entry([4.0, 4])}, {}),
        ({"a": entry([True, 16])}, {}),
        ({"a": entry(["16"])}, {}),
        ({"a": entry([0, 2**62], [0, 0])}, {"size": 0}),
        ({"a": entry([1] * 100_000 + [16])}, {}),
        ({"a": entry([16], [0, 32, 64])}, {}),
        ({"a": entry([16], [0.0, 64.0])}, {}),
        ({"a": entry([16], [-64, 0])}, {}),
        ({"a": entry([16], None)}, {}),
        ({"a": entry(dtype="F128")}, {}),
        ({"a": entry(dtype=["F32"])}, {}),
        ({"a": [entry()]}, {}),
        ([entry()], {}),
        (b"[" * 100_000, {}),
        (b" " * 2**21, {}),
        (b"\xff\xfe", {}),
    ],
    ids=range(22),
)
def test_tensor_headers_that_lie(tmp_path: Path, header: Any, arguments: dict[str, int]) -> None:
    path = tmp_path / "x.safetensors"
    tensor_file(path, header, **arguments)
    with pytest.raises(CorruptFileError, match=r"x\.safetensors is not a complete safetensors file"):
        read_tensors(path)


def test_a_tensor_file_with_a_hole_of_a_terabyte(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    try:
        tensor_file(path, {"a": entry([2**38], [0, 2**40])}, size=2**40)
    except OSError:
        pytest.skip("this file system has no files of that size")
    with pytest.raises(CorruptFileError, match=r"1\.1 TB, of which only .* on the disk"):
        read_tensors(path)


# --- idx


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (struct.pack(">HBBIII", 0, 8, 3, 2**31, 2**31, 2**31), "claims"),
        (struct.pack(">HBBIII", 0, 8, 3, 60_000, 28, 28), "there are 0"),
        (struct.pack(">HBBI", 0, 8, 1, 4) + bytes(2**26), "there are more"),
        (struct.pack(">HBB", 0, 8, 255), "255 axes"),
        (struct.pack(">HBBI", 0, 13, 1, 4) + bytes(16), "not an idx file"),
        (b"", "cannot be read"),
        (b"\x00", "cannot be read"),
    ],
    ids=["huge", "short", "gzip bomb", "axes", "floats", "empty", "byte"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_idx_headers_that_lie(tmp_path: Path, data: bytes, words: str, zipped: bool) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(data, 1) if zipped else data)
    with pytest.raises(DataError, match=words):
        read_idx(path)


@pytest.mark.slow
def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """A gigabyte of zeros from a megabyte: as much of it is unpacked as the header says, and a byte."""
    path = tmp_path / "x.gz"
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    with open(path, "wb") as file:
        file.write(squeeze.compress(struct.pack(">HBBI", 0, 8, 1, 4)))
        for _ in range(16):
            file.write(squeeze.compress(bytes(2**24)))
        file.write(squeeze.flush())
    with pytest.raises(DataError, match="there are more"):
        read_idx(path)


# --- pictures


def png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    squeezed = zlib.compress(bytes(2**20), 9)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return png_of([(b"IHDR", head), (b"IDAT", squeezed), (b"IEND", b"")])


@pytest.mark.parametrize("side", [(100_000, 100_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (0, 5), (20_000, 20_000)])
def test_pictures_that_claim_to_be_huge(tmp_path: Path, side: tuple[int, int]) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png(*side))
    with pytest.raises(DataError, match=r"x\.png is not a readable image|x\.png cannot be decoded"):
        open_header(path)
        load_picture(path)


def test_a_picture_that_ends_before_its_size(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png(3000, 3000))
    with pytest.raises(DataError, match="cannot be decoded"):
        load_picture(path)


def test_text_in_a_picture_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    bomb = b"comment\0\0" + zlib.compress(bytes(2**27), 9)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)), (b"zTXt", bomb)]
    for name, read in (("x.png", open_header), ("0000001.png", read_frame)):
        (tmp_path / name).write_bytes(png_of([*parts, (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b"")]))
        with pytest.raises((DataError, CorruptFileError)):
            read(tmp_path / name)


# --- frames


def frame(layout: Any, side: int = 8, colour: int = 0) -> bytes:
    text = layout if isinstance(layout, bytes) else json.dumps(layout).encode()
    itxt = b"tesla\0\1\0\0\0" + zlib.compress(text)
    rows = zlib.compress(bytes((side * (1 if colour == 0 else 3) + 1) * side))
    head = struct.pack(">IIBBBBB", side, side, 8, colour, 0, 0, 0)
    return png_of([(b"IHDR", head), (b"iTXt", itxt), (b"IDAT", rows), (b"IEND", b"")])


LAYOUT = {"format": 1, "iteration": 1, "count": 1, "shown": 1, "side": 8, "factor": 1, "top": None}


def test_a_frame_made_by_hand_is_read(tmp_path: Path) -> None:
    (tmp_path / "0000001.png").write_bytes(frame(LAYOUT))
    assert read_frame(tmp_path / "0000001.png").pixels.shape == (1, 8, 8, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"count": 10**9}, {"count": 0}, {"count": -1}, {"count": 1e9}, {"count": float("inf")}, {"count": "1"},
        {"side": 10**6}, {"side": 0}, {"side": 2**63}, {"factor": 0}, {"factor": 10**9}, {"shown": 10**9},
        {"shown": 0}, {"iteration": -5}, {"iteration": None}, {"top": 5}, {"top": [[["x", 1]]]},
        {"top": [[[2**40, 1]]]},
        {"top": [[[0, float("nan")]]]}, {"top": []}, {"top": [[[0]]]}, {"top": [5]}, {"top": {"0": 1}},
    ],
)  # fmt: skip
def test_frames_whose_layout_lies(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "0000001.png"
    path.write_bytes(frame({**LAYOUT, **change}))
    with pytest.raises(CorruptFileError, match=r"0000001\.png cannot be read as a frame"):
        read_frame(path)


@pytest.mark.parametrize("text", [b"[" * 100_000, b"[]", b"5", b"", b"\xff"])
def test_frames_without_a_layout(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "0000001.png"
    path.write_bytes(frame(text))
    with pytest.raises(CorruptFileError, match="cannot be read as a frame"):
        read_frame(path)


def test_files_with_numbers_for_names_that_we_would_not_give(tmp_path: Path, workspace: Workspace) -> None:
    run = workspace.run("r")
    for folder, suffix in ((run.film, ".png"), (run.folder / "checkpoints", ".safetensors")):
        folder.mkdir(parents=True)
        for name in ("5", "\u00b2", "\u0661\u0662\u0663", "0" * 100, "9" * 200, "-1", "0000007"):
            (folder / f"{name}{suffix}").touch()
            (folder / f"{name}.json").touch()
    assert frame_iterations(run.film) == [7]
    assert run.checkpoints() == [7]


# --- datasets


def test_folders_whose_names_are_no_text(tmp_path: Path) -> None:
    for name in (b"\xff\xfe", b"\x1b]52;c;ZXZpbA==\x07", b"[red]", b"plain"):
        folder = os.path.join(os.fsencode(tmp_path / "data"), name)  # noqa: PTH118 - names that are no text
        os.makedirs(folder)  # noqa: PTH103
        for number in range(3):
            Image.new("L", (8, 8), number * 50).save(folder + b"/%d.png" % number, format="PNG")
    found = run_to_end(prepare_dataset(DataRequest("folder", path=tmp_path / "data"), cache=tmp_path / "cache"))
    assert len(found.classes) == 4
    assert "\ufffd" * 2 in found.classes


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    (tmp_path / "hub").mkdir()
    return tmp_path / "hub" / "train-00000-of-00001.parquet"


def rows_of(path: Path, images: list[Any]) -> None:
    import datasets
    import pyarrow
    import pyarrow.parquet

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    struct_type = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    table = pyarrow.table(
        {"image": pyarrow.array(images, struct_type), "label": [i % 2 for i in range(len(images))]}
    ).replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": features.to_dict()}}).encode()})
    pyarrow.parquet.write_table(table, path, compression="zstd", use_dictionary=False)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["here", "https://127.0.0.1:9/x.png", "zip://x.png::https://127.0.0.1:9/x.zip"])
def test_a_path_in_the_place_of_an_image_is_not_opened(tmp_path: Path, parquet: Path, where: str) -> None:
    mine = tmp_path / "mine.png"
    Image.new("L", (8, 8), 77).save(mine)
    rows_of(parquet, [{"bytes": None, "path": str(mine) if where == "here" else where}] * 4)
    with pytest.raises(DataError, match="holds a path instead of an image"):
        run_to_end(prepare_dataset(DataRequest("someone/pets", path=parquet.parent), cache=tmp_path / "cache"))


@pytest.mark.slow
def test_a_table_that_unpacks_to_absurdly_much(tmp_path: Path, parquet: Path) -> None:
    rows_of(parquet, [{"bytes": bytes(2**22), "path": None}] * 16)
    with pytest.raises(DataError, match=r"claims 16 rows .* MB in a file of"):
        run_to_end(prepare_dataset(DataRequest("someone/pets", path=parquet.parent), cache=tmp_path / "cache"))


def test_a_folder_that_is_called_like_a_hub_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "someone" / "pets").mkdir(parents=True)
    with pytest.raises(DataError, match="is both a local folder"):
        run_to_end(prepare_dataset(DataRequest("someone/pets"), cache=tmp_path / "cache"))


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "a\x00b", "x" * 5000, "/dev/zero", "/dev/null"])
@pytest.mark.parametrize("name", ["folder", "fashion-mnist", "someone/pets"])
def test_dataset_paths_that_are_none(workspace: Workspace, path: str, name: str) -> None:
    workspace.toml.write_text(f"[dataset]\nname = {json.dumps(name)}\npath = {json.dumps(path)}\n")
    with pytest.raises((TeslaError, OSError)):
        run_to_end(workspace.open_dataset(workspace.settings().settings))


def test_the_largest_resident_size_is_measured() -> None:
    """What this file's own guard rests on."""
    before = resident("VmRSS")
    with mmap.mmap(-1, 160_000_000) as block:  # not from the allocator, which may have room from earlier tests
        for _ in range(160):
            block.write(bytes(1_000_000))
        assert resident("VmHWM") - before > 100e6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0


@pytest.mark.parametrize("head", [b"", b"PK\x03\x04", b"\x93NUMPY", b"\x89PNG\r\n\x1a\n", b"PAR1", b"\x80\x02}q"])
def test_a_huge_file_that_is_all_hole_is_not_read(tmp_path: Path, workspace: Workspace, head: bytes) -> None:
    """Reading 4 TB of nothing takes hours; where it comes from does not matter."""
    for name in ("a.pt", "a.safetensors", "a.npz", "journal.jsonl", "a.png", "a.idx"):
        path = tmp_path / name
        with open(path, "wb") as file:
            file.write(head)
            try:
                file.truncate(2**42)
            except OSError:
                pytest.skip("the file system has no sparse files of this size")
    run = workspace.run("r")
    run.folder.mkdir(parents=True)
    (tmp_path / "journal.jsonl").rename(run.journal_file)
    for read in (
        lambda: file_size(tmp_path / "a.pt"),
        lambda: run_to_end(examine(tmp_path / "a.npz", 0, 1)),
        lambda: read_rows(tmp_path / "a.safetensors", "x", [0]),
        lambda: sha256_file(tmp_path / "a.safetensors"),
        lambda: list(read_journal(run.journal_file)),
        lambda: load_picture(tmp_path / "a.png"),
        lambda: read_idx(tmp_path / "a.idx"),
    ):
        with pytest.raises((CorruptFileError, DataError)) as caught:
            read()
        assert "has 4.4 TB, of which only" in caught.value.message


def test_a_small_hole_and_a_file_under_compression_are_read(tmp_path: Path) -> None:
    with open(tmp_path / "hole", "wb") as file:
        file.truncate(10**6)
    assert len(read_bounded(tmp_path / "hole", 10**7)) == 10**6

    class Status:
        st_size, st_blocks = 2**36, 2**36 // 512 // 50  # 50 times smaller

    assert emptiness(Status) == ""  # type: ignore[arg-type]
    Status.st_blocks //= 3
    assert "has 68.7 GB, of which only" in emptiness(Status)  # type: ignore[arg-type]
