"""Studies that are sets of runs: `labels`, `ipc`, `lr`."""

from collections.abc import Generator, Sequence

from engine.events import Event
from engine.runs.workspace import Workspace
from engine.settings.methods import fixed_table, method_traits
from engine.settings.tables import flatten
from engine.tools.studies import paper_results
from engine.tools.studies.members import Member, Record, best_so_far, drive_members, shared_setting
from engine.tools.studies.outcome import Cell, Chart, Column, Curve, Outcome, Value

Study = Generator[Event, None, Outcome]

ACCURACY = Column("accuracy", "test accuracy, %", "percent")
RANDOM = Column("random", "random real images, %", "percent")
GAIN = Column("gain", "gained", "gain")
PUBLISHED = Column("published", "published, %", "percent")
PACE = Column("pace", "an iteration", "seconds")
COUNT = Column("n", "n", "count")

LABEL_KINDS = ("hard", "target", "last", "learned")
LR_FACTORS = (0.1, 1.0, 10.0)


def labels(workspace: Workspace, name: str, ipc: int | None, overrides: Sequence[str]) -> Study:
    """Figure 4 and Table 3: the same distillation with every kind of labels."""
    base = workspace.settings(ipc=ipc, overrides=tuple(overrides)).settings.distill.ipc
    members = [
        Member(f"{name}-ipc-{base}-{kind}", kind, base, (f"labels.kind={kind}",)) for kind in LABEL_KINDS
    ]  # fmt: skip
    records = yield from drive_members(workspace, members, overrides)
    rows = []
    for member, record in zip(members, records, strict=True):
        rows.append(
            {"labels": member.label, **row_of(record), "published": paper_results.label_accuracy(record.settings)}
        )
    return Outcome(
        study="labels",
        title="Which labels the synthetic images should have",
        question="hard: one-hot; target: the teacher's at the target epoch (SLA); last: at its last epoch; "
        "learned: by gradient. Everything else is equal (paper: Figure 4, Table 3).",
        columns=shown([Column("labels", "labels.kind"), ACCURACY, RANDOM, GAIN, PUBLISHED, PACE, COUNT], rows),
        rows=rows,
        charts=[curves("Held-out accuracy, best so far", members, records)],
        notes=notes_of(records),
        setting=shared_setting(records),
    )


def ipc(
    workspace: Workspace, name: str, methods: Sequence[str], counts: Sequence[int], overrides: Sequence[str]
) -> Study:
    """Table 1's rows: methods by images per class."""
    members = [
        Member(
            f"{name}-{method}-{count}",
            f"{method}, IPC {count}",
            count,
            (f"distill.method={method}",),
            frozenset(flatten(fixed_table(method)[1])),
        )
        for count in counts
        for method in methods
        if not (method_traits(method).all_images and count != counts[0])  # it has no IPC
    ]
    records = yield from drive_members(workspace, members, overrides)
    rows = []
    for record in records:
        method, count = record.settings.distill.method, record.settings.distill.ipc
        row: dict[str, Cell] = {
            "method": method,
            "ipc": "all" if record.settings.traits.all_images else count,
            **row_of(record),
        }
        row["published"] = paper_results.accuracy(record.settings)
        rows.append(row)
    columns = [Column("method", "method"), Column("ipc", "IPC", "count"), ACCURACY, PUBLISHED, PACE, COUNT]
    return Outcome(
        study="ipc",
        title="Methods by images per class",
        question="Test accuracy of networks trained on the images of each method (paper: Table 1).",
        columns=shown(columns, rows),
        rows=rows,
        charts=[_method_chart(records, methods)],
        notes=notes_of(records),
        setting=shared_setting(records),
    )


def lr(workspace: Workspace, name: str, ipc: int | None, overrides: Sequence[str]) -> Study:
    """Figure 7: how student_lr changes, learned from several starts, and held fixed."""
    settings = workspace.settings(ipc=ipc, overrides=tuple(overrides)).settings
    count, start, rate = settings.distill.ipc, settings.distill.student_lr, settings.distill.lr_student_lr
    members = [
        Member(f"{name}-ipc-{count}-x{factor:g}", f"from {factor * start:g}", count,
               (f"distill.student_lr={factor * start!r}", f"distill.lr_student_lr={rate!r}"))
        for factor in LR_FACTORS
    ]  # fmt: skip
    fixed = (f"distill.student_lr={start!r}", "distill.lr_student_lr=0.0")
    members.append(Member(f"{name}-ipc-{count}-fixed", f"fixed at {start:g}", count, fixed))
    records = yield from drive_members(workspace, members, overrides)
    rows: list[dict[str, Cell]] = []
    for member, record in zip(members, records, strict=True):
        end = record.student_lr[-1][1] if record.student_lr else None
        rows.append({"start": member.label, "end": end, **row_of(record)})
    rates = [
        Curve(member.label, [i for i, _ in record.student_lr], [rate for _, rate in record.student_lr])
        for member, record in zip(members, records, strict=True)
    ]
    return Outcome(
        study="lr",
        title="How the learned student step size changes",
        question="The same distillation with student_lr learned from different starts, and held fixed "
        "(paper: Figure 7, App. A.11).",
        columns=shown(
            [Column("start", "student_lr"), Column("end", "at the end", "number"), ACCURACY, RANDOM, PACE, COUNT], rows
        ),
        rows=rows,
        charts=[
            Chart("student_lr", "iteration", "student_lr", rates, y_log=True),
            curves("Held-out accuracy, best so far", members, records),
        ],
        notes=notes_of(records),
        setting=shared_setting(records),
    )


def row_of(record: Record) -> dict[str, Cell]:
    """What every table has of a run."""
    accuracy, baseline = record.accuracy, record.baseline
    return {
        "accuracy": accuracy,
        "random": baseline,
        "gain": None if accuracy is None or baseline is None else accuracy.mean - baseline.mean,
        "pace": record.seconds_per_iteration,
        "n": accuracy.count if accuracy else None,
    }


def shown(columns: Sequence[Column], rows: Sequence[dict[str, Cell]]) -> list[Column]:
    """Those that have anything to show."""
    return [column for column in columns if any(row.get(column.key) is not None for row in rows)]


def notes_of(records: Sequence[Record]) -> list[str]:
    """How to read the table."""
    notes = ["Test accuracy of the checkpoint that the held-out part of the training images selected; ± is the sample "
             "standard deviation over n fresh networks, of one run."]  # fmt: skip
    reasons = sorted({reason for record in records for reason in paper_results.difference(record.settings)})
    if reasons:
        notes.append(f"Published numbers are omitted where the settings differ: {'; '.join(reasons)}.")
    notes += sorted({words for record in records for words in paper_results.sources(record.settings)})
    skipped = {record.run.name: record.skipped for record in records if record.skipped}
    notes += [f"{name} skipped {count} iterations with bad numbers." for name, count in skipped.items()]
    return notes


def curves(title: str, members: Sequence[Member], records: Sequence[Record]) -> Chart:
    """Held-out accuracy by iteration, with random real images to compare with."""
    lines = [best_so_far(record, member.label) for member, record in zip(members, records, strict=True)]
    baseline = next((record.baseline for record in records if record.baseline), None)
    most = max((record.settings.distill.iterations for record in records), default=1)
    if baseline is not None:
        lines.append(Curve("random real images (test)", [0, most], [baseline.mean] * 2, reference=True))
    return Chart(title, "iteration", "accuracy, %", lines, percent=True)


def _method_chart(records: Sequence[Record], methods: Sequence[str]) -> Chart:
    """Bars: a group for every IPC, a bar for every method; whole as a line above."""
    counts = sorted({record.settings.distill.ipc for record in records if not record.settings.traits.all_images})
    lines = []
    for method in methods:
        found: dict[int, Value] = {
            record.settings.distill.ipc: record.accuracy
            for record in records
            if record.settings.distill.method == method and record.accuracy is not None
        }
        if method_traits(method).all_images:
            places = [-0.5, len(counts) - 0.5]
            heights = [value.mean for value in found.values()] * 2
            lines += [Curve("whole dataset", places, heights, reference=True)] if found else []
        else:
            there = [count for count in counts if count in found]
            lines.append(
                Curve(
                    method,
                    [counts.index(count) for count in there],
                    [found[count].mean for count in there],
                    [found[count].std or 0.0 for count in there],
                )
            )
    names = [f"IPC {count}" for count in counts]
    return Chart("Test accuracy", "", "accuracy, %", lines, names=names, percent=True)
