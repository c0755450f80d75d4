"""Every reader of a file that a stranger can make, with a valid file for it, and the ways to spoil one.

A reader gets a folder that `lay` has filled, and calls the engine by its public doors. It may return anything or
raise a `TeslaError`; anything else that comes out is a bug.
"""

import gzip
import io
import json
import os
import shutil
import struct
import zipfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from engine.data import DataRequest, find_source
from engine.data.cache import open_cache, prepare_dataset, verify_cache
from engine.data.decoding.pictures import load_picture, open_header, to_square
from engine.data.idx import read_idx
from engine.events import EvaluationDone, IterationDone, Notice, RunStarted, TeachersPlanned
from engine.methods.tesla_state import initial_state, restore_state
from engine.runs.heartbeat import read_heartbeat
from engine.runs.journal import JournalWriter, last_entry, read_journal, read_lines
from engine.runs.liveness import driver_of, driver_words, liveness
from engine.runs.preview_frames import Frame, frame_iterations, read_frame, write_frame
from engine.runs.selection import selected_iteration
from engine.runs.status import run_status
from engine.runs.workspace import Workspace
from engine.runtime.device import configure
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from engine.settings import settings_to_toml
from engine.settings.trust import check_trusted, place_of
from engine.storage.holder import UNKNOWN
from engine.storage.tensors import file_parts
from engine.tools.doctor import examine_workspace
from engine.tools.exchange.import_images import Wanted, import_images, prepare_images
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.trajectory import Position
from tesla_tui.live.preferences import load_preferences
from tesla_tui.watch.teachers import BufferReader
from tesla_tui.watch.view import RunView
from tests.conftest import TINY
from tests.fuzz.doors import DOORS
from tests.fuzz.reader import (
    SETTINGS,
    Reader,
    any_damage,
    frame_edits,
    idx_edits,
    json_edits,
    line_edits,
    seal,
    tensor_edits,
    toml_edits,
    with_run,
    workspace,
)


def lay_journal(folder: Path) -> None:
    with_run(folder)
    run = workspace(folder).run("r")
    writer = JournalWriter(run.journal_file)
    result = EvaluationDone(iteration=2, subject="distilled", split="test", network="n", mean=0.5, std=0.1, seconds=1.0)
    for event in (
        RunStarted(run="r", resumed_from=None, settings=SETTINGS.flat(), environment={"torch": "2"}),
        TeachersPlanned(buffer="b", count=2, epochs=2, epochs_asked=4, missing=1, bytes=10),
        *(
            IterationDone(
                iteration=i, iterations=9, loss=1.0, student_lr=0.1, gradient_norm=1.0, student_lr_gradient=0.1,
                trajectory=0, start_epoch=0, seconds=0.1,
            ) for i in (1, 2, 3)
        ),
        result,
        Notice(level="info", message="text"),
    ):  # fmt: skip
        writer.append(event)


def read_a_journal(folder: Path) -> None:
    run = workspace(folder).run("r")
    list(read_journal(run.journal_file))
    last_entry(run.journal_file)
    view, offset = RunView(), 0
    while True:
        lines, after = read_lines(run.journal_file, offset, 500)
        view.fold(lines)
        if after == offset:
            break
        offset = after
    assert view.pace is None or view.pace == view.pace
    view.eta, view.driven_seconds(1.0), view.held_out(), view.baseline(), view.tests(), view.best()
    view.loss.points()
    run_status(run)
    JournalWriter(run.journal_file).append(Notice(level="info", message="next"))
    assert last_entry(run.journal_file) is not None


def lay_heartbeat(folder: Path) -> None:
    with_run(folder)
    run = workspace(folder).run("r")
    beat = {"pid": 5, "host": "h", "beat": 1.0, "moved": 1.0, "paused": False, "stage": "s", "done": 1.0, "total": 2.0}
    run.heartbeat_file.write_text(json.dumps(beat))
    (run.folder / "driver.json").write_text(json.dumps({"pid": 5, "host": "h", "since": 1.0}))


def read_a_heartbeat(folder: Path) -> None:
    run = workspace(folder).run("r")
    beat = read_heartbeat(run.heartbeat_file)
    if beat is not None:
        assert isinstance(beat.stalled, bool)
    assert liveness(run) in ("", "stalled", "running")  # a file that changes is a driver's, elsewhere, that beats
    driver = driver_of(run)
    assert driver is None or driver == UNKNOWN or driver.pid > 1
    driver_words(run)


def lay_evaluations(folder: Path) -> None:
    with_run(folder)
    run = workspace(folder).run("r")
    for at, split in ((0, "holdout"), (4, "holdout"), (4, "test")):
        run.save_evaluation(
            EvaluationDone(
                iteration=at, subject="distilled", split=split, network="n", mean=0.5, std=0.0, accuracies=[0.5],
                seconds=1.0,
            ),
            {"epochs": 1},
        )  # fmt: skip


EVALUATION = "runs/r/evaluations/0000004-holdout-distilled-n.json"


def read_evaluations(folder: Path) -> None:
    run = workspace(folder).run("r")
    for result in run.evaluations():
        f"{100 * result.mean:.1f} {result.iteration} {len(result.accuracies)}"
    selected_iteration(run, SETTINGS.settings)
    run.evaluation(4, "distilled", "holdout", "n", {"epochs": 1})
    run_status(run)


@cache
def task() -> Any:
    """A real task of digits; its settings are those of the runs here."""
    import tempfile

    configure(SETTINGS.settings.compute)
    return run_to_end(open_task(workspace(Path(tempfile.mkdtemp())), SETTINGS.settings))[0]


CHECKPOINT = "runs/r/checkpoints/0000004.safetensors"


def lay_checkpoint(folder: Path) -> None:
    with_run(folder)
    state = initial_state(task())
    workspace(folder).run("r").save_checkpoint(state.tensors(), {**state.counters(), "iteration": 4})


def read_a_checkpoint(folder: Path) -> None:
    run = workspace(folder).run("r")
    found = run.newest_valid()
    if found is not None:
        restore_state(*found, task())
    else:
        run.load_checkpoint(4)


ROWS, SIZE = 3, 50
IDENTITY = {"dataset": "d", "network": {"name": "convnet"}}
TRAJECTORY = "buffers/b/trajectory-0000"


def lay_buffer(folder: Path) -> None:
    workspace(folder)
    buffer = TeacherBuffer(folder / "buffers/b", IDENTITY)
    buffer.open()
    for trajectory in (0, 1):
        writer = buffer.begin(trajectory, SIZE)
        for row in range(ROWS):
            writer.append(torch.full((SIZE,), float(row)), *((0.5, 0.5) if row else (None, None)))
        if trajectory == 0:
            writer.publish()
        else:
            writer.save_position(Position(torch.zeros(SIZE), ROWS, 1, 0.5, 1.0))


def read_a_buffer(folder: Path) -> None:
    BufferReader(folder / "buffers/b").read()
    examine_workspace(folder)
    buffer = TeacherBuffer(folder / "buffers/b", IDENTITY)
    buffer.open()
    buffer.begin(1, SIZE).position(ROWS)
    buffer.begin(1, SIZE).last_row()
    buffer.read(0, *range(max(buffer.epochs(0), 0) + 1))
    buffer.begin(0, SIZE).last_row()


FRAME = "runs/r/previews/0000004.png"


def lay_frame(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 1), dtype=np.uint8)
    top = [[(k, 0.5), (0, 0.25)] for k in range(10)]
    write_frame(folder / FRAME, Frame(4, pixels, 1, top), lasting=True)


def read_a_frame(folder: Path) -> None:
    frame_iterations(folder / "runs/r/previews")
    frame = read_frame(folder / FRAME)
    assert frame.pixels.ndim == 4
    assert frame.top is None or len(frame.top) == len(frame.pixels)


PICTURES = {
    "PNG": "L",
    "JPEG": "RGB",
    "GIF": "P",
    "TIFF": "I;16",
    "BMP": "RGB",
    "WEBP": "RGBA",
    "PPM": "L",
    "TGA": "RGB",
}


def lay_pictures(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (13, 9, 4), dtype=np.uint8)
    for kind, mode in PICTURES.items():
        if mode == "I;16":
            picture = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
        else:
            picture = Image.fromarray(noise).convert(mode)
        extra: dict[str, Any] = {"append_images": [picture], "save_all": True} if kind in ("GIF", "TIFF") else {}
        if kind in ("JPEG", "PNG"):
            exif = Image.Exif()
            exif[274] = 6
            extra["exif"] = exif
        if kind == "TIFF":
            extra["compression"] = "tiff_lzw"
        picture.save(folder / f"a.{kind.lower()}", format=kind, **extra)


def read_pictures(folder: Path) -> None:
    from engine.errors import TeslaError

    last: TeslaError | None = None
    for path in sorted(folder.iterdir()):
        try:
            open_header(path)
            for channels in (1, 3):
                try:
                    assert to_square(load_picture(path), channels, 8).shape == (channels, 8, 8)
                except ValueError:  # the decoder makes words of it, see engine.data.decoding.decode
                    continue
        except TeslaError as error:
            last = error
    if last is not None:
        raise last


IDX = "train-images-idx3-ubyte.gz"


def lay_idx(folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    (folder / IDX).write_bytes(gzip.compress(struct.pack(">HBBIII", 0, 8, 3, 20, 8, 8) + images.tobytes(), 1))


PARQUET = "data/train-00000-of-00001.parquet"


@cache
def parquet_bytes() -> bytes:
    import datasets

    def png(value: int) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (value, value, value)).save(file, "PNG")
        return file.getvalue()

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = [{"image": {"bytes": png(i), "path": None}, "label": i % 2} for i in range(12)]
    file = io.BytesIO()
    datasets.Dataset.from_list(rows, features=features).to_parquet(file)
    return file.getvalue()


def lay_parquet(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / PARQUET).write_bytes(parquet_bytes())


def read_parquet(folder: Path) -> None:
    run_to_end(prepare_dataset(DataRequest("someone/pets", path=folder / "data"), cache=folder / "cache"))


def lay_tree(folder: Path) -> None:
    """Pictures of two classes, and the same in a zip with a table of labels."""
    for name in ("cat", "dog"):
        (folder / "pets" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (8, 8), i).save(folder / f"pets/{name}/{name}{i}.png")
    paths = sorted((folder / "pets").rglob("*.png"))
    for kind, method in (("stored", zipfile.ZIP_STORED), ("packed", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(folder / f"{kind}.zip", "w", method) as archive:
            for path in paths:
                archive.write(path, path.relative_to(folder))
    rows = [(path.relative_to(folder / "pets").as_posix(), path.parent.name) for path in paths]
    texts = {
        "metadata.csv": "file_name,label\n" + "".join(f"{name},{label}\n" for name, label in rows),
        "metadata.jsonl": "".join(json.dumps({"file_name": name, "label": label}) + "\n" for name, label in rows),
        "a.tsv": "image\tkind\n" + "".join(f"{name}\t{label}\n" for name, label in rows),
        "val_annotations.txt": "".join(f"{path.name}\t{path.parent.name}\t0\n" for path in paths),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)


def read_source(request: DataRequest) -> None:
    """Everything that decoding reads of a source, but for the decoding."""
    from engine.errors import DataError

    opened = find_source(request).open()
    split = opened.train
    assert split.file is not None and split.header is not None and split.name is not None
    for i in range(len(split.labels)):
        for look in (split.header, split.file, split.image, split.name):
            with suppress(DataError):
                look(i)


def read_zips(folder: Path) -> None:
    for kind in ("stored", "packed"):
        for bad in ("error", "skip"):
            read_source(DataRequest("folder", path=folder / f"{kind}.zip", on_bad_file=bad))


def read_labels(folder: Path) -> None:
    from engine.errors import TeslaError

    last: TeslaError | None = None
    for name in ("metadata.csv", "metadata.jsonl", "a.tsv", "val_annotations.txt"):
        shutil.copy(folder / name, folder / "pets" / name)
        columns = {"image_column": "image", "label_column": "kind"} if name == "a.tsv" else {}
        try:
            read_source(DataRequest("folder", path=folder / "pets", **columns))
        except TeslaError as error:
            last = error
        (folder / "pets" / name).unlink()
    if last is not None:
        raise last


@cache
def entry() -> Path:
    import tempfile

    return run_to_end(prepare_dataset(DataRequest("digits", resolution=4), cache=Path(tempfile.mkdtemp()))).folder


def lay_entry(folder: Path) -> None:
    for path in entry().iterdir():
        if path.suffix in (".npy", ".json") and not path.name.startswith("space"):
            shutil.copy(path, folder / path.name)


def read_entry(folder: Path) -> None:
    verify_cache(folder)
    open_cache(folder)


def lay_person(folder: Path) -> None:
    text = (
        'theme = "tesla-dark"\nimages = "auto"\nrefresh = 0.5\nlog_scale = false\nsmoothing = 2\n[keys]\npause = "p"\n'
    )
    (folder / "tui.toml").write_text(text)
    line = json.dumps({"network": "json:dumps", "place": str(place_of("json:dumps"))}) + "\n"
    (folder / "trusted.jsonl").write_text(line * 3)


def read_person(folder: Path) -> None:
    before = {name: os.environ.get(name) for name in ("TESLA_TUI_CONFIG", "TESLA_CONFIG")}
    os.environ["TESLA_TUI_CONFIG"], os.environ["TESLA_CONFIG"] = str(folder / "tui.toml"), str(folder)
    try:
        load_preferences()
        check_trusted("json:dumps")
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def lay_toml(folder: Path) -> None:
    lines = ["seed = 1", "[dataset]", 'name = "digits"', "zca = true", "[distill]", "steps = 3", "[ipc.10.distill]"]
    lines += ["steps = 30", "[augment]", 'ops = ["flip", "crop"]', "[evaluate]", 'networks = ["vit"]']
    (folder / "tesla.toml").write_text("\n".join(lines) + "\n")


def read_toml(folder: Path) -> None:
    opened = Workspace(folder)
    for ipc in (None, 10):
        effective = opened.settings(ipc=ipc)
        assert effective.flat()
        opened.data_request(effective.settings)


def lay_settings(folder: Path) -> None:
    with_run(folder)
    (folder / "runs/r/settings.toml").write_text(settings_to_toml(SETTINGS))


def read_settings(folder: Path) -> None:
    run = workspace(folder).run("r")
    run.values_from("command line")
    run.check(SETTINGS)


def tensors(folder: Path) -> None:
    (folder / "t.safetensors").write_bytes(
        b"".join(bytes(part) for part in file_parts({"a": torch.ones(3, 4), "b": torch.zeros(2, dtype=torch.int64)}))
    )
    record = {"format": 1, "sha256": "", "iteration": 1}
    (folder / "t.json").write_text(json.dumps(record))
    seal(folder / "t.safetensors")


def read_t(folder: Path) -> None:
    from engine.storage.atomic import read_tensors

    read_tensors(folder / "t.safetensors")


def lay_published(folder: Path) -> None:
    images = np.zeros((10, 8, 8, 1), dtype=np.float32)
    np.savez(folder / "kip.npz", images=images, labels=np.eye(10, dtype=np.float32) - np.float32(0.1))
    workspace(folder)


def read_published(folder: Path) -> None:
    wanted = Wanted(folder / "kip.npz", None, "0.02", "pixels", label_kind="regression")
    run_to_end(import_images(workspace(folder), "kip", wanted, TINY))


def lay_old_set(folder: Path) -> None:
    # The format before zip has no checksums: every change of its pickle reaches the reader.
    images = np.zeros((10, 8, 8), dtype=np.float32)
    value = {"data": [[images, torch.arange(10)]], "accs_all_exps": {"ConvNet": [np.float64(0.5)]}}
    torch.save(value, folder / "res.pt", _use_new_zipfile_serialization=False)
    workspace(folder)


def read_old_set(folder: Path) -> None:
    run_to_end(prepare_images(workspace(folder), "dc", Wanted(folder / "res.pt", lr="0.02"), TINY))


JOURNAL = "runs/r/journal.jsonl"
READERS = (
    Reader("tesla.toml", lay_toml, any_damage("tesla.toml") | toml_edits("tesla.toml"), read_toml),
    Reader(
        "settings.toml", lay_settings, any_damage("runs/r/settings.toml") | toml_edits("runs/r/settings.toml"),
        read_settings,
    ),
    Reader("journal", lay_journal, any_damage(JOURNAL) | line_edits(JOURNAL), read_a_journal),
    Reader(
        "heartbeat and driver", lay_heartbeat,
        any_damage("runs/r/.pulse.json", "runs/r/driver.json") | json_edits("runs/r/.pulse.json", "runs/r/driver.json"),
        read_a_heartbeat,
    ),
    Reader("evaluations", lay_evaluations, any_damage(EVALUATION) | json_edits(EVALUATION), read_evaluations),
    Reader("tensor file", tensors, any_damage("t.safetensors") | tensor_edits("t.safetensors", sealed=True), read_t),
    Reader(
        "checkpoint", lay_checkpoint,
        any_damage(CHECKPOINT, CHECKPOINT.replace("safetensors", "json"))
        | tensor_edits(CHECKPOINT, sealed=True)
        | json_edits(CHECKPOINT.replace("safetensors", "json")),
        read_a_checkpoint,
    ),
    Reader(
        "teacher buffer", lay_buffer,
        any_damage(
            f"{TRAJECTORY}.safetensors", f"{TRAJECTORY}.json", "buffers/b/trajectory-0001.part",
            "buffers/b/trajectory-0001.part.json", "buffers/b/trajectory-0001.position.safetensors",
            "buffers/b/manifest.json",
        )
        | json_edits(
            f"{TRAJECTORY}.json", "buffers/b/trajectory-0001.part.json", "buffers/b/trajectory-0001.position.json",
            "buffers/b/manifest.json",
        )
        | tensor_edits(f"{TRAJECTORY}.safetensors", sealed=False),
        read_a_buffer, share=0.5,
    ),
    Reader("film frame", lay_frame, any_damage(FRAME) | frame_edits(FRAME), read_a_frame),
    Reader("pictures", lay_pictures, any_damage(*(f"a.{kind.lower()}" for kind in PICTURES)), read_pictures),
    Reader("idx", lay_idx, any_damage(IDX) | idx_edits(IDX), lambda folder: read_idx(folder / IDX)),
    Reader("published set", lay_published, any_damage("kip.npz"), read_published, share=0.1),
    Reader("published set in a pickle", lay_old_set, any_damage("res.pt"), read_old_set, share=0.1),
    Reader("zips", lay_tree, any_damage("stored.zip", "packed.zip"), read_zips, share=0.1),
    Reader(
        "files of labels", lay_tree,
        any_damage("metadata.csv", "metadata.jsonl", "a.tsv", "val_annotations.txt") | line_edits("metadata.jsonl"),
        read_labels, share=0.1,
    ),
    Reader("Parquet", lay_parquet, any_damage(PARQUET), read_parquet, share=0.02),
    Reader(
        "dataset cache", lay_entry,
        any_damage("manifest.json", "train_images.npy", "train_labels.npy") | json_edits("manifest.json"), read_entry,
    ),
    Reader(
        "preferences and consents", lay_person,
        any_damage("tui.toml", "trusted.jsonl") | toml_edits("tui.toml") | line_edits("trusted.jsonl"), read_person,
    ),
    *DOORS,
)  # fmt: skip
