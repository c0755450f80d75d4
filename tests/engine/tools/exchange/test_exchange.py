"""Files of other implementations: read without trust, taken over bit for bit, and written so that theirs read them."""

import pickle
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.errors import DataError, TeslaError, UsageError
from engine.events import Notice, Progress
from engine.networks.convnet import ConvNet
from engine.runs.run import Run
from engine.runs.status import run_status
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from engine.session.session import drive, evaluate_run
from engine.settings import resolve_settings
from engine.storage.checksums import folder_sums
from engine.tools.exchange.export import exporting
from engine.tools.exchange.export_buffers import export_buffers
from engine.tools.exchange.import_buffers import import_buffers
from engine.tools.exchange.import_images import Wanted, import_images
from engine.training.teacher_buffer import TeacherBuffer
from tests.conftest import TINY, Drive

LAYOUTS: tuple[Literal["folder", "pt"], ...] = ("folder", "pt")
SMALL = ("network.width=4", "network.depth=2")
Trajectory = list[list[Tensor]]


def trajectory(
    seed: int, epochs: int = 3, *, width: int = 4, classes: int = 10, dtype: torch.dtype = torch.float32
) -> Trajectory:
    """Random parameters of a ConvNet for digits, as MTT's buffer.py lists them."""
    shapes = [p.shape for p in ConvNet(1, classes, 8, width, 2).parameters()]
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(shape, generator=generator).to(dtype) for shape in shapes] for _ in range(epochs + 1)]


def save(path: Path, value: Any, **how: Any) -> Path:
    torch.save(value, path, **how)
    return path


def taken(workspace: Workspace, *files: Path, name: str = "mtt", sets: tuple[str, ...] = SMALL, **limits: int) -> Any:
    effective = resolve_settings(workspace.toml, overrides=sets)
    return run_to_end(import_buffers(workspace, effective, files, name, **limits))


def rows_of(workspace: Workspace, name: str, number: int) -> Tensor:
    buffer = TeacherBuffer(workspace.folder / "buffers" / name, {})
    return torch.stack(buffer.read(number, *range(buffer.epochs(number) + 1)))


def flat(snapshots: Trajectory) -> Tensor:
    return torch.stack([torch.cat([p.reshape(-1).float() for p in snapshot]) for snapshot in snapshots])


def nothing_written(workspace: Workspace) -> bool:
    return not (workspace.folder / "buffers").exists() or not any((workspace.folder / "buffers").iterdir())


@pytest.mark.slow
def test_equal_exports_have_equal_checksums(
    tiny_run: Drive, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same run exported again, a run with the same settings in another workspace, a set imported again."""
    run = tiny_run("r")
    other = Workspace.create(tmp_path / "elsewhere", resolve_settings(), set())
    shutil.copytree(workspace.folder / "buffers", other.folder / "buffers")
    effective = other.settings(overrides=TINY, run=other.run("r"))
    for number, (made, name) in enumerate([(workspace, "r"), (workspace, "r"), (other, "r")]):
        if made is other:
            run_to_end(drive(other, other.run("r"), effective))
        monkeypatch.setattr(time, "time", lambda number=number: 1.7e9 + 86400 * number)
        for layout in LAYOUTS:
            run_to_end(exporting(made, made.run(name), tmp_path / f"{layout}{number}", layout=layout, with_test=True))
        run_to_end(export_buffers(made, run.frozen().settings, tmp_path / f"buffers{number}"))
        run_to_end(import_images(made, f"i{number}", Wanted(tmp_path / "pt0" / "images_best.pt"), TINY))
        for layout in LAYOUTS:
            again = made.run(f"i{number}").folder.rename(made.folder / "runs" / "again")
            run_to_end(exporting(made, made.run("again"), tmp_path / f"again-{layout}{number}", layout=layout))
            again.rename(made.folder / "runs" / f"i{number}")
    for what in ("folder", "pt", "buffers", "again-folder", "again-pt"):
        first, *others = (folder_sums(tmp_path / f"{what}{number}") for number in range(3))
        assert first and all(sums == first for sums in others), what


@pytest.mark.slow
def test_teachers_go_out_and_come_back_to_the_same_bits_and_the_same_run(tiny_run: Drive, workspace: Workspace) -> None:
    own = tiny_run("own")
    out = workspace.folder.parent / "out"
    done = run_to_end(export_buffers(workspace, own.frozen().settings, out, per_file=1))
    assert (done.files, done.trajectories, done.epochs) == (2, 2, 2)

    # As MTT's distill.py reads them.
    buffer: list[Any] = []
    while (path := out / f"replay_buffer_{len(buffer)}.pt").exists():
        buffer += torch.load(path)
    start = torch.cat([p.data.reshape(-1) for p in buffer[1][0]], 0)
    model = ConvNet(1, 10, 8, 4, 2)
    assert [p.shape for p in buffer[1][0]] == [p.shape for p in model.parameters()]
    ours = run_to_end(open_task(workspace, own.frozen().settings))[1]
    assert torch.equal(start, ours.read(1, 0)[0])

    files = sorted(out.glob("*.pt"))
    imported = taken(workspace, *files, sets=("network.width=4",))
    assert (imported.trajectories, imported.epochs) == (2, 2)
    run = tiny_run("theirs", "teachers.buffer=mtt", "teachers.epochs=2", "distill.max_start_epoch=2")
    iteration = max(own.checkpoints())
    mine, theirs = own.load_checkpoint(iteration)[0], run.load_checkpoint(iteration)[0]
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)

    again = workspace.folder.parent / "again"
    run_to_end(export_buffers(workspace, run.frozen().settings, again, per_file=1))
    for path in files:
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_a_run_with_imported_teachers_takes_their_settings(workspace: Workspace, tmp_path: Path) -> None:
    taken(workspace, save(tmp_path / "b.pt", [trajectory(0), trajectory(1)]), sets=(*SMALL, "teachers.lr=0.02"))
    effective = workspace.settings(ipc=1, overrides=("teachers.buffer=mtt", "distill.max_start_epoch=2"))
    for key, value in {"teachers.count": 2, "teachers.epochs": 3, "network.width": 4, "teachers.lr": 0.02}.items():
        assert (effective.flat()[key], effective.origins[key]) == (value, "buffer mtt")
    for sets, words in {
        "network.width=8": "network: ",
        "dataset.zca=true": "zca: False, here True",
        "teachers.count=3": "has 2 trajectories",
        "teachers.buffer=other": "Imported buffers: mtt",
    }.items():
        overrides = ("teachers.buffer=mtt", "distill.max_start_epoch=2", sets)
        with pytest.raises(UsageError, match=words):
            run_to_end(open_task(workspace, workspace.settings(ipc=1, overrides=overrides).settings))


def test_a_lost_trajectory_is_not_trained_into_the_buffer_but_imported_again(
    workspace: Workspace, tmp_path: Path, tiny_run: Drive
) -> None:
    path = save(tmp_path / "b.pt", [trajectory(0), trajectory(1)])
    taken(workspace, path, sets=("network.width=4",))
    before = rows_of(workspace, "mtt", 1)
    (workspace.folder / "buffers" / "mtt" / "trajectory-0001.safetensors").unlink()
    sets = ("teachers.buffer=mtt", "teachers.epochs=3")
    with pytest.raises(UsageError, match=r"Trajectory 1 .* is lost"):
        tiny_run("r", *sets)
    taken(workspace, path, sets=("network.width=4",))
    assert torch.equal(rows_of(workspace, "mtt", 1), before)
    assert run_status(tiny_run("r", *sets)).state == "finished"


@pytest.mark.parametrize(
    ("dtype", "how"),
    [
        (torch.float32, {}),
        (torch.float16, {}),
        (torch.bfloat16, {}),
        (torch.float64, {}),
        (torch.float32, {"_use_new_zipfile_serialization": False}),
    ],
)
def test_every_type_and_the_old_format(
    workspace: Workspace, tmp_path: Path, dtype: torch.dtype, how: dict[str, Any]
) -> None:
    made = [trajectory(i, dtype=dtype) for i in range(3)]
    found = taken(workspace, save(tmp_path / "a.pt", made[:2], **how), save(tmp_path / "b.pt", tuple(made[2:]), **how))
    assert (found.trajectories, found.dtype) == (3, str(dtype).removeprefix("torch."))
    for number, snapshots in enumerate(made):
        assert torch.equal(rows_of(workspace, "mtt", number), flat(snapshots))


def test_limits(workspace: Workspace, tmp_path: Path) -> None:
    made = [trajectory(0, 5), trajectory(1, 3), trajectory(2, 4)]
    path = save(tmp_path / "b.pt", made)
    assert (found := taken(workspace, path)).epochs == 3
    assert found.trajectories == 3
    found = taken(workspace, path, name="few", count=1, epochs=4)
    assert (found.trajectories, found.epochs) == (1, 4)
    assert torch.equal(rows_of(workspace, "few", 0), flat(made[0][:5]))
    with pytest.raises(UsageError, match="--count 4 is more than the 3"):
        taken(workspace, path, name="x", count=4)
    with pytest.raises(UsageError, match="a different teacher buffer named few"):
        taken(workspace, path, name="few", count=2)


def test_stopped_anywhere_it_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    made = [trajectory(i) for i in range(3)]
    path = save(tmp_path / "b.pt", made)
    effective = resolve_settings(workspace.toml, overrides=SMALL)
    making = workspace.folder / "buffers" / "mtt.importing"
    kept: dict[Path, int] = {}
    for stop in (1, 2):
        events = import_buffers(workspace, effective, [path], "mtt")
        for event in events:
            if isinstance(event, Progress) and event.unit == "trajectories" and event.done == stop:
                break
        events.close()
        assert not (workspace.folder / "buffers" / "mtt").exists()
        assert len(list(making.glob("*.safetensors"))) == stop
        assert all(file.stat().st_mtime_ns == when for file, when in kept.items())  # not done again
        kept = {file: file.stat().st_mtime_ns for file in making.glob("*.safetensors")}
    taken(workspace, path)
    for number, snapshots in enumerate(made):
        assert torch.equal(rows_of(workspace, "mtt", number), flat(snapshots))
    assert [p.name for p in (workspace.folder / "buffers").iterdir()] == ["mtt"]


class Hostile:
    """Would make a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def aliased(path: Path) -> Path:
    model = ConvNet(1, 10, 8, 4, 2)
    snapshots = []
    for _ in range(4):
        snapshots.append([p.detach().cpu() for p in model.parameters()])  # published code, on a CPU: no copy
        with torch.no_grad():
            for p in model.parameters():
                p.add_(1)
    return save(path, [snapshots])


def not_finite(path: Path) -> Path:
    made = trajectory(0)
    made[2][1][0] = torch.nan
    return save(path, [trajectory(1), made])


def truncated(path: Path) -> Path:
    save(path, [trajectory(0)])
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def altered(path: Path) -> Path:
    save(path, [trajectory(0)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path


def repeated(path: Path) -> Path:
    made = trajectory(0)
    made[1][0] = torch.zeros(1).expand(made[1][0].shape)
    return save(path, [made])


def bomb(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10**7)
    return path


def hostile_pickle(path: Path) -> Path:
    path.write_bytes(pickle.dumps(Hostile(path.with_name("owned"))))
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def ragged(path: Path) -> Path:
    return save(path, [trajectory(0), [*trajectory(1), trajectory(2)[0][:-1]]])


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "hostile": (lambda p: save(p, [Hostile(p.with_name("owned"))]), "refused: it asks to call|No code in it was run"),
    "hostile old": (
        lambda p: save(p, [Hostile(p.with_name("owned"))], _use_new_zipfile_serialization=False),
        "refused: it asks to call|No code in it was run",
    ),
    "bare pickle": (hostile_pickle, "No code in it was run|no code in the file was run"),
    "a model": (lambda p: save(p, ConvNet(1, 10, 8, 4, 2)), "asks to call engine.networks.convnet.ConvNet"),
    "state dict": (lambda p: save(p, ConvNet(1, 10, 8, 4, 2).state_dict()), "holds a OrderedDict, not a list"),
    "two lists": (lambda p: save(p, trajectory(0)), "not a list of epochs"),
    "four lists": (lambda p: save(p, [[trajectory(0)] * 2]), "is a list, not a tensor"),
    "no trajectory": (lambda p: save(p, []), "holds no trajectory"),
    "one epoch": (lambda p: save(p, [trajectory(0, 0)]), "has 1 snapshots"),
    "width": (lambda p: save(p, [trajectory(0, width=8)]), "network.width=8 --set network.depth=2"),
    "classes": (lambda p: save(p, [trajectory(0, classes=7)]), "classifier.weight, has shape .* of 7 classes"),
    "ragged": (ragged, "trajectory 1, epoch 4 has 9 parameter tensors"),
    "integers": (lambda p: save(p, [trajectory(0, dtype=torch.int64)]), "floating point is needed"),
    "aliased": (aliased, "references instead of copies"),
    "not finite": (not_finite, "trajectory 1, epoch 2: parameter 1 has values"),
    "truncated": (truncated, "is damaged"),
    "altered": (altered, "is damaged"),
    "repeated": (repeated, "more than the file holds"),
    "sparse": (
        lambda p: save(p, [[[t.to_sparse() for t in s] for s in trajectory(0)]]),
        "not a plain dense tensor|cannot be read",
    ),
    "meta": (lambda p: save(p, [[[t.to("meta") for t in s] for s in trajectory(0)]]), "not a plain dense tensor"),
    "bomb": (bomb, "compressed archive"),
    "empty": (empty, "is empty"),
    "text": (lambda p: (p.write_text("hello"), p)[1], "cannot be read as a file of tensors"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_with_words_and_nothing_is_written(
    workspace: Workspace, tmp_path: Path, case: str
) -> None:
    make, words = BAD[case]
    path = make(tmp_path / "replay_buffer_0.pt")
    with pytest.raises(TeslaError, match=words) as caught:
        taken(workspace, path)
    assert "replay_buffer_0.pt" in str(caught.value)
    assert not (tmp_path / "owned").exists()
    assert nothing_written(workspace)


def test_a_file_given_twice_and_one_that_is_not_there(workspace: Workspace, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", [trajectory(0)])
    copy = tmp_path / "b.pt"
    copy.write_bytes(path.read_bytes())
    with pytest.raises(UsageError, match="are the same file"):
        taken(workspace, path, copy)
    with pytest.raises(UsageError, match="does not exist"):
        taken(workspace, path, tmp_path / "c.pt")
    with pytest.raises(UsageError, match="is not a valid buffer name"):
        taken(workspace, path, name="../x")


def imported_set(workspace: Workspace, name: str, wanted: Wanted, *sets: str) -> Run:
    run_to_end(import_images(workspace, name, wanted, (*TINY, *sets)))
    return workspace.run(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sets", [("labels.kind=hard",), ("labels.kind=learned",), ("labels.kind=target", "dataset.zca=true")]
)
def test_a_distilled_set_goes_out_and_comes_back_and_measures_the_same(
    tiny_run: Drive, workspace: Workspace, tmp_path: Path, sets: tuple[str, ...]
) -> None:
    own = tiny_run("own", *sets, "distill.ipc=2")
    out = tmp_path / "out"
    exported = run_to_end(exporting(workspace, own, out, layout="pt"))
    images, labels, lr = (torch.load(out / f"{name}_best.pt", weights_only=True) for name in ("images", "labels", "lr"))
    assert torch.equal(images, own.load_checkpoint(exported.iteration)[0]["images"])
    assert labels.shape == ((20,) if "hard" in sets[0] else (20, 10))
    assert lr.shape == ()

    space = "whitened" if "dataset.zca=true" in sets else "normalised"
    wanted = Wanted(out / "images_best.pt", out / "labels_best.pt", str(out / "lr_best.pt"), space)
    run = imported_set(workspace, "theirs", wanted, *(text for text in sets if "zca" in text))
    run_to_end(evaluate_run(workspace, run, run.frozen().settings, None, ["convnet"]))
    accuracies = {
        r.name: {(e.subject, *e.accuracies) for e in r.evaluations() if e.split == "test"} for r in (own, run)
    }
    assert accuracies["own"] == accuracies["theirs"]
    again = tmp_path / "again"
    run_to_end(exporting(workspace, run, again, layout="pt"))
    for name in ("images", "labels", "lr"):
        assert (out / f"{name}_best.pt").read_bytes() == (again / f"{name}_best.pt").read_bytes()
    run_to_end(exporting(workspace, run, tmp_path / "folder"))
    assert r"made elsewhere and imported from images\_best.pt" in (tmp_path / "folder" / "README.md").read_text()


def digits_set(folder: Path, **changes: Any) -> Wanted:
    """A published set of ten images with hard labels, not in order."""
    generator = torch.Generator().manual_seed(0)
    images = changes.pop("images", torch.randn((10, 1, 8, 8), generator=generator))
    labels = changes.pop("labels", torch.arange(10).flip(0))
    return Wanted(**{
        "images": save(folder / "images_0.pt", images), "labels": save(folder / "labels_0.pt", labels), "lr": "0.02",
        **changes,
    })  # fmt: skip


def test_an_imported_set_is_a_run_that_is_not_distilled(workspace: Workspace, tmp_path: Path) -> None:
    wanted = digits_set(tmp_path)
    run = imported_set(workspace, "kip", wanted)
    images = torch.load(wanted.images)
    tensors, _ = run.load_checkpoint(0)
    assert torch.equal(tensors["images"], images.flip(0))  # ordered by class
    assert torch.equal(tensors["labels"], torch.eye(10))
    status = run_status(run)
    assert (status.state, status.ipc, status.labels, status.selected) == ("imported", 1, "given", 0)
    assert run.origin is not None
    assert run.origin.files[0]["name"] == "images_0.pt"
    with pytest.raises(UsageError, match="it is not distilled further"):
        run_to_end(drive(workspace, run, run.frozen()))
    with pytest.raises(UsageError, match="already exists"):
        imported_set(workspace, "kip", wanted)
    other = workspace.run("other")
    with pytest.raises(UsageError, match=r"labels.kind = given is for sets"):
        run_to_end(drive(workspace, other, workspace.settings(overrides=(*TINY, "labels.kind=given"), run=other)))


def test_pixels_publishers_statistics_and_numpy(workspace: Workspace, tmp_path: Path) -> None:
    task, _ = run_to_end(open_task(workspace, workspace.settings(overrides=TINY).settings))
    index = torch.cat([members[:1] for members in task.class_members])
    raw = task.train.images.batch(index)
    encoded = task.train.images.encoded(index)
    labels = torch.arange(10)
    cases = {
        "bytes": digits_set(tmp_path, images=raw, labels=labels, space="pixels"),
        "floats": digits_set(tmp_path, images=raw / 255, labels=labels, space="pixels"),
        "own": digits_set(tmp_path, labels=labels, space="normalised", mean="0.2", std="0.3"),
    }  # fmt: skip
    np.savez_compressed(tmp_path / "kip.npz", images=(raw / 255).permute(0, 2, 3, 1).numpy(), labels=np.eye(10) * 9)
    cases["npz"] = Wanted(tmp_path / "kip.npz", None, "0.02", "pixels", label_kind="logits")
    for name in ("bytes", "floats", "own", "npz"):
        if name != "npz":  # the files are shared between the cases: write this one's again
            wanted = cases[name]
            images = {"bytes": raw, "floats": raw / 255, "own": (raw / 255 - 0.2) / 0.3}[name]
            save(wanted.images, images)
        tensors, _ = imported_set(workspace, name, cases[name]).load_checkpoint(0)
        assert torch.allclose(tensors["images"], encoded, atol=1e-5), name
    assert torch.allclose(tensors["labels"], (torch.eye(10) * 9).softmax(dim=1))


def test_regression_targets_of_a_kernel_method_become_the_nearest_probabilities(
    workspace: Workspace, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    order = generator.permutation(10)
    images = generator.random((10, 8, 8, 1), dtype=np.float32)
    targets = (np.eye(10)[order] + 0.3 * generator.standard_normal((10, 10))).astype(np.float32)
    tensors = []
    for name, shift in (("plain", 0.0), ("centred", -0.1)):
        path = tmp_path / f"{name}.npz"
        np.savez(path, images=images, labels=targets + np.float32(shift))
        wanted = Wanted(path, None, "0.02", "pixels", label_kind="regression")
        tensors.append(imported_set(workspace, name, wanted).load_checkpoint(0)[0])
        with pytest.raises(DataError, match="--labels regression"):
            imported_set(workspace, "refused", replace(wanted, label_kind="auto"))
    torch.testing.assert_close(tensors[0]["labels"], tensors[1]["labels"])
    assert torch.equal(tensors[0]["images"], tensors[1]["images"])
    for row in targets:
        # The oracle: bisect the threshold that brings the sum of the positive part to 1.
        low, high = float(row.min()) - 1, float(row.max())
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if np.clip(row - middle, 0, None).sum() > 1 else (low, middle)
        nearest = torch.from_numpy(np.clip(row - middle, 0, None))
        assert any(torch.allclose(nearest, found, atol=1e-5) for found in tensors[0]["labels"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": torch.zeros(10, 3, 32, 32)}, r"have shape \(10, 3, 32, 32\); digits has images of \(1, 8, 8\)"),
        ({"images": torch.zeros(11, 1, 8, 8)}, "10 labels for 11 images"),
        ({"images": torch.full((10, 1, 8, 8), torch.nan)}, "NaN"),
        ({"images": torch.zeros(1).expand(10, 1, 8, 8)}, "more than the file holds"),
        ({"images": {"x": torch.zeros(1)}}, r"no images of digits, which are \(1, 8, 8\); it holds x float32 \(1,\)"),
        ({"images": torch.full((10, 1, 8, 8), 300.0), "space": "pixels"}, "not pixels"),
        ({"images": torch.zeros((10, 1, 8, 8), dtype=torch.uint8)}, "--space pixels"),
        ({"labels": torch.arange(10) + 1}, "has a label 10"),
        ({"labels": torch.zeros(10, dtype=torch.int64)}, "class 1 has 0 images and class 0 has 10"),
        ({"labels": torch.arange(9)}, "9 labels for 10 images"),
        ({"labels": torch.eye(7)[torch.zeros(10, dtype=torch.int64)]}, "labels of 7 classes"),
        ({"labels": torch.eye(10) * 10}, "--labels logits"),
        ({"labels": torch.arange(10) + 0.5}, "labels of shape"),
        ({"lr": "-1"}, "must be positive"),
        ({"lr": "nan"}, "must be positive"),
        ({"lr": "missing.pt"}, "missing.pt does not exist"),
        ({"mean": "0.1"}, "--mean and --std must be used together"),
        ({"mean": "0.1,0.2", "std": "1,1"}, "2 numbers for 1 channels"),
    ],
)  # fmt: skip
def test_sets_that_do_not_fit_are_refused(
    workspace: Workspace, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises((UsageError, DataError), match=words):
        imported_set(workspace, "x", digits_set(tmp_path, **changes))
    assert not workspace.run("x").folder.exists()


def test_what_is_doubtful_is_said(workspace: Workspace, tmp_path: Path) -> None:
    wanted = digits_set(tmp_path, images=torch.rand(10, 1, 8, 8), lr=None)
    said = [e.message for e in import_images(workspace, "x", wanted, TINY) if isinstance(e, Notice)]
    assert any("--space pixels" in words for words in said)
    assert any("No --lr" in words for words in said)


def test_the_network_that_shapes_do_not_tell_is_named(workspace: Workspace, tmp_path: Path) -> None:
    path = save(tmp_path / "b.pt", [trajectory(0)])

    def notices(*sets: str) -> list[str]:
        effective = resolve_settings(workspace.toml, overrides=(*SMALL, *sets))
        found = import_buffers(workspace, effective, [path], "mtt")
        return [event.message for event in found if isinstance(event, Notice) and "Taken for" in event.message]

    (words,) = notices()
    assert "network.name = convnet." in words and "convnet-batchnorm" in words and "convnet-nonorm" not in words
    assert notices("network.name=convnet") == []
