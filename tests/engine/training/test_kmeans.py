"""K-means starts: a function of the run's seed, drawn on the CPU whatever the device."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.runtime.rng import counted_generator
from engine.training.real_images import nearest_to_centres

COUNT, IPC = 40, 8


def points() -> Tensor:
    """Two classes with fewer different images than clusters, so that some clusters are empty."""
    few = torch.randn((4, 1, 5, 5), generator=counted_generator(0, "points"))
    return few[torch.arange(2 * COUNT) % 4]


def chosen(seed: int = 0) -> Tensor:
    images = points()
    task: Any = SimpleNamespace(
        classes=2, class_members=[torch.arange(COUNT), torch.arange(COUNT, 2 * COUNT)],
        dataset=SimpleNamespace(channels=1, resolution=5),
        train=SimpleNamespace(images=SimpleNamespace(encoded=lambda index: images[index])),
        settings=SimpleNamespace(seed=seed),
    )  # fmt: skip
    return nearest_to_centres(task, IPC)


def test_empty_clusters_move_no_generator_and_the_choice_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    randint = torch.randint

    def watched(*args: Any, **kwargs: Any) -> Tensor:
        drawn.append(kwargs.get("device"))
        return randint(*args, **kwargs)

    monkeypatch.setattr(torch, "randint", watched)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = chosen()
    assert drawn and set(drawn) == {torch.device("cpu")}  # there was something to draw, and it was drawn there
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(chosen(), first)
    assert len(set(first.tolist())) == 2 * IPC
    assert not torch.equal(chosen(seed=1), first)


def test_points_leave_the_device_before_anything_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[int] = []
    cpu = Tensor.cpu
    monkeypatch.setattr(Tensor, "cpu", lambda self: (moved.append(len(self)), cpu(self))[1])
    chosen()
    assert moved == [COUNT, COUNT]
