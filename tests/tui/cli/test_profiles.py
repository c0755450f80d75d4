"""`--profile` on the command line: what it changes, what differs from the publication, and wrong ones."""

import json
from pathlib import Path

import pytest

from engine.settings.profiles import all_departures, profile_names, profile_rows, profile_title
from tesla_tui.cli.profile import Profile
from tests.tui.cli.test_cli import Tesla, tesla

__all__ = ["tesla"]

PAGE = Path(__file__).parents[3] / "docs" / "published.md"


@pytest.fixture
def cifar(tesla: Tesla) -> Tesla:
    assert tesla("init", "ws", "--dataset", "cifar10")[0] == 0
    return tesla


def test_config_says_what_is_not_as_published_and_why(cifar: Tesla) -> None:
    code, out, err = cifar("config", "ws", "--ipc", 10, "--profile", "mtt", "--set", "distill.steps=3")
    assert code == 0, err
    table, _, below = out.partition("MTT (Cazenavette et al., CVPR 2022), cifar10, IPC 10")
    assert "profile mtt, cifar10, IPC 10" in table
    words = " ".join(below.split())
    assert "Source: justincui03/dc_benchmark, methods/tm/readme.md" in words
    assert "distill.steps = 3 (published: 30) Set by: command line." in words
    assert "dataset.holdout = 0.1 (published: 0.0) Published code trains its teachers on all training images" in words
    assert "the update of student_lr The published update can make it negative." in words
    assert "normalisation without whitening" not in words  # this row is whitened
    plain = cifar("config", "ws", "--ipc", 10)[1]
    assert "as published" not in plain and "Source:" not in plain


def test_config_shows_how_a_rate_was_converted(cifar: Tesla) -> None:
    rows = json.loads(cifar("config", "ws", "--profile", "tesla-code", "--json")[1])
    assert rows["distill.lr_images"]["value"] == 500
    assert rows["distill.lr_images"]["origin"] == "profile tesla-code, cifar10, IPC 1: 1000 for half the gradient"
    assert rows["dataset.holdout"]["published"] == 0
    assert rows["dataset.holdout"]["reason"].startswith("Published code")
    assert "published" not in rows["distill.steps"]
    assert rows["profile"]["source"].startswith("justincui03/tesla")
    assert {"what", "reason"} == set(rows["profile"]["different"][0])
    assert rows["profile"]["comparable"]


def test_frepos_settings_say_that_no_number_is_comparable(cifar: Tesla) -> None:
    out = cifar("config", "ws", "--profile", "frepo")[1]
    assert "No published number is shown beside such a run." in out


def test_init_writes_the_profile(tesla: Tesla, tmp_path: Path) -> None:
    code, out, err = tesla("init", "ws", "--dataset", "cifar100", "--profile", "tesla-code")
    assert code == 0, err
    assert 'profile = "tesla-code"\n' in (tmp_path / "ws" / "tesla.toml").read_text()
    assert "run ws --ipc 50" in out  # its only row
    rows = json.loads(tesla("config", "ws", "--json")[1])
    assert (rows["distill.steps"]["value"], rows["profile"]["origin"]) == (80, "tesla.toml")
    rows = json.loads(tesla("config", "ws", "--ipc", 10, "--profile", "none", "--json")[1])
    assert rows["distill.steps"]["origin"] == "preset cifar100, IPC 10"


def test_plan_and_run_take_it(cifar: Tesla) -> None:
    code, out, err = cifar("plan", "ws", "--ipc", 10, "--profile", "datm", "--device", "a100", "--json")
    assert code == 0, err
    assert json.loads(out)["iterations_left"] == 10_000
    for command in ("plan", "run"):
        code, _, err = cifar(command, "ws", "--ipc", 7, "--profile", "datm")
        assert code == 2
        assert "The profile datm has no row for cifar10 at IPC 7. It has: cifar10 IPC 1, 10, 50, 500, 1000" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--profile", "mttt"), "There is no profile 'mttt'. Did you mean mtt?"),
        (("--profile", "mtt", "--set", "profile=datm"), "--profile mtt contradicts --set profile=datm."),
        (("--profile", "mtt", "--set", "labels.kind=target"), "distill.method = mtt fixes labels.kind = hard"),
        (("--profile", 'a"b\nc'), "There is no profile"),
        (("--profile", "3"), "There is no profile '3'."),
        (("--set", "profile=3"), "There is no profile '3'."),
        (("--profile", ""), "There is no profile ''."),
        (("--profile", "x" * 5000), "There is no profile 'xxx"),
    ],
)
def test_wrong_profiles(cifar: Tesla, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = cifar("config", "ws", *arguments)
    assert code == 2
    assert words in err
    assert len(err) < 500
    assert "Traceback" not in err


def test_the_page_lists_every_profile_and_every_departure() -> None:
    page = " ".join(PAGE.read_text().split())
    for name in profile_names():
        datasets: dict[str, list[int]] = {}
        for row in profile_rows(name):
            datasets.setdefault(row.dataset, []).append(row.ipc)
        listed = "; ".join(f"{dataset} {', '.join(map(str, counts))}" for dataset, counts in datasets.items())
        assert f"* `{name}`: {profile_title(name)}. {listed}." in page, name
    for one in all_departures():
        what = f"`{one.key} = {one.ours}`" if one.key else f"**{one.what}**"
        assert f"* {what} ({', '.join(one.profiles) or 'all'}): {one.reason}." in page


def test_help_names_every_profile() -> None:
    (option,) = Profile.__metadata__
    assert all(name in option.help for name in profile_names())
