"""Directories: a workspace holds tesla.toml, teacher buffers shared by all runs, and the runs."""

import fcntl
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from engine.errors import BusyError, CorruptFileError, UsageError
from engine.events import Event
from engine.imported import checked_identity, settings_layer
from engine.run import Run
from engine.settings import EffectiveSettings, Settings, resolve_settings, settings_template
from engine.storage import read_json, write_bytes, write_json

if TYPE_CHECKING:  # engine.data loads PyTorch, which whoever only watches does not need
    from engine.data import Dataset, InputSpace
    from engine.data.dataset import Classes

PATIENCE = 2.0
"""Seconds a driver waits for the lock: a watcher that looks whether it is free holds it for a moment."""

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
                f"There is no folder {folder}.", f"Make a workspace with: tesla init {folder} --dataset digits"
            )
        if not self.toml.is_file():
            raise UsageError(
                f"{folder} is not a workspace: it has no tesla.toml.",
                f"Make one with: tesla init {folder} --dataset digits",
            )

    @property
    def toml(self) -> Path:
        """The settings a user edits."""
        return self.folder / "tesla.toml"

    @staticmethod
    def create(folder: Path, effective: EffectiveSettings, active: set[str]) -> "Workspace":
        """Make a workspace in a folder that is new or empty.

        Raises:
            UsageError: there is something already.
        """
        if (folder / "tesla.toml").exists():
            raise UsageError(f"{folder} is a workspace already.", f"Go on with: tesla run {folder}")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} exists and is not empty.", "Choose another name.")
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / "tesla.toml", settings_template(effective, active).encode())
        return Workspace(folder)

    def run(self, name: str) -> Run:
        """A run by name, existing or not.

        Raises:
            UsageError: not a name for a folder.
        """
        if not NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} is not a name for a run.",
                "Use letters, digits, dot, dash and underscore, at most 64 of them.",
            )
        return Run(self.folder / "runs" / name)

    def runs(self) -> list[Run]:
        """Existing runs, by name."""
        folder = self.folder / "runs"
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        return [
            Run(folder / name) for name in names if NAME.fullmatch(name) and (folder / name / "settings.toml").exists()
        ]

    def existing_run(self, name: str | None) -> Run:
        """The run of that name; without a name the only one, or the one that was written to last.

        Raises:
            UsageError: there is none (the message lists those there are).
        """
        runs = self.runs()
        if not runs:
            raise UsageError(f"{self.folder} has no runs yet.", f"Start one with: tesla run {self.folder} --ipc 1")
        if name is None:
            return max(runs, key=lambda run: run.last_change)
        for run in runs:
            if run.name == name:
                return run
        raise UsageError(f"{self.folder} has no run {name!r}.", f"It has: {', '.join(run.name for run in runs)}.")

    def settings(
        self, *, ipc: int | None = None, overrides: tuple[str, ...] = (), run: Run | None = None
    ) -> EffectiveSettings:
        """Effective settings for a run, existing or new.

        An existing run keeps what earlier command lines set for it, so that `tesla run my-run --run NAME` goes on.
        """
        earlier: Mapping[str, Any] = run.command_line() if run is not None and run.exists else {}
        if ipc is not None:
            earlier = {key: value for key, value in earlier.items() if key != "distill.ipc"}
        return resolve_settings(
            self.toml,
            ipc=ipc,
            overrides=overrides,
            frozen_overrides=earlier,
            buffer_layer=self._buffer_layer,
        )

    def _buffer_layer(self, name: str) -> dict[str, Any]:
        # What is no name is left to the validation of teachers.buffer.
        return settings_layer(self.folder / "buffers" / name) if NAME.fullmatch(name) else {}

    def dataset_path(self, settings: Settings) -> Path | None:
        """`dataset.path`, relative to the workspace."""
        path = settings.dataset.path
        return None if path is None else (self.folder / Path(path).expanduser())

    def open_dataset(self, settings: Settings) -> Generator[Event, None, OpenDataset]:
        """The real data as the settings see it: decoded, divided, with its input space. Use as `yield from`."""
        from engine.data import fit_space, prepare_dataset, split_holdout

        dataset = yield from prepare_dataset(
            settings.dataset.name,
            path=self.dataset_path(settings),
            resolution=settings.dataset.resolution,
            on_bad_file=settings.dataset.on_bad_file,
        )
        kept, held = split_holdout(dataset.train_labels, settings.dataset.holdout, settings.seed)
        return OpenDataset(dataset, fit_space(dataset, kept, settings.dataset.zca), kept, held)

    def buffer_identity(self, settings: Settings, dataset: "Dataset") -> dict[str, Any]:
        """Everything that determines a teacher's parameters.

        Raises:
            UsageError: an imported buffer is asked for that is not there, not of this problem, or too small.
        """
        if settings.teachers.buffer is not None:
            folder = self.folder / "buffers" / settings.teachers.buffer
            return checked_identity(folder, settings, dataset.fingerprint, dataset.name)
        return {
            "dataset": dataset.fingerprint,
            "dataset_name": dataset.name,
            "zca": settings.dataset.zca,
            "holdout": settings.dataset.holdout,
            "network": settings.network.model_dump(),
            "augment": list(settings.augment.ops),
            "lr": settings.teachers.lr,
            "batch": settings.teachers.batch,
            "dtype": settings.compute.dtype,
            "seed": settings.seed,
        }

    def buffer_folder(self, settings: Settings, identity: Mapping[str, Any]) -> Path:
        """Folder of the teachers with that identity: the network's name and a digest, or the imported buffer's name."""
        if settings.teachers.buffer is not None:
            return self.folder / "buffers" / settings.teachers.buffer
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
        name = re.sub(r"[^A-Za-z0-9]+", "-", settings.network.name).strip("-")[:40]
        return self.folder / "buffers" / f"{name}-{digest}"


@contextmanager
def driving(run: Run) -> Iterator[None]:
    """Hold the run's lock: one driver, elected by the kernel, whoever else wants to may only watch.

    Raises:
        BusyError: somebody drives it; the message says who and since when.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run.folder / ".driver.lock")
    try:
        lock.acquire(timeout=PATIENCE, poll_interval=0.05)
    except Timeout as error:
        raise BusyError(
            f"The run {run.name} is being driven already{driver_words(run)}.",
            f"Watch it with: tesla tui {run.folder.parents[1]} --run {run.name}",
        ) from error
    try:
        write_json(run.folder / "driver.json", {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()})
        yield
    finally:
        lock.release()


def is_driven(run: Run) -> bool:
    """Whether a process holds the run's lock now."""
    # A shared lock on a descriptor for reading: whoever may read the run may ask, and watchers disturb nobody.
    try:
        descriptor = os.open(run.folder / ".driver.lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # a file system without locks: the pulse has to do
    finally:
        os.close(descriptor)
    return False


@dataclass(frozen=True)
class Driver:
    """Who drives a run, or was the last to."""

    pid: int
    host: str
    since: float
    """Seconds since 1970."""

    @property
    def here(self) -> bool:
        """Whether it is (or was) a process of this machine."""
        return self.host == socket.gethostname()


def driver_of(run: Run) -> Driver | None:
    """The last process that took the run's lock; whether it still holds it says `is_driven`."""
    try:
        facts = read_json(run.folder / "driver.json")
        return Driver(int(facts["pid"]), str(facts["host"]), float(facts["since"]))
    except (OSError, CorruptFileError, KeyError, TypeError, ValueError):
        return None


def driver_words(run: Run) -> str:
    """` by process 12 on host since ...`; empty if it is not known."""
    driver = driver_of(run)
    if driver is None:
        return ""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(driver.since))
    return f" by process {driver.pid} on {driver.host} since {since}"
