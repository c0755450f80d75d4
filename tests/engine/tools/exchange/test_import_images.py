"""Distilled sets of the kinds that published code bases save: which tensors are chosen, and what is made of them."""

import argparse
import collections
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from engine.errors import DataError, TeslaError, UsageError
from engine.events import Notice
from engine.runs.evaluation_settings import evaluation_settings
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from engine.settings import resolve_settings
from engine.tools.exchange.import_images import Wanted, import_images, prepare_images
from engine.tools.exchange.set_classes import class_order
from engine.tools.exchange.set_report import SetReport
from engine.tools.exchange.set_values import split_formation
from engine.tools.exchange.torch_shapes import check_shapes
from tests.conftest import TINY

CLASSES = 10
SIDE = 8


def normal(count: int = CLASSES, seed: int = 0) -> Tensor:
    """Images of digits in a normalised space, `(count, 1, 8, 8)`."""
    return torch.randn((count, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))


def by_class(ipc: int) -> Tensor:
    return torch.arange(CLASSES).repeat_interleave(ipc)


def saved(folder: Path, value: Any, name: str = "set.pt") -> Path:
    if name.endswith(".npz"):
        np.savez(folder / name, **value)
    elif name.endswith(".npy"):
        np.save(folder / name, value)
    else:
        torch.save(value, folder / name)
    return folder / name


def imported(workspace: Workspace, images: Path, name: str = "x", **how: Any) -> tuple[Run, dict[str, Tensor]]:
    run_to_end(import_images(workspace, name, Wanted(images, **{"lr": "0.02", **how}), TINY))
    run = workspace.run(name)
    return run, run.load_checkpoint(0)[0]


def report(workspace: Workspace, images: Path, **how: Any) -> SetReport:
    return run_to_end(prepare_images(workspace, "x", Wanted(images, **how), TINY)).report


def said(workspace: Workspace, images: Path, **how: Any) -> list[str]:
    events = prepare_images(workspace, "x", Wanted(images, **how), TINY)
    return [event.message for event in events if isinstance(event, Notice)]


X = normal(20)
Y = by_class(2)
ONE_HOT = torch.eye(CLASSES)[Y]
LAYOUTS: dict[str, Any] = {
    "dc, one experiment": {"data": [[X, Y]], "accs_all_exps": {"ConvNet": [0.5, 0.6]}},
    "idc": [X, Y],
    "a tuple": (X, Y),
    "a nested dictionary": {"synset": {"module.images": X, "module.labels": Y}, "iteration": 5},
    "data and target": {"data": X, "targets": Y.to(torch.int32)},
    "one-hot": {"images": X, "labels": ONE_HOT},
    "whole one-hot": {"images": X, "labels": ONE_HOT.to(torch.int64)},
    "a column of labels": {"images": X, "labels": Y[:, None].float()},
    "labels as a list": {"images": X, "labels": Y.tolist()},
    "labels as names": {"images": X, "labels": [str(k) for k in Y.tolist()]},
    "channels last": {"images": X.permute(0, 2, 3, 1), "labels": Y},
    "no channel axis": {"images": X[:, 0], "labels": Y},
    "flat": {"images": X.flatten(1), "labels": Y},
    "float64": {"images": X.double(), "labels": Y},
    "classes and ipc": X.view(CLASSES, 2, 1, SIDE, SIDE),
    "classes and ipc, with labels": [X.view(CLASSES, 2, 1, SIDE, SIDE), Y.view(CLASSES, 2)],
    "classes and ipc, soft": [X.view(CLASSES, 2, 1, SIDE, SIDE), ONE_HOT.view(CLASSES, 2, CLASSES)],
    "a tensor per class": list(X.split(2)),
    "a tensor per class, by number": dict(reversed(list(enumerate(X.split(2))))),
    "a tensor per class, by name": {str(k): X[2 * k : 2 * k + 2] for k in (3, 1, 2, 0, 9, 8, 7, 6, 5, 4)},
    "a list of images": {"images": list(X), "labels": list(Y)},
    "a list of images per class": [list(part) for part in X.split(2)],
    "a tensor per class, no channel axis": [part[:, 0] for part in X.split(2)],
    "labels per class": {"images": list(X.split(2)), "labels": list(Y.split(2))},
    "the way before zip": [X, Y],
    "pairs": [(image, int(label)) for image, label in zip(X, Y, strict=True)],
    "a parameter": collections.OrderedDict(images=torch.nn.Parameter(X), labels=Y),
    "arrays of numpy": {"images": X.numpy(), "labels": Y.numpy(), "lr": np.float64(0.02)},
    "a dictionary of lists beside": {"data": [[X, Y]], "accs_all_exps": collections.defaultdict(list, ConvNet=[0.5])},
    "options beside": {"images": X, "labels": Y, "args": argparse.Namespace(ipc=2, method="DM")},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_published_files(workspace: Workspace, tmp_path: Path, layout: str) -> None:
    path = saved(tmp_path, LAYOUTS[layout])
    if layout == "the way before zip":
        torch.save(LAYOUTS[layout], path, _use_new_zipfile_serialization=False)
    run, tensors = imported(workspace, path)
    assert torch.equal(tensors["images"], X)
    assert torch.equal(tensors["labels"], ONE_HOT)
    assert run.origin is not None
    assert run.origin.labels == "hard labels"


def test_half_precision_is_kept_as_it_is(workspace: Workspace, tmp_path: Path) -> None:
    _, tensors = imported(workspace, saved(tmp_path, [X.half(), ONE_HOT.half()]))
    assert torch.equal(tensors["images"], X.half().float())


def test_several_experiments_need_a_choice(workspace: Workspace, tmp_path: Path) -> None:
    path = saved(tmp_path, {"data": [[X, Y], [X + 1, Y], [X + 2, Y]], "accs_all_exps": {"ConvNet": []}})
    with pytest.raises(UsageError, match=r"holds 3 sets \(data.0.0, .*--experiment, 0 to 2"):
        imported(workspace, path)
    with pytest.raises(UsageError, match="has no experiment 3"):
        imported(workspace, path, experiment=3)
    run, tensors = imported(workspace, path, experiment=1)
    assert torch.equal(tensors["images"], X + 1)
    assert run.origin is not None
    assert run.origin.options == ("--experiment", "1")
    with pytest.raises(UsageError, match="holds one set"):
        imported(workspace, saved(tmp_path, [X, Y], "one.pt"), "y", experiment=1)


def test_tensors_that_could_be_the_images_need_a_choice(workspace: Workspace, tmp_path: Path) -> None:
    path = saved(tmp_path, {"first": X, "second": X + 1, "labels": Y, "hardness": Y.float()})
    with pytest.raises(UsageError, match=r"2 tensors that could be the images: first, second. .*--images-at first"):
        imported(workspace, path)
    found = report(workspace, path, images_at="second")
    assert found.images.startswith("second")
    assert any(words.startswith("hardness (20,)") for words in found.left_out)
    with pytest.raises(UsageError, match=r"has no tensor third .*It has: .*first float32"):
        imported(workspace, path, images_at="third")
    two = saved(tmp_path, {"images": X, "labels": Y, "soft_labels": ONE_HOT}, "two.pt")
    with pytest.raises(UsageError, match="could be the labels: labels, soft_labels"):
        imported(workspace, two)
    assert report(workspace, two, labels_at="soft_labels").labels.startswith("soft_labels")


def test_files_beside_the_images_are_used_and_named(workspace: Workspace, tmp_path: Path) -> None:
    for name, value in (("images", X), ("labels", Y), ("lr", torch.tensor(0.037))):
        saved(tmp_path, value, f"{name}_best.pt")
    for given in (tmp_path / "images_best.pt", tmp_path):
        found = report(workspace, given)
        assert list(found.files) == ["images_best.pt", "labels_best.pt"]
        assert found.student_lr == pytest.approx(0.037)
        assert found.student_lr_from == "from lr_best.pt beside the images"
        assert found.labels.startswith("labels_best.pt")


def test_the_step_size_in_the_file(workspace: Workspace, tmp_path: Path) -> None:
    path = saved(tmp_path, {"images": X, "labels": Y, "syn_lr": torch.tensor(0.05)})
    found = report(workspace, path)
    assert (found.student_lr, found.student_lr_from) == (pytest.approx(0.05), "from syn_lr in set.pt")
    assert report(workspace, path, lr="0.1").student_lr_from == "--lr"
    bare = report(workspace, saved(tmp_path, [X, Y], "bare.pt"))
    assert bare.student_lr_from.startswith("not in the files")


@pytest.mark.parametrize(
    ("images", "how", "space", "words"),
    [
        (torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8), {}, "pixels", "pixels from 0 to 255"),
        (torch.randint(0, 256, (20, 1, 8, 8)), {}, "pixels", "pixels from 0 to 255"),
        (torch.randint(0, 256, (20, 1, 8, 8)).float(), {}, "pixels", "taken for pixels from 0 to 255"),
        (torch.rand(20, 1, 8, 8), {}, "pixels", "taken for pixels from 0 to 1"),
        (torch.rand(20, 1, 8, 8), {"space": "normalised"}, "normalised", "normalised (--space)"),
        (X, {}, "normalised", "taken for normalised, this workspace's own space"),
        (X, {"space": "whitened"}, "whitened", "whitened (--space)"),
    ],
)
def test_what_the_values_are_is_told(
    workspace: Workspace, tmp_path: Path, images: Tensor, how: dict[str, str], space: str, words: str
) -> None:
    found = report(workspace, saved(tmp_path, [images, Y]), **how)
    assert found.space == space
    assert words in found.values


def with_one(value: float) -> Tensor:
    images = X.clone()
    images[3, 0, 2, 2] = value
    return images


def spread(low: float, high: float) -> Tensor:
    """Images with values evenly from `low` to `high`."""
    return torch.linspace(low, high, X.numel()).view_as(X)


@pytest.mark.parametrize(
    ("images", "how", "words"),
    [
        (spread(0, 2), {}, "could be pixels .*--space pixels, --space normalised"),
        (spread(-0.1, 1.1), {}, "could be pixels .*--space pixels, --space normalised"),
        (spread(-1, 1), {}, "as those normalised with mean 0.5 and std 0.5 do. .*--mean and --std"),
        (torch.randint(0, 2, X.shape), {}, "whole numbers from 0 to 1.*--space pixels"),
        (torch.randint(-5, 256, X.shape), {}, "whole numbers from -"),
        (torch.randint(0, 256, X.shape), {"space": "normalised"}, "whole numbers .*Use --space pixels"),
        (spread(-20, 280), {"space": "pixels"}, "are not pixels in the scale"),
        (with_one(1e30), {}, r"values from .* to 1e\+30, which no image has"),
        (with_one(1e30), {"space": "normalised"}, r"to 1e\+30, which no image has"),
        (X, {"mean": "0", "std": "1e30"}, "beyond 1000, or that are no numbers, .*Check --mean and --std"),
        (X, {"mean": "1e30", "std": "1"}, "beyond 1000, or that are no numbers, .*Check --mean and --std"),
        (X, {"lr": "1e30"}, "step size is 1e.30 .*from 1e-12 to 10000"),
        (X, {"lr": "1e-320"}, "step size is .*from 1e-12 to 10000"),
        (with_one(torch.nan), {}, "infinite or NaN"),
        (with_one(-torch.inf), {"space": "pixels"}, "infinite or NaN"),
    ],
)
def test_values_that_are_doubtful_or_impossible_are_refused(
    workspace: Workspace, tmp_path: Path, images: Tensor, how: dict[str, str], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        imported(workspace, saved(tmp_path, [images, Y]), **how)
    assert not workspace.run("x").folder.exists()


def test_labels_for_every_epoch(workspace: Workspace, tmp_path: Path) -> None:
    rows = torch.randn((4, 20, CLASSES), generator=torch.Generator().manual_seed(3)).softmax(dim=-1)
    path = saved(tmp_path, {"images": X, "labels": rows})
    with pytest.raises(UsageError, match=r"labels of 4 epochs, \(4, 20, 10\).*--epoch mean, .* 0 to 3"):
        imported(workspace, path)
    listed = saved(tmp_path, {"images": X, "labels": list(rows)}, "listed.pt")
    torch.testing.assert_close(imported(workspace, listed, "listed", epoch="1")[1]["labels"], rows[1])
    with pytest.raises(UsageError, match="has the epochs 0 to 3"):
        imported(workspace, path, epoch="4")
    torch.testing.assert_close(imported(workspace, path, "mean", epoch="mean")[1]["labels"], rows.mean(dim=0))
    torch.testing.assert_close(imported(workspace, path, "two", epoch="2")[1]["labels"], rows[2])
    with pytest.raises(UsageError, match="one label per image, not one per epoch"):
        imported(workspace, saved(tmp_path, [X, Y], "hard.pt"), epoch="mean")


def test_unequal_classes_are_refused_or_cut(workspace: Workspace, tmp_path: Path) -> None:
    parts = [normal(3 if k == 4 else 2, seed=k) for k in range(CLASSES)]
    path = saved(tmp_path, parts)
    with pytest.raises(DataError, match=r"class 0 has 2 images and class 4 has 3; .*--per-class 2"):
        imported(workspace, path)
    with pytest.raises(UsageError, match=r"--per-class 3: class 0 of .* has 2 images"):
        imported(workspace, path, per_class=3)
    assert torch.equal(imported(workspace, path, per_class=2)[1]["images"], torch.cat([part[:2] for part in parts]))
    shuffled = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    mixed = saved(tmp_path, [X[shuffled], Y[shuffled]], "mixed.pt")
    first = [X[shuffled][Y[shuffled] == k][:1] for k in range(CLASSES)]
    assert torch.equal(imported(workspace, mixed, "one", per_class=1)[1]["images"], torch.cat(first))


def test_class_names_in_a_file_order_its_numbers(workspace: Workspace, tmp_path: Path) -> None:
    names = [str(9 - k) for k in range(CLASSES)]
    soft = torch.randn((20, CLASSES), generator=torch.Generator().manual_seed(1)).softmax(dim=1)
    soft[torch.arange(20), Y] += 2
    soft = soft / soft.sum(dim=1, keepdim=True)
    for name, stored in (("list", {"classes": names}), ("dict", {"class_to_idx": {n: k for k, n in enumerate(names)}})):
        path = saved(tmp_path, {"images": X, "labels": soft, **stored}, f"{name}.pt")
        _, tensors = imported(workspace, path, name)
        torch.testing.assert_close(tensors["labels"], soft.view(CLASSES, 2, CLASSES).flip(0, 2).reshape(20, CLASSES))
        assert torch.equal(tensors["images"], X.view(CLASSES, 2, 1, 8, 8).flip(0).reshape(X.shape))
    odd = saved(tmp_path, {"images": X, "labels": Y, "classes": [f"c{name}" for name in names]}, "odd.pt")
    with pytest.raises(DataError, match=r"names the class 'c9', which the dataset does not have.*--classes FILE"):
        imported(workspace, odd)
    assert torch.equal(imported(workspace, odd, "own", classes="dataset")[1]["images"], X)


def test_orders_of_class_numbers(tmp_path: Path) -> None:
    classes = tuple(f"class{k}" for k in range(1, 13))  # natural order; plain string order has class10 second
    order = class_order(classes, True, None, None, "")
    assert order.doubtful
    assert order.numbers[:4] == (0, 9, 10, 11)
    assert "0 = class1, 1 = class10, 2 = class11" in order.words
    assert "--classes dataset) has 1 = class2" in order.words
    hub = class_order(classes, False, None, None, "")
    assert (hub.numbers, hub.doubtful) == (tuple(range(12)), False)
    assert "0 = class1, 1 = class2" in hub.words
    assert class_order(classes, True, "dataset", None, "").numbers == tuple(range(12))
    assert class_order(classes, False, "sorted", None, "").numbers == order.numbers
    (tmp_path / "order.txt").write_text("\n".join(reversed(classes)) + "\n")
    assert class_order(classes, True, str(tmp_path / "order.txt"), None, "").numbers == tuple(range(11, -1, -1))
    assert class_order(classes, True, None, [f"Class_{k}" for k in range(12, 0, -1)], "f").numbers[0] == 11
    for text, words in (("class1\n", "names 1 classes"), ("x\n" * 12, "names the class 'x'")):
        (tmp_path / "bad.txt").write_text(text)
        with pytest.raises(UsageError, match=words):
            class_order(classes, True, str(tmp_path / "bad.txt"), None, "")
    with pytest.raises(UsageError, match="cannot be read"):
        class_order(classes, True, str(tmp_path / "none.txt"), None, "")
    with pytest.raises(DataError, match="'class1', which the dataset does not have twice"):
        class_order(classes, True, None, ["class1", *classes[:11]], "f")


def test_a_folder_dataset_is_numbered_as_image_folder_does(tmp_path: Path) -> None:
    for k in range(1, 12):
        (tmp_path / f"data/c{k}").mkdir(parents=True)
        for i in range(4):
            Image.fromarray(np.full((8, 8), 20 * k + i, dtype=np.uint8)).save(tmp_path / f"data/c{k}/{i}.png")
    overrides = ["dataset.name=folder", f"dataset.path={tmp_path / 'data'}"]
    workspace = Workspace.create(
        tmp_path / "ws", resolve_settings(overrides=overrides), {"dataset.name", "dataset.path"}
    )
    images = torch.arange(11.0)[:, None, None, None].expand(11, 1, 8, 8) - 5
    path = saved(tmp_path, [images.clone(), torch.arange(11)])
    assert not any("0 = c1" in words for words in said(workspace, path))
    assert [int(v) + 5 for v in imported(workspace, path, "own")[1]["images"][:, 0, 0, 0]] == list(range(11))
    (tmp_path / "ws/classes.txt").write_text("".join(f"c{k}\n" for k in range(1, 12)))
    settings = (tmp_path / "ws/tesla.toml").read_text()
    (tmp_path / "ws/tesla.toml").write_text(settings.replace("[dataset]", '[dataset]\nclasses = "classes.txt"'))
    assert any("0 = c1, 1 = c10, 2 = c11" in words for words in said(workspace, path))
    _, tensors = imported(workspace, path, "listed")
    assert [int(v) + 5 for v in tensors["images"][:, 0, 0, 0]] == [0, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2]


def test_smaller_images_inside_each_image_are_split(workspace: Workspace, tmp_path: Path) -> None:
    path = saved(tmp_path, [torch.rand((CLASSES, 1, 8, 8), generator=torch.Generator().manual_seed(0)), by_class(1)])
    assert any("--formation 2" in words for words in said(workspace, path))
    _, tensors = imported(workspace, path, formation=2)
    assert torch.equal(tensors["labels"], torch.eye(CLASSES)[by_class(4)])
    task, _ = run_to_end(open_task(workspace, workspace.settings(overrides=TINY).settings))
    stored = torch.load(path)[0]
    crop = functional.interpolate(stored[3:4, :, 4:, :4], size=(8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(tensors["images"][3 * 4 + 2], task.space.encode(crop)[0])
    with pytest.raises(UsageError, match="--formation is for pixels"):
        imported(workspace, path, "y", formation=2, space="normalised")
    odd = split_formation(torch.zeros(1, 3, 7, 7), 2)
    assert odd.shape == (4, 3, 7, 7)
    assert float(odd[0].max()) == 0
    assert float(odd[3].max()) == 0.5  # what was added


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"images": X}, "holds images only"),
        ({"images": X, "labels": Y + 1}, r"has a label 10; .*counts classes from 1"),
        ({"images": X, "labels": Y[:19]}, "19 labels for 20 images"),
        ({"images": torch.zeros(20, 3, 8, 8), "labels": Y}, r"shape \(20, 3, 8, 8\); digits has images of \(1, 8, 8\)"),
        ({"a": torch.zeros(3), "b": "x"}, "has no images of digits"),
        ([[[[[[[[[[[[[[X]]]]]]]]]]]]]], "nests too many"),
        ({}, "has no images of digits"),
    ],
)
def test_contents_that_do_not_fit(workspace: Workspace, tmp_path: Path, value: Any, words: str) -> None:
    with pytest.raises(TeslaError, match=words):
        imported(workspace, saved(tmp_path, value))
    assert not workspace.run("x").folder.exists()


def test_the_report_is_json(workspace: Workspace, tmp_path: Path) -> None:
    from dataclasses import asdict

    found = report(workspace, saved(tmp_path, {"images": X.numpy(), "y": Y.numpy()}, "set.npz"))
    value = json.loads(json.dumps(asdict(found)))
    assert (value["ipc"], value["space"], value["class_numbers"]) == (2, "normalised", list(range(10)))
    names = [name for name, _ in found.rows()]
    assert names == ["Files", "Found", "Images", "Values", "Labels", "Classes", "student_lr", "Left out"]


@pytest.mark.parametrize(("name", "width", "depth"), [("resnet18", 8, None), ("vit", 16, 3), ("convnet", 4, 2)])
def test_a_network_of_another_size_is_recognised(
    workspace: Workspace, name: str, width: int, depth: int | None
) -> None:
    from engine.networks.registry import build_network
    from engine.settings import NetworkSettings

    dataset = run_to_end(workspace.open_dataset(workspace.settings(overrides=TINY).settings)).dataset
    model = build_network(name, channels=1, classes=10, resolution=8, width=width, depth=depth)
    shapes = tuple(tuple(p.shape) for p in model.parameters())
    with pytest.raises(DataError, match=f"The file fits: --set network.name={name} --set network.width={width}"):
        check_shapes(shapes, NetworkSettings(name="convnet", width=32), dataset, "f.pt")
    odd = (*shapes[:-2], (7, *shapes[-2][1:]), (7,))
    if name != "convnet":
        with pytest.raises(DataError, match=rf"networks tried .*{name} of width {width}.*--set network.width=N"):
            check_shapes(odd, NetworkSettings(name="convnet", width=32), dataset, "f.pt")


def test_a_lost_buffer_of_teachers_does_not_stop_what_needs_none(tmp_path: Path) -> None:
    chosen = resolve_settings(overrides=[*TINY, "teachers.buffer=lost"])
    workspace = Workspace.create(tmp_path / "ws", chosen, {"teachers.buffer"})
    with pytest.raises(UsageError, match="There is no imported teacher buffer lost"):
        workspace.settings()
    run, _ = imported(workspace, saved(tmp_path, {"images": X, "labels": Y}))
    assert evaluation_settings(workspace, run)[1] == ""


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_labels_of_types_that_pytorch_hardly_computes_with(workspace: Workspace, tmp_path: Path, dtype: Any) -> None:
    assert torch.equal(imported(workspace, saved(tmp_path, {"images": X, "labels": Y.to(dtype)}))[1]["labels"], ONE_HOT)


NO_TENSORS: dict[str, tuple[Any, str]] = {
    "float8 images": ({"images": X.to(torch.float8_e4m3fn), "labels": Y}, "images .* has the type torch.float8_e4m3fn"),
    "float8 labels": ({"images": X, "labels": ONE_HOT.to(torch.float8_e5m2)}, "labels .* type torch.float8_e5m2"),
    "complex images": ({"images": X.to(torch.complex64), "labels": Y}, "not a plain dense tensor .*complex64"),
    "sparse images": ({"images": X.to_sparse(), "labels": Y}, "not a plain dense tensor .*sparse_coo"),
    "no image": ({"images": X[:0], "labels": Y[:0]}, "holds 0 images"),
}


@pytest.mark.parametrize("case", NO_TENSORS)
def test_tensors_that_cannot_be_used_are_refused_before_anything_is_written(
    workspace: Workspace, tmp_path: Path, case: str
) -> None:
    value, words = NO_TENSORS[case]
    before = sorted(workspace.folder.rglob("*"))
    with pytest.raises(DataError, match=words):
        imported(workspace, saved(tmp_path, value))
    assert sorted(workspace.folder.rglob("*")) == before


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("name", ["images", "labels"])
def test_nested_tensors_are_refused(workspace: Workspace, tmp_path: Path, name: str) -> None:
    held = {"images": X, "labels": Y}
    held[name] = torch.nested.nested_tensor([held[name][:3], held[name][:5]])
    with pytest.raises(DataError, match=rf"{name} in .*set.pt is not a plain dense tensor \(nested\)"):
        imported(workspace, saved(tmp_path, held))


@pytest.mark.parametrize("ending", ["pt", "parquet", "npy"])
def test_a_device_is_no_file(workspace: Workspace, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"set.{ending}"
    path.symlink_to("/dev/zero")
    with pytest.raises(UsageError, match="is not a file"):
        imported(workspace, path)


def test_a_file_of_class_names_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes("\ufeffdog\r\ncat\r\n".encode())
    assert class_order(("cat", "dog"), False, str(file), None, "").numbers == (1, 0)
