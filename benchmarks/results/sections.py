"""The parts of the pages that are made from the numbers in docs/data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.results.commands import script
from benchmarks.results.experiments import Experiment
from benchmarks.results.plots import digest, held_out_chart, setting_of
from benchmarks.results.records import Data, read_data
from benchmarks.results.rows import (
    NOTHING,
    Row,
    accuracy,
    best_rate,
    duration,
    main_rows,
    markdown,
    network_of,
    paired,
    points,
    unfinished,
    used_rate,
    whole_accuracy,
)
from engine.tools.studies.outcome import Chart
from engine.tools.studies.statistics import Interval, mean_interval

SHOWN = (
    "dataset.name", "dataset.holdout", "network.name", "network.width", "teachers.count", "distill.ipc",
    "distill.steps", "distill.teacher_epochs", "distill.max_start_epoch", "distill.iterations", "distill.lr_images",
    "evaluate.epochs", "evaluate.repeats", "evaluate.selection_repeats",
)  # fmt: skip
"""Settings that a reader of a table needs."""
NOT_MEASURED = "Not measured yet."
MOST_COMMANDS = 8
"""Members whose commands are all shown."""


@dataclass(frozen=True)
class Results:
    """The experiments and what was measured of them."""

    experiments: Mapping[str, Experiment]
    data: Mapping[str, Data]

    def rows(self, key: str, ipc: int | None = None) -> list[Row]:
        """The rows of an experiment, with that of all training images wherever the same task has it: it has no IPC."""
        experiment, data = self.experiments[key], self.data[key]
        rows = main_rows(experiment, data, ipc or experiment.ipc)
        if whole_accuracy(rows) is not None:
            return rows
        for name in (key, experiment.whole_from):
            source, other = self.experiments.get(name), self.data.get(name)
            if source is not None and other is not None and _same_task(data, other):
                ipcs = {member.ipc or source.ipc for member in source.members}
                whole = [row for count in sorted(ipcs) for row in main_rows(source, other, count) if row.whole]
                if whole:
                    return [*rows, whole[0]]
        return rows


def read_results(root: Path, experiments: Mapping[str, Experiment]) -> Results:
    """What was collected."""
    read = {key: read_data(root, key) for key in experiments}
    return Results(experiments, {key: data for key, data in read.items() if data is not None})


def _same_task(data: Data, other: Data) -> bool:
    keys = ("dataset.name", "dataset.resolution", "network.name", "network.width", "network.depth", "augment.ops")
    return all(data.settings.get(key) == other.settings.get(key) for key in keys)


def section(results: Results, key: str) -> tuple[list[str], dict[str, tuple[Chart, dict[str, Any]]]]:
    """Table, plot, search, commands and origin of an experiment; and the plots to draw, by file name."""
    experiment, data = results.experiments[key], results.data.get(key)
    if data is None or not any(run.complete and run.rate is None for run in data.runs):
        searched = _searches(experiment, data) if data is not None else []
        return [NOT_MEASURED, "", *searched, *_commands(experiment, data)], {}
    lines: list[str] = [experiment.note, ""] if experiment.note else []
    if experiment.networks:
        return [*lines, *_networks(experiment, data), "", *origin(data), "", *_commands(experiment, data)], {}
    ipcs = sorted({member.ipc or experiment.ipc for member in experiment.members})
    for ipc in ipcs:
        lines += [f"IPC {ipc}:", ""] if len(ipcs) > 1 else []
        lines += [*table(results.rows(key, ipc)), ""]
        if missing := unfinished(experiment, data, ipc):
            lines += [f"Not measured yet: {'; '.join(missing)}.", ""]
    if experiment.pairs:
        lines += [*pair_table(experiment, data), ""]
    charts = {}
    chart = held_out_chart(experiment, data)
    if chart is not None:
        name, setting = f"results-{key}.svg", setting_of(data)
        charts[name] = (chart, setting)
        lines += [f"![{chart.title}](images/{name})", f"<!-- numbers: {digest(chart, setting)} -->", ""]
    lines += _searches(experiment, data)
    return [*lines, *origin(data), "", *_commands(experiment, data)], charts


def table(rows: Sequence[Row], short: bool = False) -> list[str]:
    """The rows with their share of what all training images reach; `short` leaves out what only a page has room for."""
    whole = whole_accuracy(rows)
    headings = ["", "test accuracy, %", "% of whole", "held-out, %", "n", "networks", "a run", "runs"]
    lines = []
    for row in rows:
        share = NOTHING if whole is None or row.test is None else f"{100 * row.test.mean / whole:.1f}"
        count = row.test or row.held_out
        cells = [
            row.label, accuracy(row.test), share, accuracy(row.held_out), str(count.count if count else 0),
            str(row.networks or NOTHING), NOTHING if row.hours is None else duration(3600 * row.hours), row.runs,
        ]  # fmt: skip
        lines.append(cells)
    if short:
        untested = any(row.test is None for row in rows)
        kept = [0, 1, 2, *([3] if untested else []), 4, 6]
        headings, lines = [headings[k] for k in kept], [[cells[k] for k in kept] for cells in lines]
    return markdown(headings, lines)


def pair_table(experiment: Experiment, data: Data) -> list[str]:
    """Paired differences and what they say."""
    lines = []
    for pair in experiment.pairs:
        found = paired(pair, data)
        a, b = (experiment.member(name) for name in (pair.a, pair.b))
        sides = [accuracy(_test(data, name)) for name in (pair.a, pair.b)]
        rates = [_number(used_rate(member, data)) for member in (a, b)]
        if found is not None:
            lines.append([pair.label, *sides, points(found), str(found.count), *rates, verdict(found)])
    if not lines:
        return [NOT_MEASURED]
    headings = ["", "exact, %", "paper, %", "exact - paper, points", "pairs", "rate, exact", "rate, paper", ""]
    return markdown(headings, lines)


def verdict(found: Interval) -> str:
    """What an interval of a paired difference says."""
    if found.low is None or found.high is None:
        return "one pair: no interval"
    if found.low > 0:
        return "exact is better"
    if found.high < 0:
        return "paper is better"
    return f"no difference found; more than {100 * max(-found.low, found.high):.1f} points is ruled out"


def _test(data: Data, member: str) -> Interval | None:
    network = network_of(data)
    tests = [fmean(run.test[network]) for run in data.of(member) if network in run.test]
    return mean_interval(tests) if tests else None


def _networks(experiment: Experiment, data: Data) -> list[str]:
    """Test accuracy by network; n runs for each cell."""
    networks = [network_of(data), *experiment.networks]
    lines = []
    for member in experiment.members:
        cells = [_cell([run.test.get(name) for run in data.of(member.name)]) for name in networks]
        if any(cell != NOTHING for cell in cells):
            lines.append([member.label, *cells])
    return markdown(["test accuracy, %", *networks], [*lines, *_random_networks(experiment, data, networks)])


def _random_networks(experiment: Experiment, data: Data, networks: Sequence[str]) -> list[list[str]]:
    """Random real images under every network, packed as those of the members are."""
    found: dict[int, dict[str, dict[int, tuple[float, ...]]]] = {}
    for run in (run for member in experiment.members for run in data.of(member.name)):
        views = int(data.setting(run, "distill.formation") or 1)
        for network, accuracies in run.random.items():
            found.setdefault(views, {}).setdefault(network, {})[run.seed] = accuracies
    lines = []
    for views, measured in sorted(found.items()):
        label = "random real images" + (f", packed {views}x{views}" if views > 1 else "")
        lines.append([label, *(_cell(list(measured.get(name, {}).values())) for name in networks)])
    return lines


def _cell(tests: Sequence[Sequence[float] | None]) -> str:
    means = [fmean(test) for test in tests if test]
    return f"{accuracy(mean_interval(means))} (n = {len(means)})" if means else NOTHING


def _searches(experiment: Experiment, data: Data) -> list[str]:
    """How every rate was chosen; with tests only where the measured runs have none."""
    lines, any_test = [], False
    for member in (member for member in experiment.members if member.search):
        best, used = best_rate(experiment, member, data), used_rate(member, data)
        untested = not any(run.test for run in data.of(member.name))
        for run in data.searching(member.name):
            held = NOTHING if run.held_out is None or not run.complete else f"{100 * run.held_out:.1f}"
            test = run.test.get(network_of(data)) if untested else None
            any_test |= test is not None
            cells = [member.label, _number(run.rate), held, str(run.seed), f"{run.iterations:,}", f"`{run.run}`"]
            shown = f"{100 * fmean(test):.1f} ({len(test)} networks)" if test else NOTHING
            words = {best: "chosen"} if used in (None, best) else {best: "best", used: "used"}
            lines.append([*cells, words.get(run.rate, ""), shown])
    if not lines:
        return []
    headings = ["", "`distill.lr_images`", "best held-out, %", "seed", "iterations", "run", "", "test accuracy, %"]
    if not any_test:
        headings, lines = headings[:-1], [cells[:-1] for cells in lines]
    return ["How the rates were chosen, one run for each:", "", *markdown(headings, lines), ""]


def _number(value: Any) -> str:
    return NOTHING if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def origin(data: Data) -> list[str]:
    """Settings, versions, machine and hours."""
    runs = data.runs
    measured = [r for r in runs if r.rate is None and data.setting(r, "distill.method") not in ("random", "whole")]
    shared = {}
    for key in SHOWN:
        values = {_number(data.setting(run, key)) for run in measured or runs}
        if len(values) == 1:
            shared[key] = values.pop()
    settings = ", ".join(f"`{key}` {value}" for key, value in shared.items())
    versions = ", ".join(sorted({f"tesla {r.version}" + (f" ({r.commit})" if r.commit else "") for r in runs}))
    torch = ", ".join(sorted({r.torch for r in runs}))
    machine = ", ".join(sorted({r.machine for r in runs}))
    threads = sorted({r.threads for r in runs})
    hours, teachers = sum(r.hours for r in runs), sum(r.teacher_hours for r in runs)
    more = f", and {duration(3600 * teachers)} for teachers within them" if teachers else ""
    return [
        f"Settings: {settings}.",
        "",
        f"Measured with {versions}, PyTorch {torch} on {machine}, {', '.join(map(str, threads))} "
        f"thread{'s' if threads != [1] else ''} each: {len(runs)} runs, {duration(3600 * hours)} in all{more}.",
    ]


def _commands(experiment: Experiment, data: Data | None) -> list[str]:
    """How to repeat it."""
    run = f"    python -m benchmarks.results run {experiment.key} --folder {experiment.workspace}"
    collect = f"    python -m benchmarks.results collect {experiment.key} --folder {experiment.workspace}"
    lines = ["To repeat it:", "", run, collect]
    if len(experiment.members) > MOST_COMMANDS:
        return [*lines, "", "The same with `--list` prints the commands of every run."]
    chosen: dict[str, float | None] = {}
    if data is not None:
        searched = (m for m in experiment.members if m.search)
        chosen = {m.name: used_rate(m, data) or best_rate(experiment, m, data) for m in searched}
    return [*lines, "", "or by hand:", "", *(f"    {line}" for line in script(experiment, chosen))]
