"""Planning and creating a workspace, for `tesla init` and the wizard."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import DataError, UsageError, tesla
from engine.runs.workspace import Workspace
from engine.settings import EffectiveSettings, dataset_names, resolve_settings
from engine.settings.overrides import parse_override
from engine.settings.presets import preset_names, preset_values
from engine.settings.sized import Counted


@dataclass(frozen=True)
class WorkspacePlan:
    """A workspace that can be created."""

    folder: Path
    effective: EffectiveSettings
    active: frozenset[str]
    """Settings that are not commented out in tesla.toml."""
    source: str
    """Where the images come from, for people."""

    count: Callable[[], Counted | None]
    """Counts images and classes, for a dataset whose preset follows its size."""
    texts: tuple[str, ...]
    """What was chosen, as `key=value`."""

    def make(self) -> Workspace:
        """Create it.

        Raises:
            UsageError: the folder is not empty.
        """
        counted = self.count()
        effective = self.effective if counted is None else resolve_settings(overrides=self.texts, counted=counted)
        return Workspace.create(self.folder, effective, set(self.active), counted)


def plan_workspace(folder: Path, dataset: str, overrides: Sequence[str], *, preset: str | None = None) -> WorkspacePlan:
    """Settings of a new workspace, and that its data can be found.

    Args:
        folder: to make.
        dataset: a known name, the path of a class-per-folder tree, or a hub id.
        overrides: `key=value` texts.
        preset: take sizes from another dataset's preset.

    Raises:
        TeslaError: the settings or the data are not possible.
    """
    from engine.data.counting import counted
    from engine.data.registry import find_source
    from engine.data.request import DataRequest

    chosen = [f"dataset.name={json.dumps(dataset)}"]
    path = Path(dataset).expanduser()
    if path.is_dir() and ("/" in dataset or dataset not in dataset_names()):
        chosen = ['dataset.name="folder"', f"dataset.path={json.dumps(str(path.resolve()))}"]
    elif dataset.startswith(("/", "./", "../", "~")):
        raise DataError(f"{dataset}: there is no such folder.", "It must hold one subfolder per class.")
    if (folder / "tesla.toml").exists():
        raise UsageError(f"{folder} is already a workspace.", f"Resume with: {tesla('run', folder)}")
    name = parse_override(chosen[0])[1]
    sized = name == "folder" or name not in preset_names()
    # The preset `folder` is theirs anyway, and follows their size.
    borrows = preset is not None and not (sized and preset == "folder")
    borrowed = [f"{key}={json.dumps(value)}" for key, value in preset_values(preset or "folder").items()]
    texts = (*(borrowed if borrows else ()), *chosen, *overrides)
    effective = resolve_settings(overrides=texts)
    settings = effective.settings
    source = find_source(DataRequest.of(settings.dataset, folder))
    active = frozenset(parse_override(text)[0] for text in texts)
    return WorkspacePlan(
        folder, effective, active, source.description,
        count=lambda: counted(source, local) if sized else None, texts=texts,
    )  # fmt: skip
