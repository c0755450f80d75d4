# ruff: noqa: E501 - the text of a card is not code
"""A distilled set as published code has it: `images_best.pt`, `labels_best.pt`, `lr_best.pt`, and a card."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.storage.atomic import disk
from engine.tools.exchange.card import card_text, hub_header, licence_words
from engine.tools.exchange.torch_writer import save_tensors
from engine.training.task import Task


def write_published(
    folder: Path, task: Task, images: Tensor, labels: Tensor, student_lr: Tensor, facts: dict[str, Any]
) -> None:
    """Write the three files and the card into an empty folder.

    Args:
        folder: where.
        task: for the input space.
        images: `(N, C, H, W)` in the input space, ordered by class.
        labels: `(N, K)` probabilities; one-hot ones are written as class numbers `(N,)`, as MTT does.
        student_lr: the learned step size, a scalar.
        facts: the recipe.
    """
    save_tensors(folder / "images_best.pt", images.cpu().clone())
    classes = labels.argmax(dim=1)
    hard = bool((labels == torch.nn.functional.one_hot(classes, labels.shape[1])).all())
    save_tensors(folder / "labels_best.pt", (classes if hard else labels).cpu().clone())
    save_tensors(folder / "lr_best.pt", student_lr.cpu().clone())
    if task.space.kind == "normalise":
        facts = {**facts, "space": {name: tensor.tolist() for name, tensor in task.space.tensors().items()}}
    disk.write(folder / "recipe.json", (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode())
    disk.write(folder / "README.md", _card(task, images, hard, facts).encode())


def _card(task: Task, images: Tensor, hard: bool, facts: dict[str, Any]) -> str:
    training = facts["training"]
    shape = ", ".join(map(str, images.shape))
    if task.space.kind == "zca":
        space = "ZCA-whitened as Kornia's `ZCAWhitening(eps=0.1)` fitted to the training images in [0, 1] does"
    else:
        mean, std = (", ".join(f"{v:.6f}" for v in task.space.tensors()[name].tolist()) for name in ("mean", "std"))
        space = f"normalised by channel, (x - mean) / std with mean {mean} and std {std}"
    kind = (
        f"class numbers ({len(images)},)"
        if hard
        else f"probabilities ({len(images)}, {task.classes}); code that takes logits (DATM, DD-Ranking): labels.clamp_min(1e-30).log()"
    )
    return f"""{hub_header(facts)}
# {card_text(facts["dataset"]["title"])}, {facts["ipc"]} image{"s" if facts["ipc"] > 1 else ""} per class

The layout of MTT, TESLA and DATM:

    import torch
    images = torch.load("images_best.pt", weights_only=True)   # ({shape}) float32
    labels = torch.load("labels_best.pt", weights_only=True)   # {kind}
    lr = torch.load("lr_best.pt", weights_only=True)           # learned step size, {training["student_lr"]:.6g}

The images are {space}.
Convert real images to the same space. Measured here with: SGD, learning rate `lr`, momentum {training["momentum"]}, weight decay {training["weight_decay"]}, batch {training["batch"]}, {training["epochs"]} epochs, {training["lr_decay"]},
augmentation {", ".join(training["augment"]) or "none"}. Classes in order: recipe.json, with every setting.
{licence_words(facts["dataset"]["license"])}

{_formation(facts)}To import it into a workspace of the same dataset and settings, where it measures the same to the last bit:

    tesla import-images WORKSPACE images_best.pt labels_best.pt --lr lr_best.pt
"""


def _formation(facts: dict[str, Any]) -> str:
    """What was done to a set whose stored images decode to several."""
    views = facts["ipc"] // facts["stored_ipc"]
    if views == 1:
        return ""
    return f"""The distilled set stores {facts["stored_ipc"]} image{"s" if facts["stored_ipc"] > 1 else ""} per class, each of which holds {views} smaller ones (multi-formation,
Kim et al. 2022). Here these are cut out and enlarged, {facts["ipc"]} per class, as networks were trained on them.
Compare with methods that store {facts["stored_ipc"]} per class.

"""
