"""The form for a new run: it validates while you type and shows the resulting settings."""

import shlex
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, DataTable, Input, Label, Select, Static

from engine.errors import TeslaError
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.settings import EffectiveSettings, method_names
from tesla_tui.live.setting_words import shortened, value_words
from tesla_tui.live.widgets.field import Field
from tesla_tui.render.commands import set_options

GRADIENTS = ("exact", "paper", "unrolled")
LABELS = ("hard", "target", "last", "learned")
PRESET = "preset"
"""Stands for: as tesla.toml or the preset has it."""


@dataclass(frozen=True)
class NewRun:
    """What the form came to."""

    run: Run
    effective: EffectiveSettings
    arguments: tuple[str, ...]
    """Options of `tesla run` for the same, besides --run."""
    detached: bool


class NewRunScreen(ModalScreen[NewRun | None]):
    """A form. Ends with a run that can start, None for escape."""

    HELP = "The table shows the resulting settings. Separate overrides with spaces: `distill.steps=30 seed=1`."

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", key_display="esc", id="new.cancel"),
        Binding("ctrl+g", "start", "start", key_display="^g", id="new.start"),
    ]

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self._workspace = workspace
        self._named = False
        self._ready: NewRun | None = None

    def compose(self) -> ComposeResult:
        """Fields at the left, effective settings at the right."""
        with Vertical(classes="dialog -wide") as dialog:
            dialog.border_title = "new run"
            with Horizontal(id="new-body"):
                with VerticalScroll(id="new-fields", can_focus=False):
                    yield Label("images per class (IPC)")
                    yield Field("1", number="Images per class", id="new-ipc")
                    yield Label("method")
                    methods = [(name, name) for name in method_names()]
                    yield Select(methods, prompt=PRESET, id="new-method", compact=True)
                    yield Label("gradient")
                    yield Select([(name, name) for name in GRADIENTS], prompt=PRESET, id="new-gradient", compact=True)
                    yield Label("labels")
                    yield Select([(name, name) for name in LABELS], prompt=PRESET, id="new-labels", compact=True)
                    yield Label("iterations")
                    yield Field(number="Iterations", optional=True, placeholder=PRESET, id="new-iterations")
                    yield Label("other settings, key=value")
                    yield Field(placeholder="distill.steps=30 seed=1", id="new-overrides")
                    yield Label("name")
                    yield Field("ipc-1", id="new-name")
                with Vertical(id="new-effective"):
                    yield Static("resulting settings, without defaults", classes="quiet")
                    yield DataTable(id="new-table", cursor_type="row")
            yield Static(id="new-problem")
            with Horizontal(id="new-buttons"):
                yield Button("Start here", id="new-start", variant="primary", compact=True)
                yield Button("Start in background", id="new-detached", compact=True)
                yield Button("Cancel", id="new-cancel", compact=True)

    def on_mount(self) -> None:
        """Ready to type."""
        table: DataTable[Text] = self.query_one(DataTable)
        for name in ("setting", "value", "from"):
            table.add_column(name, key=name)
        self.query_one("#new-ipc").focus()
        self._check()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Validate; a name of one's own is kept."""
        if event.input.id == "new-name":
            self._named = self._named or (event.input.has_focus and bool(event.value))
        else:
            self._suggest()
        self._check()

    def on_select_changed(self) -> None:
        """Validate."""
        self._suggest()
        self._check()

    def on_input_submitted(self) -> None:
        """Enter goes to the next field."""
        self.app.action_focus_next()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Start, or not."""
        if event.button.id == "new-cancel":
            self.dismiss(None)
        else:
            self._finish(detached=event.button.id == "new-detached")

    def action_cancel(self) -> None:
        """Nothing."""
        self.dismiss(None)

    def action_start(self) -> None:
        """Start in this window."""
        self._finish(detached=False)

    def _finish(self, *, detached: bool) -> None:
        self._check()
        if self._ready is not None:
            ready = self._ready
            self.dismiss(NewRun(ready.run, ready.effective, ready.arguments, detached))
        else:
            self.app.bell()

    def _field(self, name: str) -> Field:
        return self.query_one(f"#new-{name}", Field)

    def _chosen(self, name: str) -> str | None:
        value = self.query_one(f"#new-{name}", Select).value
        return value if isinstance(value, str) else None

    def _suggest(self) -> None:
        """A name that says what is different, until the user chooses one."""
        if self._named:
            return
        chosen = [self._chosen(name) for name in ("method", "gradient", "labels")]
        parts = [f"ipc-{self._field('ipc').text or 1}", *chosen]
        name = "-".join(part for part in parts if part)
        taken = {run.name for run in self._workspace.runs()}
        wanted, number = name, 2
        while wanted in taken:
            wanted, number = f"{name}-{number}", number + 1
        self._field("name").suggest(wanted)

    def _overrides(self) -> list[str]:
        found = []
        if method := self._chosen("method"):
            found.append(f"distill.method={method}")
        if gradient := self._chosen("gradient"):
            found.append(f"distill.gradient={gradient}")
        if labels := self._chosen("labels"):
            found.append(f"labels.kind={labels}")
        if iterations := self._field("iterations").whole():
            found.append(f"distill.iterations={iterations}")
        overrides = self._field("overrides").text
        try:
            found += shlex.split(overrides)
        except ValueError:
            found += overrides.split()
        return found

    def _check(self) -> None:
        problem = self.query_one("#new-problem", Static)
        self._ready = None
        colours = self.app.theme_variables
        try:
            ipc = self._field("ipc").whole()
            run = self._workspace.run(self._field("name").text)
            if run.exists:
                raise TeslaError(f"The run {run.name} already exists.", "Choose another name.")
            overrides = self._overrides()
            effective = self._workspace.settings(ipc=ipc, overrides=tuple(overrides))
        except TeslaError as error:
            problem.update(Text(f"✕ {error}", style=colours["error"]))
            self.query_one("#new-start", Button).disabled = True
            self.query_one("#new-detached", Button).disabled = True
            return
        arguments = ["--ipc", str(ipc), *set_options(overrides)]
        self._ready = NewRun(run, effective, tuple(arguments), detached=False)
        self.query_one("#new-start", Button).disabled = False
        self.query_one("#new-detached", Button).disabled = False
        problem.update(Text("✓ Valid. Press ctrl+g to start it here.", style=colours["success"]))
        table: DataTable[Text] = self.query_one(DataTable)
        table.clear()
        for key, value in effective.flat().items():
            origin = effective.origins[key]
            if origin != "default":
                style = colours["accent"] if origin == "command line" else ""
                table.add_row(
                    Text(key),
                    Text(shortened(value_words(value), 30), style=style),
                    Text(origin, style=colours["quiet"]),
                )
