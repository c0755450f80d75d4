"""The preset that follows a dataset's size."""

import math
from pathlib import Path

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
    for one in (counted, Counted(206, 6, 20, 32)):
        assert Counted.from_origin(one.origin) == one
    assert Counted.from_origin("preset folder") is None
    # Written before smallest and side were counted.
    assert Counted.from_table({"images": 206, "classes": 6}, Path("tesla.toml")) == counted
    assert sized_preset(counted, 1)["teachers.batch"] == 8


def test_images_hold_several_where_half_their_side_is_enough() -> None:
    factors = {
        (side, ipc): sized_preset(Counted(2_000, 10, 200, side), ipc).get("distill.formation", 1)
        for side in (None, 8, 27, 28, 64)
        for ipc in (1, 10, 50)
    }
    assert {where for where, factor in factors.items() if factor == 2} == {(28, 1), (28, 10), (64, 1), (64, 10)}


def test_images_hold_several_where_the_smallest_class_can_fill_them() -> None:
    for smallest in range(1, 60):
        kept = smallest - max(1, round(0.1 * smallest))  # as the held-out part is cut
        for ipc in (1, 3, 10):
            factor = sized_preset(Counted(2_000, 10, smallest, 32), ipc).get("distill.formation", 1)
            assert factor == 1 or kept >= 4 * ipc
    assert sized_preset(Counted(60, 10, 5, 32), 1)["distill.formation"] == 2


@pytest.mark.parametrize("choice", ["dataset.holdout=0.5", "dataset.resolution=14"])
def test_images_hold_one_where_choices_leave_too_few_images_or_pixels(choice: str) -> None:
    folder, counted = ("dataset.name=folder", "dataset.path=x"), Counted(100, 2, 50, 32)
    assert resolve_settings(ipc=10, overrides=folder, counted=counted).settings.distill.formation == 2
    found = resolve_settings(ipc=10, overrides=(*folder, choice), counted=counted)
    assert (found.settings.distill.formation, found.origins["distill.formation"]) == (1, "default")


def test_more_images_per_class_follow_a_teacher_further() -> None:
    starts = [
        sized_preset(Counted(20_000, 10, 2_000, 32), ipc)["distill.max_start_epoch"] for ipc in (1, 9, 10, 50, 100)
    ]
    assert starts[0] == starts[1] < starts[2] < starts[3] == starts[4]


def test_a_published_preset_stays_as_it_is() -> None:
    for name in ("digits", "cifar10"):
        chosen = [f"dataset.name={name}"]
        assert resolve_settings(overrides=chosen, counted=Counted(60, 6)) == resolve_settings(overrides=chosen)
