"""The workbench: one run of one workspace, its tabs, and what keys do to it. Its timer is `_tick`."""

from collections.abc import Callable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import ContentSwitcher

from engine.errors import TeslaError, UnreadableFileError, system_reason
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
from tesla_tui.live.screens.run_screen import RunScreen
from tesla_tui.live.widgets.device_panel import DevicePanel
from tesla_tui.live.widgets.header import RunBar, TabBar, badge_words
from tesla_tui.live.widgets.key_line import KeyLine
from tesla_tui.live.widgets.status_line import StatusLine, happening
from tesla_tui.render.words import unread_words
from tesla_tui.watch.devices import Devices
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.run_gpus import use_of

TABS: tuple[tuple[str, Callable[[Context], Pane]], ...] = (
    ("Overview", OverviewPane),
    ("Images", ImagesPane),
    ("Teachers", TeachersPane),
    ("Runs", RunsPane),
    ("Log", LogPane),
    ("Settings", SettingsPane),
)


class Workbench(RunScreen):
    """Tabs over one run."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(n), f"tab({n - 1})", name, show=False, id=f"tab.{n}") for n, (name, _) in enumerate(TABS, 1)),
    ]

    def __init__(self, workspace: Workspace, preferences: Preferences, devices: Devices, *, read_only: bool) -> None:
        super().__init__()
        self.context = Context(workspace, preferences, devices, read_only=read_only)
        self.requests = EngineRequests(self)
        self.run_actions = RunActions(self, self.requests)
        self.engine: EngineThread | None = None
        self._tab = 0
        self._timer: Timer | None = None
        self._pace = Pace(preferences.refresh)
        self._was_live = False
        self._stale = True
        self._after_stop: Callable[[], None] | None = None
        self._keys: tuple[object, ...] = ()

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
        """Two lines, the tab, what happens, the keys."""
        yield RunBar()
        yield TabBar(tuple(name for name, _ in TABS))
        with ContentSwitcher(initial="overview"):
            for _, make in TABS:
                yield make(self.context)
        yield StatusLine()
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
        feed = self.context.open(run)
        for pane in self.query(Pane):
            pane.run_changed()
        self._was_live = False
        self._stale = True
        self._catch_up(feed, then)

    @work(thread=True, exclusive=True, group="catch-up")
    def _catch_up(self, feed: RunFeed, then: Callable[[], None] | None) -> None:
        try:
            feed.catch_up()
        except UnreadableFileError as error:
            feed.trouble = unread_words(error)
            then = None  # it is not known whether another process drives it
        self.app.call_from_thread(self._caught_up, feed, then)

    def _caught_up(self, feed: RunFeed, then: Callable[[], None] | None) -> None:
        if feed is self.context.feed:
            self.context.loading = False
            self.redraw()
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
        changed = self._stale | self.context.look()
        self._stale = False
        changed |= self._look_after_engine()
        seen = self.app.screen is self or isinstance(self.app.screen, ModalScreen)  # dialogs let it shine through
        if seen:
            self._bar()
            if changed:
                self._draw()
            else:
                self.pane.look_around()
        elif changed:
            self._stale = True
        self.query_one(DevicePanel).show(
            self.context.devices, use_of(self.context.feed)
        )  # on every tab, for its history
        engine = self.engine
        interval = self._pace.next_interval(driving=engine is not None, stopping=engine is not None and engine.stopping)
        self._timer = self.set_timer(interval, self._tick)

    def _draw(self) -> None:
        """Draw the open tab. If its files cannot be read now, it keeps what it shows, and is drawn again next time."""
        try:
            self.pane.update_view()
            self.context.trouble = ""
        except UnreadableFileError as error:
            self.context.trouble, self._stale = unread_words(error), True

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
            self.run_actions.alert(engine.driven, "is finished")
            self.notify(f"{engine.driven.name} is finished.", timeout=10)

    def _bar(self) -> None:
        feed = self.context.feed
        badge = badge_words(
            self.drives_shown, feed is not None and feed.live, feed.driver if feed else None, self.context.read_only
        )
        self.query_one(RunBar).show(self.context.workspace.folder.resolve().name, feed, badge)
        self.query_one(TabBar).show(self._tab, {"Log": self.context.unread(reading=TABS[self._tab][0] == "Log")})
        if (keys := (self.engine is None, feed and feed.state)) != self._keys:  # what keys do depends on it
            self._keys = keys
            self.refresh_bindings()
        self.query_one(StatusLine).show(happening(self.context), feed.view.notice if feed is not None else None)

    # --- what keys do

    def action_tab(self, number: int) -> None:
        """Open a tab."""
        self._tab = number
        name = TABS[number][0].lower()
        self.query_one(ContentSwitcher).current = name
        self._bar()
        self._draw()
        self.pane.focus_first()
        self.call_after_refresh(self._draw)

    def on_tab_bar_picked(self, message: TabBar.Picked) -> None:
        """A tab was clicked."""
        self.action_tab(message.number)

    def action_best(self) -> None:
        """The images of the selected checkpoint."""
        self.action_tab(next(n for n, (_, make) in enumerate(TABS) if make is ImagesPane))
        self.query_one(ImagesPane).show_selected()

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
        if isinstance(error, OSError):
            body = f"{error.filename}: {system_reason(error)}." if error.filename else f"{system_reason(error)}."
        hint = error.hint if isinstance(error, TeslaError) else ""
        self.app.push_screen(Message(title, f"{body}\n\n{hint}".strip()))
