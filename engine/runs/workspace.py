"""Directories: a workspace holds tesla.toml, teacher buffers shared by all runs, and the runs."""

import hashlib
import json
import re
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from engine.errors import BusyError, LostHoldError, TeslaError, UsageError, tesla
from engine.events import Event, Progress, with_progress
from engine.runs.data_record import update_record
from engine.runs.liveness import DRIVER, LOCK, run_lease
from engine.runs.provenance import checked_identity, settings_layer
from engine.runs.run import Run, nobody_else
from engine.runtime.threads import run_in_thread
from engine.settings import EffectiveSettings, Settings, resolve_settings, settings_template
from engine.settings.facts import record
from engine.settings.layers import SETTLED
from engine.settings.sized import Counted
from engine.storage.atomic import disk, set_aside, sweep, write_bytes
from engine.storage.beats import LATE
from engine.storage.filesystem import other_spelling
from engine.storage.lock import LeaseLock
from engine.storage.symlinks import check_links

if TYPE_CHECKING:  # engine.data loads PyTorch, which a reader does not need
    from engine.data import DataRequest, Dataset, InputSpace
    from engine.data.dataset import Classes

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


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
        if not folder.exists():
            raise UsageError(
                f"There is no folder {folder}.",
                f"Create a workspace with: {tesla('init', folder, '--dataset', 'digits')}",
            )
        if not self.toml.is_file():
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
        if (folder / "tesla.toml").exists():
            raise UsageError(f"{folder} is already a workspace.", f"Resume with: {tesla('run', folder)}")
        sweep(folder)  # of an `init` that was killed
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
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
            UsageError: not a name for a folder, or differing only in case from a run, where that is the same folder.
        """
        if not NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} is not a valid run name.",
                "Use letters, digits, dot, dash and underscore, at most 64 of them.",
            )
        run = Run(self.folder / "runs" / name)
        if other := other_spelling(run.folder):
            raise UsageError(
                f"There is a run {other}, and the file system does not distinguish it from {name}.",
                f"Use --run {other}, or another name.",
            )
        return run

    def check_links(self, *folders: Path) -> None:
        """Refuse to write into folders of the workspace that a link takes elsewhere; see `engine.storage.symlinks`.

        Raises:
            UsageError: names the link.
        """
        check_links(self.folder, folders)

    def runs(self) -> list[Run]:
        """Existing runs, by name."""
        folder = self.folder / "runs"
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        return [run for run in (Run(folder / name) for name in names if NAME.fullmatch(name)) if run.exists]

    def existing_run(self, name: str | None) -> Run:
        """The run of that name; without a name the only one, or the one that was written to last.

        Raises:
            UsageError: there is none (the message lists the existing ones).
        """
        runs = self.runs()
        if not runs:
            raise UsageError(
                f"{self.folder} has no runs yet.", f"Start one with: {tesla('run', self.folder, '--ipc', 1)}"
            )
        if name is None:
            return max(runs, key=lambda run: run.last_change)
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
        if not NAME.fullmatch(name) or not (needed or (folder / "manifest.json").exists()):
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


def acquire_run(run: Run) -> Generator[Event, None, "RunLease"]:
    """Become the run's driver; other processes may only watch. Use as `yield from`; a context manager comes back.

    Raises:
        BusyError: another process drives it; the message says which, and since when.
    """
    disk.make_folder(run.folder)
    for name in (LOCK, DRIVER):
        if (run.folder / name).is_dir():
            set_aside(run.folder / name)
    lease = run_lease(run)
    started = time.monotonic()
    for owner in lease.attempts():
        detail = "waiting for the run's lock"
        if lease.watching:
            detail = f"waiting up to {LATE:.0f} s for a heartbeat of {owner.words}: {time.monotonic() - started:.0f} s"
        yield Progress(stage="data", done=1, total=1, unit="datasets", detail=detail)
    if not lease.held:
        raise BusyError(
            f"The run {run.name} is already being driven by {owner.words}.",
            f"Watch it with: {tesla('tui', run.folder.parents[1], '--run', run.name)}",
        )
    return RunLease(run, lease)


class RunLease:
    """The lock of a run, held while a block runs; the run's own writes are refused once it is lost."""

    def __init__(self, run: Run, lease: LeaseLock) -> None:
        self._run = run
        self._lease = lease
        self._checked = 0.0

    def __enter__(self) -> Self:
        self._run.guard = self.check
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.guard = nobody_else
        self._lease.release()

    def stands(self) -> bool:
        """Whether this process is still the run's driver by its record: asked before each beat, it raises nothing."""
        return self._lease.stands

    def glance(self) -> None:
        """Check at most once a second."""
        if time.monotonic() - self._checked > 1:
            self.check()

    def check(self) -> None:
        """Refuse to write to a run that this process no longer drives.

        Raises:
            BusyError: another process drives it.
            UsageError: its folder was renamed or deleted.
        """
        self._checked = time.monotonic()
        try:
            self._lease.check()
        except LostHoldError as lost:
            name, workspace = self._run.name, self._run.folder.parents[1]
            if lost.owner is not None:
                raise BusyError(
                    f"The run {name} was taken over by {lost.owner}, which saw no heartbeat of this process.",
                    f"Nothing has been written since. Watch it with: {tesla('tui', workspace, '--run', name)}",
                ) from lost
            if lost.place is not None and lost.place != self._run.folder:
                raise UsageError(
                    f"The folder of the run {name} was moved to {lost.place} while the run was driven.",
                    f"It is saved as of its last checkpoint. Resume with: "
                    f"{tesla('run', lost.place.parents[1], '--run', lost.place.name)}",
                ) from lost
            raise UsageError(
                f"The folder of the run {name} was deleted while the run was driven.", "Nothing more is written."
            ) from lost
