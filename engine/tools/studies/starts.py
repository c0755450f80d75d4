"""Where students start, and what learned labels start from: DATM's two ideas, each under both gradients.

Early teacher epochs hold easy patterns and late ones hard patterns (Guo et al., ICLR 2024). The error of eq. (6), which
the exact gradient does not make, may matter more where the teachers are late; so every row appears twice.
"""

from collections.abc import Sequence

from engine.errors import UsageError
from engine.runs.workspace import Workspace
from engine.settings import Settings
from engine.tools.studies.groups import PLAIN, Plan, drive_groups, row_of, shared_by, whole_row
from engine.tools.studies.members import Member, shared_setting
from engine.tools.studies.outcome import Cell, Chart, Column, Curve, Outcome, spread_of
from engine.tools.studies.tables import (
    ACCURACY,
    DIFFERENCE,
    GAIN,
    OF_WHOLE,
    PACE,
    RANDOM,
    Study,
    against_first,
    count_column,
    curves,
    notes_of,
    shown,
    spread_words,
)  # fmt: skip

GRADIENTS = ("exact", "paper")

LABELS = {"one-hot": "learned, from one-hot", "teacher": "learned, from a teacher"}
"""By `labels.init`."""


def start(workspace: Workspace, name: str, ipc: int | None, overrides: Sequence[str], plan: Plan = PLAIN) -> Study:
    """Early, late and all start epochs, and a curriculum; and learned labels from one-hot and from a teacher.

    Raises:
        UsageError: a method without teachers, or fewer than two start epochs.
    """
    settings = workspace.settings(ipc=ipc, overrides=tuple(overrides)).settings
    count, kind = settings.distill.ipc, settings.labels.kind
    variants: list[tuple[str, str, str, tuple[str, ...]]] = [
        (key, words, kind, keys) for key, (words, keys) in ranges(settings).items()
    ]
    _, whole = ranges(settings)["whole"]
    for init, words in LABELS.items():
        keys = ("labels.kind=learned", f"labels.init={init}", "distill.init=correct")
        variants.append((f"labels-{init}", ranges(settings)["whole"][0], words, (*whole, *keys)))
    members = [
        Member(f"{name}-ipc-{count}-{key}-{mode}", f"{key}, {mode}", count, (*keys, f"distill.gradient={mode}"))
        for key, _, _, keys in variants
        for mode in GRADIENTS
    ]
    groups, over_all = yield from drive_groups(workspace, name, members, overrides, plan)
    kinds = [(words, labels, mode) for _, words, labels, _ in variants for mode in GRADIENTS]
    rows: list[dict[str, Cell]] = [
        {"start": words, "labels": labels, "gradient": mode, **row_of(group, over_all), **against_first(group, groups)}
        for (words, labels, mode), group in zip(kinds, groups, strict=True)
    ]
    rows += whole_row("start", over_all, plan)
    bars = []
    for place, mode in enumerate(GRADIENTS):
        found = [group.accuracy for group in groups[place :: len(GRADIENTS)]]
        there = [(x, value) for x, value in enumerate(found) if value is not None]
        bars.append(
            Curve(mode, [x for x, _ in there], [v.mean for _, v in there], [spread_of(v) or 0.0 for _, v in there])
        )  # fmt: skip
    columns = [
        Column("start", "start epochs"), Column("labels", "labels"), Column("gradient", "gradient"), ACCURACY,
        DIFFERENCE, OF_WHOLE, RANDOM, GAIN, PACE, count_column(plan),
    ]  # fmt: skip
    curriculum = groups[len(GRADIENTS) * list(ranges(settings)).index("curriculum")].settings.distill
    return Outcome(
        study="start",
        title="Where students start",
        question="Start epochs of the first and of the second half of the range, of all of it, and growing over the "
        "run (DATM); and learned labels that start one-hot or from a teacher's outputs. Both gradients; everything "
        "else is equal.",
        columns=shown(columns, rows),
        rows=rows,
        charts=[
            Chart(
                "Test accuracy",
                "",
                "accuracy, %",
                bars,
                names=[key for key, *_ in variants],
                percent=True,
                spread=spread_words(groups),
            ),
            *(
                curves(f"Held-out accuracy, best so far, {mode} gradient", groups[place :: len(GRADIENTS)])
                for place, mode in enumerate(GRADIENTS)
            ),
        ],
        notes=[
            *notes_of(groups, plan, over_all),
            f"The curriculum has grown to the whole range at iteration {curriculum.expansion_end} of "
            f"{curriculum.iterations} (distill.expansion_end). Learned labels start with images that a teacher "
            f"classifies correctly, the other rows with distill.init = {settings.distill.init}.",
        ],
        setting=shared_setting(shared_by(groups)),
    )


def ranges(settings: Settings) -> dict[str, tuple[str, tuple[str, ...]]]:
    """For every range of start epochs a label and its settings: both halves, all, and the curriculum.

    Raises:
        UsageError: a method that matches no teachers or fixes what is studied, or fewer than two start epochs.
    """
    distill = settings.distill
    if not settings.needs_teachers:
        raise UsageError(
            f"distill.method = {distill.method} matches no teachers, so there are no start epochs.",
            "Use distill.method = tesla or datm.",
        )
    if distill.method == "mtt":
        raise UsageError(
            "distill.method = mtt is hard labels and the whole gradient; the study changes both.",
            "Use distill.method = tesla or datm.",
        )
    least, most = distill.min_start_epoch, distill.max_start_epoch
    middle = (least + most) // 2
    if middle == least:
        raise UsageError(
            f"Start epochs {least} .. {most - 1} are a single epoch; an early and a late half need two.",
            f"Set distill.max_start_epoch = {least + 2} or more.",
        )

    def between(first: int, end: int, grown: str = "max") -> tuple[str, ...]:
        return (
            f"distill.min_start_epoch={first}", f"distill.max_start_epoch={end}",
            f"distill.current_max_start_epoch={grown}",
        )  # fmt: skip

    return {
        "early": (f"early, {_epochs(least, middle)}", between(least, middle)),
        "late": (f"late, {_epochs(middle, most)}", between(middle, most)),
        "whole": (f"all, {_epochs(least, most)}", between(least, most)),
        "curriculum": (
            f"growing, {_epochs(least, middle)} to {_epochs(least, most)}",
            between(least, most, str(middle)),
        ),
    }


def _epochs(first: int, end: int) -> str:
    return str(first) if end - first == 1 else f"{first}..{end - 1}"
