"""The rows of the tables: means over runs with their intervals. A run is one observation, whatever its networks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.results.experiments import Experiment, Member, Pair
from benchmarks.results.records import Record
from engine.errors import counted
from engine.tools.studies.outcome import Cell, Chart, Column, Curve, gain_words, percent_words, table_lines
from engine.tools.studies.statistics import Interval, mean_interval, paired_difference
from tesla_tui.render.study_chart import COLOURS

COLUMNS = (
    Column("label", ""), Column("test", "test accuracy, %", "percent"), Column("share", "% of whole", "percent"),
    Column("held_out", "held-out, %", "percent"), Column("n", "n", "count"), Column("networks", "networks", "count"),
    Column("time", "a run", "count"), Column("runs", "runs"),
)  # fmt: skip
PAIR_COLUMNS = (
    Column("label", ""), Column("exact", "exact, %", "percent"), Column("paper", "paper, %", "percent"),
    Column("difference", "exact - paper, points", "gain"), Column("n", "pairs", "count"),
    Column("exact_rate", "rate, exact", "number"), Column("paper_rate", "rate, paper", "number"),
    Column("verdict", ""),
)  # fmt: skip
SEARCH_COLUMNS = (
    Column("label", ""), Column("rate", "`distill.lr_images`", "number"),
    Column("held_out", "best held-out, %", "percent"), Column("seed", "seed", "count"),
    Column("iterations", "iterations", "count"), Column("run", "run"), Column("verdict", ""),
    Column("test", "test accuracy, %"),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A member, or the random real images that its runs measured for comparison."""

    label: str
    method: str
    test: Interval | None
    """None where no run has a test."""
    held_out: Interval | None
    time: str
    """Of a run, on average; empty for what was measured within other runs."""
    networks: int
    """Tested for each run."""
    runs: str
    """Their names."""


def measured(records: Iterable[Record], member: str) -> list[Record]:
    """The runs of a member that are not part of a search, by seed."""
    return [run for run in records if run.member == member and run.rate is None]


def shown_runs(runs: Sequence[Record]) -> list[Record]:
    """The runs that a row is about, so that it has one n: those with a test, or if none has one, the complete ones."""
    return [run for run in runs if run.network in run.test] or [run for run in runs if run.complete]


def tests_of(runs: Iterable[Record], network: str = "") -> Interval | None:
    """Test accuracy over runs, with another network or their own; None where no run was tested."""
    found = [run.test.get(network or run.network) for run in runs]
    means = [fmean(test) for test in found if test]
    return mean_interval(means) if means else None


def main_rows(experiment: Experiment, records: Sequence[Record], ipc: int) -> list[Row]:
    """The members of an IPC that have complete runs, the best first; then random real images, and all of them."""
    rows = []
    for member in experiment.of_ipc(ipc):
        runs = shown_runs(measured(records, member.name))
        if runs:
            rows.append(
                Row(
                    member.label,
                    str(runs[0].settings["distill.method"]),
                    tests_of(runs),
                    _interval([run.held_out for run in runs if run.held_out is not None]),
                    duration(3600 * fmean(run.hours for run in runs)),
                    max(len(run.test.get(run.network, ())) for run in runs),
                    names(runs),
                )
            )
    own = {run.formation for run in records if run.ipc == ipc and run.settings["distill.method"] == "random"}
    for views, runs in random_runs(records, ipc).items():
        if views in own:
            continue
        runs = [run for run in runs if run.network in run.random] or runs
        tests = [run.random[run.network] for run in runs if run.network in run.random]
        held = _interval([run.random_holdout for run in runs if run.random_holdout is not None])
        networks = max(map(len, tests), default=0)
        test = _interval([fmean(one) for one in tests])
        rows.append(Row(random_label(views), "random", test, held, "", networks, "in the runs above"))
    return sorted(rows, key=_place)


def unimproved(experiment: Experiment, records: Sequence[Record], ipc: int) -> list[str]:
    """The members with runs whose selected images are the first ones, and how many; nothing without any."""
    found = []
    for member in experiment.of_ipc(ipc):
        runs = [run for run in shown_runs(measured(records, member.name)) if run.iterations]
        if first := sum(run.selected == 0 for run in runs):
            found.append(f"{member.label} in {first} of {len(runs)} runs")
    return [f"Selected the first images, before any update: {'; '.join(found)}.", ""] if found else []


def _place(row: Row) -> tuple[bool, bool, bool, float]:
    value = row.test or row.held_out
    return row.method == "whole", row.method == "random", row.test is None, -(value.mean if value else 0.0)


def random_runs(records: Sequence[Record], ipc: int) -> dict[int, list[Record]]:
    """By formation, a run of every seed that measured random real images, packed as its own are."""
    found: dict[int, dict[int, Record]] = {}
    for run in sorted(records, key=lambda run: not run.random):  # those with a test first
        if run.rate is None and run.ipc == ipc and run.complete and (run.random or run.random_holdout is not None):
            found.setdefault(run.formation, {}).setdefault(run.seed, run)
    return {views: list(runs.values()) for views, runs in sorted(found.items())}


def random_label(views: int) -> str:
    """The row's name."""
    return "random real images" + (f", packed {views} x {views}" if views > 1 else "")


def whole_row(experiments: Mapping[str, Experiment], records: Mapping[str, list[Record]], key: str) -> Row | None:
    """All training images, of this experiment or another with the same task: they have no IPC."""
    keys = (
        "dataset.name", "dataset.resolution", "dataset.zca", "network.name", "network.width", "network.depth",
        "augment.ops", "evaluate.augment", "evaluate.whole_epochs",
    )  # fmt: skip
    for name in (key, *experiments):
        for run in records[name]:
            if run.settings["distill.method"] == "whole" and all(
                run.settings.get(k) == records[key][0].settings.get(k) for k in keys
            ):
                rows = main_rows(experiments[name], records[name], run.ipc)
                return next((row for row in rows if row.method == "whole"), None)
    return None


def table(rows: Sequence[Row], left_out: Sequence[str] = ()) -> list[str]:
    """Rows in Markdown, with their share of what all training images reach, without some columns."""
    whole = next((row.test.mean for row in rows if row.method == "whole" and row.test), None)
    cells: list[dict[str, Cell]] = []
    for row in rows:
        count = row.test or row.held_out
        share = None if whole is None or row.test is None else row.test.mean / whole
        more = {"share": share, "n": count.count if count else 0, "networks": row.networks or None}
        cells.append({**vars(row), **more})
    return table_lines([column for column in COLUMNS if column.key not in left_out], cells)


def paired(pair: Pair, records: Sequence[Record]) -> Interval | None:
    """Test accuracy of a minus that of b, over the seeds that both have finished; None if there are none."""
    a, b = _sides(pair, records)
    return paired_difference(a, b) if a else None


def _sides(pair: Pair, records: Sequence[Record]) -> tuple[list[float], list[float]]:
    """Test accuracies of a and of b, by seed, where both have one."""
    a, b = (
        {run.seed: fmean(run.test[run.network]) for run in measured(records, name) if run.network in run.test}
        for name in (pair.a, pair.b)
    )
    seeds = sorted(a.keys() & b.keys())
    return [a[seed] for seed in seeds], [b[seed] for seed in seeds]


def pair_table(experiment: Experiment, records: Sequence[Record]) -> list[str]:
    """Paired differences and what they say; nothing where there are none."""
    rows: list[dict[str, Cell]] = []
    for pair in experiment.pairs:
        difference = paired(pair, records)
        if difference is not None:
            row: dict[str, Cell] = {"label": pair.label, "difference": difference, "n": difference.count}
            means = _sides(pair, records)
            for side, name, tests in zip(("exact", "paper"), (pair.a, pair.b), means, strict=True):
                row[side] = mean_interval(tests)
                row[f"{side}_rate"] = used_rate(experiment.member(name), records)
            rows.append({**row, "verdict": verdict(difference)})
    return table_lines(PAIR_COLUMNS, rows) if rows else []


def verdict(difference: Interval) -> str:
    """What the interval of a paired difference says."""
    if difference.low is None or difference.high is None:
        return "no interval"
    if difference.low > 0:
        return "exact is better"
    if difference.high < 0:
        return "paper is better"
    most = 100 * max(-difference.low, difference.high)
    return f"no difference found, {most:.1f} points at most"


def sentence(experiment: Experiment, pair: Pair, difference: Interval) -> str:
    """A paired difference in a sentence."""
    points = f"{gain_words(difference)} points of test accuracy, {counted(difference.count, 'pair')} of runs"
    return f"{experiment.title}, {pair.label}: {points}: {verdict(difference)}."


def tested_networks(records: Sequence[Record]) -> set[str]:
    """The networks that some run has a test with."""
    return {name for run in records for name in run.test}


def network_table(experiment: Experiment, records: Sequence[Record]) -> list[str]:
    """Test accuracy by network; n runs for each cell."""
    tested = tested_networks(records)
    networks = [name for name in (records[0].network, *experiment.networks) if name in tested]
    groups = [(member.label, measured(records, member.name)) for member in experiment.members]
    for ipc in experiment.ipcs:
        for views, runs in random_runs(records, ipc).items():
            groups.append((random_label(views), [run.model_copy(update={"test": run.random}) for run in runs]))
    rows: list[dict[str, Cell]] = []
    for label, runs in groups:
        found = {name: tests_of(runs, name) for name in networks}
        cells = {name: f"{percent_words(test)} (n = {test.count})" for name, test in found.items() if test}
        if cells:
            rows.append({"label": label, **cells})
    return table_lines([Column("label", "test accuracy, %"), *(Column(n, n, "count") for n in networks)], rows)


def best_rate(experiment: Experiment, member: Member, records: Sequence[Record]) -> float | None:
    """The rate with the highest held-out accuracy, the lowest of equals; None while a run of the search is missing."""
    tried = {
        run.rate: run.held_out
        for run in records
        if run.member == member.name and run.rate is not None and run.complete and run.held_out is not None
    }
    if experiment.search is None or set(tried) != set(experiment.search.rates):
        return None
    return max(tried, key=lambda rate: (tried[rate], -rate))


def used_rate(member: Member, records: Sequence[Record]) -> float | None:
    """The rate that its measured runs have; None where there are none.

    Raises:
        SystemExit: they have several.
    """
    rates = {run.settings["distill.lr_images"] for run in measured(records, member.name)}
    if len(rates) > 1:
        raise SystemExit(f"The runs of {member.name} have several rates: {sorted(rates)}. One table cannot mix them.")
    return next(iter(rates), None)


def search_table(experiment: Experiment, records: Sequence[Record]) -> list[str]:
    """How every rate was chosen, with tests only where the measured runs have none; nothing without a search."""
    rows: list[dict[str, Cell]] = []
    for member in (member for member in experiment.members if member.search):
        best, used = best_rate(experiment, member, records), used_rate(member, records)
        tested = tests_of(measured(records, member.name)) is not None
        runs = [run for run in records if run.member == member.name and run.rate is not None]
        for run in sorted(runs, key=lambda run: run.rate or 0):
            test = run.test.get(run.network)
            words = {best: "chosen"} if used in (None, best) else {best: "best", used: "used"}
            row: dict[str, Cell] = {
                "label": member.label, "rate": run.rate, "held_out": run.held_out if run.complete else None,
                "seed": run.seed, "iterations": run.iterations, "run": f"`{run.run}`",
                "verdict": words.get(run.rate, ""),
            }  # fmt: skip
            if test and not tested:
                row["test"] = f"{percent_words(fmean(test))} ({len(test)} network{'s' if len(test) > 1 else ''})"
            rows.append(row)
    columns = SEARCH_COLUMNS if any("test" in row for row in rows) else SEARCH_COLUMNS[:-1]
    return table_lines(columns, rows) if rows else []


def held_out_chart(experiment: Experiment, records: Sequence[Record]) -> Chart | None:
    """Held-out accuracy by iteration of every member: the mean over its complete runs; None without curves, or with
    more than there are colours.
    """
    curves = []
    for member in experiment.members:
        runs = [dict(run.holdout) for run in measured(records, member.name) if run.complete]
        shared = sorted(set.intersection(*map(set, runs))) if runs else []
        if len(shared) > 1:
            values = [mean_interval([run[at] for run in runs]) for at in shared]
            label = member.label + (f" (IPC {member.ipc or experiment.ipc})" if len(experiment.ipcs) > 1 else "")
            curves.append(Curve(label, shared, [v.mean for v in values], [v.half or 0.0 for v in values]))
    if not 0 < len(curves) <= len(COLOURS):
        return None
    title, spread = f"{experiment.title}: held-out accuracy", "95 % interval over runs"
    return Chart(title, "iteration", "accuracy, %", curves, percent=True, spread=spread)


def names(runs: Sequence[Record]) -> str:
    """The names of runs, as a shell writes those that differ in a seed: `a-seed-{0..9}`."""
    seeds, stem = [run.seed for run in runs], runs[0].run.removesuffix(str(runs[0].seed))
    if len(runs) == 1 or any(run.run != f"{stem}{run.seed}" for run in runs):
        return ", ".join(f"`{run.run}`" for run in runs)
    whole = seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"`{stem}{{{f'{seeds[0]}..{seeds[-1]}' if whole else ','.join(map(str, seeds))}}}`"


def duration(seconds: float) -> str:
    """A time, as text."""
    minutes = seconds / 60
    return f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.0f} min" if minutes >= 1.5 else f"{seconds:.0f} s"


def _interval(values: Sequence[float]) -> Interval | None:
    return mean_interval(values) if values else None
