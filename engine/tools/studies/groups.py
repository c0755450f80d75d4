"""The members of a study with one run each, or with a run for every seed; and the whole dataset beside them."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from engine.errors import counted
from engine.events import Event, Notice
from engine.runs.upper_bound import is_beside, whole_runs
from engine.runs.workspace import Workspace
from engine.settings import Settings
from engine.settings.methods import fixed_table
from engine.settings.tables import flatten
from engine.tools.studies.members import Member, Record, drive_members, planned_runs, read_record
from engine.tools.studies.outcome import Cell, Value
from engine.tools.studies.seeds import ONE, Seeds, check_equal, name_without_seed, seed_name, seed_overrides
from engine.tools.studies.statistics import Interval, mean_interval, paired_difference


@dataclass(frozen=True)
class Plan:
    """What every study of runs is asked for besides its question."""

    seeds: Seeds = ONE
    whole: bool = True
    """Train networks on the whole dataset too, once, if no run of the workspace has."""


PLAIN = Plan()


@dataclass(frozen=True)
class Group:
    """A member with its runs, by seed."""

    member: Member
    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        """The run of the first seed."""
        return self.records[0]

    @property
    def settings(self) -> Settings:
        """Those of the first seed."""
        return self.first.settings

    @property
    def accuracies(self) -> list[float]:
        """Test accuracy of each run with its own network; empty if one has none."""
        return _means([record.accuracy for record in self.records])

    @property
    def accuracy(self) -> Value | Interval | None:
        """Of one run with the spread of its networks; of several the mean over runs."""
        return over_runs([record.accuracy for record in self.records])

    @property
    def baseline(self) -> Value | Interval | None:
        """Random real images, the same way."""
        return over_runs([record.baseline for record in self.records])

    @property
    def gain(self) -> Interval | float | None:
        """Over random real images, paired by run."""
        return gain_over([r.accuracy for r in self.records], [r.baseline for r in self.records])

    def against(self, other: "Group") -> Interval | None:
        """The difference of the accuracies, paired by seed; None for itself and for a single seed."""
        ours, others = self.accuracies, other.accuracies
        if self is other or len(ours) < 2 or len(ours) != len(others):
            return None
        return paired_difference(ours, others)


def over_runs(values: Sequence[Value | None]) -> Value | Interval | None:
    """One value for one run; the mean over several. None if one is missing."""
    if len(values) == 1:
        return values[0]
    means = _means(values)
    return mean_interval(means) if means else None


def gain_over(ours: Sequence[Value | None], others: Sequence[Value | None]) -> Interval | float | None:
    """The mean difference of two accuracies that every run has; for several runs with its interval."""
    left, right = _means(ours), _means(others)
    if not left or not right:
        return None
    return left[0] - right[0] if len(left) == 1 else paired_difference(left, right)


def _means(values: Sequence[Value | None]) -> list[float]:
    found = [value.mean for value in values if value is not None]
    return found if len(found) == len(values) else []


def drive_groups(
    workspace: Workspace, name: str, members: Sequence[Member], overrides: Sequence[str], plan: Plan
) -> Generator[Event, None, tuple[list[Group], Record | None]]:
    """Drive the runs of all members and seeds that are not finished; the groups, and the run on the whole dataset.

    Args:
        workspace: where the runs are.
        name: of the study, for the name of the run on the whole dataset.
        members: what differs.
        overrides: `key=value` texts for all of them.
        plan: seeds and whole dataset.

    Raises:
        UsageError: settings that are wrong, or a run of that name that was started with others. Before anything runs.
        TeslaError: see `drive`.
    """
    count = plan.seeds.count
    base = workspace.settings(ipc=members[0].ipc, overrides=tuple(overrides)).settings
    runs = [one for member in members for one in _of_seeds(member, base, plan.seeds)]
    planned = [effective.settings for _, effective in planned_runs(workspace, runs, overrides)]
    for place, member in enumerate(members):
        check_equal(member.name, planned[count * place : count * (place + 1)])
    epochs = base.evaluate.whole_epochs
    beside = (r for r in _whole_runs(workspace) if is_beside(r.settings, base))
    found = next((r for r in beside if r.settings.evaluate.whole_epochs == epochs), None)
    asked = any("distill.method=whole" in member.overrides for member in members)
    added = plan.whole and found is None and not asked
    if added:
        runs.append(whole_member(name, members[0].ipc))
        yield Notice(level="info", message=(
            f"For % of whole, the study also trains {counted(base.evaluate.repeats, 'network')} on the whole dataset, "
            f"{counted(epochs, 'epoch')} each (--no-whole leaves them out)."
        ))  # fmt: skip
    records = yield from drive_members(workspace, runs, overrides)
    whole = records.pop() if added else found
    groups = [
        Group(member, tuple(records[count * place : count * (place + 1)])) for place, member in enumerate(members)
    ]
    if asked:
        whole = next((group.first for group in groups if group.settings.traits.all_images), whole)
    return groups, whole


def _of_seeds(member: Member, settings: Settings, seeds: Seeds) -> list[Member]:
    if seeds.count == 1:
        return [member]
    return [
        Member(
            seed_name(member.name, number), f"{member.label}, seed {settings.seed + number}", member.ipc,
            (*member.overrides, *seed_overrides(settings, number, seeds)), member.leaves,
        )
        for number in range(seeds.count)
    ]  # fmt: skip


def whole_member(name: str, ipc: int | None) -> Member:
    """The run on the whole dataset that a study adds."""
    fixed = frozenset(flatten(fixed_table("whole")[1]))
    return Member(f"{name}-whole", "whole dataset", ipc, ("distill.method=whole", "evaluate.baseline=false"), fixed)


def _whole_runs(workspace: Workspace) -> list[Record]:
    """The finished runs on the whole dataset."""
    return [read_record(run) for run in whole_runs(workspace)]


def find_whole(workspace: Workspace, settings: Settings) -> Record | None:
    """The finished run on the whole dataset with the same images, network and augmentation; of several the longest."""
    found = [record for record in _whole_runs(workspace) if is_beside(record.settings, settings)]
    return max(found, key=lambda record: record.settings.evaluate.whole_epochs, default=None)


def share_of(
    accuracy: Value | Interval | None, settings: Settings, whole: Record | None, network: str | None = None
) -> float | None:
    """An accuracy as a share of the whole dataset's, where that was measured with the same network and images.

    `network` is what was trained; unset, the run's own.
    """
    beside = whole is not None and is_beside(whole.settings, settings)
    most = whole.test.get(network or settings.network.name) if whole is not None and beside else None
    return accuracy.mean / most.mean if accuracy is not None and most is not None and most.mean > 0 else None


def row_of(group: Group, whole: Record | None) -> dict[str, Cell]:
    """What every table has of a member."""
    accuracy = group.accuracy
    return {
        "accuracy": accuracy,
        "of_whole": share_of(accuracy, group.settings, whole),
        "random": group.baseline,
        "gain": group.gain,
        "pace": group.first.seconds_per_iteration,
        "n": accuracy.count if accuracy else None,
    }


def whole_row(key: str, whole: Record | None, plan: Plan) -> list[dict[str, Cell]]:
    """The last row of a table, whose first column is `key`; none if the whole dataset was not trained on.

    It is one run. Beside means over runs it has no interval, and the spread of its networks would be taken for one.
    """
    if whole is None or whole.accuracy is None:
        return []
    one = whole.accuracy
    shown = one if plan.seeds.count == 1 else Value(one.mean)
    return [{key: "whole dataset", "accuracy": shown, "of_whole": 1.0, "n": shown.count}]


def shared_by(groups: Sequence[Group]) -> list[Record]:
    """The runs of all groups."""
    return [record for group in groups for record in group.records]


def by_seed(records: Sequence[Record]) -> list[Group]:
    """Groups of runs that differ in their seed alone, as `--seeds` names them; any other run is a group of its own."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        settings = record.settings
        teachers = settings.teachers.model_copy(update={"seed": None})
        same = settings.model_copy(update={"seed": 0, "teachers": teachers}).model_dump_json()
        name = name_without_seed(record.run.name)
        found.setdefault((name, "" if name == record.run.name else same), []).append(record)
    return [
        Group(Member(name, name if len(runs) > 1 else runs[0].run.name), tuple(runs))
        for (name, _), runs in found.items()
    ]


def own_teachers(groups: Sequence[Group]) -> bool:
    """Whether no two runs of any group share teachers."""
    seeds = [[record.settings.teacher_seed for record in group.records] for group in groups]
    return all(len(set(found)) == len(found) for found in seeds)
