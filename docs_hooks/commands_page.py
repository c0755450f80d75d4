"""Every command with its arguments and options, from Typer's own metadata."""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, installed or not

from tesla_tui.cli.app import app
from tesla_tui.cli.options import with_names

INTRO = """\
# Commands

Generated from the program: `tesla COMMAND --help` shows the same. Exit codes: 0 success, 1 failure, 2 invalid request,
12 out of memory; 129, 130 and 143 stopped by SIGHUP, Ctrl-C and SIGTERM, with the work saved.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    return files


def commands_page() -> str:
    """The page of all commands."""
    root = typer.main.get_command(app)
    context = root.context_class(root, info_name="tesla")
    return INTRO + "".join(_section(command, ctx) for command, ctx in _walk(root, context))


def _walk(command: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    subcommands = getattr(command, "commands", None)
    if context.parent is not None:
        yield command, context
    for name, child in (subcommands or {}).items():
        if not child.hidden:
            yield from _walk(child, child.context_class(child, info_name=name, parent=context))


def _section(command: Any, context: Any) -> str:
    level = "##" if context.parent.parent is None else "###"
    usage = command.get_usage(context).removeprefix("Usage: ")
    lines = ["", f"{level} {context.command_path}", "", f"`{' '.join(usage.split())}`", "", _help(command), ""]
    rows = [row for parameter in command.params if (row := _row(parameter, context))]
    if rows:
        lines += ["| | meaning |", "|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _help(command: Any) -> str:
    """The help text, its examples as one code block."""
    text, sign, examples = inspect.cleandoc(command.help or "").partition("Example")
    if not sign:
        return text.strip()
    code = [line.strip() for line in examples.partition(":")[2].splitlines() if line.strip()]
    return "\n".join([text.strip(), "", *(f"    {line}" for line in code)])


def _row(parameter: Any, context: Any) -> str | None:
    record = parameter.get_help_record(context)
    if record is None or "--help" in parameter.opts:
        return None
    name, meaning = record
    name = re.sub(r"\s+", " ", name).replace("|", "\\|")
    return f"| `{name}` | {_words(with_names(meaning))} |"


def _words(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")
