"""What the tables, notes and charts of studies have in common."""

from collections.abc import Generator, Sequence, Set

from engine.errors import counted
from engine.events import Event
from engine.runs.status import run_status
from engine.settings.overrides import parse_override
from engine.tools.studies import paper_results
from engine.tools.studies.groups import Group, Plan, shared_by
from engine.tools.studies.members import Record, best_so_far
from engine.tools.studies.outcome import Cell, Chart, Column, Curve, Outcome
from engine.tools.studies.seeds import COMPARED, seeds_notes, unequal
from engine.tools.studies.statistics import mean_interval

Study = Generator[Event, None, Outcome]

ACCURACY = Column("accuracy", "test accuracy, %", "percent")
OF_WHOLE = Column("of_whole", "% of whole", "percent")
RANDOM = Column("random", "random real images, %", "percent")
GAIN = Column("gain", "gained", "gain")
DIFFERENCE = Column("difference", "against the first row", "gain")
PUBLISHED = Column("published", "published, %", "percent")
PACE = Column("pace", "an iteration", "seconds")
OF_ONE_RUN = Column("n", "networks, one run", "count")
NETWORK_SPREAD = "standard deviation of the networks of one run"
RUNS = Column("n", "runs", "count")


def count_column(plan: Plan) -> Column:
    """n, and what it counts: ± is the spread over these networks, or the interval over these runs."""
    return OF_ONE_RUN if plan.seeds.count == 1 else RUNS


def spread_words(groups: Sequence[Group]) -> str:
    """What error bars and bands of these groups are."""
    count = max((len(group.records) for group in groups), default=1)
    return NETWORK_SPREAD if count == 1 else f"95 % interval over {count} runs"


def shown(columns: Sequence[Column], rows: Sequence[dict[str, Cell]]) -> list[Column]:
    """Those that have anything to show."""
    return [column for column in columns if any(row.get(column.key) is not None for row in rows)]


def against_first(group: Group, groups: Sequence[Group]) -> dict[str, Cell]:
    """The cell of `DIFFERENCE`, empty in the first row, and where there is one run of each."""
    return {"difference": group.against(groups[0])}


def notes_of(groups: Sequence[Group], plan: Plan, whole: Record | None) -> list[str]:
    """How to read the table."""
    notes = ["Test accuracy of the checkpoint that the held-out part of the training images selected."]
    networks = max((record.accuracy.count for g in groups for record in g.records if record.accuracy), default=0)
    if plan.seeds.count > 1:
        notes += seeds_notes(
            [plan.seeds.count], plan.seeds.own_teachers, any(g.settings.needs_teachers for g in groups)
        )
    elif networks:
        notes.append(spread_note(networks))
    records = shared_by(groups)
    unequal = unequal_words(records, {parse_override(text)[0] for group in groups for text in group.member.overrides})
    if unequal:
        notes.append(f"{unequal} A run that exists keeps its settings; --name starts a study with new runs.")
    return [*notes, *whole_notes(whole), *published_notes(records)]


def unequal_words(records: Sequence[Record], studied: Set[str] = frozenset()) -> str:
    """Which settings differ besides those that are compared; empty if none does.

    Of runs of several methods or IPCs, whose presets differ, only how they are evaluated.
    """
    runs = [record.settings for record in records if not record.settings.traits.all_images]
    alike = len({(settings.distill.method, settings.distill.ipc) for settings in runs}) == 1
    found = unequal(runs, studied, COMPARED if alike else ("evaluate.",))
    return f"The runs are not equal in {', '.join(found)}." if found else ""


def whole_notes(whole: Record | None) -> list[str]:
    """What was trained on the whole dataset, if anything was."""
    if whole is None or whole.accuracy is None:
        return []
    networks, epochs = whole.accuracy.count, whole.settings.evaluate.whole_epochs
    return [
        f"Whole dataset: one run ({whole.run.name}), {counted(networks, 'network')} trained on all training images "
        f"that are not held out, for {counted(epochs, 'epoch')}."
    ]


def unfinished_notes(records: Sequence[Record]) -> list[str]:
    """The runs that were stopped before their last iteration, if any was."""
    statuses = [run_status(record.run) for record in records]
    left = [
        f"{status.name} (iteration {status.iteration:,} of {status.iterations:,})"
        for status in statuses
        if status.iteration < status.iterations and status.state != "imported"
    ]
    return [f"Not finished: {', '.join(left)}. What they have so far is in the table."] if left else []


def spread_note(networks: int) -> str:
    """What ± is where there is one run of each."""
    if networks == 1:
        return "One run and one network each: there is no spread (--seeds 5 gives means and intervals over runs)."
    return (
        f"One run each: ± is the sample standard deviation of {networks} networks of one run. It does not include what "
        "another seed would change (--seeds 5 gives means and intervals over runs)."
    )


def published_notes(records: Sequence[Record]) -> list[str]:
    """Why published numbers are missing, and what was skipped."""
    notes = []
    reasons = sorted({reason for record in records for reason in paper_results.difference(record.settings)})
    if reasons:
        notes.append(f"Published numbers are omitted where the settings differ: {'; '.join(reasons)}.")
    notes += sorted({words for record in records for words in paper_results.sources(record.settings)})
    skipped = {record.run.name: record.skipped for record in records if record.skipped}
    return notes + [f"{name} skipped {count} iterations with bad numbers." for name, count in skipped.items()]


def curves(title: str, groups: Sequence[Group]) -> Chart:
    """Held-out accuracy by iteration, with random real images to compare with."""
    lines = [mean_curve(group) for group in groups]
    baseline = next((group.baseline for group in groups if group.baseline), None)
    most = max((group.settings.distill.iterations for group in groups), default=1)
    if baseline is not None:
        lines.append(Curve("random real images (test)", [0, most], [baseline.mean] * 2, reference=True))
    return Chart(title, "iteration", "accuracy, %", lines, percent=True, spread=spread_words(groups))


def mean_curve(group: Group, best: bool = True) -> Curve:
    """Held-out accuracy of a run, or its mean over runs with its interval where all were measured.

    Args:
        group: one member.
        best: the best so far instead of the accuracy at each iteration.
    """
    found = []
    for record in group.records:
        one = best_so_far(record, group.member.label)
        heights = one.y if best else [accuracy for _, accuracy in record.holdout]
        found.append(dict(zip(one.x, heights, strict=True)))
    shared = [x for x in found[0] if all(x in heights for heights in found)]
    means = [mean_interval([heights[x] for heights in found]) for x in shared]
    spread = None if len(found) == 1 else [mean.half or 0.0 for mean in means]
    return Curve(group.member.label, shared, [mean.mean for mean in means], spread)
