"""Sets to and from DD-Ranking and DC-BENCH (docs/ecosystem.md), in the files and shapes that their code loads.

What their code does with a file is written down here as a few lines each, on real digits: 10 images per class.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from engine.data import Dataset
from engine.errors import DataError
from engine.runs.workspace import OpenDataset, Workspace
from engine.runtime.generators import run_to_end
from engine.tools.exchange.export import exporting
from engine.tools.exchange.import_images import Wanted, import_images
from tests.conftest import TINY

CLASSES, IPC = 10, 10
THEIR_MEAN, THEIR_STD = 0.5, 0.25
"""A publisher's constants for normalisation, which are not the statistics of the images."""


@pytest.fixture
def opened(workspace: Workspace) -> OpenDataset:
    return run_to_end(workspace.open_dataset(workspace.settings().settings))


def real_set(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """The first ten real images of each class as pixels in [0, 1], `(100, 1, 8, 8)`, and class numbers, in order."""
    index = np.concatenate([np.flatnonzero(dataset.train_labels == k)[:IPC] for k in range(CLASSES)])
    return torch.from_numpy(dataset.train_images[index]) / 255, torch.from_numpy(dataset.train_labels[index])


def real_tests(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """The real test images, bytes `(N, 1, 8, 8)`, and their class numbers; copied, as the files may only be read."""
    return torch.tensor(np.array(dataset.test_images)), torch.tensor(np.array(dataset.test_labels))


def softened(labels: Tensor) -> Tensor:
    noise = torch.rand((len(labels), CLASSES), generator=torch.Generator().manual_seed(0))
    return 0.8 * F.one_hot(labels, CLASSES) + 0.2 * noise / noise.sum(1, keepdim=True)


def published(workspace: Workspace, folder: Path, images: Tensor, labels: Tensor, name: str = "r") -> Path:
    """An export of a set, `--format pt`."""
    torch.save({"images": images, "labels": labels, "lr": 0.05}, folder / f"{name}.pt")
    run_to_end(import_images(workspace, name, Wanted(folder / f"{name}.pt", space="pixels"), TINY))
    run_to_end(exporting(workspace, workspace.run(name), folder / f"{name}-pt", layout="pt"))
    return folder / f"{name}-pt"


def accuracy(images: Tensor, labels: Tensor, lr: float, loss: Any, test: tuple[Tensor, Tensor]) -> float:
    """Of a small network trained on a set by SGD with momentum, as both benchmarks do it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES))
    steps = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    for _ in range(40):
        for x, y in DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True):
            steps.zero_grad()
            loss(net(x), y).backward()
            steps.step()
    with torch.no_grad():
        return float((net(test[0]).argmax(1) == test[1]).float().mean())


def softmax_cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """DATM's loss for soft labels, which DD-Ranking evaluates with: targets are logits."""
    return -(target.softmax(1) * output.log_softmax(1)).sum(1).mean()


def test_dc_bench_loads_our_files(workspace: Workspace, opened: OpenDataset, tmp_path: Path) -> None:
    pixels, classes = real_set(opened.dataset)
    real, numbers = real_tests(opened.dataset)
    test = opened.space.encode(real), numbers
    # Its method `tm`: two files of fixed names below root/TM/DATASET/IPCn, labels cast to integers.
    place = tmp_path / "distilled_results" / "TM" / "digits" / f"IPC{IPC}"
    place.parent.mkdir(parents=True)
    published(workspace, tmp_path, pixels, classes).rename(place)
    images, labels = torch.load(place / "images_best.pt"), torch.load(place / "labels_best.pt").long()
    assert images.shape == (CLASSES * IPC, 1, 8, 8) and torch.equal(labels, classes)
    assert accuracy(images, labels, 0.05, nn.CrossEntropyLoss(), test) > 0.7

    # Soft labels: cast, they would all be class 0. Its methods `dc`, `dsa` and `dm` take them as they are.
    soft = published(workspace, tmp_path, pixels, softened(classes), "soft")
    labels = torch.load(soft / "labels_best.pt")
    assert labels.dtype == torch.float32 and not labels.long().any()
    torch.save({"data": [[torch.load(soft / "images_best.pt"), labels]]}, tmp_path / "res_DC_digits_ConvNet_10ipc.pt")
    images, labels = torch.load(tmp_path / "res_DC_digits_ConvNet_10ipc.pt")["data"][-1]
    torch.testing.assert_close(labels, softened(classes))
    assert accuracy(images, labels, 0.05, nn.CrossEntropyLoss(), test) > 0.7


def test_dd_ranking_loads_our_files(workspace: Workspace, opened: OpenDataset, tmp_path: Path) -> None:
    pixels, classes = real_set(opened.dataset)
    out = published(workspace, tmp_path, pixels, softened(classes))
    images, labels, lr = (
        torch.load(out / f"{name}_best.pt", map_location="cpu") for name in ("images", "labels", "lr")
    )
    assert images.shape == (CLASSES * IPC, 1, 8, 8) and lr.item() == pytest.approx(0.05)
    # It makes hard labels itself, ipc of each class in order.
    assert torch.equal(torch.arange(CLASSES).repeat_interleave(IPC), labels.argmax(1))
    # The card says how probabilities become the logits that its loss takes.
    assert "labels.clamp_min(1e-30).log()" in (out / "README.md").read_text()
    logits = labels.clamp_min(1e-30).log()
    torch.testing.assert_close(logits.softmax(1), labels)
    # From our normalisation to theirs, by the statistics in recipe.json: real images in theirs go with the set.
    space = json.loads((out / "recipe.json").read_text())["space"]
    mean, std = (torch.tensor(space[name]).view(-1, 1, 1) for name in ("mean", "std"))
    theirs = (images * std + mean - THEIR_MEAN) / THEIR_STD
    torch.testing.assert_close(theirs, (pixels - THEIR_MEAN) / THEIR_STD, rtol=0, atol=1e-5)
    real, numbers = real_tests(opened.dataset)
    test = (real / 255 - THEIR_MEAN) / THEIR_STD, numbers
    right = accuracy(theirs, logits, lr.item(), softmax_cross_entropy, test)
    assert right > 0.7
    assert right > accuracy(theirs, labels, lr.item(), softmax_cross_entropy, test)  # probabilities taken for logits


def test_files_of_dd_ranking_are_imported(workspace: Workspace, opened: OpenDataset, tmp_path: Path) -> None:
    """`images.pt`, `labels.pt` with logits, `lr.pt`, in their normalisation."""
    pixels, classes = real_set(opened.dataset)
    torch.save((pixels - THEIR_MEAN) / THEIR_STD, tmp_path / "images.pt")
    torch.save(5 * F.one_hot(classes, CLASSES) + 0.1 * softened(classes), tmp_path / "labels.pt")
    torch.save(torch.tensor(0.03), tmp_path / "lr.pt")
    files = {"images": tmp_path / "images.pt", "labels": tmp_path / "labels.pt", "lr": str(tmp_path / "lr.pt")}
    how = {"space": "normalised", "mean": str(THEIR_MEAN), "std": str(THEIR_STD)}
    with pytest.raises(DataError, match="--labels logits"):
        run_to_end(import_images(workspace, "r", Wanted(**files, **how), TINY))
    run_to_end(import_images(workspace, "r", Wanted(**files, **how, label_kind="logits"), TINY))
    run = workspace.run("r")
    tensors = run.load_checkpoint(0)[0]
    torch.testing.assert_close(tensors["images"], opened.space.encode(pixels), rtol=0, atol=1e-5)
    assert torch.equal(next(t for name, t in tensors.items() if "label" in name).argmax(1), classes)
    assert run.frozen().settings.distill.student_lr == pytest.approx(0.03)


def test_files_of_dc_bench_are_imported(workspace: Workspace, opened: OpenDataset, tmp_path: Path) -> None:
    pixels, classes = real_set(opened.dataset)
    earlier = torch.zeros_like(pixels)
    # DC, DSA, DM: experiments, of which the benchmark takes the last. k-means: two files. KIP: channels last, centred.
    torch.save({"data": [[earlier, classes], [pixels, classes]]}, tmp_path / "res_DC_digits_ConvNet_10ipc.pt")
    torch.save(pixels, tmp_path / "digits_IPC10_images.pt")
    torch.save(classes.float(), tmp_path / "digits_IPC10_labels.pt")
    centred = F.one_hot(classes, CLASSES).float() - 0.1
    np.savez(tmp_path / "kip.npz", images=pixels.permute(0, 2, 3, 1).numpy(), labels=centred.numpy())
    wanted = {
        "dc": Wanted(tmp_path / "res_DC_digits_ConvNet_10ipc.pt", experiment=1, space="pixels"),
        "kmeans": Wanted(tmp_path / "digits_IPC10_images.pt", tmp_path / "digits_IPC10_labels.pt", space="pixels"),
        "kip": Wanted(tmp_path / "kip.npz", space="pixels", label_kind="regression"),
    }
    for name, files in wanted.items():
        run_to_end(import_images(workspace, name, files, TINY))
        tensors = workspace.run(name).load_checkpoint(0)[0]
        torch.testing.assert_close(tensors["images"], opened.space.encode(pixels), rtol=0, atol=1e-5)
        out = tmp_path / f"{name}-out"
        run_to_end(exporting(workspace, workspace.run(name), out, layout="pt"))
        assert torch.equal(torch.load(out / "labels_best.pt"), classes), name
