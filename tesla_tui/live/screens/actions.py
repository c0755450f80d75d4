"""The actions on a run that take more than a key press: start, resume, take over, export, detach."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.errors import TeslaError
from engine.runs.run import Run
from engine.runtime.generators import run_to_end
from tesla_tui.live.dialogs.basic import Ask, Busy, Choice, FolderPrompt
from tesla_tui.live.dialogs.error import ErrorScreen
from tesla_tui.live.dialogs.new_run import NewRun, NewRunScreen
from tesla_tui.live.engine_thread import EngineThread
from tesla_tui.live.screens.bench import Bench
from tesla_tui.live.screens.requests import EngineRequests
from tesla_tui.process.detached import ask_to_stop, start_detached, wait_until_free
from tesla_tui.render.alert import WORTH, alert_sequence
from tesla_tui.render.film import write_film
from tesla_tui.render.words import clean, duration
from tesla_tui.watch.feed import RunFeed

STOP_WITHIN = 120.0
"""Seconds another driver gets to save and stop."""


class RunActions:
    """What a workbench does with its run. Anything that may take longer than a key press runs in a thread."""

    def __init__(self, bench: Bench, requests: EngineRequests) -> None:
        self._bench = bench
        self._requests = requests
        self.failure: EngineThread | None = None
        """An engine that an error ended, until the run is resumed."""

    # --- the run on screen

    def resume_or_explain(self) -> None:
        """Drive the run on screen, or say why that cannot be."""
        bench, feed = self._bench, self._bench.context.feed
        if feed is None:
            return
        if feed.live:
            bench.notify("Read-only: another process is driving this run. Press t to take over.", severity="warning")
        elif feed.state == "finished":
            more = ", or raise distill.iterations in tesla.toml" if feed.view.iterations else ""
            bench.notify(f"This run is finished. Press n for a new run{more}.", timeout=8)
        elif feed.state == "gone":
            bench.notify("The files of this run are gone. Press n for a new run.", severity="warning")
        elif feed.state == "imported":
            bench.notify(
                "This set was made elsewhere. You can inspect it, export it, or evaluate it with `tesla evaluate`.",
                timeout=8,
            )
        else:
            self.resume()

    def resume(self) -> None:
        """Drive the run on screen, with the settings that tesla.toml and its own command lines give."""
        bench = self._bench
        feed = bench.context.feed
        if feed is None:
            return
        self.failure = None
        try:
            effective = bench.context.workspace.settings(run=feed.run)
            if feed.run.exists:
                feed.run.check(effective)
        except TeslaError as error:
            bench.report("cannot resume", error)
            return
        bench.drive(feed.run, effective)

    def take_over(self) -> None:
        """Drive a run that another process drove, or still drives."""
        bench, feed = self._bench, self._bench.context.feed
        if feed is None:
            return
        if not feed.live:
            self.resume()
            return
        if feed.driver is None or not feed.driver.mine:
            bench.notify("It is driven on another machine. Stop it there first, then take over.", severity="warning")
            return
        question = Ask(
            "take over",
            f"Process {feed.driver.pid} is driving {feed.run.name}. Stop it there and continue in this window?",
            [Choice("yes", "y", "Stop it and continue here"), Choice("no", "n", "Keep watching")],
        )
        bench.app.push_screen(question, self._take_over_answered)

    def _take_over_answered(self, answer: str | None) -> None:
        feed = self._bench.context.feed
        if answer != "yes" or feed is None:
            return
        run = feed.run

        def work() -> None:
            ask_to_stop(run)
            if not wait_until_free(run, STOP_WITHIN):
                raise TeslaError(
                    f"It did not stop within {duration(STOP_WITHIN)}.", "It may be in a long step. Try again later."
                )

        self._in_thread("take over", f"Waiting for {run.name} to save and stop …", work, self.resume)

    def failed(self, engine: EngineThread) -> None:
        """Show why the engine stopped: the error, the last checkpoint, what to do."""
        bench = self._bench
        run, error = engine.driven, engine.error
        assert error is not None
        self.alert(run, "failed")
        self.failure = engine
        bench.app.push_screen(
            ErrorScreen(
                run,
                message=error.message if isinstance(error, TeslaError) else str(error) or type(error).__name__,
                hint=error.hint if isinstance(error, TeslaError) else "",
                report=engine.report,
            ),
            lambda retry: self.resume() if retry else None,
        )

    def driver_ended(self, feed: RunFeed) -> None:
        """Say that the process that drove the run on screen is gone."""
        bench = self._bench
        press = "" if bench.context.read_only else " Press t to take over."
        self.alert(feed.run, "is finished" if feed.state == "finished" else f"ended ({feed.state})")
        if feed.state == "finished":
            bench.notify(f"{feed.run.name} is finished.", timeout=10)
        elif feed.state == "interrupted":
            words = f"The driver died. Everything up to the last checkpoint is saved.{press}"
            bench.notify(words, severity="error", timeout=30)
        else:
            bench.notify(f"The driver ended ({feed.state}).{press}", severity="warning", timeout=30)

    def alert(self, run: Run, ending: str) -> None:
        """Tell a user who looks elsewhere that a run has ended, if it took long."""
        bench = self._bench
        feed, driver = bench.context.feed, bench.app._driver
        seconds = feed.view.driven_seconds(None) if feed is not None and feed.run.name == run.name else None
        if driver is not None and (seconds or 0.0) >= WORTH:
            driver.write(alert_sequence(bench.context.preferences.alert, f"{run.name} {ending}"))

    # --- export

    def export(self) -> None:
        """Ask for a folder and export the distilled dataset there."""
        feed = self._bench.context.feed
        if feed is None:
            return
        if not feed.run.checkpoints():
            self._bench.notify("There is no checkpoint to export yet.", severity="warning")
            return
        suggestion = self._free_path(feed.run)
        words = "The selected checkpoint as PNGs, tensors, soft labels, Parquet, a card and a training script. Folder:"
        self._bench.app.push_screen(FolderPrompt("export", words, str(suggestion)), self._export_to)

    def _export_to(self, to: Path | None) -> None:
        feed = self._bench.context.feed
        if to is None or feed is None:
            return
        workspace, run = self._bench.context.workspace, feed.run
        words: list[str] = []

        def work() -> None:
            from engine.tools.exchange.export import exporting

            exported = run_to_end(exporting(workspace, run, to))
            words.append(f"Wrote {exported.images} images of iteration {exported.iteration} to {to}")

        def done() -> None:
            self._bench.notify(clean(words[0]), timeout=10, markup=False)

        self._in_thread("export", f"Writing {to} …", work, done)

    def film(self) -> None:
        """Write the images over the iterations as a WebP into the workspace's folder."""
        feed = self._bench.context.feed
        if feed is None:
            return
        run, path = feed.run, self._free_path(feed.run, ".webp")
        words: list[str] = []

        def work() -> None:
            words.append(f"Wrote {path}: {write_film(run, path)} frames.")

        def done() -> None:
            self._bench.notify(clean(words[0]), timeout=10, markup=False)

        self._in_thread("film", f"Writing {path} …", work, done)

    def _free_path(self, run: Run, suffix: str = "") -> Path:
        """A path in the workspace's folder, named for the run, that does not exist yet."""
        folder = self._bench.context.workspace.folder
        path, number = folder / f"{folder.name or 'distilled'}-{run.name}{suffix}", 2
        while path.exists():
            path, number = folder / f"{folder.name}-{run.name}-{number}{suffix}", number + 1
        return path

    # --- new runs, here and in other processes

    def new(self) -> None:
        """Ask for the settings of a new run and start it."""
        self._bench.app.push_screen(NewRunScreen(self._bench.context.workspace), self._new)

    def _new(self, made: NewRun | None) -> None:
        if made is None:
            return
        if made.detached:
            self.start_detached(made.run, made.arguments)
        elif self._bench.engine is not None:
            self._start_instead(made)
        else:
            self._bench.begin(made)

    def start_detached(self, run: Run, arguments: Sequence[str], then: Callable[[int], None] | None = None) -> None:
        """Start a run in its own process; `then` gets the process id."""
        folder = self._bench.context.workspace.folder
        started: list[int] = []

        def work() -> None:
            started.append(start_detached(folder, run, arguments))

        def done() -> None:
            if then is not None:
                then(started[0])
                return
            self._bench.notify(f"{run.name} is running in the background (process {started[0]}).", timeout=8)
            self._bench.open_run(run)
            self._bench.action_tab(0)

        self._in_thread("detach", f"Starting {run.name} in the background …", work, done)

    def _start_instead(self, made: NewRun) -> None:
        """Ask how to start a new run while another is driven here."""
        bench = self._bench
        assert bench.engine is not None
        now = bench.engine.driven.name
        choices = [
            Choice("detached", "d", f"Start {made.run.name} in the background", "both run"),
            Choice("instead", "i", f"Stop {now} and start {made.run.name} here", f"{now} is saved"),
            Choice("none", "c", "Cancel"),
        ]
        question = Ask("one run at a time in this window", f"{now} is being driven here.", choices)

        def answered(answer: str | None) -> None:
            if answer == "detached":
                self.start_detached(made.run, made.arguments)
            elif answer == "instead":
                self._requests.stop_and(lambda: bench.begin(made))

        bench.app.push_screen(question, answered)

    def _in_thread(self, title: str, words: str, work: Callable[[], None], done: Callable[[], None]) -> None:
        """Run `work` in a thread, with a message meanwhile; then call `done`, or report the error."""
        bench = self._bench
        busy = Busy(title, words)
        bench.app.push_screen(busy)

        def finish(error: BaseException | None) -> None:
            if busy.is_current:
                bench.app.pop_screen()
            if error is None:
                done()
            else:
                bench.report(title, error)

        def target() -> None:
            error: BaseException | None = None
            try:
                work()
            except Exception as problem:
                error = problem
            bench.app.call_from_thread(finish, error)

        bench.app.run_worker(target, thread=True, group=re.sub(r"\W", "-", title))
