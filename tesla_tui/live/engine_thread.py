"""The engine in a thread of the live screens: iterates a session, and stops it by closing it."""

import threading
import time
from pathlib import Path

from engine.errors import TeslaError
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.session.control import Control
from engine.settings import EffectiveSettings
from tesla_tui.crash import save_error


class EngineThread(threading.Thread):
    """Drives one run. The screens learn what it does from the run's files, as those of any other process would."""

    def __init__(self, workspace: Workspace, run: Run, effective: EffectiveSettings) -> None:
        super().__init__(name="tesla-engine", daemon=True)
        self.workspace = workspace
        self.driven = run
        self.effective = effective
        self.control = Control()
        self.error: BaseException | None = None
        self.report: Path | None = None
        """Where the traceback of an unexpected error is."""
        self.preparing = ""
        """What it does before it takes the run's lock, as text; empty afterwards."""
        self._stopping = threading.Event()
        self.stop_asked: float | None = None

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Save and stop at the next matching step. Returns at once; `join` waits."""
        self.stop_asked = self.stop_asked or time.monotonic()
        self._stopping.set()

    def run(self) -> None:
        """Drive to the end, or until `stop`."""
        self.preparing = "loading PyTorch"
        try:
            from engine.session.session import drive

            self.preparing = "opening the data"
            events = drive(self.workspace, self.driven, self.effective, self.control)
            for _ in events:
                if self.preparing and self.driven.heartbeat_file.exists():
                    self.preparing = ""
                if self._stopping.is_set():
                    break
            events.close()
        except BaseException as error:
            self.error = error
            if unexpected(self) is not None:
                self.report, _ = save_error(error)
        finally:
            self.preparing = ""


def unexpected(engine: EngineThread | None) -> BaseException | None:
    """The error that ended an engine, unless that is one with a message for the user."""
    error = None if engine is None else engine.error
    return None if isinstance(error, TeslaError | OSError | MemoryError) else error
