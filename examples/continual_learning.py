"""Distilled images as a memory while learning class after class. `python examples/continual_learning.py [FOLDER]`

A network learns the digits in five steps, two classes at a time, and never sees the images of an earlier step again:
only what a memory of a few images per class has kept of them. What it still knows of all classes it has seen is
measured after every step, with no memory, with random real images, and with as many distilled ones, which are made
of the images of that step alone. A few minutes on two cores.
"""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from engine import Workspace, distil, open_workspace
from engine.data import DataRequest, Dataset, InputSpace, draw_augment, fit_space, prepare_dataset
from engine.networks import initialised_network
from engine.runtime.generators import run_to_end
from engine.runtime.rng import counted_generator, counted_seed

STEPS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
MEMORIES = ("nothing", "random", "distilled")
BATCH, LR, MOMENTUM = 32, 0.01, 0.9
OPS = ("color", "crop", "cutout", "scale", "rotate")
"""Augmentation of what is remembered, the same that the images were distilled with. No flip: digits."""


def write_step(digits: Dataset, classes: Sequence[int], folder: Path) -> None:
    """The images of some classes as a tree that `dataset.path` can name."""
    parts = {"train": (digits.train_images, digits.train_labels), "test": (digits.test_images, digits.test_labels)}
    for part, (images, labels) in parts.items():
        for k in classes:
            place = folder / part / digits.classes[k]
            place.mkdir(parents=True, exist_ok=True)
            for number, image in enumerate(images[labels == k]):
                Image.fromarray(image[0]).save(place / f"{number:04d}.png")


def distilled(workspace: Workspace, digits: Dataset, step: int, ipc: int, overrides: Sequence[str]) -> Tensor:
    """Synthetic images of a step, ordered by class, as pixel values `(classes * ipc, C, H, W)` around [0, 1]."""
    folder = workspace.folder / "pictures" / f"step-{step}"
    write_step(digits, STEPS[step], folder)
    own = ("dataset.name=folder", f"dataset.path={folder.resolve()}", *overrides)
    # Every run normalises by its own images; pixels are the space that they share.
    return distil(workspace, f"step-{step}-ipc-{ipc}", ipc=ipc, settings=own).pixels


def random_images(digits: Dataset, classes: Sequence[int], ipc: int, repeat: int) -> Tensor:
    """As many real ones, another draw in every repeat."""
    found = []
    for k in classes:
        members = (torch.from_numpy(digits.train_labels) == k).nonzero()[:, 0]
        order = torch.randperm(len(members), generator=counted_generator(0, "memory", repeat, k))
        found.append(torch.from_numpy(digits.train_images[members[order[:ipc]].numpy()]))
    return torch.cat(found).float() / 255


def learn(
    digits: Dataset, space: InputSpace, memories: Sequence[Tensor], ipc: int, updates: int, repeat: int
) -> list[float]:
    """Accuracy, 0..1, on the test images of all classes seen so far, after every step.

    Args:
        digits: all images; those of a step are read in that step only.
        space: what the network sees of pixels.
        memories: of every step its images, ordered by class; empty for no memory.
        ipc: images of a class in the memory.
        updates: SGD steps in every step.
        repeat: the network, and the order of its batches.
    """
    size = {"channels": digits.channels, "classes": len(digits.classes), "resolution": digits.resolution}
    network = initialised_network("convnet", seed=counted_seed(0, "learner", repeat), width=32, depth=2, **size)
    optimiser = torch.optim.SGD(network.parameters(), lr=LR, momentum=MOMENTUM)
    labels, tested = torch.from_numpy(digits.train_labels), torch.from_numpy(digits.test_labels)
    accuracies = []
    for step, classes in enumerate(STEPS):
        new = torch.isin(labels, torch.tensor(classes)).nonzero()[:, 0]
        kept = torch.cat([space.encode(images) for images in memories[:step]]) if step and memories else None
        kept_labels = torch.tensor([k for earlier in STEPS[:step] for k in earlier]).repeat_interleave(ipc)
        generator = counted_generator(0, "batches", repeat, step)
        network.train()
        for _ in range(updates):
            batch = new[torch.randint(len(new), (BATCH,), generator=generator)]
            images = space.encode(torch.from_numpy(digits.train_images[batch.numpy()]))
            loss = nn.functional.cross_entropy(network(images), labels[batch])
            if kept is not None:
                again = torch.randint(len(kept), (BATCH,), generator=generator)
                augment = draw_augment(generator, OPS, kept[again].shape, kept.device)
                # Earlier classes weigh as much as their share of all classes.
                loss = (
                    loss + step * nn.functional.cross_entropy(network(augment(kept[again])), kept_labels[again])
                ) / (1 + step)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        seen = torch.isin(tested, torch.tensor([k for s in STEPS[: step + 1] for k in s]))
        network.eval()
        with torch.no_grad():
            scores = network(space.encode(torch.from_numpy(digits.test_images[seen.numpy()])))
        accuracies.append((scores.argmax(dim=1) == tested[seen]).float().mean().item())
    return accuracies


def main(
    folder: Path, *overrides: str, ipc: int = 1, updates: int = 200, repeats: int = 5
) -> dict[str, list[list[float]]]:
    """Accuracies by memory, then by repeat, then by step."""
    workspace = open_workspace(folder, dataset="digits")
    digits = run_to_end(prepare_dataset(DataRequest("digits")))
    first = np.flatnonzero(np.isin(digits.train_labels, STEPS[0]))
    space = fit_space(digits, first, zca=False)  # nothing that is seen later
    images = [distilled(workspace, digits, step, ipc, overrides) for step in range(len(STEPS))]
    found: dict[str, list[list[float]]] = {name: [] for name in MEMORIES}
    for repeat in range(repeats):
        drawn = [random_images(digits, classes, ipc, repeat) for classes in STEPS]
        for name, memories in (("nothing", []), ("random", drawn), ("distilled", images)):
            found[name].append(learn(digits, space, memories, ipc, updates, repeat))
    print(f"test accuracy on the classes seen so far, %; {ipc} per class remembered; {repeats} networks")
    print("classes seen " + "".join(f"{name:>16}" for name in MEMORIES))
    for step in range(len(STEPS)):
        cells = []
        for name in MEMORIES:
            values = [100 * accuracies[step] for accuracies in found[name]]
            spread = statistics.stdev(values) if repeats > 1 else 0.0
            cells.append(f"{statistics.fmean(values):9.1f} ± {spread:4.1f}")
        print(f"{sum(len(classes) for classes in STEPS[: step + 1]):12} " + "".join(f"{cell:>16}" for cell in cells))
    return found


if __name__ == "__main__":
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "continual",
        "dataset.resolution=8", "network.width=32", "network.depth=2", "augment.ops=color,crop,cutout,scale,rotate",
        "teachers.count=10", "teachers.epochs=12", "teachers.batch=64",
        "distill.iterations=200", "distill.steps=20", "distill.max_start_epoch=10", "distill.lr_images=100",
        "distill.lr_student_lr=1e-5", "evaluate.every=50", "evaluate.epochs=200", "compute.compile=off",
    )  # fmt: skip
