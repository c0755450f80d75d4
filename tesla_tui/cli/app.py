"""The command tree of `tesla`. Importing this must stay fast: no PyTorch, no engine room that needs it."""

from typing import Annotated

import typer

from tesla_tui.cli.bench import bench
from tesla_tui.cli.config import config
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

EPILOG = """
Three lines to a distilled dataset:

  tesla init my-run --dataset fashion-mnist

  tesla run my-run --ipc 10

  tesla export my-run --run ipc-10 --to out/

No data at hand? `tesla demo` takes a minute or two on a laptop.
"""

WORK, LOOK, FILES, OTHER = "Work", "Look", "Files of others", "Set up and mend"

app = typer.Typer(
    name="tesla",
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


app.command(rich_help_panel=WORK, cls=NamesCommand)(init)
app.command(rich_help_panel=WORK)(plan)
app.command(rich_help_panel=WORK)(run)
app.command(rich_help_panel=WORK)(teach)
app.command(rich_help_panel=WORK)(stop)
app.command(rich_help_panel=WORK)(evaluate)
app.command(rich_help_panel=WORK)(export)
app.command(rich_help_panel=LOOK)(tui)
app.command(rich_help_panel=LOOK)(serve)
app.command(rich_help_panel=LOOK)(status)
app.command(rich_help_panel=LOOK)(show)
app.command(rich_help_panel=LOOK)(log)
app.command(rich_help_panel=LOOK)(config)
app.command(rich_help_panel=LOOK)(report)
app.command("import-buffers", rich_help_panel=FILES)(import_buffers)
app.command("import-images", rich_help_panel=FILES)(import_images)
app.command("export-buffers", rich_help_panel=FILES)(export_buffers)
app.command(rich_help_panel=OTHER)(demo)
app.command(rich_help_panel=OTHER)(doctor)
app.add_typer(study, rich_help_panel=WORK)
app.command(rich_help_panel=OTHER)(trust)
app.add_typer(bench, rich_help_panel=OTHER)
