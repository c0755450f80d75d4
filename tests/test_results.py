"""The pages say what docs/data says; rows, intervals and choices are those of hand-made numbers."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results.driver import commands
from benchmarks.results.experiments import RATE, Experiment, Member, Pair, Search, load_experiments
from benchmarks.results.pages import Pages, rebuild, stale
from benchmarks.results.records import ROOT, Record, differences, read_records, write_records
from benchmarks.results.tables import best_rate, held_out_chart, main_rows, names, pair_table, paired, sentence, verdict
from engine.settings import resolve_settings
from engine.settings.facts import may_change
from engine.settings.methods import fixed_table
from engine.settings.overrides import parse_override
from engine.settings.tables import flatten
from engine.tools.studies.outcome import cell_words, gain_words, percent_words
from engine.tools.studies.statistics import Interval

SHARED = {
    "dataset.name": "digits",
    "network.name": "convnet",
    "network.width": 4,
    "distill.method": "tesla",
    "distill.lr_images": 1.0,
}


def record(run: str, member: str, seed: int, test: tuple[float, ...] = (), own: Any = None, **changes: Any) -> Record:
    """A run with these test accuracies and settings of its own; unfinished without tests."""
    values: dict[str, Any] = {
        "run": run, "member": member, "seed": seed, "ipc": 1, "rate": None, "finished": bool(test), "iteration": 10,
        "iterations": 10, "selected": 10, "test": {"convnet": test} if test else {}, "random": {},
        "random_holdout": None, "holdout": ((0, 0.4), (10, 0.6)), "hours": 0.5, "teacher_hours": 0.0,
        "version": "0.1.0", "commit": "abc", "torch": "2", "machine": "a box", "threads": 1,
        "settings": {**SHARED, **(own or {})},
    }  # fmt: skip
    return Record(**{**values, **changes})


def experiment(**changes: Any) -> Experiment:
    """Two gradients under three seeds, with a search of their rates."""
    values: dict[str, Any] = {
        "key": "T", "title": "Test", "workspace": "W", "dataset": "digits", "seeds": (0, 1, 2),
        "set": ("distill.iterations=10",), "search": Search(rates=(1, 10, 100), seed=9, set=("evaluate.repeats=1",)),
        "members": (
            Member(name="a", label="exact", search=True, set=("distill.gradient=exact",)),
            Member(name="b", label="paper", search=True, set=("distill.gradient=paper",)),
        ),
        "pairs": (Pair(a="a", b="b", label="pair"),),
    }  # fmt: skip
    return Experiment(**{**values, **changes})


def measured() -> list[Record]:
    """Three seeds of a and b, 4, 2 and 3 points apart, each of two networks."""
    tests = {"a": (0.74, 0.72, 0.76), "b": (0.70, 0.70, 0.73)}
    return [
        record(f"{name}-seed-{seed}", name, seed, (mean - 0.01, mean + 0.01), {"distill.lr_images": 10.0})
        for name, means in tests.items()
        for seed, mean in enumerate(means)
    ]


def part(key: str, *runs: Record, **changes: Any) -> str:
    """The section of one experiment."""
    pages = Pages(ROOT / "none", {})
    pages.experiments, pages.records = {key: experiment(key=key, **changes)}, {key: list(runs)}
    return "\n".join(pages.section(key))


def test_what_is_committed_is_what_the_numbers_say() -> None:
    """`make results` changes nothing: no table or plot was typed, and none is older than its numbers."""
    assert stale(Pages(ROOT, load_experiments())) == []


@pytest.mark.parametrize("key", load_experiments())
def test_what_was_measured_has_the_settings_of_its_experiment(key: str) -> None:
    """Otherwise the command below a table would measure something else."""
    known = load_experiments()[key]
    planned = {run.name: run for run in known.planned}
    for run in read_records(ROOT, key):
        if run.run in planned:
            settings = {**run.settings, "seed": run.seed, "distill.ipc": run.ipc}
            assert differences(known, planned[run.run], settings) == [], run.run


def test_pages_are_rebuilt_once(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- results:T -->\nold\n<!-- end -->\nafter\n")
    known = {"T": experiment()}
    assert rebuild(tmp_path, known) == [page]
    empty = page.read_text()
    assert "Not measured yet." in empty
    assert "|" not in empty
    write_records(tmp_path, "T", measured())
    assert {path.name for path in rebuild(tmp_path, known)} == {"results.md", "results-T.svg"}
    assert rebuild(tmp_path, known) == []
    text = page.read_text()
    assert text.startswith("before\n<!-- results:T -->\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "| exact | 74.0 ± 5.0 |" in text
    assert "images/results-T.svg" in text
    assert max(map(len, text.splitlines())) < 200


@pytest.mark.parametrize(("members", "drawn"), [(0, False), (8, True), (9, False)])
def test_a_plot_has_no_more_lines_than_colours(members: int, drawn: bool) -> None:
    named = tuple(Member(name=f"m{number}", label=f"method {number}") for number in range(members))
    runs = [record(f"{member.name}-seed-0", member.name, 0, (0.7, 0.8)) for member in named]
    chart = held_out_chart(experiment(members=named, pairs=(), search=None), runs)
    assert (chart is not None and len(chart.curves) == members) == drawn


@pytest.mark.parametrize(
    ("text", "said"), [("<!-- results:T -->\nno end", "no `<!-- end -->`"), ("<!-- results:X -->\n<!-- end -->", "'X'")]
)
def test_a_wrong_marker_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(SystemExit, match=said):
        rebuild(tmp_path, {"T": experiment()})
    assert (tmp_path / "README.md").read_text() == text


def shown(value: Interval | None) -> str:
    assert value is not None
    return percent_words(value)


def test_a_run_is_one_observation_and_differences_are_paired() -> None:
    rows = main_rows(experiment(), measured(), 1)
    assert [(row.label, shown(row.test), row.networks) for row in rows] == [
        ("exact", "74.0 ± 5.0", 2),  # t(2) = 4.303, s = 2, n = 3 runs; six networks would give 1.9
        ("paper", "71.0 ± 4.3", 2),
    ]
    assert rows[0].runs == "`a-seed-{0..2}`"
    found = paired(experiment().pairs[0], measured())
    assert found is not None
    assert gain_words(found) == "+3.0 ± 2.5"  # s = 1: unpaired it would be far wider
    assert pair_table(experiment(), measured())[-1].endswith("| 3 | 10 | 10 | exact is better |")


def test_the_first_page_has_the_answer(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("<!-- results:verdict -->\n<!-- end -->\n<!-- results:first -->\n<!-- end -->\n")
    rebuild(tmp_path, {"A": experiment(key="A")})
    assert "is not measured yet" in page.read_text()
    assert "Not measured yet." in page.read_text()
    write_records(tmp_path, "A", measured())
    rebuild(tmp_path, {"A": experiment(key="A")})
    text = " ".join(page.read_text().split())
    assert "* Test, pair: +3.0 ± 2.5 points of test accuracy, 3 pairs of runs: exact is better." in text
    assert "| exact | 74.0 ± 5.0 |  | 60.0 ± 0.0 | 3 | 30 min |" in page.read_text()
    assert "3.0 h in all" in text or "180 min in all" in text
    assert "[All results](docs/results.md)" in text


def test_verdicts() -> None:
    assert verdict(Interval(-0.02, -0.03, -0.01, 5)) == "paper is better"
    assert verdict(Interval(0.001, -0.01, 0.012, 5)) == "no difference found, 1.2 points at most"
    assert verdict(Interval(0.05, None, None, 1)) == "no interval"


def test_seeds_without_a_partner_are_no_pair() -> None:
    runs = [
        record(f"{name}-seed-{seed}", name, seed, (0.5,))
        for name, seeds in {"a": (0, 1), "b": (1, 2)}.items()
        for seed in seeds
    ]
    found = paired(experiment().pairs[0], runs)
    assert found is not None
    assert (found.count, found.low) == (1, None)
    words = sentence(experiment(), experiment().pairs[0], found)
    assert words == "Test, pair: +0.0 points of test accuracy, 1 pair of runs: no interval."


def test_every_number_of_a_row_is_of_the_runs_it_counts() -> None:
    """A run whose test is missing is in no column of a row that has tests, and in no pair."""
    own = {"distill.lr_images": 1.0}
    runs = [record(f"{name}-seed-{seed}", name, seed, (0.5 + seed / 10,), own) for name in "ab" for seed in (0, 1)]
    runs += [record("a-seed-2", "a", 2, (0.9,), own), record("b-seed-2", "b", 2, own=own, holdout=((10, 0.9),))]
    random = {"random": {"convnet": (0.4,)}, "random_holdout": 0.4}
    runs = [
        run.model_copy(update=random if run.test else {"random_holdout": 0.9}) for run in runs if run.member == "b"
    ] + [run for run in runs if run.member == "a"]
    found = {row.label: row for row in main_rows(experiment(), runs, 1)}
    assert (found["paper"].runs, shown(found["paper"].held_out)) == ("`b-seed-{0..1}`", "60.0 ± 0.0")
    assert shown(found["random real images"].held_out) == "40.0 ± 0.0"
    assert pair_table(experiment(), runs)[-1].startswith("| pair | 55.0 ± 63.5 | 55.0 ± 63.5 | +0.0 ± 0.0 | 2 |")


def test_runs_that_keep_their_first_images_are_counted() -> None:
    own = {"distill.lr_images": 1.0}
    runs = [record(f"a-seed-{seed}", "a", seed, (0.5,), own, selected=at) for seed, at in enumerate((0, 10, 0))]
    drawn = record("b-seed-0", "b", 0, (0.5,), own, selected=0, iteration=0, iterations=0)  # nothing to update
    assert "Selected the first images, before any update: exact in 2 of 3 runs." in part("T", *runs, drawn)
    assert "Selected the first" not in part("T", runs[1], drawn)


def test_an_unfinished_run_counts_nowhere() -> None:
    stopped = record("a-seed-0", "a", 0, iteration=5)
    assert main_rows(experiment(), [stopped], 1) == []
    (row,) = main_rows(experiment(), [record("a-seed-0", "a", 0)], 1)
    assert (row.test, shown(row.held_out)) == (None, "60.0")
    text = part("T", stopped)
    assert text.startswith("Not measured yet.\n\nEvery run")
    assert "![" not in text
    assert part("T").startswith("Not measured yet.\n\nTo repeat it")
    assert "Not tested yet: exact; paper." in part("T", record("a-seed-0", "a", 0))


def test_networks_without_a_test_are_named_and_have_no_column() -> None:
    tests = {"convnet": (0.8, 0.82), "mlp": (0.6,)}
    runs = [record(f"a-seed-{seed}", "a", seed, (0.8,)).model_copy(update={"test": tests}) for seed in (0, 1)]
    text = part("T", *runs, runs_of="S", networks=("mlp", "vit"), pairs=(), search=None)
    assert "| test accuracy, % | convnet | mlp |" in text
    assert "60.0 ± 0.0 (n = 2)" in text
    assert "Not tested yet: vit." in text


def test_rows_with_a_test_come_first() -> None:
    better = record("a-seed-0", "a", 0, holdout=((0, 0.4), (10, 0.9)))
    rows = main_rows(experiment(), [better, record("b-seed-0", "b", 0, (0.5,))], 1)
    assert [row.label for row in rows] == ["paper", "exact"]


def test_random_images_are_a_row_for_each_packing() -> None:
    runs = [
        record(
            f"a-seed-{seed}", "a", seed, (0.7,), {"distill.formation": views},
            random={"convnet": (value,)}, random_holdout=0.4,
        )
        for seed, value, views in ((0, 0.4, 1), (1, 0.5, 1), (2, 0.6, 2))
    ]  # fmt: skip
    found = {row.label: row for row in main_rows(experiment(), runs, 1)}
    assert shown(found["random real images"].test).startswith("45.0")
    assert shown(found["random real images, packed 2 x 2"].test) == "60.0"


def test_all_training_images_come_from_another_experiment_of_the_same_task() -> None:
    other = experiment(key="O", members=(Member(name="w", label="all training images"),), pairs=(), search=None)
    pages = Pages(ROOT / "none", {})
    pages.experiments = {"T": experiment(), "O": other}
    whole = [record(f"w-seed-{k}", "w", k, (0.8,), {"distill.method": "whole"}) for k in (0, 1)]
    pages.records = {"T": measured(), "O": whole}
    text = "\n".join(pages.section("T"))
    assert "| exact | 74.0 ± 5.0 | 92.5 |" in text
    assert "| all training images | 80.0 ± 0.0 | 100.0 |" in text
    wide = [run.model_copy(update={"settings": {**run.settings, "network.width": 8}}) for run in whole]
    pages.records = {"T": measured(), "O": wide}
    assert "all training images" not in "\n".join(pages.section("T"))
    members = (Member(name="w", label="all training images"), Member(name="a", label="ten", ipc=10))
    ten = record("a-seed-0", "a", 0, (0.4,), ipc=10)
    assert "| ten | 40.0 | 50.0 |" in part("M", *whole, ten, members=members, pairs=(), search=None)


def test_rates_are_chosen_once_all_are_measured() -> None:
    member = experiment().members[0]

    def chosen(**held: float) -> float | None:
        runs = [
            record(f"a-{rate}-seed-9", "a", 9, rate=float(rate[2:]), holdout=((10, value),))
            for rate, value in held.items()
        ]
        return best_rate(experiment(), member, runs)

    assert chosen(lr1=0.5, lr10=0.7) is None
    assert chosen(lr1=0.5, lr10=0.7, lr100=0.6) == 10
    assert chosen(lr1=0.5, lr10=0.7, lr100=0.7) == 10  # the lowest of equals


def test_the_search_shows_its_evidence_and_a_rate_that_is_not_the_best() -> None:
    tried = [
        record(f"a-lr{rate}-seed-9", "a", 9, (0.5,), rate=float(rate), holdout=((0, 0.1), (10, held)))
        for rate, held in ((1, 0.5), (10, 0.7), (100, 0.6))
    ]
    text = part("T", *tried)
    assert text.startswith("Not measured yet.")
    assert "| exact | 10 | 70.0 | 9 | 10 | `a-lr10-seed-9` | chosen | 50.0 (1 network) |" in text
    ours = record("a-seed-0", "a", 0, (0.7,), {"distill.lr_images": 100.0})
    text = part("T", *tried, ours)
    assert "`a-lr10-seed-9` | best |" in text
    assert "`a-lr100-seed-9` | used |" in text
    text = part("T", *tried[1:], ours)
    assert "best |" not in text  # one of three rates was not tried
    assert "`a-lr100-seed-9` | used |" in text


def test_one_row_never_mixes_rates() -> None:
    runs = [record(f"a-seed-{k}", "a", k, (0.5,), {"distill.lr_images": float(k + 1)}) for k in (0, 1)]
    with pytest.raises(SystemExit, match="several rates"):
        part("T", *runs)


def test_commands_are_the_runs_of_the_experiment(tmp_path: Path) -> None:
    lines = commands(experiment(), tmp_path)
    assert lines[0] == f"tesla init {tmp_path} --dataset digits"
    assert len(lines) == 1 + 2 * 3 + 2 * 3
    own = next(line for line in lines if "--run b-seed-2 " in line)
    assert own.endswith(
        "--ipc 1 --set seed=2 --set distill.iterations=10 --set distill.gradient=paper --set distill.lr_images=RATE"
    )
    assert any(line.endswith("--set evaluate.repeats=1 --set distill.lr_images=100") for line in lines)
    drawn = Member(name="c", label="random", set=("distill.method=random",))
    (_, *runs) = commands(experiment(members=(drawn,), pairs=(), search=None), tmp_path)
    assert len(runs) == 3
    assert not any("distill.iterations" in line for line in runs)  # random refuses it


@pytest.mark.parametrize("key", [key for key, one in load_experiments().items() if not one.runs_of])
def test_no_run_of_an_experiment_depends_on_a_preset(key: str) -> None:
    """Its settings are valid, and a preset that changes changes no experiment."""
    known = load_experiments()[key]
    for run in known.planned:
        rate = (f"{RATE}=1",) if run.waits else ()
        sets = [f"dataset.name={known.dataset}", *known.init, *run.settings, *rate]
        found = resolve_settings(ipc=run.ipc, overrides=sets)
        fixed = flatten(fixed_table(found.settings.distill.method)[1])
        left = {name for name, origin in found.origins.items() if origin.startswith("preset ")}
        unread = {RATE} if not found.settings.distill.iterations else set()  # by selections of real images
        assert left - {"dataset.resolution", *fixed, *unread} == set(), run.name


def test_settings_of_tests_with_other_networks_are_evaluations_only() -> None:
    for known in load_experiments().values():
        keys = [parse_override(text)[0] for text in known.tests]
        assert all(key.startswith("evaluate.") and may_change(key) for key in keys)
        resolve_settings(ipc=known.ipc, overrides=[f"dataset.name={known.dataset}", *known.tests])


def test_large_rates_have_no_exponent() -> None:
    assert [cell_words(rate, "number") for rate in (0.5, 3000.0, 10_000.0, 2e6)] == ["0.5", "3000", "10000", "2e+06"]


def test_names_of_runs() -> None:
    runs = [record(f"a-seed-{seed}", "a", seed) for seed in (0, 2)]
    assert names(runs) == "`a-seed-{0,2}`"
    assert names([record("whole", "w", 0)]) == "`whole`"


def test_data_survives_a_round_trip_and_damage_is_named(tmp_path: Path) -> None:
    file = write_records(tmp_path, "T", measured())
    assert read_records(tmp_path, "T") == measured()
    assert len(file.read_text().splitlines()) == len(measured()) + 2
    file.write_text(file.read_text().replace('"seed"', '"sead"', 1))
    with pytest.raises(SystemExit, match="results-T"):
        read_records(tmp_path, "T")


def test_two_runs_with_one_name_are_refused(tmp_path: Path) -> None:
    text = '[T]\ntitle = "t"\nworkspace = "w"\ndataset = "d"\nseeds = [0, 0]\nmembers = [{name = "a", label = "a"}]'
    (tmp_path / "e.toml").write_text(text)
    with pytest.raises(SystemExit, match="same name"):
        load_experiments(tmp_path / "e.toml")


def test_a_gradient_study_is_a_table_and_two_plots(tmp_path: Path) -> None:
    value = {"mean": 1.0, "std": 0.0, "count": 4}
    row = {"steps": 1, "epoch": 0, "cosine": value, "norm_ratio": value, "student_lr_ratio": value, "loss": 0.9}
    (tmp_path / "docs" / "data").mkdir(parents=True)
    study = {"study": "gradient", "rows": [{**row, "other": None}], "setting": SHARED}
    (tmp_path / "docs" / "data" / "gradient-study.json").write_text(json.dumps(study))
    page = tmp_path / "docs" / "gradient.md"
    page.write_text("<!-- results:gradient-study -->\n<!-- end -->\n")
    assert len(rebuild(tmp_path, {})) == 3
    assert "| 1 | 0 | 1.0000 ± 0.0000 |" in page.read_text()
    assert rebuild(tmp_path, {}) == []
