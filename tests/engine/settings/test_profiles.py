"""Profiles against the publications' tables, typed here a second time; layers, departures, and what a typo is told."""

from pathlib import Path

import pytest

from engine.errors import SettingsError, UsageError
from engine.runs.workspace import Workspace
from engine.settings import EffectiveSettings, frozen_settings, resolve_settings, settings_template, settings_to_toml
from engine.settings.facts import AFFECTS, FIELDS
from engine.settings.profiles import (
    ProfileRow,
    all_departures,
    profile_names,
    profile_row,
    profile_rows,
    profile_title,
    protocol_keys,
)

ROWS = [row for name in profile_names() for row in profile_rows(name)]

MTT = {  # T, M, max start, lr of images, lr of student_lr, student_lr, batch, zca, depth
    ("cifar10", 1): (50, 2, 2, 100, 1e-7, 0.01, "full", True, 3),
    ("cifar10", 10): (30, 2, 20, 100, 1e-5, 0.001, "full", True, 3),
    ("cifar10", 50): (30, 2, 40, 1000, 1e-5, 0.001, "full", False, 3),
    ("cifar100", 1): (20, 3, 20, 1000, 1e-5, 0.01, "full", True, 3),
    ("cifar100", 10): (20, 2, 20, 1000, 1e-5, 0.01, "full", False, 3),
    ("cifar100", 50): (80, 2, 40, 1000, 1e-5, 0.01, 125, True, 3),
    ("tiny-imagenet", 1): (10, 2, 10, 10000, 1e-4, 0.01, "full", False, 3),
    ("tiny-imagenet", 10): (20, 2, 40, 10000, 1e-4, 0.01, 200, False, 3),
    ("tiny-imagenet", 50): (20, 2, 40, 10000, 1e-4, 0.01, 300, False, 4),
}
TESLA_CODE = {  # as MTT; lr of images as printed
    ("cifar10", 1): (50, 2, 5, 1000, 1e-7, 0.01, "full", False, 3),
    ("cifar100", 50): (80, 2, 40, 1000, 1e-5, 0.01, 125, True, 3),
    ("imagenet", 1): (10, 3, 10, 10000, 1e-4, 0.01, 100, False, 4),
}
A12 = {  # T, M, max start, batch, zca, depth
    ("cifar10", 1): (50, 2, 3, "full", True, 3),
    ("cifar10", 10): (30, 2, 20, "full", True, 3),
    ("cifar10", 50): (30, 3, 40, "full", False, 3),
    ("cifar100", 1): (20, 3, 20, "full", True, 3),
    ("cifar100", 10): (15, 3, 30, "full", False, 3),
    ("cifar100", 50): (50, 2, 40, 100, True, 3),
    ("imagenet", 1): (10, 3, 6, 100, False, 4),
    ("imagenet", 2): (15, 3, 10, 100, False, 4),
    ("imagenet", 10): (20, 3, 10, 500, False, 4),
    ("imagenet", 50): (100, 3, 25, 500, False, 4),
}
DATM = {  # T, M, min, current max, max, grown at, lr of images, of labels, of student_lr, batch, init, threshold
    ("cifar10", 1): (80, 2, 0, "max", 4, None, 100, 5, 1e-7, 10, "correct", 1.1),
    ("cifar10", 10): (80, 2, 0, 10, 20, 1000, 100, 2, 1e-5, 100, "correct", 1),
    ("cifar10", 50): (80, 2, 0, 20, 40, 2000, 1000, 2, 1e-5, 500, "correct", 1),
    ("cifar10", 500): (40, 2, 40, "max", 60, None, 50, 10, 1e-5, 1000, "correct", 1),
    ("cifar10", 1000): (100, 2, 40, "max", 60, None, 50, 10, 1e-5, 1000, "correct", 1),
    ("cifar100", 1): (40, 3, 0, 10, 20, 1000, 1000, 10, 1e-5, 1000, "correct", 1),
    ("cifar100", 10): (80, 2, 0, 30, 50, 2000, 1000, 10, 1e-5, 1000, "correct", 1),
    ("cifar100", 50): (80, 2, 20, "max", 70, None, 1000, 10, 1e-5, 1000, "real", 1),
    ("cifar100", 100): (80, 2, 30, "max", 70, None, 50, 10, 1e-5, 1000, "correct", 1),
    ("tiny-imagenet", 1): (40, 2, 0, 15, 20, 2000, 10000, 10, 1e-4, 1000, "correct", 1),
    ("tiny-imagenet", 10): (40, 2, 10, "max", 50, None, 100, 10, 1e-4, 500, "correct", 1),
    ("tiny-imagenet", 50): (20, 2, 40, "max", 70, None, 100, 10, 1e-4, 1000, "correct", 1),
}
LOOPS = {1: (1, 1), 10: (10, 50), 50: (50, 10)}
RATES = ("distill.lr_images", "distill.lr_student_lr", "distill.student_lr")
STEPS = ("distill.steps", "distill.teacher_epochs", "distill.max_start_epoch")
DATM_KEYS = (
    "distill.steps", "distill.teacher_epochs", "distill.min_start_epoch", "distill.current_max_start_epoch",
    "distill.max_start_epoch", "distill.expansion_end", "distill.lr_images", "labels.lr", "distill.lr_student_lr",
    "distill.batch", "distill.init", "distill.max_loss",
)  # fmt: skip


def resolved(profile: str, dataset: str, ipc: int | None, *overrides: str) -> EffectiveSettings:
    return resolve_settings(ipc=ipc, overrides=[f"dataset.name={dataset}", f"profile={profile}", *overrides])


def having(profile: str) -> set[tuple[str, int]]:
    return {(row.dataset, row.ipc) for row in profile_rows(profile)}


def test_there_is_a_row_for_every_published_one_and_no_other() -> None:
    assert having("mtt") == set(MTT)
    assert having("tesla-code") == set(TESLA_CODE)
    assert having("tesla-paper") == set(A12)
    assert having("datm") == set(DATM)


@pytest.mark.parametrize(("profile", "dataset", "ipc"), [
    *(("mtt", *row) for row in MTT), *(("tesla-code", *row) for row in TESLA_CODE),
])  # fmt: skip
def test_commands_of_mtt_and_tesla(profile: str, dataset: str, ipc: int) -> None:
    effective = resolved(profile, dataset, ipc)
    flat, printed = effective.flat(), profile_row(profile, dataset, ipc).printed
    row = (MTT if profile == "mtt" else TESLA_CODE)[dataset, ipc]
    assert tuple(flat[key] for key in (*STEPS, "distill.batch", "dataset.zca", "network.depth")) == (*row[:3], *row[6:])
    assert tuple(printed[key] for key in RATES) == row[3:6]
    # TESLA's rate goes with half the gradient, ours with the whole; that of student_lr is not concerned.
    assert flat["distill.lr_images"] == (row[3] if profile == "mtt" else row[3] / 2)
    assert (flat["distill.lr_student_lr"], flat["distill.student_lr"]) == row[4:6]
    shown = effective.origins["distill.lr_images"]
    assert ("for half the gradient" in shown) == (profile == "tesla-code")
    assert f"{row[3]:g}" in shown or profile == "mtt"


@pytest.mark.parametrize(("dataset", "ipc"), A12)
def test_the_papers_appendix(dataset: str, ipc: int) -> None:
    flat = resolved("tesla-paper", dataset, ipc).flat()
    keys = (*STEPS, "distill.batch", "dataset.zca", "network.depth")
    assert tuple(flat[key] for key in keys) == A12[dataset, ipc]
    assert flat["labels.kind"] == ("target" if dataset == "imagenet" else "hard")
    assert flat["teachers.count"] == (50 if dataset == "imagenet" else 100)
    assert (flat["distill.method"], flat["distill.gradient"]) == ("tesla", "paper")


@pytest.mark.parametrize(("dataset", "ipc"), DATM)
def test_datms_configurations(dataset: str, ipc: int) -> None:
    flat = resolved("datm", dataset, ipc).flat()
    assert tuple(flat[key] for key in DATM_KEYS) == DATM[dataset, ipc]
    assert flat["dataset.zca"]
    assert flat["network.depth"] == (4 if dataset == "tiny-imagenet" else 3)
    assert (flat["teachers.kind"], flat["teachers.rho"], flat["teachers.alpha"]) == ("ftd", 0.01, 0.3)
    assert (flat["teachers.epochs"], flat["teachers.batch"], flat["evaluate.batch"]) == (100, 128, 128)
    assert (flat["distill.iterations"], flat["distill.student_lr"]) == (10_000, 0.01)
    assert (flat["labels.kind"], flat["labels.momentum"]) == ("learned", 0.9)
    assert flat["labels.init"] == ("teachers" if flat["distill.init"] == "correct" else "teacher")


@pytest.mark.parametrize("row", [row for row in ROWS if row.profile in ("dc", "dsa")], ids=lambda row: row.name)
def test_loops_and_augmentation_of_dc_and_dsa(row: ProfileRow) -> None:
    flat = resolved(row.profile, row.dataset, row.ipc).flat()
    assert (flat["peers.outer_loops"], flat["peers.inner_loops"]) == LOOPS[row.ipc]
    assert (flat["distill.iterations"], flat["distill.lr_images"], flat["peers.batch_real"]) == (1000, 0.1, 256)
    evaluation = flat["evaluate.augment"], flat["evaluate.epochs"], flat["evaluate.repeats"]
    assert evaluation == (("none", 301, 20) if row.profile == "dc" else ("dsa", 1001, 20))
    assert flat["distill.init"] == ("noise" if row.profile == "dc" else "real")
    assert ("flip" in flat["augment.ops"]) == (row.profile == "dsa" and row.dataset != "mnist")
    assert flat["dataset.resolution"] == (32 if row.dataset.startswith("cifar") else 28)


def test_dm_and_frepo() -> None:
    rates = {ipc: resolved("dm", "cifar10", ipc).flat()["distill.lr_images"] for ipc in (1, 10, 50, 100, 500, 1250)}
    assert rates == {1: 1, 10: 1, 50: 1, 100: 10, 500: 10, 1250: 10}
    assert resolved("dm", "cifar100", 125).flat()["distill.lr_images"] == 1
    assert resolved("dm", "cifar10", 10).flat()["distill.iterations"] == 20_000
    mirrored = {(row.dataset, row.ipc) for row in profile_rows("frepo")
                if resolved("frepo", row.dataset, row.ipc).settings.peers.mirror}  # fmt: skip
    assert mirrored == {("cifar10", 1), ("cifar10", 10), ("cifar10", 50), ("cifar100", 1), ("tiny-imagenet", 1)}
    flat = resolved("frepo", "cifar100", 10).flat()
    assert (flat["peers.lr_end"], flat["peers.decay_end"], flat["distill.iterations"]) == (0.1, 500_000, 500_000)
    assert (flat["distill.lr_images"], flat["peers.label_margin"], flat["peers.batch_real"]) == (3e-4, 1.0, 1024)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_whole_and_differs_only_where_it_is_declared(row: ProfileRow) -> None:
    effective = resolved(row.profile, row.dataset, row.ipc)
    settings = effective.settings
    assert (settings.network.name, settings.network.width) == ("convnet", 128)
    assert settings.evaluate.reset_momentum == (row.profile != "frepo")
    assert row.source and profile_title(row.profile)
    found = row.differences(effective.flat())
    assert all(one.reason for one in found)
    assert {one.key for one in found} <= {one.key for one in row.departures}
    origins = {effective.origins[key] for key in protocol_keys()}
    assert not any(origin.startswith("preset") for origin in origins)  # no preset takes part
    # What is declared can be undone where a setting expresses it.
    published = resolved(row.profile, row.dataset, row.ipc, "dataset.holdout=0")
    assert "dataset.holdout" not in {one.key for one in row.differences(published.flat())}


def test_teachers_and_evaluation_of_the_trajectory_methods() -> None:
    for name in ("mtt", "tesla-paper", "tesla-code"):
        settings = resolved(name, "cifar10", 1).settings
        teachers, evaluate = settings.teachers, settings.evaluate
        assert (teachers.kind, teachers.count, teachers.epochs) == ("sgd", 100, 50)
        assert (teachers.lr, teachers.batch) == (0.01, 256)
        assert (evaluate.epochs, evaluate.batch, evaluate.repeats) == (1001, 256, 3 if name == "tesla-code" else 5)
        assert (settings.distill.init, settings.distill.momentum) == ("real", 0.5)
        assert settings.distill.iterations == (5000 if name == "mtt" else 10_000)


def test_departures_name_what_exists() -> None:
    for one in all_departures():
        assert bool(one.key) != bool(one.what)
        assert one.key == "" or one.key in FIELDS
        assert set(one.profiles) <= set(profile_names())
        assert not one.reason.endswith(".")  # whoever shows it ends the sentence
        assert any(one in row.departures for row in ROWS)
    for row in ROWS:
        keys = [one.key for one in row.departures if one.key]
        assert len(keys) == len(set(keys))


def test_what_is_said_of_normalisation_is_about_what_is_normalised_otherwise() -> None:
    concerned = {
        (row.profile, row.dataset, row.ipc)
        for row in ROWS
        if any(one.what == "normalisation without whitening" for one in row.departures)
    }
    assert {("mtt", "cifar10", 50), ("dsa", "cifar100", 1), ("tesla-code", "imagenet", 1)} <= concerned
    assert not concerned & {("mtt", "cifar10", 1), ("dsa", "mnist", 1), ("dc", "fashion-mnist", 10)}
    assert not any(profile in ("datm", "frepo") for profile, _, _ in concerned)


def test_a_profile_stands_above_presets_and_below_what_is_said(tmp_path: Path) -> None:
    toml = tmp_path / "tesla.toml"
    toml.write_text(
        'profile = "mtt"\n[dataset]\nname = "cifar10"\n[teachers]\ncount = 7\n[ipc.10.distill]\nsteps = 9\n'
    )
    ten = resolve_settings(toml, ipc=10, overrides=["evaluate.repeats=2"])
    assert (ten.settings.distill.method, ten.origins["distill.method"]) == ("mtt", "profile mtt, cifar10, IPC 10")
    assert (ten.settings.teachers.count, ten.origins["teachers.count"]) == (7, "tesla.toml")
    assert (ten.settings.distill.steps, ten.origins["distill.steps"]) == (9, "tesla.toml [ipc.10]")
    assert (ten.settings.evaluate.repeats, ten.origins["evaluate.repeats"]) == (2, "command line")
    assert ten.settings.distill.student_lr == 0.001
    assert (ten.settings.profile, ten.origins["profile"]) == ("mtt", "tesla.toml")
    found = {one.key: (one.ours, one.published) for one in profile_row("mtt", "cifar10", 10).differences(ten.flat())
             if not one.reason}  # fmt: skip
    assert found == {"teachers.count": (7, 100), "distill.steps": (9, 30), "evaluate.repeats": (2, 5)}
    # The command line chooses another, or none: then it is the preset again.
    other = resolve_settings(toml, ipc=1, overrides=["profile=tesla-paper"])
    assert (other.settings.distill.method, other.settings.distill.max_start_epoch) == ("tesla", 3)
    none = resolve_settings(toml, ipc=10, overrides=["profile=none"])
    assert (none.settings.distill.method, none.settings.evaluate.epochs) == ("tesla", 1000)
    assert none.origins["distill.max_start_epoch"] == "preset cifar10, IPC 10"
    assert none.settings.profile is None and none.origins["profile"] == "command line"


def test_a_profile_does_not_take_from_a_preset() -> None:
    # MNIST's preset has a width of its own and leaves out flips; FRePo's row says its own, DSA's too.
    assert resolved("dsa", "mnist", 1).settings.network.width == 128
    assert resolved("dsa", "fashion-mnist", 1).origins["evaluate.whole_epochs"] == "default"


def test_another_network_has_its_own_size() -> None:
    settings = resolved("mtt", "cifar10", 10, "network.name=resnet18").settings
    assert (settings.network.width, settings.network.depth) == (None, None)


def test_without_an_ipc_the_first_that_is_published() -> None:
    assert resolved("tesla-code", "cifar100", None).settings.distill.ipc == 50
    assert resolved("mtt", "cifar100", None).settings.distill.ipc == 1


@pytest.mark.parametrize(
    ("profile", "dataset", "ipc", "words"),
    [
        ("mt", "cifar10", 1, "There is no profile 'mt'. Did you mean mtt? Profiles: datm, dc, dm,"),
        ("published", "cifar10", 1, "There is no profile 'published'."),
        ("mtt", "cifar10", 7, "no row for cifar10 at IPC 7. It has: cifar10 IPC 1, 10, 50, cifar100 IPC 1, 10, 50,"),
        ("tesla-code", "cifar10", 10, "Profiles with this one: datm, dc, dm, dsa, frepo, mtt, tesla-paper."),
        ("mtt", "digits", 1, "The profile mtt has no row for digits at IPC 1."),
        ("datm", "cifar10", 1000000, "at IPC 1000000. It has: cifar10 IPC 1, 10, 50, 500, 1000,"),
    ],
)
def test_what_does_not_exist_says_what_does(profile: str, dataset: str, ipc: int, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolved(profile, dataset, ipc)
    assert words in str(caught.value)


def test_a_profile_that_is_no_name_is_refused(tmp_path: Path) -> None:
    toml = tmp_path / "tesla.toml"
    for text, words in (("profile = 3\n", "`profile` must be a valid string; got 3"), ('profile = ""\n', "no profile")):
        toml.write_text(text)
        with pytest.raises(SettingsError, match=words):
            resolve_settings(toml)


@pytest.mark.parametrize("value", ["[]", "{ a = 1 }", "[[1]]", "3"])
def test_a_profile_for_what_is_no_dataset_is_refused(tmp_path: Path, value: str) -> None:
    toml = tmp_path / "tesla.toml"
    toml.write_text(f'profile = "mtt"\n[dataset]\nname = {value}\n[distill]\nipc = 1\n')
    with pytest.raises(SettingsError, match="The profile mtt has no row for"):
        resolve_settings(toml)
    toml.write_text(f'profile = "mtt"\n[dataset]\nname = "cifar10"\n[distill]\nipc = {value}\n')
    with pytest.raises(SettingsError, match=r"cifar10|no setting `distill\.ipc\.a`"):
        resolve_settings(toml)


def test_a_profile_is_frozen_with_its_run(tmp_path: Path) -> None:
    effective = resolved("tesla-code", "cifar10", 1)
    path = tmp_path / "settings.toml"
    path.write_text(settings_to_toml(effective))
    assert frozen_settings(path) == effective
    workspace = Workspace.create(
        tmp_path / "ws", resolve_settings(overrides=["dataset.name=cifar10"]), {"dataset.name"}
    )
    run = workspace.run("as-published")
    run.freeze(workspace.settings(ipc=1, overrides=("profile=mtt",)))
    kept = workspace.settings(run=run)
    assert (kept.settings.profile, kept.settings.distill.max_start_epoch) == ("mtt", 2)
    run.check(kept)
    with pytest.raises(UsageError, match="profile was 'mtt', now 'tesla-paper'"):
        run.check(workspace.settings(overrides=("profile=tesla-paper",), run=run))


def test_the_template_keeps_the_profile(tmp_path: Path) -> None:
    effective = resolved("mtt", "cifar10", 1)
    path = tmp_path / "tesla.toml"
    path.write_text(settings_template(effective, {"dataset.name", "profile"}))
    assert 'profile = "mtt"\n' in path.read_text()
    assert resolve_settings(path, ipc=50).settings.distill.lr_images == 1000


def test_the_protocol_is_all_that_results_depend_on() -> None:
    keys = set(protocol_keys())
    assert {"distill.steps", "distill.iterations", "dataset.zca", "augment.ops", "evaluate.epochs", "labels.kind",
            "distill.init", "teachers.lr", "evaluate.repeats", "compute.dtype", "network.width"} <= keys  # fmt: skip
    left_out = set(AFFECTS) - keys
    assert {"seed", "teachers.seed", "profile", "compute.device", "compute.threads", "distill.keep"} <= left_out
    # All that is left out can change on an existing run, but for the seeds and the name.
    assert {key for key in left_out if AFFECTS[key].change == "never"} == {"seed", "teachers.seed", "profile"}
