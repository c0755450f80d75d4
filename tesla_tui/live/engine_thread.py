"""The engine in a thread of the live screens: iterates a session, and stops it by closing it."""

import threading
import time
import traceback
from contextlib import suppress

from engine.errors import TeslaError
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.session.control import Control
from engine.settings import EffectiveSettings
from engine.storage.atomic import write_bytes

REPORT = "crash.txt"
"""Where the traceback of an unexpected error goes, in the run's folder."""


class EngineThread(threading.Thread):
    """Drives one run. The screens learn what it does from the run's files, as those of any other process would."""

    def __init__(self, workspace: Workspace, run: Run, effective: EffectiveSettings) -> None:
        super().__init__(name="tesla-engine", daemon=True)
        self.workspace = workspace
        self.driven = run
        self.effective = effective
        self.control = Control()
        self.error: BaseException | None = None
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
            if not isinstance(error, TeslaError | OSError | MemoryError):
                self._report()
        finally:
            self.preparing = ""

    def _report(self) -> None:
        with suppress(OSError):
            write_bytes(self.driven.folder / REPORT, traceback.format_exc().encode())
