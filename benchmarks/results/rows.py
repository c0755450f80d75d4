"""The rows of a table: means over runs, with their intervals. A run is one observation, whatever its networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.results.experiments import Experiment, Member, Pair, choose_rate
from benchmarks.results.records import Data, Record
from engine.tools.studies.statistics import Interval, mean_interval, paired_difference

NOTHING = "–"


@dataclass(frozen=True)
class Row:
    """A member, or the random real images of one."""

    label: str
    runs: str
    """Their names."""
    test: Interval | None
    """None where no run has a test."""
    held_out: Interval | None
    hours: float | None
    """Of a run, on average; None for what was measured within other runs."""
    networks: int
    """Tested for each run."""
    whole: bool = False
    random: bool = False
    ours: bool = False
    """Distilled by trajectory matching."""


def network_of(data: Data) -> str:
    """The network of teachers and students."""
    return str(data.settings.get("network.name", "convnet"))


def main_rows(experiment: Experiment, data: Data, ipc: int) -> list[Row]:
    """The members of an IPC that have complete runs, the best first; then random real images, and all of them."""
    network, rows = network_of(data), []
    for member in (member for member in experiment.members if (member.ipc or experiment.ipc) == ipc):
        runs = [run for run in data.of(member.name) if run.complete]
        if runs:
            rows.append(_row(member.label, runs, data, network))
    rows += _random_rows(experiment, data, ipc, network)
    return sorted(rows, key=_place)


def _place(row: Row) -> tuple[bool, bool, float]:
    value = row.test or row.held_out
    return row.whole, row.random, -(value.mean if value else 0.0)


def _row(label: str, runs: Sequence[Record], data: Data, network: str) -> Row:
    tests = [run.test[network] for run in runs if network in run.test]
    held = [run.held_out for run in runs if run.held_out is not None]
    method = data.setting(runs[0], "distill.method")
    return Row(
        label,
        names(runs),
        mean_interval([fmean(test) for test in tests]) if tests else None,
        mean_interval(held) if held else None,
        fmean(run.hours for run in runs),
        max(map(len, tests), default=0),
        whole=method == "whole",
        random=method == "random",
        ours=method in ("tesla", "mtt", "datm"),
    )


def _random_rows(experiment: Experiment, data: Data, ipc: int, network: str) -> list[Row]:
    """Random real images as the runs measured them for comparison, once for each seed; packed as theirs are."""
    members = {member.name: member for member in experiment.members}
    own = {
        formation(data, run)
        for run in data.runs
        if run.ipc == ipc and data.setting(run, "distill.method") == "random" and run.complete
    }
    tests: dict[int, dict[int, tuple[float, ...]]] = {}
    held: dict[int, dict[int, float]] = {}
    for run in data.runs:
        views = formation(data, run)
        if run.rate is not None or run.ipc != ipc or views in own or run.member not in members or not run.complete:
            continue
        if network in run.random:
            found = tests.setdefault(views, {})
            found[run.seed] = max(found.get(run.seed, ()), run.random[network], key=len)
        if run.random_holdout is not None:
            held.setdefault(views, {}).setdefault(run.seed, run.random_holdout)
    rows = []
    for views in sorted(tests.keys() | held.keys()):
        label = "random real images" + (f", packed {views}x{views}" if views > 1 else "")
        there, kept = tests.get(views, {}), held.get(views, {})
        test = mean_interval([fmean(one) for one in there.values()]) if there else None
        held_out = mean_interval(list(kept.values())) if kept else None
        networks = max(map(len, there.values()), default=0)
        rows.append(Row(label, "in the runs above", test, held_out, None, networks, random=True))
    return rows


def formation(data: Data, run: Record) -> int:
    """f of its images; runs of versions without formation have 1."""
    return int(data.setting(run, "distill.formation") or 1)


def unfinished(experiment: Experiment, data: Data | None, ipc: int | None = None) -> list[str]:
    """Labels of the members without a complete run."""
    members = [m for m in experiment.members if ipc is None or (m.ipc or experiment.ipc) == ipc]
    return [m.label for m in members if data is None or not any(run.complete for run in data.of(m.name))]


def paired(pair: Pair, data: Data) -> Interval | None:
    """Test accuracy of a minus that of b, over the seeds that both have finished; None if there are none."""
    network = network_of(data)
    sides = [
        {run.seed: fmean(run.test[network]) for run in data.of(name) if network in run.test}
        for name in (pair.a, pair.b)
    ]
    seeds = sorted(sides[0].keys() & sides[1].keys())
    return paired_difference([sides[0][s] for s in seeds], [sides[1][s] for s in seeds]) if seeds else None


def best_rate(experiment: Experiment, member: Member, data: Data) -> float | None:
    """The rate that the search finds best; None while it is not finished."""
    runs = [run for run in data.searching(member.name) if run.complete]
    return choose_rate(experiment, member, {run.run: run.held_out for run in runs if run.held_out is not None})


def used_rate(member: Member, data: Data) -> float | None:
    """The rate that its measured runs have; None where there are none.

    Raises:
        SystemExit: they have several.
    """
    rates = {data.setting(run, "distill.lr_images") for run in data.of(member.name)}
    if len(rates) > 1:
        raise SystemExit(f"The runs of {member.name} have several rates: {sorted(rates)}. One table cannot mix them.")
    return float(next(iter(rates))) if rates else None


def whole_accuracy(rows: Sequence[Row]) -> float | None:
    """Test accuracy after training on all images."""
    return next((row.test.mean for row in rows if row.whole and row.test is not None), None)


def names(runs: Sequence[Record]) -> str:
    """The names of runs, as a shell writes those that differ in a seed: `a-seed-{0..9}`."""
    first = runs[0].run
    stem = first.removesuffix(str(runs[0].seed))
    if len(runs) > 1 and all(run.run == f"{stem}{run.seed}" for run in runs):
        seeds = [run.seed for run in runs]
        whole = seeds == list(range(seeds[0], seeds[-1] + 1))
        return f"`{stem}{{{f'{seeds[0]}..{seeds[-1]}' if whole else ','.join(map(str, seeds))}}}`"
    return ", ".join(f"`{run.run}`" for run in runs)


def accuracy(found: Interval | None) -> str:
    """`72.1 ± 0.9`, in %; no spread of a single run."""
    if found is None:
        return NOTHING
    return f"{100 * found.mean:.1f}" + ("" if found.half is None else f" ± {100 * found.half:.1f}")


def points(found: Interval) -> str:
    """`+0.4 (-0.6 to +1.4)`, in points."""
    if found.low is None or found.high is None:
        return f"{100 * found.mean:+.1f}"
    return f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def duration(seconds: float) -> str:
    """A time, as text."""
    minutes = seconds / 60
    return f"{minutes / 60:.1f} h" if minutes >= 90 else f"{minutes:.0f} min" if minutes >= 1.5 else f"{seconds:.0f} s"


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """A table; columns after the first `left` are aligned to the right."""
    marks = ["---" if number < left else "---:" for number in range(len(headings))]
    return [f"| {' | '.join(cells)} |" for cells in (headings, marks, *lines)]
