"""A run in Trackio, in rows as W&B gets them."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from warnings import catch_warnings, simplefilter

from engine.errors import quoted
from engine.runs.run import Run
from engine.tools.tracking.follow import Tracker, failed, missing, service
from engine.tools.tracking.rows import RowTracker


@contextmanager
def open_trackio(run: Run, project: str) -> Iterator[Tracker]:
    """A tracker that writes a run to a project of Trackio, where its environment variables say (TRACKIO_DIR, ...).

    Raises:
        UsageError: the package is not installed.
        TeslaError: Trackio refuses the name, or its Space or server has no token or is out of reach.
    """
    try:
        import trackio
    except ModuleNotFoundError as error:
        raise missing("trackio") from error
    with service("trackio", project, run) as named:
        name = f"{named.title}-{named.key}".replace("/", "-")  # what Trackio resumes a run by
        try:
            with _quiet(), catch_warnings(record=True) as warned:
                simplefilter("always")
                ours = trackio.init(
                    project, name, config=named.config, resume="allow", embed=False, auto_log_gpu=False,
                    auto_log_cpu=False,
                )  # fmt: skip
            for warning in warned:  # it would continue without knowing which rows it has
                if warning.category is UserWarning:
                    raise OSError(str(warning.message).removeprefix("* "))
        except (ValueError, OSError) as error:
            raise failed("Trackio", error) from error

        def finish(code: int) -> None:
            with _quiet():
                trackio.finish()

        where = ours.url or f"the project {project} in {trackio.TRACKIO_DIR}"
        view = "" if ours.url else f"View them with: {quoted('trackio', 'show', '--project', project)}"
        yield RowTracker(ours.log, trackio.Image, finish, ours._next_step, where, view)


def _quiet() -> redirect_stdout[io.StringIO]:
    """Keeps Trackio's greetings out of the command's output."""
    return redirect_stdout(io.StringIO())
