"""Planning and creating a workspace, for `tesla init` and the wizard."""

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import DataError, UsageError, require_utf8, tesla
from engine.events import Event
from engine.runs.data_record import write_record
from engine.runs.workspace import Workspace
from engine.settings import EffectiveSettings, dataset_names, resolve_settings
from engine.settings.overrides import parse_override
from engine.settings.presets import preset_names, preset_values
from engine.settings.sized import Counted

if TYPE_CHECKING:  # engine.data loads PyTorch
    from engine.data.report import DataReport
    from engine.data.request import DataRequest
    from engine.data.resolve import ResolvedData
    from engine.data.sources import Source

PATHS = ("dataset.path", "dataset.classes")
"""Settings that are paths; typed before there is a workspace, they are relative to the current folder."""


@dataclass(frozen=True)
class DataPlan:
    """A dataset that was found, and the settings that name it."""

    effective: EffectiveSettings
    active: frozenset[str]
    """Settings that were given."""
    request: "DataRequest"
    located: "Source"
    texts: tuple[str, ...] = ()
    """What was given, as `key=value`."""
    sized: bool = False
    """Whether the preset follows the size of the dataset, as no published rates exist for it."""
    note: str = ""
    """What else the name could mean; empty if nothing."""

    def look(self) -> Generator[Event, None, "ResolvedData | None"]:
        """Open the dataset and report on it; None if it must be downloaded first. Use as `yield from`.

        Raises:
            TeslaError: it cannot be used as asked, or is ambiguous.
        """
        from engine.data.resolve import resolving

        return (yield from resolving(self.located, self.request)) if self.located.local else None

    def counted(self, report: "DataReport | None") -> Counted | None:
        """What the preset follows; None where it does not, or where the size is not known yet."""
        if report is None or not self.sized:
            return None
        sizes = [one.train for one in report.classes]
        return Counted(sum(sizes), len(sizes), min(sizes), int(report.resolution.value))


@dataclass(frozen=True)
class WorkspacePlan:
    """A workspace that can be created."""

    folder: Path
    data: DataPlan

    @property
    def source(self) -> str:
        """Where the images come from, for people."""
        return self.data.located.description

    def make(self, report: "DataReport | None" = None) -> Workspace:
        """Create it.

        Args:
            report: on its dataset, which is kept in dataset.json.

        Raises:
            UsageError: the folder is not empty.
        """
        counted = self.data.counted(report)
        effective = self.data.effective
        if counted is not None:
            effective = resolve_settings(overrides=self.data.texts, counted=counted)
        Workspace.check_new(self.folder)
        if report is not None:
            write_record(self.folder, self.data.request, report)
        # Last, since it makes a workspace: killed before, the same command starts over.
        return Workspace.create(self.folder, effective, set(self.data.active), counted)


def plan_data(dataset: str, overrides: Sequence[str], *, preset: str | None = None) -> DataPlan:
    """Settings for a dataset, and that it can be found.

    Args:
        dataset: a known name, the path of a folder, zip or Parquet file, or a hub id.
        overrides: `key=value` texts; paths in them are relative to the current folder.
        preset: take sizes from another dataset's preset.

    Raises:
        TeslaError: the settings or the data are not possible.
    """
    from engine.data.registry import find_source
    from engine.data.request import DataRequest

    chosen = [f"dataset.name={json.dumps(dataset)}"]
    path = Path(dataset).expanduser()
    note = ""
    if path.exists() and ("/" in dataset or dataset not in dataset_names()):
        chosen = ['dataset.name="folder"', f"dataset.path={_quoted(path.resolve())}"]
    elif dataset.startswith(("/", "./", "../", "~")) or dataset.count("/") > 1:
        raise DataError(
            f"{dataset}: there is no such folder or file.",
            "Give a folder with one subfolder per class, a zip of one, or Parquet files.",
        )
    elif path.exists():
        note = f"{dataset} is a known dataset and also a folder here. To use the folder, write ./{dataset}."
    require_utf8(path, "tesla.toml", "hold")
    name = parse_override(chosen[0])[1]
    sized = name == "folder" or name not in preset_names()
    # The preset `folder` is theirs anyway, and follows their size.
    borrows = preset is not None and not (sized and preset == "folder")
    borrowed = [f"{key}={json.dumps(value)}" for key, value in preset_values(preset or "folder").items()]
    texts = (*(borrowed if borrows else ()), *chosen, *map(_whole_path, overrides))
    effective = resolve_settings(overrides=texts)
    request = DataRequest.of(effective.settings.dataset, Path.cwd())
    active = frozenset(parse_override(text)[0] for text in texts)
    return DataPlan(effective, active, request, find_source(request), texts, sized, note)


def plan_workspace(folder: Path, dataset: str, overrides: Sequence[str], *, preset: str | None = None) -> WorkspacePlan:
    """Settings of a new workspace, and that its data can be found.

    Args:
        folder: to make.
        dataset: see `plan_data`.
        overrides: see `plan_data`.
        preset: see `plan_data`.

    Raises:
        TeslaError: the settings or the data are not possible.
    """
    if (folder / "tesla.toml").exists():
        raise UsageError(f"{folder} is already a workspace.", f"Resume with: {tesla('run', folder)}")
    return WorkspacePlan(folder, plan_data(dataset, overrides, preset=preset))


def plan_of(workspace: Workspace, overrides: Sequence[str]) -> DataPlan:
    """The dataset of an existing workspace.

    Raises:
        TeslaError: the settings or the data are not possible.
    """
    from engine.data.registry import find_source

    effective = workspace.settings(overrides=tuple(overrides))
    request = workspace.data_request(effective.settings)
    active = frozenset(parse_override(text)[0] for text in overrides)
    return DataPlan(effective, active, request, find_source(request))


def _whole_path(text: str) -> str:
    """An override with a path made whole, as tesla.toml will lie elsewhere."""
    key, value = parse_override(text)
    if key not in PATHS or not isinstance(value, str) or value.startswith("~"):
        return text
    return f"{key}={_quoted(Path(value).absolute())}"


def _quoted(path: Path) -> str:
    """A path as TOML has it, which has text only."""
    require_utf8(path, "tesla.toml", "hold")
    return json.dumps(str(path))
