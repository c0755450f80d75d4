"""What is kept of an experiment: docs/data/results-KEY.json, a few kilobytes, a line for each run, in stable order."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

FORMAT = 1
DATA = Path("docs") / "data"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Record(_Table):
    """A run."""

    run: str
    member: str
    seed: int
    ipc: int
    rate: float | None
    """The rate that it tried for a search; None: it is measured."""
    finished: bool
    """Unset: it has its held-out curve only."""
    iteration: int
    """The last one that was done."""
    iterations: int
    """Asked for."""
    selected: int | None
    """The checkpoint with the best held-out accuracy."""
    test: dict[str, tuple[float, ...]]
    """Test accuracies of the selected checkpoint: those of every network that was trained, by the network's name."""
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
    """Those that not all runs share."""

    @property
    def complete(self) -> bool:
        """Whether all iterations were done, and so the checkpoint is selected."""
        return self.iteration >= self.iterations

    @property
    def held_out(self) -> float | None:
        """The held-out accuracy of the selected checkpoint."""
        return max((accuracy for _, accuracy in self.holdout), default=None)


class Data(_Table):
    """The runs of an experiment."""

    format: int
    experiment: str
    settings: dict[str, Any]
    """Shared by all runs."""
    runs: tuple[Record, ...]

    def of(self, member: str) -> list[Record]:
        """The measured runs of a member, by seed."""
        return [run for run in self.runs if run.member == member and run.rate is None]

    def searching(self, member: str) -> list[Record]:
        """The runs that searched its rate, by rate."""
        found = [run for run in self.runs if run.member == member and run.rate is not None]
        return sorted(found, key=lambda run: run.rate or 0)

    def setting(self, run: Record, key: str) -> Any:
        """A setting of a run."""
        return run.settings[key] if key in run.settings else self.settings.get(key)


def data_file(root: Path, key: str) -> Path:
    """Where the runs of an experiment are kept."""
    return root / DATA / f"results-{key}.json"


def read_data(root: Path, key: str) -> Data | None:
    """The runs that were collected; None if there are none.

    Raises:
        SystemExit: the file is damaged.
    """
    file = data_file(root, key)
    if not file.exists():
        return None
    try:
        data = Data.model_validate_json(file.read_text())
    except (ValidationError, ValueError) as error:
        raise SystemExit(f"{file}: {error}\nCollect it again.") from error
    if data.format != FORMAT:
        raise SystemExit(f"{file} has format {data.format}, this version reads {FORMAT}. Collect it again.")
    return data


def divided(records: Sequence[tuple[Record, dict[str, Any]]], key: str) -> Data:
    """Data of runs with all their settings: what they share is kept once."""
    shared: dict[str, Any] = {}
    if records:
        first = records[0][1]
        shared = {name: v for name, v in first.items() if all(flat.get(name) == v for _, flat in records)}
    runs = [
        run.model_copy(update={"settings": {name: v for name, v in flat.items() if name not in shared}})
        for run, flat in records
    ]
    return Data(format=FORMAT, experiment=key, settings=shared, runs=tuple(runs))


def write_data(root: Path, data: Data) -> Path:
    """Replace the file at once."""
    file = data_file(root, data.experiment)
    file.parent.mkdir(parents=True, exist_ok=True)
    head = json.dumps({"format": data.format, "experiment": data.experiment, "settings": data.settings})
    lines = ",\n".join(json.dumps(run.model_dump(mode="json")) for run in data.runs)
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(f'{head[:-1]}, "runs": [\n{lines}\n]}}\n')
    draft.replace(file)
    return file
