"""What fields declare: nothing is forgotten, and records of released versions stay what they were."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, cast

import pytest

from engine.data import Dataset
from engine.errors import UsageError
from engine.events import EvaluationDone
from engine.methods.method import unread
from engine.methods.registry import METHODS
from engine.runs.protocol import distilled_protocol, is_own, protocol_words, random_protocol
from engine.runs.provenance import identity_of
from engine.runs.workspace import Workspace
from engine.settings import Settings, resolve_settings
from engine.settings.affects import Affects, Section
from engine.settings.facts import AFFECTS, FIELDS, change_words, check_reads, is_read, may_change, needs_other_teachers
from engine.tools.studies.augment import _identities

OLD = Path(__file__).parents[2] / "data" / "workspace-0.1.0"

VARIANTS: tuple[tuple[str, ...], ...] = (
    (),
    ("dataset.name=cifar10", "distill.ipc=10"),
    ("dataset.zca=true", "dataset.holdout=0.2", "seed=7", "compute.dtype=float64", "network.depth=2"),
    ("compute.precision=tf32", "augment.ops=flip,crop"),
    ("compute.precision=bf16", "augment.ops=[]", "network.name=resnet18"),
    ("teachers.lr=1", "teachers.batch=32", "evaluate.epochs=3", "evaluate.whole_epochs=4"),
    ("labels.kind=learned", "labels.init=teacher", "labels.parameters=probabilities", "labels.loss=mse"),
    ("labels.kind=last", "labels.ship=last-iteration", "labels.lr=2", "evaluate.augment=autoaugment"),
    ("distill.method=whole", "evaluate.whole_epochs=5", "evaluate.augment=none"),
    ("distill.method=frepo", "evaluate.repeats=9"),
)


def settings_of(overrides: tuple[str, ...]) -> Settings:
    return resolve_settings(overrides=list(overrides)).settings


# The lists by hand that the declarations replaced, as they were in 0.1.0 and after.


def old_teachers(s: Settings, fingerprint: str, name: str) -> dict[str, Any]:
    rounding = {"precision": "tf32"} if s.compute.precision == "tf32" else {}
    return {
        "dataset": fingerprint, "dataset_name": name, "zca": s.dataset.zca, "holdout": s.dataset.holdout,
        "network": s.network.model_dump(), "augment": list(s.augment.ops), "lr": s.teachers.lr,
        "batch": s.teachers.batch, "dtype": s.compute.dtype, "seed": s.seed, **rounding,
    }  # fmt: skip


def old_augmentation(s: Settings) -> dict[str, Any]:
    name = s.evaluate.augment
    return {"ops": list(s.augment.ops)} if name == "dsa" else {"augment": name}


def old_distilled(s: Settings, repeats: int) -> dict[str, Any]:
    later = {"parameters": "logits", "loss": "cross-entropy", "init": "one-hot", "momentum": None}
    labels = {key: value for key, value in s.labels.model_dump().items() if key not in later or value != later[key]}
    return {
        "epochs": s.evaluate.whole_epochs if s.distill.method == "whole" else s.evaluate.epochs, "repeats": repeats,
        **old_augmentation(s), "labels": labels, "width": s.network.width, "depth": s.network.depth, "seed": s.seed,
    }  # fmt: skip


def old_random(s: Settings, repeats: int) -> dict[str, Any]:
    return {
        "epochs": s.evaluate.epochs, "repeats": repeats, **old_augmentation(s), "network": s.network.model_dump(),
        "ipc": s.distill.ipc, "zca": s.dataset.zca, "holdout": s.dataset.holdout, "dtype": s.compute.dtype,
        "seed": s.seed,
    }  # fmt: skip


def old_points(s: Settings) -> dict[str, Any]:
    return {
        "subject": "random", "dataset": "f1", "zca": s.dataset.zca, "holdout": s.dataset.holdout,
        "network": s.network.model_dump(), "ipc": s.distill.ipc, "ops": s.augment.ops,
        "evaluate": s.evaluate.model_dump(include={"epochs", "repeats"}), "dtype": s.compute.dtype, "seed": s.seed,
    }  # fmt: skip


OLD_MAY_CHANGE = (
    "compute.", "evaluate.", "distill.iterations", "distill.checkpoint_every", "distill.keep", "distill.store",
)  # fmt: skip
OLD_BITS_CHANGE = ("compute.dtype", "compute.precision")
EVERY = (
    "distill.method", "distill.ipc", "distill.iterations", "distill.checkpoint_every", "distill.keep", "teachers.seed",
)  # fmt: skip
PAIRS = ("distill.init", "distill.lr_images", "distill.momentum", "distill.student_lr", "peers.batch_real")
LOOPS = (*PAIRS, "peers.outer_loops", "peers.inner_loops", "peers.network_lr")
OLD_READS = {
    "tesla": ("distill.", "labels.", "teachers."),
    "mtt": ("distill.", "teachers."),
    "datm": ("distill.", "labels.", "teachers."),
    "random": ("distill.student_lr", "distill.formation", "distill.decoder"),
    "dm": PAIRS,
    "dsa": LOOPS,
    "dc": LOOPS,
    "frepo": (
        "distill.init", "distill.lr_images", "distill.student_lr", "peers.batch_real", "peers.network_lr",
        "peers.pool", "peers.ridge",
        # since:
        "peers.decay_end", "peers.label_margin", "peers.lr_end", "peers.mirror", "peers.network_batch",
    ),
}  # fmt: skip
CORRECTED = {"mtt": {"labels.loss"}, "datm": {"labels.ship"}}
"""Where the lists were wrong: mtt's students minimise labels.loss, and learned labels ship as they are."""


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("overrides", VARIANTS, ids=" ".join)
def test_records_are_those_of_released_versions(workspace: Workspace, overrides: tuple[str, ...]) -> None:
    s = settings_of((*overrides, "evaluate.random_lr=0.01"))  # the only rate there was
    dataset = cast(Dataset, SimpleNamespace(fingerprint="f1", name="digits"))
    identity = workspace.buffer_identity(s, dataset)
    assert identity == old_teachers(s, "f1", "digits")
    assert workspace.buffer_folder(s, identity) == workspace.buffer_folder(s, old_teachers(s, "f1", "digits"))
    assert distilled_protocol(s, 3) == old_distilled(s, 3)
    assert random_protocol(s, 4) == old_random(s, 4)
    imported = {"imported": ["f"], "dataset": "f1", "dataset_name": "digits", "zca": s.dataset.zca}
    assert identity_of(["f"], s, "f1", "digits") == {**imported, "network": s.network.model_dump()}
    task, buffer = SimpleNamespace(settings=s, dataset=dataset), SimpleNamespace(identity={})
    own, random = _identities(cast(Any, task), cast(Any, buffer), "sum")
    assert as_json(random) == as_json(old_points(s))
    assert as_json(own) == as_json({
        **old_points(s), "subject": "distilled", "checkpoint": "sum", "distill": s.distill.model_dump(),
        "labels": s.labels.model_dump(), "whole_epochs": s.evaluate.whole_epochs,
        "teachers": {**s.teachers.model_dump(), "buffer": {}},
    })  # fmt: skip


def test_a_protocol_names_what_later_versions_added_where_it_is_not_the_default() -> None:
    plain, s = settings_of(()), settings_of(("evaluate.batch=128", "evaluate.reset_momentum=true"))
    for protocol in (distilled_protocol, random_protocol):
        assert protocol(s, 3) == {**protocol(plain, 3), "batch": 128, "reset_momentum": True}
    assert protocol_words(s, plain) == (
        "evaluate.batch = 128 (the run's: 256), evaluate.reset_momentum = True (the run's: False)"
    )
    result = EvaluationDone(
        iteration=0, subject="distilled", split="test", network="convnet", mean=0.5, std=0.0, seconds=1.0
    )
    for measured, asked in ((plain, s), (s, plain)):
        assert is_own(result, distilled_protocol(measured, measured.evaluate.repeats), measured)
        assert not is_own(result, distilled_protocol(measured, measured.evaluate.repeats), asked)


def test_a_tuned_rate_is_part_of_what_random_images_depend_on() -> None:
    s = settings_of(())
    tuned = {"lr": "tuned", "tuning": s.evaluate.selection_repeats}
    assert random_protocol(s, 4) == {**old_random(s, 4), **tuned}
    assert distilled_protocol(s, 4) == old_distilled(s, 4)
    own = settings_of(("distill.method=random",))
    drawn = {"random": {"lr": "tuned"}, "draws": "per network", "tuning": s.evaluate.selection_repeats}
    assert distilled_protocol(own, 4) == {**old_distilled(own, 4), **drawn}
    assert random_protocol(settings_of(("evaluate.random_lr=0.03",)), 4) == {**old_random(s, 4), "lr": 0.03}


def test_a_run_of_an_older_version_keeps_its_selection_and_its_rate_for_random_images() -> None:
    workspace = Workspace(OLD)
    run = workspace.run("old")
    for settings in (run.frozen().settings, workspace.settings(run=run).settings):
        assert (settings.evaluate.selection_repeats, settings.evaluate.random_lr) == (1, 0.01)
    assert workspace.settings(overrides=("evaluate.random_lr=tuned",), run=run).settings.evaluate.random_lr == "tuned"
    fresh = workspace.settings().settings.evaluate
    assert (fresh.selection_repeats, fresh.random_lr) == (3, "tuned")


def test_teachers_and_results_of_0_1_0_are_still_those_asked_for() -> None:
    workspace = Workspace(OLD)
    run = workspace.run("old")
    settings = run.frozen().settings
    (folder,) = (OLD / "buffers").iterdir()
    kept = json.loads((folder / "manifest.json").read_text())["identity"]
    dataset = cast(Dataset, SimpleNamespace(fingerprint=kept["dataset"], name="digits"))
    identity = workspace.buffer_identity(settings, dataset)
    assert identity == kept
    assert workspace.buffer_folder(settings, identity) == folder
    measured = run.measured()
    assert len(measured) == 5
    for result, protocol in measured:
        repeats = settings.evaluate.repeats if result.split == "test" else settings.evaluate.selection_repeats
        random = {**random_protocol(settings, repeats), "dataset": kept["dataset"]}
        assert protocol == (random if result.subject == "random" else distilled_protocol(settings, repeats))
    run.check(workspace.settings(run=run))


def test_what_may_change_on_an_existing_run_is_what_could() -> None:
    could = {key for key in FIELDS if key.startswith(OLD_MAY_CHANGE) and key not in OLD_BITS_CHANGE}
    assert {key for key in FIELDS if may_change(key)} == could


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_does_not_read_is_as_it_was(name: str) -> None:
    reads = (*EVERY, *OLD_READS.get(name, ("distill.student_lr",)))
    old = {
        key
        for key in FIELDS
        if key.startswith(("distill.", "labels.", "teachers.", "peers.")) and not key.startswith(reads)
    }
    effective = resolve_settings()
    chosen = type(effective)(effective.settings, dict.fromkeys(FIELDS, "command line"))
    assert set(unread(METHODS[name], chosen)) == old ^ CORRECTED.get(name, set())


def test_every_setting_declares_what_it_affects() -> None:
    assert set(AFFECTS) == set(FIELDS)
    with pytest.raises(TypeError, match=r"Forgetful.width must declare what it affects"):

        class Forgetful(Section):
            depth: Annotated[int, Affects()] = 1
            width: int = 1


def test_a_setting_that_decides_teachers_or_results_cannot_change_unseen() -> None:
    for key, affects in AFFECTS.items():
        if may_change(key):  # checkpoints of one run have the same teachers, whatever changed in between
            assert not needs_other_teachers(key), key
        if key.startswith("network."):  # its values size the parameters that are on disk
            assert affects.teachers and affects.imported and affects.random, key
        if affects.imported:
            assert affects.teachers == affects.imported, key


@pytest.mark.parametrize("reads", [("distill.stepz",), ("peers",), ("",), ("seed",), ("evaluate.",)])
def test_a_method_that_reads_what_there_is_not_is_refused(reads: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="is not a setting"):
        check_reads(reads)
    with pytest.raises(ValueError, match="is not a setting"):
        replace(METHODS["tesla"], reads=reads)


def test_a_key_is_not_taken_for_one_that_begins_alike() -> None:
    assert is_read("peers.pool", ["peers.pool"])
    assert not is_read("peers.pool_steps", ["peers.pool"])
    assert is_read("peers.pool_steps", ["peers."])
    assert is_read("compute.device", [])


def test_changes_in_words() -> None:
    assert change_words("dataset.name") == change_words("seed") == "another run, other teachers"
    assert change_words("distill.steps") == "another run"
    assert change_words("evaluate.epochs") == "any time; results are measured again"
    assert change_words("compute.threads") == "any time; numbers differ by rounding"
    assert change_words("distill.keep") == "any time"


def test_tests_to_another_protocol_say_how_they_differ() -> None:
    own = settings_of(("evaluate.epochs=8",))
    assert protocol_words(own, own) == ""
    other = settings_of(("evaluate.epochs=9", "evaluate.selection_repeats=7", "evaluate.whole_epochs=7"))
    assert protocol_words(other, own) == "evaluate.epochs = 9 (the run's: 8)"
    whole = settings_of(("evaluate.epochs=9", "evaluate.whole_epochs=7", "distill.method=whole"))
    assert protocol_words(whole, own) == "evaluate.whole_epochs = 7 (the run's: 300)"


def test_a_run_refuses_other_settings_and_says_what_another_run_costs(workspace: Workspace) -> None:
    run = workspace.run("r")
    run.freeze(workspace.settings())
    run.check(workspace.settings(overrides=("compute.threads=1", "evaluate.epochs=3", "distill.keep=1")))
    run.check(workspace.settings(overrides=("profile=none",), run=run))
    for override, ending in (
        ("distill.steps=3", r"--run NAME\."),
        ("dataset.zca=true", r"--run NAME \(with other teachers, because of dataset\.zca\)\."),
        ("compute.precision=tf32", r"--run NAME \(with other teachers, because of compute\.precision\)\."),
    ):
        with pytest.raises(UsageError, match=rf"{override.partition('=')[0]} was .*{ending}$"):
            run.check(workspace.settings(overrides=(override,)))
