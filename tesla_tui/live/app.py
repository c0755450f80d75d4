"""The Textual app: which screen is open, themes, the command palette, and leaving without losing anything."""

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from engine.errors import ExitCode, TeslaError, system_reason
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from tesla_tui.live.dialogs.basic import Ask, Choice, HelpScreen
from tesla_tui.live.engine_thread import EngineThread, unexpected
from tesla_tui.live.keys import TypedApp, replace_bad_bytes
from tesla_tui.live.preferences import Preferences, preferences_file
from tesla_tui.live.screens.workbench import TABS, Workbench
from tesla_tui.live.screens.workspaces import WorkspacesScreen
from tesla_tui.live.signals import SignalHandler
from tesla_tui.live.themes import DEFAULTS, THEMES
from tesla_tui.process.detached import start_detached
from tesla_tui.render.commands import command
from tesla_tui.render.words import clean, saved_words
from tesla_tui.watch.devices import Devices
from tesla_tui.watch.now import Now

WEB = "TEXTUAL_DRIVER"
"""Set in the environment of an app that is shown in a browser."""


class TeslaApp(TypedApp):
    """Exits with the text to print once the terminal is restored.

    Args:
        preferences: the user's.
        workspace: to open; None lists those below `folder`.
        run: name of the run to open; None for the one written to last.
        ipc: images per class of the run to open or start.
        watch: read-only: start and stop no run.
        folder: where workspaces are looked for.
        devices: looks at the machine; a stand-in in tests.
    """

    CSS_PATH = "app.tcss"
    TITLE = "tesla"
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - Textual declares it so
        (0, "-slim"),
        (72, "-narrow"),
        (100, "-medium"),
        (140, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-tiny"),
        (20, "-short"),
        (32, "-tall"),
    ]

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q,ctrl+c", "leave", "quit", show=False, priority=True, id="app.leave"),
        Binding("f2", "screenshot", "screenshot", show=False, id="app.screenshot"),
        Binding("T", "next_theme", "next theme", show=False, id="app.theme"),
        Binding("w", "workspaces", "workspaces", show=False, id="app.workspaces"),
    ]

    def __init__(
        self,
        preferences: Preferences,
        workspace: Workspace | None = None,
        *,
        run: str | None = None,
        ipc: int | None = None,
        overrides: tuple[str, ...] = (),
        watch: bool = False,
        folder: Path | None = None,
        devices: Devices | None = None,
    ) -> None:
        super().__init__()
        self.preferences = preferences
        self._workspace = workspace
        self._run, self._ipc, self._overrides, self._watch = run, ipc, overrides, watch
        self._folder = folder or Path.cwd()
        self._devices = devices or Devices()
        self.bench: Workbench | None = None

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """What the charts need in themes that do not name it."""
        return DEFAULTS

    def on_mount(self) -> None:
        """Themes, keys, signals, first screen."""
        for theme in THEMES:
            self.register_theme(theme)
        for theme in self.available_themes.values():
            if theme.ansi:  # its colours are names that only the terminal can resolve: charts could not mix them
                self.unregister_theme(theme.name)
        known = self.available_themes
        self.theme = self.preferences.theme if self.preferences.theme in known else "tesla-dark"
        if self.preferences.theme not in known:
            self.notify(f"Unknown theme {self.preferences.theme!r} in tui.toml.", severity="warning")
        self.set_keymap(dict(self.preferences.keys))
        if self._workspace is None:
            self.action_workspaces()
        else:
            self.open_workspace(self._workspace)

    @property
    def engine(self) -> EngineThread | None:
        """The engine that runs in this process."""
        return self.bench.engine if self.bench is not None else None

    def leave_now(self, code: ExitCode) -> None:
        """End the screens; everything is saved. May be called from any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(lambda: self.exit(self._saved_words(), return_code=code))

    # --- screens

    def open_workspace(self, workspace: Workspace) -> None:
        """Show a workspace; drive the run it was opened for, unless another process does or it is finished."""
        bench = Workbench(workspace, self.preferences, self._devices, read_only=self._watch)
        self.bench = bench
        self.push_screen(bench)
        self.call_after_refresh(self._open_run, bench)

    def _open_run(self, bench: Workbench) -> None:
        workspace = bench.context.workspace
        name, ipc = self._run, self._ipc
        self._run = self._ipc = None  # only for the first workspace
        try:
            if name is None and ipc is None and not workspace.runs():
                bench.look_now()
                return
            if name is None:
                run = workspace.existing_run(None) if ipc is None else workspace.run(f"ipc-{ipc}")
            else:
                run = workspace.run(name)
            bench.open_run(run, None if self._watch else lambda: self._drive(bench, run, ipc))
        except TeslaError as error:
            if name is None and ipc is None:  # there are runs
                bench.context.empty = Now("No run is open. Press 4 to choose one.")
            bench.report("cannot start", error)

    def _drive(self, bench: Workbench, run: Run, ipc: int | None) -> None:
        """Drive a run that was opened, unless another process does or nothing is left to do."""
        feed = bench.context.feed
        if feed is None or feed.live:
            return
        try:
            effective = bench.context.workspace.settings(ipc=ipc, overrides=self._overrides, run=run)
            if run.exists:
                run.check(effective)
                if feed.state == "imported" or (
                    feed.state == "finished" and run.frozen().settings == effective.settings
                ):
                    return
            bench.drive(run, effective)
        except TeslaError as error:
            bench.report("cannot start", error)

    def action_workspaces(self) -> None:
        """The list of workspaces."""
        if self.bench is None:
            self.push_screen(WorkspacesScreen(self._folder), self._chosen)
        elif isinstance(self.screen, Workbench):
            if self.bench.driving:
                self.notify("A run is being driven here. Stop it first (q).", severity="warning")
                return
            self.pop_screen()
            self.bench = None
            if not any(isinstance(screen, WorkspacesScreen) for screen in self.screen_stack):
                self.push_screen(WorkspacesScreen(self._folder), self._chosen)

    def _chosen(self, workspace: Workspace | None) -> None:
        if workspace is not None:
            self.open_workspace(workspace)

    # --- keys that work anywhere

    def action_help(self) -> None:
        """Help for where one is."""
        screen = self.screen
        where, text = type(screen).__name__.removesuffix("Screen"), str(getattr(screen, "HELP", ""))
        if isinstance(screen, Workbench):
            where, text = TABS[[name.lower() for name, _ in TABS].index(screen.pane.id or "")][0], screen.pane.HELP
        keys = []
        for _, binding, _enabled, _tooltip in screen.active_bindings.values():
            if binding.description and binding.id:
                keys.append((self.get_key_display(binding), binding.description, binding.id or ""))
        keys.append(("^p", "find a command", ""))
        self.push_screen(HelpScreen(where, text, list(dict.fromkeys(keys)), str(preferences_file())))

    def action_next_theme(self) -> None:
        """The next built-in theme."""
        names = [theme.name for theme in THEMES]
        at = names.index(self.theme) if self.theme in names else -1
        self.theme = names[(at + 1) % len(names)]
        self.notify(f'Theme: {self.theme}. To keep it, set theme = "{self.theme}" in tui.toml.', timeout=4)

    def action_screenshot(self, filename: str | None = None, path: str | None = None) -> None:
        """An SVG of the screen, in the current folder."""
        try:
            to = self.save_screenshot(filename, path)
        except OSError as error:
            self.notify(f"The screenshot could not be saved here: {system_reason(error)}.", severity="error")
        else:
            self.notify(f"Saved screenshot: {clean(to)}", timeout=6, markup=False)

    def watch_theme(self) -> None:
        """Everything is drawn again in the new colours."""
        if self.bench is not None:
            self.bench.redraw()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Everything in the palette."""
        yield from super().get_system_commands(screen)
        if isinstance(screen, Workbench):
            for number, (name, _) in enumerate(TABS):
                yield SystemCommand(
                    f"Tab: {name}", f"Key {number + 1}", lambda number=number: screen.action_tab(number)
                )
            yield SystemCommand("Start or pause", "Start, pause or resume the run", screen.action_pause)
            yield SystemCommand("Evaluate now", "Measure the accuracy of the current images", screen.action_evaluate)
            yield SystemCommand("Save a checkpoint", "When this iteration is complete", screen.action_save)
            yield SystemCommand("Export", "PNGs, tensors, labels, Parquet, a card, a script", screen.action_export)
            yield SystemCommand("Film", "Write the images over the iterations as a WebP", screen.action_film)
            yield SystemCommand("New run", "Choose settings, check them, start", screen.action_new)
            yield SystemCommand("Take over", "Stop the run's driver and continue here", screen.action_take_over)
            yield SystemCommand("Workspaces", "Choose or create a workspace", self.action_workspaces)
            for name in ("toggle_log", "smooth", "toggle_raw", "compare", "play"):
                method = getattr(screen.pane, f"action_{name}", None)
                if method is not None:
                    yield SystemCommand(
                        f"{name.replace('_', ' ').capitalize()}", (method.__doc__ or "").strip(), method
                    )
        for theme in THEMES:
            yield SystemCommand(f"Theme: {theme.name}", "Colours", lambda name=theme.name: setattr(self, "theme", name))

    # --- leaving

    def action_leave(self) -> None:
        """Quit; ask first while a run is driven here."""
        bench = self.bench
        if bench is None or bench.engine is None:
            self.exit()
            return
        if isinstance(self.screen, Ask) or bench.engine.stopping:
            return
        name = bench.engine.driven.name
        choices = [
            Choice("stop", "s", "Stop and save", "takes at most one matching step"),
            Choice("detach", "d", "Detach", "keeps running in the background"),
            Choice("stay", "k", "Cancel", "keep running here"),
        ]
        self.push_screen(Ask("quit", f"{name} is being driven in this window.", choices), self._leave_answered)

    def _leave_answered(self, answer: str | None) -> None:
        bench = self.bench
        if answer not in ("stop", "detach") or bench is None:
            return
        if bench.engine is None:
            self.exit()
            return
        run, workspace = bench.engine.driven, bench.context.workspace
        again = command("tui", workspace.folder, "--run", run.name)

        def detached(pid: int) -> None:
            self.exit(f"{run.name} is running in the background (process {pid}). Reattach with: {again}")

        if answer == "stop":
            bench.requests.stop_and(lambda: self.exit(self._saved_words()))
        else:
            bench.requests.stop_and(lambda: bench.run_actions.start_detached(run, (), then=detached))

    def _saved_words(self) -> str:
        bench = self.bench
        feed = bench.context.feed if bench is not None else None
        if bench is None or feed is None:
            return ""
        state = saved_words(max(feed.run.checkpoints(), default=None))
        again = command("tui", bench.context.workspace.folder, "--run", feed.run.name)
        return f"{feed.run.name}: {state}. Resume with: {again}"


def run_app(app: TeslaApp) -> int:
    """Run the app; when this returns, the engine has stopped and saved, even if the screens crashed.

    In a browser a page that is closed detaches instead: the run continues in its own process.
    Raises what ended the screens or the engine, but no error of the engine with a hint, which was on the screen.
    """
    signals = SignalHandler(lambda: app.engine, app.leave_now)
    signals.install()
    replace_bad_bytes()
    try:
        words = app.run()
    finally:
        engine = app.engine
        if engine is not None:
            engine.stop()
            engine.join()
            if WEB in os.environ and engine.error is None:
                start_detached(engine.workspace.folder, engine.driven, ())
        signals.restore()
    shown = app.bench.run_actions.failure if app.bench is not None else None
    errors = (app.failure, engine.error if engine is not None else None, unexpected(shown))
    if error := next(filter(None, errors), None):
        raise error
    if words:
        print(words, file=sys.stderr if app.return_code else sys.stdout)
    return app.return_code or 0
