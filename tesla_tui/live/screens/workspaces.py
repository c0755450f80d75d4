"""The start screen without a workspace: those below the folder, and a short wizard for a new one."""

from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Button, DataTable, Label, Select, Static

from engine.errors import TeslaError, system_reason
from engine.runs.create import WorkspacePlan, plan_workspace
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.settings import dataset_names, preset_names
from tesla_tui.live.widgets.field import Field, typed_path
from tesla_tui.live.widgets.key_line import KeyLine
from tesla_tui.render.words import ago, clean

DEEPEST = 3
"""Folders below the current one that are searched."""
MOST = 500
"""Maximum number of folders searched, so that a home directory does not take forever."""

OWN = "own folder"
HUB = "hub id"


def find_workspaces(folder: Path) -> list[Workspace]:
    """Workspaces in a folder and below it."""
    found: list[Workspace] = []
    level, looked = [folder], 0
    for _ in range(DEEPEST + 1):
        below: list[Path] = []
        for here in level:
            looked += 1
            if looked > MOST:
                return found
            if (here / "tesla.toml").is_file():
                found.append(Workspace(here))
                continue
            try:
                below += sorted(path for path in here.iterdir() if path.is_dir() and not path.name.startswith("."))
            except OSError:
                continue
        level = below
    return found


class WorkspacesScreen(Screen[Workspace]):
    """Choose a workspace or create one."""

    HELP = """
A workspace is a folder with a `tesla.toml`: a dataset, its teachers, and any number of runs. `enter` opens one, `n`
creates a new one.
"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "new workspace", id="workspaces.new"),
        Binding("q,escape", "app.leave", "quit", key_display="q", id="app.quit"),
        Binding("question_mark", "app.help", "help", key_display="?", id="app.help"),
    ]

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._found: list[Workspace] = []

    def compose(self) -> ComposeResult:
        """Title, list."""
        yield Static(
            Text.assemble((" tesla ", "reverse bold"), "  workspaces below ", clean(str(self._folder))), id="where"
        )
        yield Static(id="workspaces-empty")
        yield DataTable(id="workspaces-table", cursor_type="row")
        yield KeyLine()

    def on_mount(self) -> None:
        """Look for workspaces."""
        table: DataTable[Text] = self.query_one(DataTable)
        for name in ("workspace", "runs", "last updated", "dataset"):
            table.add_column(name, key=name)
        self._look()

    def on_screen_resume(self) -> None:
        """Back from a workspace: things may have changed."""
        self._look()

    def _look(self) -> None:
        table: DataTable[Text] = self.query_one(DataTable)
        table.clear()
        self._found = find_workspaces(self._folder)
        for workspace in self._found:
            runs = workspace.runs()
            try:
                settings = workspace.settings().settings
                dataset = clean(settings.dataset.path or settings.dataset.name)
            except TeslaError:
                dataset = "tesla.toml cannot be read"
            written = max((run.last_change for run in runs), default=None)
            name = clean(str(workspace.folder.relative_to(self._folder)))
            table.add_row(
                Text("here" if name == "." else name, style="bold"), Text(str(len(runs)), justify="right"),
                Text("" if written is None else ago(written)), Text(dataset),
            )  # fmt: skip
        table.display = bool(self._found)
        empty = self.query_one("#workspaces-empty", Static)
        empty.display = not self._found
        empty.update("No workspaces here yet.\n\nPress n to create one.")
        if self._found:
            table.focus()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open it."""
        self.dismiss(self._found[event.cursor_row])

    def action_new(self) -> None:
        """The wizard."""
        self.app.push_screen(WizardScreen(self._folder), self._made)

    def _made(self, workspace: Workspace | None) -> None:
        if workspace is not None:
            self.dismiss(workspace)


class WizardScreen(ModalScreen[Workspace | None]):
    """Dataset, resolution, preset: a workspace in four fields."""

    HELP = "The preset sets network, teachers and steps for a dataset. You can edit all of them later in tesla.toml."

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "cancel", key_display="esc"),
        Binding("ctrl+g", "make", "create", key_display="^g"),
    ]

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._plan: WorkspacePlan | None = None

    def compose(self) -> ComposeResult:
        """The fields."""
        names = [name for name in dataset_names() if name != "folder"]
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "new workspace"
            with VerticalScroll(id="wizard-fields", can_focus=False):
                yield Label("dataset")
                options = [(name, name) for name in names] + [(OWN, OWN), (HUB, HUB)]
                yield Select(options, value="digits", allow_blank=False, id="wizard-dataset", compact=True)
                yield Label("path of a folder, zip or Parquet file, or hub id owner/name", id="wizard-where-label")
                yield Field(id="wizard-where")
                yield Label("resolution in pixels (empty: from the preset)")
                yield Field(number="The resolution (dataset.resolution)", optional=True, id="wizard-resolution")
                yield Label("preset")
                yield Select(
                    [(name, name) for name in names if name in preset_names()],
                    prompt="same as dataset",
                    id="wizard-preset",
                    compact=True,
                )
                yield Label("folder to create")
                yield Field("my-run", id="wizard-name")
            yield Static(id="wizard-path")
            yield Static(id="wizard-problem")
            yield Button("Create", id="wizard-make", variant="primary", compact=True)

    def on_mount(self) -> None:
        """Ready."""
        self.query_one("#wizard-dataset").focus()
        self._check()

    def on_input_changed(self) -> None:
        """Validate."""
        self._check()

    def on_select_changed(self) -> None:
        """Validate."""
        self._check()

    def on_input_submitted(self) -> None:
        """The next field."""
        self.app.action_focus_next()

    def on_button_pressed(self) -> None:
        """Make it."""
        self.action_make()

    def action_cancel(self) -> None:
        """Nothing."""
        self.dismiss(None)

    def action_make(self) -> None:
        """Make the workspace."""
        self._check()
        if self._plan is None:
            self.app.bell()
            return
        self.query_one("#wizard-make", Button).disabled = True
        self.query_one("#wizard-problem", Static).update("Looking at the images...")
        self._make(self._plan)

    @work(thread=True, exclusive=True, group="wizard")
    def _make(self, plan: WorkspacePlan) -> None:
        """Look at the dataset, which takes a while where there are many files, and make the workspace."""
        try:
            Workspace.check_new(plan.folder)
            found = run_to_end(plan.data.look())
            workspace = plan.make(found.report if found is not None else None)
        except (TeslaError, OSError) as error:
            self.app.call_from_thread(self._problem, str(error))
        else:
            self.app.call_from_thread(self.dismiss, workspace)

    def _problem(self, words: str) -> None:
        self.query_one("#wizard-make", Button).disabled = False
        self.query_one("#wizard-problem", Static).update(Text(f"✕ {words}", style=self.app.theme_variables["error"]))

    def _check(self) -> None:
        self._plan = None
        dataset = str(self.query_one("#wizard-dataset", Select).value)
        elsewhere = dataset in (OWN, HUB)
        for name in ("#wizard-where", "#wizard-where-label"):
            self.query_one(name).display = elsewhere
        where = self.query_one("#wizard-where", Field).text
        preset = self.query_one("#wizard-preset", Select).value
        name = self.query_one("#wizard-name", Field).text
        path = self.query_one("#wizard-path", Static)
        path.update()
        try:
            folder = typed_path(name, self._folder)
            path.update(Text(clean(str(folder)) if name else ""))
            resolution = self.query_one("#wizard-resolution", Field).whole()
            if where.startswith("~"):
                where = str(typed_path(where, Path.cwd()))
            if elsewhere and not where:
                raise TeslaError("Enter where the images are.")
            if not name:
                raise TeslaError("Enter a name for the folder.")
            self._plan = plan_workspace(
                folder,
                where if elsewhere else dataset,
                [f"dataset.resolution={resolution}"] if resolution else [],
                preset=preset if isinstance(preset, str) else None,
            )
        except TeslaError as error:
            self._problem(str(error))
            return
        except OSError as error:
            self._problem(f"This path cannot be used: {system_reason(error)}.")
            return
        words = f"✓ {self._plan.source}. Press ctrl+g to create it."
        self.query_one("#wizard-problem", Static).update(Text(words, style=self.app.theme_variables["success"]))
