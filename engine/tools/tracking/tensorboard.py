"""A run as TensorBoard's event files, at once or while it is driven.

    FOLDER/<run>/                   curves of the distillation, accuracies, the images over time, the settings
    FOLDER/<run>/teacher-0003/      curves of a trajectory, so that all of them share one chart

Everything is read from the run's files, as the live screens do; its driver does not notice.
"""

import os
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from engine.errors import DiskError, UnreadableFileError, quoted, require_utf8
from engine.events import Event, RunStarted
from engine.runs.preview_frames import frame_iterations, frame_path
from engine.runs.run import Run
from engine.storage.atomic import disk
from engine.storage.filesystem import disk_error
from engine.tools.tracking.follow import End, Row, Tracker, follow, missing, only_one, read_picture
from engine.tools.tracking.series import Number

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

SUFFIX = ".tesla"
"""Ends the names of the event files that `tesla log` writes and may replace."""


def log_to_tensorboard(run: Run, folder: Path, *, once: bool = False) -> Generator[Event, None, int]:
    """Write a run to `folder/<run>`, and follow it for as long as it is driven; the number of points written.

    Closing the generator leaves whole files. Arguments and errors are those of `open_tensorboard` and `follow`.
    """
    with open_tensorboard(run, folder) as tracker:
        yield from follow(run, [tracker], once=once)
        return tracker.points


@contextmanager
def open_tensorboard(run: Run, folder: Path) -> Iterator[Tracker]:
    """A tracker that writes a run to `folder/<run>`. What an earlier one wrote there is replaced.

    Args:
        run: an existing run.
        folder: TensorBoard's `--logdir`; created if missing.

    Raises:
        UsageError: the package `tensorboard` is not installed, or cannot open a folder of this name.
        BusyError: another process writes this run there.
        DiskError: the system refuses to write.
    """
    try:
        import tensorboard  # noqa: F401 - only whether it is there
    except ModuleNotFoundError as error:
        raise missing("tensorboard") from error
    require_utf8(folder, "TensorBoard")
    target = folder / run.name
    hint = "Stop it, or choose another folder with --tensorboard."
    with _told_once(target), only_one(target / ".tesla-log.lock", f"to {target}", hint):
        for path in sorted(target.rglob(f"*.tfevents.*{SUFFIX}")):
            disk.remove(path)
        yield _Writers(target, f"View them with: {quoted('tensorboard', '--logdir', folder)}")


@contextmanager
def _told_once(target: Path) -> Iterator[None]:
    """What a writer's thread raises, it prints, and raises it in our thread too: one sentence is enough."""
    before = threading.excepthook

    def hook(raised: threading.ExceptHookArgs) -> None:
        if not isinstance(raised.exc_value, OSError):
            before(raised)

    threading.excepthook = hook
    try:
        yield
    except (DiskError, UnreadableFileError):
        raise
    except OSError as error:
        raise disk_error(error, Path(os.fsdecode(error.filename)) if error.filename else target) from error
    finally:
        threading.excepthook = before


class _Writers(Tracker):
    """One writer for the run and one for every trajectory."""

    rewinds: ClassVar[bool] = True

    def __init__(self, folder: Path, view: str) -> None:
        self.where = str(folder)
        self.view = view
        self._folder = folder
        self._open: dict[int | None, SummaryWriter] = {}
        self._frames: set[int] = set()
        self._accuracies: list[Number] = []
        """Those written so far: they stay when the run goes back."""

    def take(self, row: Row) -> None:
        """Write what a journal line has to plot."""
        event = row.entry.event
        if row.back is not None:
            self._go_back(row.back)
        if isinstance(event, RunStarted):
            words = "\n".join(f"    {key} = {value!r}" for key, value in event.settings.items())
            self._writer().add_text("settings", words, event.resumed_from or 0, walltime=row.entry.time)
        for number in row.numbers:
            self._write(number)
            if number.lasting and number.trajectory is None:
                self._accuracies.append(number)

    def flush(self, run: Run) -> None:
        """Write the frames of the film that are new, and make everything visible to TensorBoard."""
        for iteration in frame_iterations(run.film):
            if iteration not in self._frames:
                self._frames.add(iteration)
                self._write_frame(frame_path(run.film, iteration))
        for writer in self._open.values():
            writer.flush()

    def close(self, end: End) -> None:
        """Close the files, all of them even if one cannot be."""
        with ExitStack() as closing:
            for writer in self._open.values():
                closing.callback(writer.close)
        self._open.clear()

    def _write_frame(self, path: Path) -> None:
        picture = read_picture(path)
        if picture is not None:
            pixels = np.asarray(picture.image)
            layout = "HW" if pixels.ndim == 2 else "HWC"
            self._writer().add_image("images", pixels, picture.iteration, walltime=picture.time, dataformats=layout)
            self.points += 1

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
