"""The command tree of `tesla`. Importing this must stay fast: no PyTorch, and no engine package that needs it."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tesla_tui.cli.bench import bench
from tesla_tui.cli.config import config
from tesla_tui.cli.data import data
from tesla_tui.cli.demo import demo
from tesla_tui.cli.doctor import doctor
from tesla_tui.cli.evaluate import evaluate
from tesla_tui.cli.exchange import export_buffers, import_buffers, import_images
from tesla_tui.cli.export import export
from tesla_tui.cli.init import init
from tesla_tui.cli.log import log
from tesla_tui.cli.options import NamesCommand
from tesla_tui.cli.plan import plan
from tesla_tui.cli.report import report
from tesla_tui.cli.run import run, teach
from tesla_tui.cli.serve import serve
from tesla_tui.cli.show import show
from tesla_tui.cli.status import status
from tesla_tui.cli.stop import stop
from tesla_tui.cli.study import study
from tesla_tui.cli.trust import trust
from tesla_tui.cli.tui import tui
from tesla_tui.crash import EscapedError

EPILOG = """
Quick start:

  tesla init my-run --dataset fashion-mnist

  tesla run my-run --quick

  tesla run my-run --ipc 10

  tesla export my-run --run ipc-10 --to out/

--quick gives a first result in about two minutes of a CPU core. No data yet? `tesla demo` takes a minute or two.

Exit codes: 0 success, 1 failure, 2 wrong usage, 12 out of memory, 70 unexpected error (its traceback is saved), 129,
130 and 143 stopped by SIGHUP, Ctrl-C and SIGTERM.
"""

RUN, INSPECT, EXCHANGE, SETUP = "Run", "Inspect", "Import & export", "Setup"


class Commands(TyperGroup):
    """The commands. Errors of theirs that the parser would take for its own pass it by: it says only "Aborted"."""

    def invoke(self, ctx: Any) -> Any:
        """Run one."""
        try:
            return super().invoke(ctx)
        except (EOFError, BrokenPipeError) as error:
            raise EscapedError(error) from error


app = typer.Typer(
    name="tesla",
    cls=Commands,
    help="Distil an image dataset into a few synthetic images per class, by trajectory matching with an exact gradient "
    "in constant memory.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from engine import __version__

        typer.echo(f"tesla {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""


app.command(rich_help_panel=RUN, cls=NamesCommand)(init)
app.command(rich_help_panel=RUN, cls=NamesCommand)(data)
app.command(rich_help_panel=RUN)(plan)
app.command(rich_help_panel=RUN)(run)
app.command(rich_help_panel=RUN)(teach)
app.command(rich_help_panel=RUN)(stop)
app.command(rich_help_panel=RUN)(evaluate)
app.command(rich_help_panel=INSPECT)(tui)
app.command(rich_help_panel=INSPECT)(serve)
app.command(rich_help_panel=INSPECT)(status)
app.command(rich_help_panel=INSPECT)(show)
app.command(rich_help_panel=INSPECT)(log)
app.command(rich_help_panel=INSPECT)(config)
app.command(rich_help_panel=INSPECT)(report)
app.command(rich_help_panel=EXCHANGE)(export)
app.command("import-buffers", rich_help_panel=EXCHANGE)(import_buffers)
app.command("import-images", rich_help_panel=EXCHANGE)(import_images)
app.command("export-buffers", rich_help_panel=EXCHANGE)(export_buffers)
app.command(rich_help_panel=SETUP)(demo)
app.command(rich_help_panel=SETUP)(doctor)
app.add_typer(study, rich_help_panel=RUN)
app.command(rich_help_panel=SETUP)(trust)
app.add_typer(bench, rich_help_panel=SETUP)
