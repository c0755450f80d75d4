"""Published numbers stand beside the published protocol, and beside no other."""

from typing import Any

import pytest

from engine.methods.registry import find_method
from engine.settings import EffectiveSettings, Settings, resolve_settings
from engine.settings.facts import is_read
from engine.settings.profiles import profile_names, profile_row, profile_rows, protocol_keys
from engine.settings.tables import flatten, nest
from engine.tools.studies import paper_results
from engine.tools.studies.tables import published_notes

PRINTED = {  # test accuracy in percent at IPC 1, 10, 50, as the publications print it
    ("mtt", "cifar10"): (46.3, 65.3, 71.6),
    ("mtt", "cifar100"): (24.3, 40.6, 47.7),
    ("tesla-paper", "cifar10"): (48.5, 66.4, 72.6),
    ("tesla-paper", "cifar100"): (24.8, 41.7, 47.9),
    ("tesla-paper", "imagenet"): (7.7, 17.8, 27.9),
    ("datm", "cifar10"): (46.9, 66.8, 76.1),
    ("datm", "cifar100"): (27.9, 47.2, 55.0),
    ("datm", "tiny-imagenet"): (17.1, 31.1, 39.7),
    ("dc", "fashion-mnist"): (70.5, 82.3, 83.6),
    ("dsa", "fashion-mnist"): (70.6, 84.6, 88.7),
    ("dsa", "mnist"): (88.7, 97.8, 99.2),
}
CHANGED: dict[str, Any] = {
    # Values for settings whose other values cannot be derived from the one they have.
    "dataset.value_range": (0.0, 4095.0), "dataset.fit": "pad", "dataset.invalid_labels": "drop",
    "dataset.on_bad_file": "skip", "network.name": "resnet18", "teachers.kind": "ftd", "teachers.buffer": "other",
    "augment.ops": (), "distill.gradient": "paper", "distill.init": "noise", "distill.batch": 5,
    "distill.current_max_start_epoch": 1, "distill.max_start_epoch": 30, "distill.min_start_epoch": 1,
    "labels.kind": "target", "labels.ship": "last-iteration", "labels.init": "teacher", "labels.loss": "mse",
    "labels.parameters": "probabilities", "labels.momentum": 0.3, "evaluate.augment": "none",
    "compute.dtype": "float64", "compute.precision": "tf32", "peers.mirror": True,
    "teachers.epochs": 60, "distill.expansion_end": 77,
}  # fmt: skip


def resolved(profile: str, dataset: str, ipc: int, *overrides: str) -> EffectiveSettings:
    return resolve_settings(ipc=ipc, overrides=[f"dataset.name={dataset}", f"profile={profile}", *overrides])


def with_values(settings: Settings, **values: Any) -> Settings:
    """The settings with other values, even where two of them contradict each other."""
    flat = {**flatten(settings.model_dump()), **values}
    sections = {
        name: getattr(settings, name).model_copy(update=part) if isinstance(part, dict) else part
        for name, part in nest(flat).items()
    }
    return settings.model_copy(update=sections)


def other_value(key: str, value: Any) -> Any:
    if key in CHANGED and CHANGED[key] != value:
        return CHANGED[key]
    if isinstance(value, tuple):
        return ("color",)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 or type(value)(1)
    return 3 if key in ("dataset.resolution", "network.width", "network.depth") else "other"


@pytest.mark.parametrize(("profile", "dataset"), PRINTED)
def test_a_number_stands_beside_its_profile(profile: str, dataset: str) -> None:
    for ipc, percent in zip((1, 10, 50), PRINTED[profile, dataset], strict=True):
        settings = resolved(profile, dataset, ipc).settings
        assert paper_results.accuracy(settings) == pytest.approx(percent / 100)
        assert paper_results.difference(settings) == []
        found = paper_results.published(settings)
        assert found is not None and found.source
        # The same settings without the profile's name, and another seed: it is the protocol that counts.
        bare = with_values(settings, profile=None, seed=5, **{"teachers.seed": 3})
        assert paper_results.accuracy(bare) == found.accuracy


def test_unrolled_gives_the_numbers_of_exact() -> None:
    assert paper_results.accuracy(resolved("mtt", "cifar10", 10, "distill.gradient=unrolled").settings) is not None


@pytest.mark.parametrize("profile", ["mtt", "tesla-paper", "datm", "dsa", "dc"])
def test_changing_any_one_setting_of_the_protocol_removes_the_number(profile: str) -> None:
    dataset = "fashion-mnist" if profile in ("dsa", "dc") else "cifar10"
    settings = resolved(profile, dataset, 10).settings
    assert paper_results.accuracy(settings) is not None
    method = find_method(settings.distill.method)
    flat, tried = flatten(settings.model_dump()), []
    for key in protocol_keys():
        if not is_read(key, method.reads):
            continue  # no effect on a run of this method
        value = other_value(key, flat[key])
        assert value != flat[key], key
        changed = with_values(settings, **{key: value})
        assert paper_results.accuracy(changed) is None, key
        reasons = paper_results.difference(changed)
        assert len(reasons) == 1
        assert key in reasons[0] or key in ("distill.method", "dataset.name", "distill.ipc")
        tried.append(key)
    assert len(tried) > 25
    assert {"distill.iterations", "evaluate.epochs", "augment.ops", "dataset.zca", "network.width"} <= set(tried)


def test_what_the_method_does_not_read_removes_nothing() -> None:
    settings = resolved("dsa", "fashion-mnist", 10, "distill.steps=3", "teachers.lr=0.5", "compute.threads=1").settings
    assert paper_results.accuracy(settings) == pytest.approx(0.846)


def test_a_run_far_from_the_protocol_gets_no_number() -> None:
    values = ["distill.steps=1", "augment.ops=[]", "distill.init=noise", "distill.student_lr=1e-6"]
    settings = resolve_settings(ipc=10, overrides=["dataset.name=cifar10", *values]).settings
    assert paper_results.accuracy(settings) is None
    (reason,) = paper_results.difference(settings)
    assert reason.startswith("tesla at IPC 10 (profile tesla-paper): augment.ops = none (published: color,")
    assert "distill.iterations = 5000 (published: 10000)" in reason
    assert reason.endswith(" more")


def test_presets_are_not_what_is_published() -> None:
    assert paper_results.accuracy(resolve_settings(ipc=10, overrides=["dataset.name=cifar10"]).settings) is None


def test_numbers_without_a_known_protocol_are_not_shown() -> None:
    for method in ("random", "whole", "herding"):
        settings = resolve_settings(ipc=10, overrides=["dataset.name=cifar10", f"distill.method={method}"]).settings
        assert paper_results.accuracy(settings) is None
        assert paper_results.difference(settings) == [
            f"no published number with a known protocol for {method} on cifar10 at IPC 10"
        ]
    assert paper_results.difference(Settings()) == ["no published numbers for this dataset (digits)"]


def test_another_network_of_frepo_keeps_its_numbers_away() -> None:
    settings = resolved("frepo", "cifar10", 10).settings
    assert paper_results.accuracy(settings) is None
    assert paper_results.difference(settings) == ["frepo at IPC 10 (profile frepo): network, evaluation"]


def test_hard_labels_have_the_number_of_table_3() -> None:
    settings = resolved("tesla-paper", "imagenet", 1, "labels.kind=hard").settings
    assert paper_results.accuracy(settings) == pytest.approx(0.007)
    assert paper_results.accuracy(resolved("tesla-paper", "imagenet", 1).settings) == pytest.approx(0.077)
    assert paper_results.accuracy(resolved("tesla-paper", "imagenet", 1, "labels.kind=last").settings) is None
    assert paper_results.accuracy(resolved("tesla-paper", "cifar10", 1, "labels.kind=target").settings) is None


def test_other_networks_are_those_of_the_benchmark() -> None:
    settings = resolved("tesla-paper", "cifar100", 10).settings
    accuracies = {
        name: paper_results.cross_accuracy(settings, name) for name in ("convnet", "resnet18", "vit-benchmark")
    }
    assert accuracies == {"convnet": pytest.approx(0.417), "resnet18": pytest.approx(0.271),
                          "vit-benchmark": pytest.approx(0.21)}  # fmt: skip
    for name in ("vit", "vgg11"):
        assert paper_results.cross_accuracy(settings, name) is None
    assert paper_results.cross_accuracy(resolved("tesla-paper", "cifar100", 1).settings, "resnet18") is None
    narrow = resolved("tesla-paper", "cifar100", 10, "network.width=64").settings
    assert paper_results.cross_accuracy(narrow, "resnet18") is None


def test_a_number_names_its_source_and_what_is_not_the_same() -> None:
    settings = resolved("mtt", "cifar10", 10).settings
    (words,) = paper_results.sources(settings)
    assert words.startswith("mtt at IPC 10: MTT (Cazenavette et al., CVPR 2022)")
    assert "dataset.holdout = 0.1 (published: 0.0)" in words and "the update of student_lr" in words
    last = resolved("mtt", "cifar10", 10, "dataset.holdout=0").settings
    assert paper_results.accuracy(last) == pytest.approx(0.653)
    assert "dataset.holdout" not in paper_results.sources(last)[0]
    assert paper_results.sources(Settings()) == []
    assert published_notes([]) == []


def test_every_number_belongs_to_a_row() -> None:
    rows = {(row.profile, row.dataset, row.ipc) for name in profile_names() for row in profile_rows(name)}
    for table in paper_results._tables():
        for dataset, numbers in table.percent.items():
            for ipc in map(int, numbers):
                assert any((profile, dataset, ipc) in rows for profile in table.profiles), (table.source, dataset, ipc)
        assert set(table.changed) <= set(protocol_keys())
    assert profile_row("mtt", "cifar10", 10).comparable
