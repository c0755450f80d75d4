"""`tesla run --seeds N`: the same run with several seeds, one after the other, and their mean."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from engine.errors import ExitCode, UsageError
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.settings import EffectiveSettings
from tesla_tui.render.commands import command, set_options

if TYPE_CHECKING:
    from engine.tools.studies.seeds import Seeds


@dataclass(frozen=True)
class Series:
    """What `tesla run --seeds N` was asked for."""

    folder: Path
    name: str
    """What the names of the runs have in common."""
    ipc: int
    overrides: tuple[str, ...]
    seeds: "Seeds"
    workers: int | None

    @property
    def options(self) -> list[str]:
        """Of the command, besides workspace and name."""
        words = ["--ipc", str(self.ipc), *set_options(self.overrides), "--seeds", str(self.seeds.count)]
        words += ["--own-teachers"] if self.seeds.own_teachers else []
        return words + (["--workers", str(self.workers)] if self.workers is not None else [])

    @property
    def again(self) -> str:
        """The command that resumes."""
        return command("run", self.folder, "--run", self.name, *self.options)


Planned = tuple[Run, EffectiveSettings, tuple[str, ...]]
"""A run, its settings, and the overrides that give them."""


def series_of(
    folder: Path, workspace: Workspace, name: str | None, ipc: int | None, overrides: tuple[str, ...],
    seeds: "Seeds", workers: int | None,
) -> tuple[Series, list[Planned]]:  # fmt: skip
    """The runs of all seeds, their settings checked before anything runs.

    Raises:
        UsageError: a run was started with other settings, or has others than the rest.
    """
    from engine.tools.studies.seeds import check_equal, seed_name, seed_overrides

    base = workspace.settings(ipc=ipc, overrides=overrides).settings
    shared = workspace.run(name or f"ipc-{base.distill.ipc}").name
    planned = []
    for number in range(seeds.count):
        run = workspace.run(seed_name(shared, number))
        given = (*overrides, *seed_overrides(base, number, seeds))
        effective = workspace.settings(ipc=base.distill.ipc, overrides=given, run=run)
        if run.exists:
            run.check(effective)
        planned.append((run, effective, given))
    check_equal(shared, [effective.settings for _, effective, _ in planned])
    return Series(folder, shared, base.distill.ipc, overrides, seeds, workers), planned


def unfinished(planned: Sequence[Planned]) -> list[Planned]:
    """The runs that have something left to do."""
    from engine.runs.status import is_finished

    return [(run, effective, given) for run, effective, given in planned if not is_finished(run, effective)]


def drive_series(
    workspace: Workspace,
    series: Series,
    planned: Sequence[Planned],
    drive: Callable[[Planned], ExitCode],
    console: Console,
) -> ExitCode:
    """Drive the runs that are not finished, then print every run and the mean.

    `drive` does one run to its end or to a signal, which ends the series.
    """
    from engine.tools.studies.members import read_record
    from engine.tools.studies.seeds import summary
    from tesla_tui.cli.result import print_commands
    from tesla_tui.render.study import print_outcome

    left = {run.name for run, _, _ in unfinished(planned)}
    for number, (run, effective, given) in enumerate(planned, 1):
        words = f"Run {number} of {len(planned)}: [bold]{run.name}[/], seed {effective.settings.seed}"
        if run.name not in left:
            run.sweep()
        console.print(words if run.name in left else f"{words}: already finished", highlight=False)
        if run.name in left and (code := drive((run, effective, given))) is not ExitCode.OK:
            print_commands(console, "[yellow]Stopped; what was done is saved.[/] Resume with:", series.again)
            return code
    print_outcome(console, summary(series.name, [read_record(run) for run, _, _ in planned], series.seeds))
    return ExitCode.OK


def check_alone(size: int) -> None:
    """Refuse `--seeds` in a process that torchrun started.

    Raises:
        UsageError: it is one of several.
    """
    if size > 1:
        raise UsageError(
            f"This process is one of {size} started by torchrun; they share one run, and --seeds starts several.",
            "Use --workers instead of torchrun, or start each seed with --run NAME --set seed=N.",
        )
