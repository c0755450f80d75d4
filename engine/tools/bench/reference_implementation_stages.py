"""Teachers, evaluation, data the way published code does them: DataLoader, eager NCHW, one network after another.

In the measured process. Published code first turns the whole dataset into one float tensor in the host's memory; that
is not part of the time. Augmentations are our own function's, so that both sides do the same arithmetic.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from engine.data import draw_augment
from engine.data.space import InputSpace
from engine.runs.workspace import OpenDataset, Workspace
from engine.runtime.generators import run_to_end
from engine.runtime.rng import counted_generator, forked_global_rng
from engine.settings import Settings
from engine.tools.bench.cases import Compute
from engine.tools.bench.measuring import MemoryMeter, Stopwatch, stage_answer
from engine.tools.bench.reference_implementation import reference_network
from engine.tools.bench.switches import apply_switches, read_switches
from engine.training.evaluation import RULE
from engine.training.labels import class_index, hard_labels

LR = 0.01


class _Samples(Dataset[tuple[Tensor, int]]):
    """Decode and normalise one image at a time, as torchvision's datasets do."""

    def __init__(self, opened: OpenDataset) -> None:
        self._opened = opened

    def __len__(self) -> int:
        return len(self._opened.kept)

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        opened = self._opened
        at = opened.kept[item]
        image = torch.from_numpy(opened.dataset.train_images[at].astype(np.float32) / 255)
        return opened.space.encode(image[None])[0], int(opened.dataset.train_labels[at])


def prepare_reference(stage: str, folder: str, ipc: int, compute: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """What a process of `tesla bench` does for the published side of a stage.

    Args:
        stage: teachers, evaluate or data.
        folder: a workspace.
        ipc: images per class.
        compute: fields of `Compute`.
    """
    chosen = Compute(**compute)
    device = apply_switches(chosen)
    workspace = Workspace(Path(folder))
    settings = workspace.settings(ipc=ipc).settings
    opened = run_to_end(workspace.open_dataset(settings))
    run = {"teachers": _teacher, "evaluate": _evaluation, "data": _epoch_of_data}[stage](opened, settings, device)
    meter = MemoryMeter(device)

    def measure() -> dict[str, Any]:
        meter.forget()
        with forked_global_rng(0):
            watch = Stopwatch(device)
            images = run()
            return stage_answer(watch, meter, images, read_switches(chosen, device))

    return measure


def _all(space: InputSpace, pixels: np.ndarray) -> Tensor:
    return space.encode(torch.from_numpy(np.array(pixels)))


def _network(opened: OpenDataset, settings: Settings, device: torch.device) -> nn.Module:
    network, dataset = settings.network, opened.dataset
    return reference_network(
        network.name, channels=dataset.channels, classes=len(dataset.classes), resolution=dataset.resolution,
        width=network.width, depth=network.depth,
    ).to(device)  # fmt: skip


def _epoch(
    loader: Any, net: nn.Module, optimizer: torch.optim.Optimizer | None, settings: Settings, device: torch.device
) -> tuple[float, float, int]:
    """Mean loss, accuracy and number of images; trains if there is an optimiser."""
    loss_avg, acc_avg, num_exp = 0.0, 0.0, 0
    net.train(optimizer is not None)
    criterion = nn.CrossEntropyLoss().to(device)
    generator = counted_generator(0, "bench-published")
    for datum in loader:
        img, lab = datum[0].float().to(device), datum[1].to(device)
        if optimizer is not None:
            img = draw_augment(generator, settings.augment.ops, img.shape, device)(img)
        output = net(img)
        loss = criterion(output, lab)
        hard = lab.argmax(dim=1) if lab.ndim > 1 else lab
        loss_avg += loss.item() * len(lab)
        acc_avg += float(np.sum(np.equal(np.argmax(output.cpu().data.numpy(), axis=-1), hard.cpu().data.numpy())))
        num_exp += len(lab)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loss_avg / num_exp, acc_avg / num_exp, num_exp


def _teacher(opened: OpenDataset, settings: Settings, device: torch.device) -> Callable[[], int]:
    images = _all(opened.space, opened.dataset.train_images[opened.kept])
    data = TensorDataset(images, torch.from_numpy(opened.dataset.train_labels[opened.kept]))

    def run() -> int:
        loader = DataLoader(data, batch_size=settings.teachers.batch, shuffle=True)
        net = _network(opened, settings, device)
        optimizer = torch.optim.SGD(net.parameters(), lr=settings.teachers.lr)
        timestamps = [[p.detach().cpu().clone() for p in net.parameters()]]
        seen = 0
        for _ in range(settings.trained_epochs):
            seen += _epoch(loader, net, optimizer, settings, device)[2]
            timestamps.append([p.detach().cpu().clone() for p in net.parameters()])
        with tempfile.TemporaryFile() as file:
            torch.save([timestamps], file)
        return seen

    return run


def _evaluation(opened: OpenDataset, settings: Settings, device: torch.device) -> Callable[[], int]:
    dataset, ipc, classes = opened.dataset, settings.distill.ipc, len(opened.dataset.classes)
    test = TensorDataset(_all(opened.space, dataset.test_images), torch.from_numpy(np.array(dataset.test_labels)))
    members = [opened.kept[dataset.train_labels[opened.kept] == k][:ipc] for k in range(classes)]
    images = _all(opened.space, dataset.train_images[np.concatenate(members)]).to(device)
    small = TensorDataset(images, hard_labels(class_index(classes, ipc), classes, torch.float32).to(device))

    def run() -> int:
        seen = 0
        for _ in range(settings.evaluate.repeats):
            net = _network(opened, settings, device)
            optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=RULE.momentum, weight_decay=RULE.weight_decay)
            loader = DataLoader(small, batch_size=settings.evaluate.batch, shuffle=True)
            for epoch in range(settings.evaluate.epochs):
                if epoch == settings.evaluate.epochs // 2 + 1:
                    optimizer = torch.optim.SGD(
                        net.parameters(), lr=LR * 0.1, momentum=RULE.momentum, weight_decay=RULE.weight_decay
                    )
                seen += _epoch(loader, net, optimizer, settings, device)[2]
            with torch.no_grad():
                _epoch(DataLoader(test, batch_size=settings.evaluate.batch), net, None, settings, device)
        return seen

    return run


def _epoch_of_data(opened: OpenDataset, settings: Settings, device: torch.device) -> Callable[[], int]:
    generator = counted_generator(0, "bench-published")

    def run() -> int:
        loader = DataLoader(_Samples(opened), batch_size=settings.teachers.batch, shuffle=True)
        for img, lab in loader:
            there = img.to(device)
            draw_augment(generator, settings.augment.ops, there.shape, device)(there)
            lab.to(device)
        return len(opened.kept)

    return run
