"""`tesla run --quick`: what it changes, what it leaves alone, and that it is a run like any other."""

import re
from pathlib import Path

import pytest

from engine.errors import SettingsError
from engine.runs.workspace import Workspace
from engine.settings import EffectiveSettings, resolve_settings
from engine.settings.datasets import dataset_names
from engine.settings.methods import method_names
from engine.settings.overrides import parse_override
from engine.settings.quick import KEYS, quick_seconds, quick_settings
from engine.settings.sized import Counted
from tests.tui.cli.test_cli import Tesla, one_paragraph, tesla

__all__ = ["tesla"]

TINY = tuple(
    word
    for text in (
        "network.width=4", "teachers.count=1", "distill.iterations=4", "evaluate.epochs=2", "evaluate.repeats=1",
        "compute.threads=1", "compute.compile=off",
    )
    for word in ("--set", text)
)  # fmt: skip


def as_texts(changed: dict[str, object]) -> list[str]:
    return [f"{key}={value}" for key, value in changed.items()]


@pytest.mark.parametrize("ipc", [1, 50])
@pytest.mark.parametrize("dataset", dataset_names())
def test_every_preset_has_a_smaller_run(dataset: str, ipc: int) -> None:
    overrides = [f"dataset.name={dataset}", *(["dataset.path=/pictures"] if dataset == "folder" else [])]
    counted = Counted(258, 3, 80, 64) if dataset == "folder" else None
    full = resolve_settings(overrides=overrides, ipc=ipc, counted=counted)
    changed = quick_settings(full)
    assert changed
    quick = resolve_settings(overrides=[*overrides, *as_texts(changed)], ipc=ipc, counted=counted)
    larger = {"distill.lr_images", "distill.current_max_start_epoch"}
    for key in changed.keys() - {*larger, "distill.batch", "dataset.resolution"}:
        assert quick.flat()[key] < full.flat()[key], key
    assert quick.settings.distill.ipc == ipc
    assert quick_settings(quick) == {}


@pytest.mark.parametrize("method", method_names())
def test_what_a_method_fixes_stays(method: str) -> None:
    overrides = [f"distill.method={method}"]
    changed = quick_settings(resolve_settings(overrides=overrides))
    assert resolve_settings(overrides=[*overrides, *as_texts(changed)]).settings.distill.method == method


def test_what_the_command_line_sets_stays() -> None:
    changed = quick_settings(resolve_settings(), {"teachers.count": 40, "distill.steps": 30})
    assert not {"teachers.count", "distill.steps"} & set(changed)
    assert {"distill.iterations", "evaluate.epochs"} <= set(changed)


def quick(dataset: str, *given: str, ipc: int = 1, counted: Counted | None = None) -> EffectiveSettings:
    """The settings of `tesla run --quick` with these overrides."""
    base = [f"dataset.name={dataset}", *(["dataset.path=/pictures"] if dataset == "folder" else [])]
    said = dict(map(parse_override, given))
    others = [text for text in given if parse_override(text)[0] not in KEYS]
    full = resolve_settings(overrides=[*base, *others], ipc=ipc, counted=counted)
    changed = quick_settings(full, {key: value for key, value in said.items() if key in KEYS})
    return resolve_settings(overrides=[*base, *as_texts(changed), *given], ipc=ipc, counted=counted)


@pytest.mark.parametrize("ipc", [1, 10])
@pytest.mark.parametrize("images", [100, 1_600, 20_000, 100_000])
@pytest.mark.parametrize("classes", [2, 10, 200])
def test_a_folder_of_any_size_takes_about_two_minutes(images: int, classes: int, ipc: int) -> None:
    counted = Counted(max(images, 10 * classes), classes, max(images // classes, 10), 64)
    seconds = quick_seconds(quick("folder", ipc=ipc, counted=counted))
    assert seconds is not None and seconds.total <= 130


@pytest.mark.parametrize(
    ("dataset", "most"), [("digits", 60), ("fashion-mnist", 90), ("cifar100", 90), ("imagenet", 200)]
)
def test_the_named_datasets_take_minutes(dataset: str, most: int) -> None:
    seconds = quick_seconds(quick(dataset))
    assert seconds is not None and seconds.total <= most


def test_more_classes_get_less_of_everything() -> None:
    few, many = (quick("folder", counted=Counted(5_000, classes, 20, 32)).settings for classes in (5, 200))
    assert (few.distill.iterations, few.distill.batch, few.evaluate.epochs) == (100, "full", 100)
    assert (many.distill.iterations, many.distill.batch, many.evaluate.epochs) == (50, 25, 50)


@pytest.mark.parametrize(
    ("dataset", "given"),
    [
        ("digits", ["teachers.epochs=4"]), ("digits", ["teachers.epochs=1"]),
        ("digits", ["distill.max_start_epoch=10"]), ("digits", ["distill.min_start_epoch=8"]),
        ("fashion-mnist", ["distill.teacher_epochs=5"]),
        ("digits", ["distill.current_max_start_epoch=7", "distill.expansion_end=9"]),
        ("tiny-imagenet", ["network.depth=6"]), ("tiny-imagenet", ["distill.formation=3"]),
        ("digits", ["seed=4", "compute.threads=1", "compute.device=cpu"]), ("digits", ["distill.iterations=0"]),
        ("digits", ["network.name=resnet18"]), ("digits", ["network.depth=99"]),
    ],
)  # fmt: skip
def test_the_rest_is_chosen_to_fit_what_the_command_line_sets(dataset: str, given: list[str]) -> None:
    flat = quick(dataset, *given).flat()
    for key, value in map(parse_override, given):
        assert flat[key] == value
    assert (
        flat["network.depth"] is None
        or flat["network.depth"] == 99
        or 2 ** flat["network.depth"] <= (flat["dataset.resolution"] or 32)
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            ["teachers.epochs=3", "distill.max_start_epoch=5"],
            "teachers.epochs = 3 is too short: distill.max_start_epoch",
        ),
        (["distill.min_start_epoch=5", "distill.max_start_epoch=4"], "leaves no start epoch below"),
        (["distill.iterations=many"], "`distill.iterations` must be a valid integer; got 'many'"),
        (["evaluate.every=0"], "`evaluate.every` must be greater than or equal to 1"),
        (["distill.method=random", "distill.iterations=5"], "fixes distill.iterations = 0; the command line sets 5"),
    ],
)
def test_conflicts_are_named(given: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(words)):
        quick("digits", *given)


def test_an_existing_run_keeps_what_it_was_started_with(tesla: Tesla, monkeypatch: pytest.MonkeyPatch) -> None:
    tesla("init", "ws")
    assert tesla("run", "ws", "--quick", *TINY, "--set", "distill.iterations=2")[0] == 0
    before = Workspace(Path("ws")).run("quick").frozen()
    monkeypatch.setattr("engine.settings.quick.EPOCHS", 50)  # as another version may choose
    code, out, err = tesla("run", "ws", "--quick", *TINY, "--set", "distill.iterations=2")
    assert code == 0, err
    assert "--quick: quick exists and keeps its settings." in out and "quick is finished" in out
    assert Workspace(Path("ws")).run("quick").frozen() == before
    code, _, err = tesla("run", "ws", "--quick", "--set", "distill.steps=3")
    assert code == 2 and "distill.steps was 20, now 3" in one_paragraph(err)


def test_a_full_run_is_not_made_a_quick_one(tesla: Tesla) -> None:
    tesla("init", "ws", *TINY)
    assert tesla("run", "ws")[0] == 0
    code, _, err = tesla("run", "ws", "--run", "ipc-1", "--quick")
    assert code == 2 and "ipc-1 exists, and was not started with --quick" in one_paragraph(err)


def test_a_quick_run_says_what_it_changes_and_resumes(tesla: Tesla) -> None:
    tesla("init", "ws")
    code, out, err = tesla("run", "ws", "--quick", *TINY)
    assert code == 0, err
    words = one_paragraph(out)
    assert (
        "--quick changes" in words
        and "on one free CPU core" in words
        and "teachers.epochs = 6" in words
        and "network.width" not in words.split("ws")[0]
    )
    assert "quick in ws" in words and "Test accuracy" in words
    assert "The full run: tesla run ws --set network.width=4" in words
    frozen = Workspace(Path("ws")).run("quick").frozen().settings
    assert (frozen.teachers.epochs, frozen.network.width, frozen.teachers.count) == (6, 4, 1)
    assert "quick is finished" in tesla("run", "ws", "--quick", *TINY)[1]
    assert tesla("config", "ws", "--ipc", 1)[1].count("command line") == 1, "nothing of it is left for other runs"


def test_quick_and_a_profile_contradict_each_other(tesla: Tesla) -> None:
    tesla("init", "ws", "--dataset", "cifar10")
    code, _, err = tesla("run", "ws", "--quick", "--profile", "mtt")
    assert code == 2
    assert "--quick changes what --profile mtt fixes" in one_paragraph(err)
