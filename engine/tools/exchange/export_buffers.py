# ruff: noqa: E501 - the text of a card is not code
"""Teacher buffers in the format that published tools read: `replay_buffer_*.pt`, lists of lists of lists of tensors.

The numbers are not copied: tensors are views of the mapped trajectory files, and `torch.save` writes from there.
"""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.data import Dataset, prepare_dataset
from engine.errors import CorruptFileError, UsageError, tesla
from engine.events import Event, Progress
from engine.networks.flat import FlatNetwork
from engine.networks.registry import initialised_network
from engine.runs.workspace import Workspace
from engine.settings import Settings
from engine.storage.atomic import disk, publishing_folder
from engine.storage.reading import told_reads
from engine.storage.untrusted import open_regular
from engine.tools.exchange.card import card_text
from engine.tools.exchange.data_facts import dataset_title
from engine.tools.exchange.torch_writer import save_tensors
from engine.training.teacher_buffer import TeacherBuffer
from engine.training.teachers import teacher_rule

STAGE = "export"


@dataclass(frozen=True)
class BuffersExported:
    """What was written."""

    files: int
    trajectories: int
    epochs: int


def export_buffers(
    workspace: Workspace, settings: Settings, to: Path, *, per_file: int = 10
) -> Generator[Event, None, BuffersExported]:
    """Write the teachers that a run with these settings uses. Use as `yield from`, or iterate it.

    Args:
        workspace: whose they are.
        settings: of the run.
        to: a new or empty folder.
        per_file: trajectories in a file; MTT saves 10.

    Raises:
        UsageError: `to` is not empty, or there are no such teachers.
        CorruptFileError: a snapshot does not match its checksum.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"{to} already exists and is not empty.", "Choose a new folder with --to.")
    dataset = yield from prepare_dataset(workspace.data_request(settings))
    identity = workspace.buffer_identity(settings, dataset)
    buffer = TeacherBuffer(workspace.buffer_folder(settings, identity), identity)
    numbers = [number for number in range(settings.teachers.count) if buffer.epochs(number) >= 1]
    if not numbers:
        raise UsageError(
            f"There are no teachers in {buffer.folder}.", f"Train them first: {tesla('teach', workspace.folder)}"
        )
    network = _network(settings, dataset)
    epochs = min(buffer.epochs(number) for number in numbers)
    title = card_text(dataset_title(settings.dataset, workspace.folder))
    with publishing_folder(to) as temp:
        groups = [numbers[i : i + per_file] for i in range(0, len(numbers), per_file)]
        done = 0
        for place, group in enumerate(groups):
            trajectories = []
            for number in group:
                trajectories.append(_trajectory(buffer, number, network))
                done += 1
                yield Progress(
                    stage=STAGE, done=done, total=len(numbers), unit="trajectories", detail=f"file {place + 1}"
                )
            save_tensors(temp / f"replay_buffer_{place}.pt", trajectories)
        disk.write(temp / "README.md", _card(title, settings, dataset, network, len(numbers), epochs, groups).encode())
    return BuffersExported(len(groups), len(numbers), epochs)


def _network(settings: Settings, dataset: Dataset) -> FlatNetwork:
    return FlatNetwork(
        initialised_network(
            settings.network.name, seed=0, channels=dataset.channels, classes=len(dataset.classes),
            resolution=dataset.resolution, width=settings.network.width, depth=settings.network.depth,
        )
    )  # fmt: skip


def _trajectory(buffer: TeacherBuffer, number: int, network: FlatNetwork) -> list[list[Tensor]]:
    path = buffer.path(number)
    record = buffer.record(number)
    if record is None or record.parameters != network.size:
        raise CorruptFileError(f"{path} does not belong to this network.", "Run `tesla doctor` on the workspace.")
    for epoch in range(record.rows):
        buffer.read(number, epoch)  # against its checksum
    with open_regular(path) as file:
        start = 8 + int.from_bytes(file.read(8), "little")
    with told_reads(path):
        # Copy on write: PyTorch needs writable memory, and nothing writes it.
        rows: np.memmap[Any, np.dtype[np.float32]] = np.memmap(
            path, dtype="<f4", mode="c", offset=start, shape=(record.rows, record.parameters)
        )
    return [list(network.unflatten(row).values()) for row in torch.from_numpy(rows)]


def _card(
    title: str, settings: Settings, dataset: Dataset, network: FlatNetwork, count: int, epochs: int,
    groups: list[list[int]],
) -> str:  # fmt: skip
    from engine import __version__

    shapes = "\n".join(
        f"    {name:<28} {tuple(shape)}" for name, shape in zip(network.names, network.shapes, strict=True)
    )
    teachers = settings.teachers
    return f"""# Teacher trajectories of {title}

{count} trajectories of {epochs} epochs in {len(groups)} file{"s" if len(groups) > 1 else ""}, as MTT's buffer.py writes them and TESLA, FTD and DATM read them:

    import torch
    trajectories = torch.load("replay_buffer_0.pt", weights_only=True)
    trajectories[0][5]   # trajectory 0 after 5 epochs: the network's parameters in parameters() order

Network {settings.network.name}, float32; {dataset.channels}-channel {dataset.resolution}x{dataset.resolution} images of {len(dataset.classes)} classes,
{"ZCA-whitened (eps 0.1)" if settings.dataset.zca else "normalised by channel with the statistics of the training images"}:

{shapes}

{_steps(settings)} without momentum or weight decay, learning rate {teachers.lr:g}, batch {teachers.batch}, augmentation {", ".join(settings.augment.ops) or "none"};
a share of {settings.dataset.holdout:g} of the training images was held out. Dataset sha256 {dataset.fingerprint}.
Made by tesla-tui {__version__}{"; these teachers were imported, and their training settings are as declared" if settings.teachers.buffer else ""}.
"""


def _steps(settings: Settings) -> str:
    """What a teacher's steps are."""
    rule = teacher_rule(settings)
    return f"Sharpness-aware SGD (FTD: GSAM, adaptive, rho {rule.rho:g}, alpha {rule.alpha:g})" if rule.rho else "SGD"
