"""Directories: a workspace holds tesla.toml, teacher buffers shared by all runs, and the runs."""

import hashlib
import json
import re
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import TeslaError, UnreadableFileError, UsageError, tesla
from engine.events import Event, Progress, with_progress
from engine.runs.data_record import FILE as DATA_FILE
from engine.runs.data_record import read_summary, update_record
from engine.runs.names import NAME, check_name
from engine.runs.provenance import checked_identity, settings_layer
from engine.runs.run import Run
from engine.runtime.threads import run_in_thread
from engine.settings import EffectiveSettings, Settings, resolve_settings, settings_template
from engine.settings.facts import record
from engine.settings.layers import SETTLED
from engine.settings.sized import Counted
from engine.storage.atomic import sweep, write_bytes
from engine.storage.filesystem import other_spelling
from engine.storage.reading import exists, is_file, is_folder, names_in
from engine.storage.symlinks import check_links
from engine.storage.temp_files import is_temp_name

if TYPE_CHECKING:  # engine.data loads PyTorch, which a reader does not need
    from engine.data import DataRequest, Dataset, InputSpace
    from engine.data.dataset import Classes


@dataclass(frozen=True, eq=False)
class OpenDataset:
    """A dataset under the settings of a run."""

    dataset: "Dataset"
    space: "InputSpace"
    """Fitted to the images that teachers see; float32, on the CPU."""
    kept: "Classes"
    """Training images that teachers see, by index."""
    held: "Classes"
    """Training images held out to select the checkpoint, by index."""


class Workspace:
    """An existing workspace.

    Raises:
        UsageError: the folder is not one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not exists(folder):
            raise UsageError(
                f"There is no folder {folder}.",
                f"Create a workspace with: {tesla('init', folder, '--dataset', 'digits')}",
            )
        if not is_file(self.toml):
            raise UsageError(
                f"{folder} is not a workspace: it has no tesla.toml.",
                f"Create one with: {tesla('init', folder, '--dataset', 'digits')}",
            )

    @property
    def toml(self) -> Path:
        """The settings a user edits."""
        return self.folder / "tesla.toml"

    @staticmethod
    def check_new(folder: Path) -> None:
        """Check that a workspace can be made there.

        Raises:
            UsageError: the folder is not empty.
        """
        if exists(folder / "tesla.toml"):
            raise UsageError(f"{folder} is already a workspace.", f"Resume with: {tesla('run', folder)}")
        sweep(folder)  # of an `init` that was killed
        # Its record of the dataset comes first; a file of that name that is not ours is not touched.
        ours = {DATA_FILE} if is_folder(folder) and read_summary(folder) is not None else set()
        if exists(folder) and (not is_folder(folder) or {path.name for path in folder.iterdir()} - ours):
            raise UsageError(f"{folder} exists and is not empty.", "Choose another name.")

    @staticmethod
    def create(
        folder: Path, effective: EffectiveSettings, active: set[str], counted: Counted | None = None
    ) -> "Workspace":
        """Create a workspace in a folder that is new or empty; see `settings_template` for the arguments.

        Raises:
            UsageError: the folder is not empty.
        """
        Workspace.check_new(folder)
        write_bytes(folder / "tesla.toml", settings_template(effective, active, counted).encode())
        return Workspace(folder)

    def run(self, name: str) -> Run:
        """A run by name, existing or not.

        Raises:
            UsageError: not a name for a folder, or differing only in case from a run, where that is the same folder;
                a reserved name, of a run that does not exist.
        """
        run = Run(self.folder / "runs" / name)
        if not NAME.fullmatch(name) or not run.exists:
            check_name(name, "run")
        if other := other_spelling(run.folder):
            raise UsageError(
                f"There is a run {other}, and the file system does not distinguish it from {name}.",
                f"Use --run {other}, or another name.",
            )
        return run

    def check_links(self, *folders: Path) -> None:
        """Refuse to write into folders of the workspace that a link takes elsewhere; see `engine.storage.symlinks`.

        And into a workspace that was moved or deleted since it was opened: its folder would be made again.

        Raises:
            UsageError: names the link, or the workspace that is gone.
        """
        Workspace(self.folder)
        check_links(self.folder, folders)

    def runs(self) -> list[Run]:
        """Existing runs, by name. One that is still being built under a temporary name is none."""
        folder = self.folder / "runs"
        names = [name for name in names_in(folder) if NAME.fullmatch(name) and not is_temp_name(name)]
        return [run for run in map(Run, (folder / name for name in names)) if _there(run)]

    def existing_run(self, name: str | None) -> Run:
        """The run of that name; without a name the only one, or the one that was written to last.

        Raises:
            UsageError: there is none (the message lists the existing ones).
            TeslaError: without a name, the settings of that run cannot be read (the hint names the newest run whose
                settings can); another one is never taken silently.
        """
        runs = self.runs()
        if not runs:
            raise UsageError(
                f"{self.folder} has no runs yet.", f"Start one with: {tesla('run', self.folder, '--ipc', 1)}"
            )
        if name is None:
            return _readable(sorted(runs, key=_last_change, reverse=True))
        for run in runs:
            if run.name == name:
                return run
        names = [run.name for run in runs]
        names = [one for one in names if one.startswith(f"{name}-seed-")] or names  # of a series
        more = f" and {len(names) - 10} more (tesla status)" if len(names) > 10 else ""
        raise UsageError(f"{self.folder} has no run {name!r}.", f"It has: {', '.join(names[:10])}{more}.")

    def settings(
        self, *, ipc: int | None = None, overrides: tuple[str, ...] = (), run: Run | None = None, teachers: bool = True
    ) -> EffectiveSettings:
        """Effective settings for a run, existing or new.

        `teachers=False` is for commands that use none: an imported buffer that the workspace names may then be lost.

        An existing run keeps what earlier command lines set for it, so that `tesla run my-run --run NAME` resumes it.
        """
        begun = run is not None and run.exists
        earlier: Mapping[str, Any] = run.values_from("command line") if run is not None and begun else {}
        if ipc is not None:
            earlier = {key: value for key, value in earlier.items() if key != "distill.ipc"}
        return resolve_settings(
            self.toml,
            ipc=ipc,
            overrides=overrides,
            frozen_overrides=earlier,
            settled=run.values_from(SETTLED) if run is not None and begun else {},
            started=run.frozen() if run is not None and begun else None,
            buffer_layer=partial(self._buffer_layer, teachers),
        )

    def _buffer_layer(self, needed: bool, name: str) -> dict[str, Any]:
        folder = self.folder / "buffers" / name
        # An invalid name is left to the validation of teachers.buffer.
        if not NAME.fullmatch(name) or not (needed or exists(folder / "manifest.json")):
            return {}
        return settings_layer(folder)

    def data_request(self, settings: Settings) -> "DataRequest":
        """What settings ask of the dataset; paths are relative to the workspace."""
        from engine.data.request import DataRequest

        return DataRequest.of(settings.dataset, self.folder)

    def keep_report(self, dataset: "Dataset", effective: EffectiveSettings) -> str:
        """Bring dataset.json up to date; what changed as one sentence, else empty.

        A run whose own command line chose another dataset than tesla.toml leaves the file alone.
        """
        from engine.data.cache import cached_report

        try:
            asked = self.data_request(effective.settings)
            own = asked == self.data_request(self.settings(ipc=effective.settings.distill.ipc).settings)
        except TeslaError:  # tesla.toml was edited since
            return ""
        report = cached_report(dataset.folder) if own else None
        return update_record(self.folder, asked, report) if report is not None else ""

    def open_dataset(self, settings: Settings) -> Generator[Event, None, OpenDataset]:
        """The real data as the settings see it: decoded, divided, with its input space. Use as `yield from`."""
        from engine.data import fit_space, prepare_dataset, split_holdout
        from engine.data.space import fitting_words

        dataset = yield from prepare_dataset(self.data_request(settings))
        kept, held = split_holdout(
            dataset.train_labels, settings.dataset.holdout, settings.teacher_seed, dataset.classes
        )
        fitting = run_in_thread(lambda: fit_space(dataset, kept, settings.dataset.zca))
        at = Progress(stage="data", done=1, total=1, unit="datasets")
        words = fitting_words(dataset, kept, settings.dataset.zca)
        return OpenDataset(dataset, (yield from with_progress(fitting, at, words)), kept, held)

    def buffer_identity(self, settings: Settings, dataset: "Dataset") -> dict[str, Any]:
        """Everything that determines a teacher's parameters.

        Raises:
            UsageError: the imported buffer is missing, for another problem, or too small.
        """
        if settings.teachers.buffer is not None:
            folder = self.folder / "buffers" / settings.teachers.buffer
            return checked_identity(folder, settings, dataset.fingerprint, dataset.name)
        unread = () if settings.teachers.kind == "ftd" else ("teachers.rho", "teachers.alpha")
        return {"dataset": dataset.fingerprint, "dataset_name": dataset.name, **record(settings, "teachers", unread)}

    def buffer_folder(self, settings: Settings, identity: Mapping[str, Any]) -> Path:
        """Folder of the teachers with that identity: the network's name and a digest, or the imported buffer's name."""
        if settings.teachers.buffer is not None:
            return self.folder / "buffers" / settings.teachers.buffer
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
        name = re.sub(r"[^A-Za-z0-9]+", "-", settings.network.name).strip("-")[:40]
        return self.folder / "buffers" / f"{name}-{digest}"


def _readable(runs: list[Run]) -> Run:
    """The first of these runs, newest first.

    Raises:
        TeslaError: its settings cannot be read.
    """
    newest, *others = runs
    try:
        newest.frozen()
    except TeslaError as error:
        healthy = next((run.name for run in others if not run.broken), None)
        if healthy is None:
            raise
        refused = TeslaError(
            f"The newest run is {newest.name}, and it cannot be used: {error.message}",
            f"To use the newest one that can, add: --run {healthy}. `tesla doctor` says more about {newest.name}.",
        )
        refused.exit_code = error.exit_code
        raise refused from error
    return newest


def _last_change(run: Run) -> float:
    """When it was last written to, seconds since 1970; now if that cannot be found out, so that it is not skipped.

    A run that was deleted since it was listed comes last.
    """
    try:
        return run.last_change
    except FileNotFoundError:
        return 0.0
    except (OSError, UnreadableFileError):
        return time.time()


def _there(run: Run) -> bool:
    """Whether it exists; one that cannot be looked at now does, and says so where it is read."""
    try:
        return run.exists
    except UnreadableFileError:
        return True
