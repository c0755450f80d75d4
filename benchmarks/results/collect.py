"""Reading the runs of an experiment from a workspace, through the engine's readers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results.commits import read_commits
from benchmarks.results.experiments import Experiment, Planned
from benchmarks.results.records import Data, Record, divided
from engine.errors import TeslaError
from engine.events import EvaluationDone
from engine.runs.history import read_history
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.settings.overrides import parse_override


@dataclass(frozen=True)
class Collected:
    """What was found in a workspace."""

    data: Data
    missing: tuple[str, ...]
    """Runs that do not exist."""
    wrong: tuple[str, ...]
    """Runs that were left out, with the reason: their settings are not the experiment's."""


def collect(experiment: Experiment, folder: Path, commit: str | None = None, machine: str | None = None) -> Collected:
    """Read every run of an experiment that exists.

    Args:
        experiment: the experiment.
        folder: its workspace.
        commit: of the code that made the runs, for those where it was not recorded.
        machine: the machine as text; unset: the processor or the accelerator that each run recorded.

    Raises:
        TeslaError: the folder is no workspace.
    """
    runs, commits = Path(folder) / "runs", read_commits(folder)
    if not runs.is_dir():
        Workspace(folder)  # says what is wrong with the folder
    found: list[tuple[Record, dict[str, Any]]] = []
    missing, wrong = [], []
    for planned in experiment.planned:
        run = Run(runs / planned.name)
        if not run.exists:
            missing.append(planned.name)
            continue
        try:
            flat = run.frozen().flat()
        except TeslaError as error:
            wrong.append(f"{planned.name}: {error}")
            continue
        if differing := differences(experiment, planned, flat):
            wrong.append(f"{planned.name}: {'; '.join(differing)}")
            continue
        found.append((read_record(planned, run, commits.get(planned.name, commit), machine), _plain(flat)))
    return Collected(divided(found, experiment.key), tuple(missing), tuple(wrong))


def differences(experiment: Experiment, planned: Planned, flat: dict[str, Any]) -> list[str]:
    """What a run's settings are, where the experiment says otherwise; the machine's own settings may differ."""
    asked = dict(map(parse_override, (*experiment.init, *planned.settings)))
    asked |= {"seed": planned.seed, "distill.ipc": planned.ipc}
    asked = {key: value for key, value in asked.items() if not key.startswith("compute.")}
    return [
        f"{key} is {flat[key]}, the experiment has {value}"
        for key, value in sorted(asked.items())
        if flat[key] != value and not (isinstance(flat[key], tuple) and list(flat[key]) == value)
    ]


def read_record(planned: Planned, run: Run, commit: str | None, machine: str | None) -> Record:
    """A run as it is kept. One whose checkpoints were removed since is read as well."""
    settings, history = run.frozen().settings, read_history(run)
    results = run.evaluations(settings)
    held = sorted((r.iteration, r.mean) for r in results if (r.split, r.subject) == ("holdout", "distilled"))
    selected = max(held, key=lambda point: (point[1], point[0]))[0] if held else None
    tests = [r for r in results if r.split == "test" and r.subject == "distilled"]
    if selected is None:
        selected = max((r.iteration for r in tests), default=None)
    tests = [r for r in tests if r.iteration == selected]
    finished = history.ending == "finished" and history.iteration >= settings.distill.iterations and bool(tests)
    random = [r for r in results if r.split == "test" and r.subject == "random"]
    guessed = [
        r.mean for r in results if (r.split, r.subject, r.network) == ("holdout", "random", settings.network.name)
    ]
    environment, spent = history.environment, history.costs.teachers
    driven = history.driven_seconds() or 0.0
    return Record(
        run=run.name,
        member=planned.member.name,
        seed=planned.seed,
        ipc=planned.ipc,
        rate=planned.rate,
        finished=finished,
        iteration=history.iteration,
        iterations=settings.distill.iterations,
        selected=selected,
        test=_by_network(tests) if finished else {},
        random=_by_network(random) if finished else {},
        random_holdout=_short(guessed[0]) if guessed else None,
        holdout=tuple((iteration, _short(mean)) for iteration, mean in held),
        hours=round(max(driven - spent, 0.0) / 3600, 3),
        teacher_hours=round(spent / 3600, 3),
        version=str(environment.get("tesla", "unknown")),
        commit=commit,
        torch=str(environment.get("torch", "unknown")),
        machine=machine or str(environment.get("device_name", "unknown")),
        threads=int(environment.get("threads", 0)),
        settings={},
    )


def _by_network(results: Sequence[EvaluationDone]) -> dict[str, tuple[float, ...]]:
    return {r.network: tuple(map(_short, r.accuracies or [r.mean])) for r in sorted(results, key=lambda r: r.network)}


def _short(accuracy: float) -> float:
    return round(accuracy, 5)


def _plain(flat: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them; those of the seed, of paths and of this machine are not kept."""
    left = ("seed", "dataset.path", "compute.room", "compute.memory", "compute.image_memory")
    kept = {key: value for key, value in flat.items() if key not in left and value is not None}
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in kept.items()
        if not (isinstance(value, float) and not math.isfinite(value))
    }
