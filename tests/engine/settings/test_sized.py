"""The preset that follows a dataset's size."""

import math

import pytest

from engine.settings import resolve_settings
from engine.settings.sized import Counted, sized_preset


@pytest.mark.parametrize("images", [2, 20, 48, 206, 1_000, 1_600, 17_600, 60_000, 1_000_000])
@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
def test_the_preset_is_valid_at_any_size(images: int, classes: int) -> None:
    counted = Counted(images, classes)
    settings = resolve_settings(overrides=["dataset.name=a/b"], ipc=10, counted=counted).settings
    teachers, distill = settings.teachers, settings.distill
    steps = math.ceil(0.9 * images / teachers.batch)
    assert 4 <= teachers.batch <= 256
    assert steps >= 20 or teachers.batch == 4 or images < 80
    assert teachers.batch == 256 or steps <= 42  # and not many more than needed
    assert distill.teacher_epochs * steps >= 30 or images < 10
    assert teachers.epochs >= settings.reachable_epochs
    assert 4 <= distill.max_start_epoch <= 60
    assert (distill.batch == "full") == (classes * 10 <= 1000)


def test_an_origin_gives_its_counts_back() -> None:
    counted = Counted(206, 6)
    assert Counted.from_origin(counted.origin) == counted
    assert Counted.from_origin("preset folder") is None
    assert sized_preset(counted, 1)["teachers.batch"] == 8


def test_a_published_preset_stays_as_it_is() -> None:
    for name in ("digits", "cifar10"):
        chosen = [f"dataset.name={name}"]
        assert resolve_settings(overrides=chosen, counted=Counted(60, 6)) == resolve_settings(overrides=chosen)
