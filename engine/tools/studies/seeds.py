"""Runs that differ in the seed alone: their names and settings, and what they say together."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from engine.errors import UsageError
from engine.settings import Settings
from engine.settings.tables import flatten, value_words
from engine.tools.studies.members import Record, value_of
from engine.tools.studies.outcome import Cell, Column, Outcome
from engine.tools.studies.statistics import mean_interval, paired_difference

NAMED = re.compile(r"(.+)-seed-(\d+)")


@dataclass(frozen=True)
class Seeds:
    """How many runs of every setting."""

    count: int = 1
    own_teachers: bool = False
    """Each trains its own teachers, on its own held-out part."""


ONE = Seeds()
COMPARED = ("dataset.", "network.", "teachers.", "augment.", "distill.", "labels.", "peers.", "evaluate.")
"""Where settings are that decide a result."""
UNCOMPARED = ("teachers.seed", "distill.expansion_end", "evaluate.every", "evaluate.whole_epochs", "evaluate.baseline")
"""Settings that may differ: what they make of a run is seen elsewhere, or does not matter beside another."""


def seed_name(name: str, number: int) -> str:
    """The run of one seed among those of `name`."""
    return f"{name}-seed-{number}"


def name_without_seed(name: str) -> str:
    """The name that runs of several seeds share."""
    found = NAMED.fullmatch(name)
    return found[1] if found else name


def seed_overrides(settings: Settings, number: int, seeds: Seeds) -> tuple[str, ...]:
    """What the run of one seed sets: `seed`, and unless it has its own the seed of the teachers that all share.

    Raises:
        UsageError: own teachers, where `teachers.seed` says whose to use.
    """
    own, shared = settings.seed + number, settings.teacher_seed
    if seeds.own_teachers and settings.teachers.seed is not None:
        raise UsageError(
            f"--own-teachers trains teachers for every seed, but teachers.seed = {shared} is set.",
            "Leave one of them out.",
        )
    if seeds.own_teachers or own == shared:  # then nothing has to be said
        return (f"seed={own}",)
    return f"seed={own}", f"teachers.seed={shared}"


def unequal(runs: Sequence[Settings], studied: Collection[str] = (), parts: tuple[str, ...] = COMPARED) -> list[str]:
    """Settings that runs do not share, `key (one value or another)`, besides those that are studied."""
    flats = [flatten(settings.model_dump(mode="json")) for settings in runs]
    found = []
    for key in flats[0] if flats else ():
        values = dict.fromkeys(value_words(flat.get(key)) for flat in flats)
        if len(values) > 1 and key.startswith(parts) and key not in {*studied, *UNCOMPARED}:
            found.append(f"{key} ({' or '.join(values)})")
    return found


def check_equal(name: str, runs: Sequence[Settings]) -> None:
    """Refuse a mean over runs that differ in more than their seed.

    Raises:
        UsageError: some exist, with settings that this command does not give.
    """
    if found := unequal(runs):
        raise UsageError(
            f"The runs of {name} are not equal in {', '.join(found)}: those that exist keep their settings.",
            "Give the same --set to all, or start new ones under another name.",
        )


def seeds_notes(counts: Collection[int], own_teachers: bool, teachers: bool = True) -> list[str]:
    """How to read intervals over runs.

    Args:
        counts: of the runs of each mean; 1 is no mean.
        own_teachers: whether each run has its own.
        teachers: whether any run has teachers.
    """
    several = {count for count in counts if count > 1}
    n, freedom = ("n = " + str(max(several)), str(max(several) - 1)) if len(several) == 1 else ("n", "n - 1")
    notes = [
        f"Means over {n} runs that differ in their seed; ± is half the 95 % interval (Student's t, {freedom} "
        f"degree{'' if freedom == '1' else 's'} of freedom). Differences are paired by seed."
    ]
    if not own_teachers and teachers:
        notes.append(
            "The runs share the teachers and the held-out part, so the interval does not include what other teachers "
            "would change (--own-teachers)."
        )
    return notes


def summary(name: str, records: Sequence[Record], seeds: Seeds) -> Outcome:
    """Every run of `tesla run --seeds` and their mean, for each network that they were tested with.

    Args:
        name: what the runs share.
        records: of the finished runs, by seed.
        seeds: how they were asked for.
    """
    rows: list[dict[str, Cell]] = []
    for network in dict.fromkeys(network for record in records for network in record.test):
        tests, randoms = [], []
        for record in records:
            ours, base = record.test.get(network), record.random.get(network)
            row: dict[str, Cell] = {
                "run": record.run.name, "network": network, "test": value_of(ours), "random": value_of(base),
            }  # fmt: skip
            if ours is not None:
                tests.append(ours.mean)
                if base is not None:
                    randoms.append(base.mean)
                    row["gain"] = ours.mean - base.mean
            rows.append(row)
        paired = len(randoms) == len(tests)
        rows.append({
            "run": f"mean of {len(tests)} runs, 95 %", "network": network, "test": mean_interval(tests),
            "random": mean_interval(randoms) if randoms and paired else None,
            "gain": paired_difference(tests, randoms) if randoms and paired else None,
        })  # fmt: skip
    columns = [
        Column("run", "run"), Column("network", "network"), Column("test", "test accuracy, %", "percent"),
        Column("random", "random real images, %", "percent"), Column("gain", "gained", "gain"),
    ]  # fmt: skip
    each = next((len(result.accuracies) for record in records for result in record.test.values()), 0)
    return Outcome(
        study="seeds",
        title=f"{name}: {len(records)} runs",
        question="Test accuracy of runs that differ in their seed.",
        columns=[column for column in columns if any(row.get(column.key) is not None for row in rows)],
        rows=rows,
        notes=[
            *([f"In the line of a run, ± is the sample standard deviation over {each} networks."] if each > 1 else []),
            *seeds_notes([len(records)], seeds.own_teachers, any(r.settings.needs_teachers for r in records)),
        ],
    )
