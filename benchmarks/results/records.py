"""What is kept of an experiment's runs: docs/data/results-KEY.json, a line for each run, in stable order."""

import json
import math
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmarks.results.experiments import Experiment, Planned
from engine.errors import TeslaError
from engine.events import EvaluationDone
from engine.runs.history import read_history
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.settings.overrides import parse_override

ROOT = Path(__file__).parents[2]
DATA = Path("docs") / "data"
FORMAT = 1
LOGS = "logs"
"""Folder of a workspace with a log of each run, and the commit of the code that started it."""
NOT_KEPT = ("seed", "dataset.path", "compute.room", "compute.memory", "compute.image_memory")


class Record(BaseModel):
    """A run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    member: str
    seed: int
    ipc: int
    rate: float | None
    """The rate that it tries in a search; None: it is measured."""
    finished: bool
    """Unset: it has its held-out curve only."""
    iteration: int
    """The last one that was done."""
    iterations: int
    """Asked for."""
    selected: int | None
    """The checkpoint with the best held-out accuracy."""
    test: dict[str, tuple[float, ...]]
    """Test accuracies of the selected checkpoint, one for each network trained, by the network's name."""
    random: dict[str, tuple[float, ...]]
    """The same of random real images, measured in the same run."""
    random_holdout: float | None
    """Held-out accuracy of random real images, with the run's own network."""
    holdout: tuple[tuple[int, float], ...]
    """Held-out accuracy by iteration; the mean of the networks that select."""
    hours: float
    """Wall time without that of its teachers."""
    teacher_hours: float
    """Wall time of teachers that it trained itself."""
    version: str
    """Of the program."""
    commit: str | None
    """Of the code, where that was recorded."""
    torch: str
    machine: str
    threads: int
    settings: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether all iterations were done, and so the checkpoint is selected."""
        return self.iteration >= self.iterations

    @property
    def held_out(self) -> float | None:
        """The held-out accuracy of the selected checkpoint."""
        return max((accuracy for _, accuracy in self.holdout), default=None)

    @property
    def network(self) -> str:
        """That of teachers and students."""
        return str(self.settings["network.name"])

    @property
    def formation(self) -> int:
        """f of its images; runs of versions without formation have 1."""
        return int(self.settings.get("distill.formation", 1))


def read_records(root: Path, key: str) -> list[Record]:
    """The runs that were collected of an experiment.

    Raises:
        SystemExit: the file is damaged.
    """
    file = root / DATA / f"results-{key}.json"
    if not file.exists():
        return []
    try:
        value = json.loads(file.read_text())
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']}, this version reads {FORMAT}")
        shared = value["settings"]
        return [Record(**{**run, "settings": {**shared, **run["settings"]}}) for run in value["runs"]]
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{file}: {error}\nCollect it again.") from error


def write_records(root: Path, key: str, records: Sequence[Record]) -> Path:
    """Replace the file at once. Settings that all runs share are written once."""
    first = records[0].settings
    shared = {name: v for name, v in first.items() if all(run.settings.get(name) == v for run in records)}
    head = json.dumps({"format": FORMAT, "experiment": key, "settings": shared})
    lines = []
    for run in records:
        own = {name: v for name, v in run.settings.items() if name not in shared}
        lines.append(json.dumps({**run.model_dump(mode="json"), "settings": own}))
    file = root / DATA / f"results-{key}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(f'{head[:-1]}, "runs": [\n' + ",\n".join(lines) + "\n]}\n")
    draft.replace(file)
    return file


@dataclass(frozen=True)
class Collected:
    """What was found in a workspace."""

    records: list[Record]
    missing: list[str]
    """Runs that do not exist."""
    wrong: list[str]
    """Runs that were left out, with the reason: their settings are not the experiment's."""


def collect(
    experiment: Experiment,
    folder: Path,
    commit: str | None = None,
    machine: str | None = None,
    kept: Sequence[Record] = (),
) -> Collected:
    """Read every run of an experiment that exists.

    Args:
        experiment: the experiment.
        folder: its workspace.
        commit: of the code that made the runs, for those where it was not recorded.
        machine: the machine as text; unset: the processor or the accelerator that each run recorded.
        kept: what was collected before, of another folder; it stands for the runs that this folder does not have.

    Raises:
        TeslaError: the folder is no workspace.
    """
    if not (folder / "runs").is_dir():
        Workspace(folder)  # says what is wrong with the folder
    found, before = Collected([], [], []), usable(experiment, kept)
    for planned in experiment.planned:
        run = Run(folder / "runs" / planned.name)
        if not run.exists:
            if planned.name in before:
                found.records.append(before[planned.name])
            else:
                found.missing.append(planned.name)
            continue
        try:
            differing = "; ".join(differences(experiment, planned, run.frozen().flat()))
        except TeslaError as error:
            differing = str(error)
        if differing:
            found.wrong.append(f"{planned.name}: {differing}")
        else:
            found.records.append(_record(experiment, planned, run, commit, machine))
    return found


def tests_of_networks(experiment: Experiment, run: Run) -> list[EvaluationDone]:
    """The tests of a run with the experiment's other networks, to the settings that it has for them."""
    settings = run.frozen().settings
    asked = {key.removeprefix("evaluate."): value for key, value in map(parse_override, experiment.tests)}
    settings = settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update=asked)})
    return [r for r in run.evaluations(settings) if r.split == "test" and r.network in experiment.networks]


def usable(experiment: Experiment, kept: Sequence[Record]) -> dict[str, Record]:
    """The finished ones of some records by their run's name, if their settings are still the experiment's."""
    records = {record.run: record for record in kept if record.finished}
    return {
        planned.name: record
        for planned in experiment.planned
        if (record := records.get(planned.name)) is not None
        and not differences(experiment, planned, {**record.settings, "seed": record.seed, "distill.ipc": record.ipc})
    }


def differences(experiment: Experiment, planned: Planned, flat: dict[str, Any]) -> list[str]:
    """What a run's settings are, where the experiment says otherwise; the machine's own settings may differ."""
    asked = dict(map(parse_override, (*experiment.init, *planned.settings)))
    asked |= {"seed": planned.seed, "distill.ipc": planned.ipc}
    return [
        f"{key} is {flat[key]}, the experiment has {value}"
        for key, value in sorted(asked.items())
        if key in flat and not key.startswith("compute.") and _plain(flat[key]) != _plain(value)
    ]


def _record(experiment: Experiment, planned: Planned, run: Run, commit: str | None, machine: str | None) -> Record:
    """A run as it is kept. One whose checkpoints were removed since is read as well."""
    frozen, history = run.frozen(), read_history(run)
    settings, environment = frozen.settings, history.environment
    others = tests_of_networks(experiment, run)
    results = [r for r in run.evaluations(settings) if r.network not in experiment.networks] + others
    held = sorted((r.iteration, _short(r.mean)) for r in results if (r.split, r.subject) == ("holdout", "distilled"))
    tests = [r for r in results if (r.split, r.subject) == ("test", "distilled")]
    if held:
        selected = max(held, key=lambda point: (point[1], point[0]))[0]
    else:  # nothing is selected of what is not distilled
        selected = max((r.iteration for r in tests), default=None)
    tests = [r for r in tests if r.iteration == selected]
    finished = history.ending == "finished" and history.iteration >= settings.distill.iterations and bool(tests)
    random = [r for r in results if r.subject == "random"]
    guessed = [_short(r.mean) for r in random if (r.split, r.network) == ("holdout", settings.network.name)]
    recorded, spent = run.folder.parents[1] / LOGS / f"{run.name}.commit", history.costs.teachers
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
        random=_by_network(r for r in random if r.split == "test") if finished else {},
        random_holdout=guessed[0] if guessed else None,
        holdout=tuple(held),
        hours=round(max((history.driven_seconds() or 0.0) - spent, 0.0) / 3600, 3),
        teacher_hours=round(spent / 3600, 3),
        version=str(environment.get("tesla", "unknown")),
        commit=recorded.read_text() if recorded.exists() else commit,
        torch=str(environment.get("torch", "unknown")),
        machine=machine or str(environment.get("device_name", "unknown")),
        threads=int(environment.get("threads", 0)),
        settings={
            key: _plain(value)
            for key, value in frozen.flat().items()
            if key not in NOT_KEPT and value is not None and not (isinstance(value, float) and math.isinf(value))
        },
    )


def _by_network(results: Iterable[EvaluationDone]) -> dict[str, tuple[float, ...]]:
    return {r.network: tuple(map(_short, r.accuracies or [r.mean])) for r in sorted(results, key=lambda r: r.network)}


def _short(accuracy: float) -> float:
    return round(accuracy, 5)


def _plain(value: Any) -> Any:
    """As JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def this_commit() -> str | None:
    """The commit of this checkout, with `+` where files differ from it; None outside of git."""
    words = ["git", "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
