"""The pages say what docs/data says; rows, intervals and choices are those of hand-made numbers."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results.commands import script
from benchmarks.results.commits import ROOT
from benchmarks.results.experiments import Experiment, Member, Pair, Search, choose_rate, load_experiments
from benchmarks.results.gradient_study import keep
from benchmarks.results.pages import rebuild, stale
from benchmarks.results.records import Data, Record, divided, read_data, write_data
from benchmarks.results.rows import accuracy, main_rows, names, paired, points
from benchmarks.results.sections import Results, pair_table, read_results, section, verdict
from engine.tools.studies.statistics import Interval

SHARED = {
    "dataset.name": "digits",
    "network.name": "convnet",
    "network.width": 4,
    "distill.method": "tesla",
    "distill.lr_images": 1.0,
}


def record(run: str, member: str, seed: int, test: tuple[float, ...] = (), **changes: Any) -> Record:
    """A run with these test accuracies; unfinished without."""
    values: dict[str, Any] = {
        "run": run, "member": member, "seed": seed, "ipc": 1, "rate": None, "finished": bool(test), "iteration": 10,
        "iterations": 10, "selected": 10, "test": {"convnet": test} if test else {}, "random": {},
        "random_holdout": None, "holdout": ((0, 0.4), (10, 0.6)), "hours": 0.5, "teacher_hours": 0.0,
        "version": "0.1.0", "commit": "abc", "torch": "2", "machine": "a box", "threads": 1, "settings": {},
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


def data(*runs: tuple[Record, dict[str, Any]]) -> Data:
    return divided([(run, {**SHARED, **own}) for run, own in runs], "T")


def measured() -> Data:
    """Three seeds of a and b, 4, 2 and 3 points apart, each of two networks; the third b has no pair but is there."""
    tests = {"a": (0.74, 0.72, 0.76), "b": (0.70, 0.70, 0.73)}
    runs = [
        (record(f"{name}-seed-{seed}", name, seed, (mean - 0.01, mean + 0.01)), {"distill.lr_images": 10.0})
        for name, means in tests.items()
        for seed, mean in enumerate(means)
    ]
    return data(*runs)


def test_what_is_committed_is_what_the_numbers_say() -> None:
    """`make results` changes nothing: no table or plot was typed, and none is older than its numbers."""
    assert stale(ROOT, load_experiments()) == []


def test_pages_are_rebuilt_once(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    page.write_text("before\n<!-- results:T -->\nold\n<!-- end -->\nafter\n")
    known = {"T": experiment()}
    assert rebuild(tmp_path, known) == [page]
    empty = page.read_text()
    assert "Not measured yet." in empty
    assert "|" not in empty
    write_data(tmp_path, measured())
    assert stale(tmp_path, known) == ["docs/results.md", "docs/images/results-T.svg"]
    assert {path.name for path in rebuild(tmp_path, known)} == {"results.md", "results-T.svg"}
    assert rebuild(tmp_path, known) == []
    assert stale(tmp_path, known) == []
    text = page.read_text()
    assert text.startswith("before\n<!-- results:T -->\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "| exact | 74.0 ± 5.0 |" in text
    assert "images/results-T.svg" in text
    assert max(map(len, text.splitlines())) < 200


@pytest.mark.parametrize(
    ("text", "said"), [("<!-- results:T -->\nno end", "no `<!-- end -->`"), ("<!-- results:X -->\n<!-- end -->", "'X'")]
)
def test_a_wrong_marker_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(SystemExit, match=said):
        rebuild(tmp_path, {"T": experiment()})
    assert (tmp_path / "README.md").read_text() == text


def test_a_run_is_one_observation_and_differences_are_paired() -> None:
    rows = main_rows(experiment(), measured(), 1)
    assert [(row.label, accuracy(row.test), row.networks) for row in rows] == [
        ("exact", "74.0 ± 5.0", 2),  # t(2) = 4.303, s = 2, n = 3 runs; six networks would give 1.9
        ("paper", "71.0 ± 4.3", 2),
    ]
    assert rows[0].runs == "`a-seed-{0..2}`"
    found = paired(experiment().pairs[0], measured())
    assert found is not None
    assert points(found) == "+3.0 (+0.5 to +5.5)"  # s = 1: unpaired it would be far wider
    assert pair_table(experiment(), measured())[-1].endswith("| 3 | 10 | 10 | exact is better |")


def test_the_first_page_has_the_answer(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("<!-- results:verdict -->\n<!-- end -->\n<!-- results:first -->\n<!-- end -->\n")
    rebuild(tmp_path, {"A": experiment(key="A")})
    assert "is not measured yet" in page.read_text()
    assert "Not measured yet." in page.read_text()
    write_data(tmp_path, measured().model_copy(update={"experiment": "A"}))
    rebuild(tmp_path, {"A": experiment(key="A")})
    text = " ".join(page.read_text().split())
    assert "* Test, pair: +3.0 (+0.5 to +5.5) points of test accuracy, 3 pairs of runs: exact is better." in text
    assert "| exact | 74.0 ± 5.0 | – | 3 | 30 min |" in text
    assert "3 h in all" in text.replace("3.0", "3")
    assert "[All results](docs/results.md)" in text


def test_verdicts() -> None:
    assert verdict(Interval(-0.02, -0.03, -0.01, 5)) == "paper is better"
    assert verdict(Interval(0.001, -0.01, 0.012, 5)) == "no difference found; more than 1.2 points is ruled out"
    assert verdict(Interval(0.05, None, None, 1)) == "one pair: no interval"


def test_seeds_without_a_partner_are_no_pair() -> None:
    runs = [
        (record(f"{name}-seed-{seed}", name, seed, (0.5,)), {})
        for name, seeds in {"a": (0, 1), "b": (1, 2)}.items()
        for seed in seeds
    ]
    found = paired(experiment().pairs[0], data(*runs))
    assert found is not None
    assert (found.count, found.low) == (1, None)


def test_an_unfinished_run_counts_nowhere() -> None:
    stopped = record("a-seed-0", "a", 0, iteration=5)
    assert main_rows(experiment(), data((stopped, {})), 1) == []
    untested = record("a-seed-0", "a", 0)
    (row,) = main_rows(experiment(), data((untested, {})), 1)
    assert (row.test, accuracy(row.held_out)) == (None, "60.0")
    lines, charts = section(Results({"T": experiment()}, {"T": data((stopped, {}))}), "T")
    assert lines[:3] == ["Not measured yet.", "", "To repeat it:"]
    assert charts == {}


def test_random_images_are_a_row_for_each_packing() -> None:
    runs = [
        (
            record(f"a-seed-{seed}", "a", seed, (0.7,), random={"convnet": (value,)}, random_holdout=0.4),
            {"distill.formation": views},
        )
        for seed, value, views in ((0, 0.4, 1), (1, 0.5, 1), (2, 0.6, 2))
    ]
    found = {row.label: row for row in main_rows(experiment(), data(*runs), 1)}
    assert accuracy(found["random real images"].test).startswith("45.0")
    assert accuracy(found["random real images, packed 2x2"].test) == "60.0"


def test_all_training_images_come_from_another_experiment_of_the_same_task(tmp_path: Path) -> None:
    whole = {"distill.method": "whole"}
    other = experiment(key="O", members=(Member(name="w", label="all training images"),), pairs=(), search=None)
    known = {"T": experiment(whole_from="O"), "O": other}
    write_data(tmp_path, measured())
    runs = [(record("w-seed-0", "w", 0, (0.8,)), SHARED | whole), (record("w-seed-1", "w", 1, (0.8,)), SHARED | whole)]
    write_data(tmp_path, divided(runs, "O"))
    results = read_results(tmp_path, known)
    text = "\n".join(section(results, "T")[0])
    assert "| exact | 74.0 ± 5.0 | 92.5 |" in text
    assert "| all training images | 80.0 ± 0.0 | 100.0 |" in text
    several = experiment(
        key="M", pairs=(), search=None,
        members=(Member(name="w", label="all training images"), Member(name="a", label="ten", ipc=10)),
    )  # fmt: skip
    ten = (record("a-seed-0", "a", 0, (0.4,), ipc=10), SHARED)
    write_data(tmp_path, divided([*runs, ten], "M"))
    assert "| ten | 40.0 | 50.0 |" in "\n".join(section(read_results(tmp_path, {"M": several}), "M")[0])
    wide = [(run, flat | {"network.width": 8}) for run, flat in runs]
    write_data(tmp_path, divided(wide, "O"))
    assert "all training images" not in "\n".join(section(read_results(tmp_path, known), "T")[0])


def test_rates_are_chosen_once_all_are_measured() -> None:
    member = experiment().members[0]
    accuracies = {"a-lr1-seed-9": 0.5, "a-lr10-seed-9": 0.7}
    assert choose_rate(experiment(), member, accuracies) is None
    assert choose_rate(experiment(), member, accuracies | {"a-lr100-seed-9": 0.6}) == 10
    assert choose_rate(experiment(), member, accuracies | {"a-lr100-seed-9": 0.7}) == 10  # the lowest of equals


def test_the_search_shows_its_evidence_and_a_rate_that_is_not_the_best() -> None:
    tried = [
        (record(f"a-lr{rate}-seed-9", "a", 9, (0.5,), rate=float(rate), holdout=((0, 0.1), (10, held))), {})
        for rate, held in ((1, 0.5), (10, 0.7), (100, 0.6))
    ]
    text = "\n".join(section(Results({"T": experiment()}, {"T": data(*tried)}), "T")[0])
    assert text.startswith("Not measured yet.")
    assert "| exact | 10 | 70.0 | 9 | 10 | `a-lr10-seed-9` | chosen |" in text
    assert "distill.lr_images=10\n" in text
    ours = (record("a-seed-0", "a", 0, (0.7,)), {"distill.lr_images": 100.0})
    text = "\n".join(section(Results({"T": experiment()}, {"T": data(*tried, ours)}), "T")[0])
    assert "`a-lr10-seed-9` | best |" in text
    assert "`a-lr100-seed-9` | used |" in text
    text = "\n".join(section(Results({"T": experiment()}, {"T": data(*tried[1:], ours)}), "T")[0])
    assert "best |" not in text  # one of three rates was not tried
    assert "`a-lr100-seed-9` | used |" in text


def test_one_row_never_mixes_rates() -> None:
    runs = [(record(f"a-seed-{k}", "a", k, (0.5,)), {"distill.lr_images": float(k + 1)}) for k in (0, 1)]
    with pytest.raises(SystemExit, match="several rates"):
        section(Results({"T": experiment()}, {"T": data(*runs)}), "T")


def test_commands_are_a_script_with_the_runs_of_the_experiment() -> None:
    lines = script(experiment(), {"a": 10.0, "b": None})
    assert lines[0] == "tesla init W --dataset digits"
    assert "for r in 1 10 100; do" in lines
    own = next(line for line in lines if "--run a-seed-$k" in line)
    assert "--set seed=$k --set distill.gradient=exact --set distill.lr_images=10" in own
    assert any("--run b-seed-$k" in line and "distill.lr_images=RATE" in line for line in lines)
    chosen = Member(name="c", label="random", set=("distill.method=random",))
    drawn = "\n".join(script(experiment(members=(chosen,), pairs=(), search=None), {}))
    assert "distill.iterations" not in drawn.split("done")[-2].split("tesla run")[1]  # random refuses it


def test_names_of_runs() -> None:
    runs = [record(f"a-seed-{seed}", "a", seed) for seed in (0, 2)]
    assert names(runs) == "`a-seed-{0,2}`"
    assert names([record("whole", "w", 0)]) == "`whole`"


def test_data_survives_a_round_trip_and_damage_is_named(tmp_path: Path) -> None:
    file = write_data(tmp_path, measured())
    assert read_data(tmp_path, "T") == measured()
    assert len(file.read_text().splitlines()) == len(measured().runs) + 2
    file.write_text(file.read_text().replace('"seed"', '"sead"', 1))
    with pytest.raises(SystemExit, match="results-T"):
        read_data(tmp_path, "T")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[T]\ntitle = 1", "T"),
        ('[T]\ntitle = "t"\nworkspace = "w"\ndataset = "d"\nseeds = [0]\nmembers = []\nwhole_from = "Z"', "Z"),
        (
            '[T]\ntitle = "t"\nworkspace = "w"\ndataset = "d"\nseeds = [0, 0]\nmembers = [{name = "a", label = "a"}]',
            "same",
        ),
    ],
)
def test_a_wrong_experiment_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(text)
    with pytest.raises(SystemExit, match=said):
        load_experiments(tmp_path / "e.toml")


def test_a_gradient_study_is_kept(tmp_path: Path) -> None:
    value = {"mean": 1.0, "std": 0.0, "count": 4}
    row = {"steps": 1, "epoch": 0, "cosine": value, "norm_ratio": value, "student_lr_ratio": value, "loss": 0.9}
    study = tmp_path / "study.json"
    study.write_text(json.dumps({"study": "gradient", "rows": [row], "setting": SHARED}))
    (tmp_path / "docs" / "data").mkdir(parents=True)
    page = tmp_path / "docs" / "gradient.md"
    page.write_text("<!-- results:gradient-study -->\n<!-- end -->\n")
    keep(tmp_path, study)
    rebuild(tmp_path, {})
    assert "| 1 | 0 | 1.0000 ± 0.0000 |" in page.read_text()
    study.write_text("{}")
    with pytest.raises(SystemExit, match=r"study\.json"):
        keep(tmp_path, study)
