"""A run as TensorBoard's event files, at once or while it is driven.

    FOLDER/<run>/                   curves of the distillation, accuracies, the images over time, the settings
    FOLDER/<run>/teacher-0003/      curves of a trajectory, so that all of them share one chart

Everything is read from the run's files, as the live screens do; its driver does not notice.
"""

import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from engine.errors import BusyError, CorruptFileError, UsageError
from engine.events import Event, Progress, RunStarted
from engine.runs.history import RunHistory
from engine.runs.journal import Entry, read_journal
from engine.runs.liveness import is_driven
from engine.runs.preview_frames import enlarged, frame_iterations, frame_path, image_grid, read_frame
from engine.runs.run import Run
from engine.storage.atomic import disk
from engine.tools.tracking.series import Number, numbers_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SUFFIX = ".tesla"
"""Ends the names of the event files that `tesla log` writes and may replace."""
LOOK = 2.0
"""Seconds between two reads of a run that is being driven."""
LINES = 500
"""Journal lines between two reports of progress."""


def log_to_tensorboard(run: Run, folder: Path, *, once: bool = False) -> Generator[Event, None, int]:
    """Write a run to `folder/<run>`, and follow it for as long as it is driven; the number of points written.

    What an earlier call wrote there is replaced. Closing the generator leaves whole files.

    Args:
        run: an existing run.
        folder: TensorBoard's `--logdir`; created if missing.
        once: do not wait for more.

    Raises:
        UsageError: the package `tensorboard` is not installed.
        BusyError: another process writes this run there.
    """
    _check_installed()
    target = folder / run.name
    target.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target / ".tesla-log.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyError(
            f"Another `tesla log` writes to {target}.", "Stop it, or choose another folder with --tensorboard."
        ) from error
    writers = _Writers(target)
    total = run.frozen().settings.distill.iterations
    try:
        for path in sorted(target.rglob(f"*.tfevents.*{SUFFIX}")):
            disk.remove(path)
        offset = 0
        while True:
            driven = is_driven(run) and not once  # checked before reading: what its driver wrote last is read below
            for lines, (entry, after) in enumerate(read_journal(run.journal_file, offset), 1):
                offset = after
                writers.take(entry)
                if lines % LINES == 0:
                    yield writers.progress(total)
            writers.take_frames(run)
            writers.flush()
            yield writers.progress(total)
            if not driven:
                return writers.points
            time.sleep(LOOK)
    finally:
        writers.close()
        lock.release()


def _check_installed() -> None:
    try:
        import tensorboard  # noqa: F401 - only whether it is there
    except ModuleNotFoundError as error:
        raise UsageError(
            "The package tensorboard is not installed.",
            "Install it with: pip install 'tesla-tui[tensorboard]' - or use --csv, which needs no package.",
        ) from error


class _Writers:
    """One writer for the run and one for every trajectory."""

    def __init__(self, folder: Path) -> None:
        self.points = 0
        self._folder = folder
        self._open: dict[int | None, SummaryWriter] = {}
        self._frames: set[int] = set()
        self._history = RunHistory()
        self._accuracies: list[Number] = []
        """Those written so far: they stay when the run goes back."""

    def take(self, entry: Entry) -> None:
        """Write what a journal line has to plot."""
        event = entry.event
        back = self._history.add(entry)
        if back is not None:
            self._go_back(back)
        if isinstance(event, RunStarted):
            words = "\n".join(f"    {key} = {value!r}" for key, value in event.settings.items())
            self._writer().add_text("settings", words, event.resumed_from or 0, walltime=entry.time)
        for number in numbers_of(entry):
            self._write(number)
            if number.lasting and number.trajectory is None:
                self._accuracies.append(number)

    def take_frames(self, run: Run) -> None:
        """Write the frames of the film that are new."""
        for iteration in frame_iterations(run.film):
            if iteration in self._frames:
                continue
            path = frame_path(run.film, iteration)
            with suppress(CorruptFileError, FileNotFoundError):  # thinned out meanwhile, or damaged: there are others
                frame, changed = read_frame(path), path.stat().st_mtime
                picture = np.asarray(enlarged(image_grid(frame.pixels, frame.shown), frame.pixels.shape[1]))
                grey = picture.ndim == 2
                self._writer().add_image(
                    "images", picture, iteration, walltime=changed, dataformats="HW" if grey else "HWC"
                )
                self.points += 1
            self._frames.add(iteration)

    def progress(self, total: int) -> Progress:
        """How far the log is."""
        return Progress(
            stage="log", done=min(self._history.iteration, total), total=total, unit="iterations",
            detail=f"{self.points:,} points",
        )  # fmt: skip

    def flush(self) -> None:
        """Make everything visible to TensorBoard."""
        for writer in self._open.values():
            writer.flush()

    def close(self) -> None:
        """Close the files."""
        for writer in self._open.values():
            writer.close()
        self._open.clear()

    def _write(self, number: Number) -> None:
        writer = self._writer(number.trajectory)
        writer.add_scalar(number.series, number.value, number.step, walltime=number.time)
        self.points += 1

    def _go_back(self, after: int) -> None:
        """Tell TensorBoard to drop what was written past an iteration: it comes again, but for the accuracies."""
        from tensorboard.compat.proto.event_pb2 import Event as Record
        from tensorboard.compat.proto.event_pb2 import SessionLog

        # In the same file: files of one second are not always read in the order they were written.
        restart = Record(step=after + 1, session_log=SessionLog(status=SessionLog.START))
        writer: Any = self._writer()  # its file writer has no type
        writer.file_writer.add_event(restart)
        self._frames = {iteration for iteration in self._frames if iteration <= after}
        for number in self._accuracies:
            if number.step > after:
                writer.add_scalar(number.series, number.value, number.step, walltime=number.time)

    def _writer(self, trajectory: int | None = None) -> "SummaryWriter":
        if trajectory not in self._open:
            from torch.utils.tensorboard import SummaryWriter

            folder = self._folder if trajectory is None else self._folder / f"teacher-{trajectory:04d}"
            self._open[trajectory] = SummaryWriter(str(folder), filename_suffix=SUFFIX, max_queue=1000)
        return self._open[trajectory]
