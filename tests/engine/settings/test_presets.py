"""What a newcomer gets: presets by dataset and IPC, and where a preset's formation does not apply."""

import json
from pathlib import Path

import pytest

from engine.settings import EffectiveSettings, resolve_settings

SEARCHES = Path(__file__).parents[3] / "docs" / "data" / "presets.json"
"""What `python -m benchmarks.presets` found."""
SEARCHED = ("distill.formation", "distill.lr_images", "distill.steps")


def fashion(*overrides: str, ipc: int = 1) -> EffectiveSettings:
    return resolve_settings(ipc=ipc, overrides=["dataset.name=fashion-mnist", *overrides])


@pytest.mark.parametrize("dataset", ["digits", "fashion-mnist", "mnist"])
def test_more_images_per_class_start_later_up_to_where_teachers_reach(dataset: str) -> None:
    rows = [resolve_settings(ipc=ipc, overrides=[f"dataset.name={dataset}"]).settings for ipc in (1, 10, 50)]
    starts = [row.distill.max_start_epoch for row in rows]
    assert starts == sorted(starts)
    assert starts[0] < starts[2]
    assert all(row.teachers.epochs >= row.reachable_epochs for row in rows)


def test_mnist_is_as_fashion_mnist_without_flips() -> None:
    for ipc in (1, 10, 50):
        mnist = resolve_settings(ipc=ipc, overrides=["dataset.name=mnist"]).flat()
        differ = {key for key, value in fashion(ipc=ipc).flat().items() if mnist[key] != value}
        assert differ == {"dataset.name", "augment.ops"}
        assert "flip" not in mnist["augment.ops"]


def test_a_row_is_used_up_to_the_next() -> None:
    assert fashion(ipc=9).origins["distill.lr_images"] == "preset fashion-mnist, IPC 1"
    assert fashion(ipc=49).origins["distill.lr_images"] == "preset fashion-mnist, IPC 10"
    assert fashion(ipc=100).origins["distill.lr_images"] == "preset fashion-mnist, IPC 50"


@pytest.mark.parametrize(
    "choice",
    [
        "distill.method=dm", "distill.method=whole", "distill.method=k-means",
        "labels.kind=target", "labels.kind=last", "labels.kind=given", "dataset.resolution=15",
    ],
)  # fmt: skip
def test_a_presets_formation_gives_way_where_images_are_stored_whole(choice: str) -> None:
    found = fashion(choice)
    assert (found.settings.distill.formation, found.origins["distill.formation"]) == (1, "default")


@pytest.mark.parametrize(
    "choice", ["distill.method=random", "distill.method=mtt", "distill.method=datm", "labels.kind=learned"]
)
def test_a_presets_formation_holds_where_several_images_fit_in_one(choice: str) -> None:
    assert fashion(choice).settings.distill.formation == 2


def test_an_existing_run_keeps_its_formation_whatever_presets_would_do_now() -> None:
    arguments = ("dataset.name=fashion-mnist", "dataset.resolution=15")
    assert resolve_settings(ipc=1, overrides=arguments, started=fashion()).settings.distill.formation == 2


def test_a_formation_that_a_person_sets_is_never_taken_back() -> None:
    found = fashion("distill.formation=4", "dataset.resolution=16")
    assert (found.settings.distill.formation, found.origins["distill.formation"]) == (4, "command line")


@pytest.mark.parametrize(("dataset", "ipc"), [("digits", 1), ("digits", 10), ("fashion-mnist", 1)])
def test_measured_rows_are_among_the_best_of_their_searches(dataset: str, ipc: int) -> None:
    found = [row for row in json.loads(SEARCHES.read_text()) if (row["dataset"], row["ipc"]) == (dataset, ipc)]
    flat = resolve_settings(ipc=ipc, overrides=[f"dataset.name={dataset}"]).flat()
    chosen = [row for row in found if all(row["settings"][key] == flat[key] for key in SEARCHED)]
    assert chosen
    assert all(row["n"] == 3 for row in found)
    assert max(row["held_out"] for row in found) - max(row["held_out"] for row in chosen) < 0.005


def test_the_rate_at_fashion_mnist_ipc_50_is_among_the_best_of_its_search() -> None:
    """The runs of the experiment B50; equal is what differs by less than half a point."""
    runs = json.loads(SEARCHES.with_name("results-B50.json").read_text())["runs"]
    best = {run["rate"]: max(accuracy for _, accuracy in run["holdout"]) for run in runs if run["rate"] is not None}
    assert len(best) > 3
    assert max(best.values()) - best[fashion(ipc=50).settings.distill.lr_images] < 0.005
