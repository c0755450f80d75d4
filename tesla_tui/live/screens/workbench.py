"""The workbench: one run of one workspace, its tabs, and what keys do to it. Its timer is `_tick`."""

from collections.abc import Callable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, Screen
from textual.timer import Timer
from textual.widgets import ContentSwitcher

from engine.errors import TeslaError
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.settings import EffectiveSettings
from tesla_tui.live.context import Context
from tesla_tui.live.dialogs.basic import Message
from tesla_tui.live.dialogs.new_run import NewRun
from tesla_tui.live.engine_thread import EngineThread
from tesla_tui.live.pace import Pace
from tesla_tui.live.panes.images import ImagesPane
from tesla_tui.live.panes.log import LogPane
from tesla_tui.live.panes.overview import OverviewPane
from tesla_tui.live.panes.pane import Pane
from tesla_tui.live.panes.runs import RunsPane
from tesla_tui.live.panes.settings import SettingsPane
from tesla_tui.live.panes.teachers import TeachersPane
from tesla_tui.live.preferences import Preferences
from tesla_tui.live.screens.actions import RunActions
from tesla_tui.live.screens.requests import EngineRequests
from tesla_tui.live.widgets.header import RunBar, TabBar, badge_words
from tesla_tui.live.widgets.key_line import KeyLine
from tesla_tui.watch.devices import Devices
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.previews import Film

TABS: tuple[tuple[str, Callable[[Context], Pane]], ...] = (
    ("Overview", OverviewPane),
    ("Images", ImagesPane),
    ("Teachers", TeachersPane),
    ("Runs", RunsPane),
    ("Log", LogPane),
    ("Settings", SettingsPane),
)


class Workbench(Screen[None]):
    """Tabs over one run."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(n), f"tab({n - 1})", name, show=False, id=f"tab.{n}") for n, (name, _) in enumerate(TABS, 1)),
        # The footer shows them in this order, as many as fit.
        Binding("space", "pause", "start/pause", id="run.pause"),
        Binding("question_mark", "app.help", "help", key_display="?", id="app.help"),
        Binding("q", "app.leave", "quit", id="app.quit"),
        Binding("e", "evaluate", "evaluate", id="run.evaluate"),
        Binding("s", "save", "save", id="run.save"),
        Binding("x", "export", "export", id="run.export"),
        Binding("n", "new", "new run", id="run.new"),
        Binding("t", "take_over", "take over", id="run.take-over"),
    ]

    def __init__(self, workspace: Workspace, preferences: Preferences, devices: Devices) -> None:
        super().__init__()
        self.context = Context(workspace, preferences, devices)
        self.requests = EngineRequests(self)
        self.run_actions = RunActions(self, self.requests)
        self.engine: EngineThread | None = None
        self._tab = 0
        self._timer: Timer | None = None
        self._pace = Pace(preferences.refresh)
        self._was_live = False
        self._stale = True
        self._after_stop: Callable[[], None] | None = None

    @property
    def driving(self) -> bool:
        """Whether the engine runs in this process."""
        return self.engine is not None

    @property
    def drives_shown(self) -> bool:
        """Whether the run on screen is driven in this window."""
        feed = self.context.feed
        return self.engine is not None and feed is not None and self.engine.driven.name == feed.run.name

    def compose(self) -> ComposeResult:
        """Two lines, the tab, the keys."""
        yield RunBar()
        yield TabBar(tuple(name for name, _ in TABS))
        with ContentSwitcher(initial="overview"):
            for _, make in TABS:
                yield make(self.context)
        yield KeyLine()

    def on_mount(self) -> None:
        """Start updating."""
        self._timer = self.set_timer(0.05, self._tick)
        self.call_after_refresh(self.pane.focus_first)

    @property
    def pane(self) -> Pane:
        """The open tab."""
        return self.query_one(f"#{TABS[self._tab][0].lower()}", Pane)

    # --- which run

    def open_run(self, run: Run, then: Callable[[], None] | None = None) -> None:
        """Show a run, existing or about to be. `then` is called when its journal is read."""
        self.context.feed = RunFeed(run)
        self.context.film = Film(run)
        self.context.loading = run.journal_file.exists()
        for pane in self.query(Pane):
            pane.run_changed()
        self._was_live = False
        self._stale = True
        self._catch_up(self.context.feed, then)

    @work(thread=True, exclusive=True, group="catch-up")
    def _catch_up(self, feed: RunFeed, then: Callable[[], None] | None) -> None:
        feed.catch_up()
        self.app.call_from_thread(self._caught_up, feed, then)

    def _caught_up(self, feed: RunFeed, then: Callable[[], None] | None) -> None:
        if feed is self.context.feed:
            self.context.loading = False
            self._stale = True
            self.look_now()
            if then is not None:
                then()

    def drive(self, run: Run, effective: EffectiveSettings) -> None:
        """Start the engine for a run in its thread, and show it."""
        if self.engine is not None:
            return
        if self.context.feed is None or self.context.feed.run.name != run.name:
            self.open_run(run)
        self.engine = EngineThread(self.context.workspace, run, effective)
        self.engine.start()
        self.look_now()

    # --- looking

    def look_now(self) -> None:
        """Do not wait for the next tick."""
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(0.01, self._tick)

    def redraw(self) -> None:
        """Redraw everything, as after a change of colours."""
        self._stale = True
        self.look_now()

    def _tick(self) -> None:
        """Read what is new, draw the open tab if anything is, and look after the engine."""
        context = self.context
        feed = context.feed
        changed = self._stale
        self._stale = False
        if feed is not None and not context.loading:
            changed |= feed.poll()
        if context.film is not None:
            changed |= context.film.look()
        changed |= self._look_after_engine()
        seen = self.app.screen is self or isinstance(self.app.screen, ModalScreen)  # dialogs let it shine through
        if seen:
            self._bar()
            if changed:
                self.pane.update_view()
            else:
                self.pane.look_around()
        elif changed:
            self._stale = True
        engine = self.engine
        interval = self._pace.next_interval(driving=engine is not None, stopping=engine is not None and engine.stopping)
        self._timer = self.set_timer(interval, self._tick)

    def _look_after_engine(self) -> bool:
        context, engine = self.context, self.engine
        before = (context.driving, context.preparing)
        context.driving = engine is not None
        context.preparing = engine.preparing if engine is not None else ""
        if engine is not None and not engine.is_alive():
            self.engine = None
            context.driving, context.preparing = False, ""
            self._ended(engine)
        feed = context.feed
        if feed is not None and not context.loading:
            if self._was_live and not feed.live and engine is None:
                self.run_actions.driver_ended(feed)
            self._was_live = feed.live
        return before != (context.driving, context.preparing)

    def _ended(self, engine: EngineThread) -> None:
        """The engine's thread is over."""
        after, self._after_stop = self._after_stop, None
        self._was_live = False
        self._stale = True
        if engine.error is not None:
            self.requests.close_waiting()
            self.run_actions.failed(engine)
        elif after is not None:
            after()
        elif not engine.stopping:
            self.notify(f"{engine.driven.name} is finished.", timeout=10)

    def _bar(self) -> None:
        feed = self.context.feed
        badge = badge_words(self.drives_shown, feed is not None and feed.live, feed.driver if feed else None)
        self.query_one(RunBar).show(self.context.workspace.folder.resolve().name, feed, badge)

    # --- what keys do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide keys that do nothing now."""
        feed = self.context.feed
        if action == "take_over":
            return feed is not None and self.engine is None and feed.state not in ("new", "finished", "imported")
        if action in ("evaluate", "save"):
            return self.engine is not None
        if action == "export":
            return feed is not None
        return True

    def action_tab(self, number: int) -> None:
        """Open a tab."""
        self._tab = number
        name = TABS[number][0].lower()
        self.query_one(ContentSwitcher).current = name
        self.query_one(TabBar).show(number)
        self.pane.update_view()
        self.pane.focus_first()
        self.call_after_refresh(self.pane.update_view)

    def on_tab_bar_picked(self, message: TabBar.Picked) -> None:
        """A tab was clicked."""
        self.action_tab(message.number)

    def action_pause(self) -> None:
        """Pause, resume, or start."""
        if self.engine is not None:
            self.requests.pause_or_resume()
        elif self.context.feed is None:
            self.action_new()
        else:
            self.run_actions.resume_or_explain()

    def action_evaluate(self) -> None:
        """Measure the images as they are now."""
        self.requests.evaluate()

    def action_save(self) -> None:
        """A checkpoint now."""
        self.requests.save()

    def action_export(self) -> None:
        """Write the distilled dataset into a folder."""
        self.run_actions.export()

    def action_new(self) -> None:
        """The form for a new run."""
        self.run_actions.new()

    def action_take_over(self) -> None:
        """Drive the run here."""
        self.run_actions.take_over()

    def on_runs_pane_opened(self, message: RunsPane.Opened) -> None:
        """Another run."""
        self.open_run(self.context.workspace.run(message.name))
        self.action_tab(0)

    def begin(self, made: NewRun) -> None:
        """Start a new run here and show it."""
        self.open_run(made.run)
        self.action_tab(0)
        self.drive(made.run, made.effective)

    def stop_engine(self, after: Callable[[], None]) -> None:
        """Stop the engine; `after` is called when it has saved."""
        if self.engine is None:
            after()
            return
        self._after_stop = after
        self.engine.stop()
        self.look_now()

    def report(self, title: str, error: BaseException) -> None:
        """Words about an error."""
        body = error.message if isinstance(error, TeslaError) else f"{type(error).__name__}: {error}"
        hint = error.hint if isinstance(error, TeslaError) else ""
        self.app.push_screen(Message(title, f"{body}\n\n{hint}".strip()))
