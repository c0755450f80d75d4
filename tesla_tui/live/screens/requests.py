"""What the engine in this window is asked to do: pause, resume, evaluate, save, stop."""

import time
from collections.abc import Callable

from tesla_tui.live.dialogs.basic import Busy
from tesla_tui.live.engine_thread import EngineThread
from tesla_tui.live.screens.bench import Bench


class EngineRequests:
    """Requests to the engine of a workbench. It grants them between two steps, so each returns at once."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._close: Callable[[], None] | None = None

    def pause_or_resume(self) -> None:
        """Pause the run on screen; resume it if it is paused."""
        engine = self._engine_of_shown()
        if engine is None:
            return
        if engine.control.wants_pause:
            engine.control.resume()
        else:
            engine.control.pause()
            self._bench.notify("Pausing after this matching step.", timeout=2)
        self._bench.look_now()

    def evaluate(self) -> None:
        """Measure the images as they are now."""
        engine = self._engine_of_shown()
        if engine is None:
            return
        if engine.control.evaluate():
            self._bench.notify("Evaluation starts when this iteration is complete.", timeout=4)
        else:
            self._bench.notify("Nothing to evaluate: no distillation is running.", severity="warning")

    def save(self) -> None:
        """Save a checkpoint."""
        engine = self._engine_of_shown()
        if engine is None:
            return
        if engine.control.save():
            self._bench.notify("A checkpoint is saved when this iteration is complete.", timeout=4)
        else:
            self._bench.notify(
                "Nothing to save: no distillation is running. Teachers are saved after every epoch.",
                severity="warning",
            )

    def _engine_of_shown(self) -> EngineThread | None:
        """The engine, if it drives the run on screen; says so if it drives another."""
        engine = self._bench.engine
        if engine is None or self._bench.drives_shown:
            return engine
        self._bench.notify(f"This window is driving {engine.driven.name}. Open that run first (4).", severity="warning")
        return None

    def stop_and(self, then: Callable[[], None]) -> None:
        """Save and stop the engine, with a message meanwhile; then call `then`."""
        bench = self._bench
        if bench.engine is None:
            then()
            return
        engine = bench.engine
        busy = Busy("stopping", self._stopping_words(engine))
        bench.app.push_screen(busy)

        def tell() -> None:
            if busy.is_mounted:
                busy.say(self._stopping_words(engine))

        timer = bench.app.set_interval(0.2, tell)

        def close() -> None:
            timer.stop()
            if busy.is_current:
                bench.app.pop_screen()

        def after() -> None:
            self.close_waiting()
            then()

        self._close = close
        bench.stop_engine(after)

    def close_waiting(self) -> None:
        """Close the message that waits for the engine, which has saved or failed."""
        close, self._close = self._close, None
        if close is not None:
            close()

    def _stopping_words(self, engine: EngineThread) -> str:
        passed = time.monotonic() - (engine.stop_asked or time.monotonic())
        feed = self._bench.context.feed
        at = f" at iteration {feed.view.iteration}" if feed is not None and feed.view.distilling else ""
        return f"Saving {engine.driven.name}{at}; this takes at most one matching step. {passed:.0f} s"
