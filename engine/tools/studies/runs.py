"""Studies that are sets of runs: `labels`, `ipc`, `lr`."""

from collections.abc import Sequence

from engine.runs.workspace import Workspace
from engine.settings.methods import fixed_table, method_traits
from engine.settings.tables import flatten
from engine.tools.studies import paper_results
from engine.tools.studies.groups import PLAIN, Group, Plan, drive_groups, row_of, shared_by, whole_row
from engine.tools.studies.members import Member, shared_setting
from engine.tools.studies.outcome import Cell, Chart, Column, Curve, Outcome, spread_of
from engine.tools.studies.tables import (
    ACCURACY,
    DIFFERENCE,
    GAIN,
    OF_WHOLE,
    PACE,
    PUBLISHED,
    RANDOM,
    Study,
    against_first,
    count_column,
    curves,
    notes_of,
    shown,
    spread_words,
)  # fmt: skip

LABEL_KINDS = ("hard", "target", "last", "learned")
LR_FACTORS = (0.1, 1.0, 10.0)


def labels(workspace: Workspace, name: str, ipc: int | None, overrides: Sequence[str], plan: Plan = PLAIN) -> Study:
    """Figure 4 and Table 3: the same distillation with every kind of labels."""
    base = workspace.settings(ipc=ipc, overrides=tuple(overrides)).settings.distill.ipc
    members = [
        Member(f"{name}-ipc-{base}-{kind}", kind, base, (f"labels.kind={kind}",)) for kind in LABEL_KINDS
    ]  # fmt: skip
    groups, whole = yield from drive_groups(workspace, name, members, overrides, plan)
    rows: list[dict[str, Cell]] = [
        {"labels": group.member.label, **row_of(group, whole), **against_first(group, groups),
         "published": paper_results.accuracy(group.settings)}
        for group in groups
    ]  # fmt: skip
    rows += whole_row("labels", whole, plan)
    columns = [
        Column("labels", "labels.kind"), ACCURACY, DIFFERENCE, OF_WHOLE, RANDOM, GAIN, PUBLISHED, PACE,
        count_column(plan),
    ]  # fmt: skip
    return Outcome(
        study="labels",
        title="Which labels the synthetic images should have",
        question="hard: one-hot; target: the teacher's at the target epoch (SLA); last: at its last epoch; "
        "learned: by gradient. Everything else is equal (paper: Figure 4, Table 3).",
        columns=shown(columns, rows),
        rows=rows,
        charts=[curves("Held-out accuracy, best so far", groups)],
        notes=notes_of(groups, plan, whole),
        setting=shared_setting(shared_by(groups)),
    )


def ipc(
    workspace: Workspace,
    name: str,
    methods: Sequence[str],
    counts: Sequence[int],
    overrides: Sequence[str],
    plan: Plan = PLAIN,
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
    groups, whole = yield from drive_groups(workspace, name, members, overrides, plan)
    rows: list[dict[str, Cell]] = []
    for group in groups:
        method, count = group.settings.distill.method, group.settings.distill.ipc
        row: dict[str, Cell] = {
            "method": method,
            "ipc": "all" if group.settings.traits.all_images else count,
            **row_of(group, whole),
        }
        row["published"] = paper_results.accuracy(group.settings)
        rows.append(row)
    if not any(group.settings.traits.all_images for group in groups):
        rows += [{**row, "ipc": "all"} for row in whole_row("method", whole, plan)]
    columns = [
        Column("method", "method"), Column("ipc", "IPC", "count"), ACCURACY, OF_WHOLE, GAIN, PUBLISHED, PACE,
        count_column(plan),
    ]  # fmt: skip
    return Outcome(
        study="ipc",
        title="Methods by images per class",
        question="Test accuracy of networks trained on the images of each method (paper: Table 1).",
        columns=shown(columns, rows),
        rows=rows,
        charts=[_method_chart(groups, methods)],
        notes=notes_of(groups, plan, whole),
        setting=shared_setting(shared_by(groups)),
    )


def lr(workspace: Workspace, name: str, ipc: int | None, overrides: Sequence[str], plan: Plan = PLAIN) -> Study:
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
    groups, whole = yield from drive_groups(workspace, name, members, overrides, plan)
    rows: list[dict[str, Cell]] = []
    for group in groups:
        learned = group.first.student_lr
        end = learned[-1][1] if learned else None
        rows.append({"start": group.member.label, "end": end, **row_of(group, whole), **against_first(group, groups)})
    rows += whole_row("start", whole, plan)
    rates = [
        Curve(group.member.label, [i for i, _ in group.first.student_lr], [rate for _, rate in group.first.student_lr])
        for group in groups
    ]
    of = "" if plan.seeds.count == 1 else ", the run of the first seed"
    columns = [
        Column("start", "student_lr"), Column("end", "at the end" + of, "number"), ACCURACY, DIFFERENCE, OF_WHOLE,
        RANDOM, GAIN, PACE, count_column(plan),
    ]  # fmt: skip
    return Outcome(
        study="lr",
        title="How the learned student step size changes",
        question="The same distillation with student_lr learned from different starts, and held fixed "
        "(paper: Figure 7, App. A.11).",
        columns=shown(columns, rows),
        rows=rows,
        charts=[
            Chart("student_lr" + of, "iteration", "student_lr", rates, y_log=True),
            curves("Held-out accuracy, best so far", groups),
        ],
        notes=notes_of(groups, plan, whole),
        setting=shared_setting(shared_by(groups)),
    )


def _method_chart(groups: Sequence[Group], methods: Sequence[str]) -> Chart:
    """Bars: a group for every IPC, a bar for every method; whole as a line above."""
    counts = sorted({group.settings.distill.ipc for group in groups if not group.settings.traits.all_images})
    lines = []
    for method in methods:
        found = {
            group.settings.distill.ipc: group.accuracy
            for group in groups
            if group.settings.distill.method == method and group.accuracy is not None
        }
        if method_traits(method).all_images:
            places = [-0.5, len(counts) - 0.5]
            heights = [value.mean for value in found.values()] * 2
            lines += [Curve("whole dataset", places, heights, reference=True)] if found else []
        else:
            there = [(place, found[count]) for place, count in enumerate(counts) if count in found]
            lines.append(
                Curve(
                    method,
                    [place for place, _ in there],
                    [value.mean for _, value in there],
                    [spread_of(value) or 0.0 for _, value in there],
                )
            )
    names = [f"IPC {count}" for count in counts]
    return Chart("Test accuracy", "", "accuracy, %", lines, names=names, percent=True, spread=spread_words(groups))
