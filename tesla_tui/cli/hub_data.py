"""What `tesla data` and `tesla init` say about a hub dataset before its download."""

from collections.abc import Generator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

from engine.data.report import FORMAT
from engine.data.sources import Preview
from engine.errors import DataError
from engine.events import Progress, with_progress
from engine.runtime.threads import run_in_thread
from engine.settings import dataset_facts
from engine.storage.filesystem import format_bytes
from tesla_tui.cli.follow import follow
from tesla_tui.render.data import preview_words
from tesla_tui.render.words import clean

if TYPE_CHECKING:
    from engine.events import Event
    from engine.runs.create import DataPlan


def print_undownloaded(console: Console, plan: "DataPlan") -> None:
    """Print published sizes, and what the publisher says where the hub can be reached.

    Raises:
        UsageError: a setting is wrong, or it takes one to decide.
    """
    preview, reason = _preview(plan)
    where = f"{plan.located.description} is not on this machine; opening it downloads it"
    size = f" ({format_bytes(preview.download)})" if preview is not None and preview.download else ""
    console.print(Text(f"{clean(where)}{size}."))
    facts = _published(plan)
    if facts:
        side = f"{facts['resolution']}x{facts['resolution']} {'grey' if facts['channels'] == 1 else 'RGB'}"
        sizes = f"{facts['train']:,} training and {facts['test']:,} test images, {side}"
        console.print(Text(f"As published: {facts['classes']:,} classes, {sizes}."))
    if preview is not None:
        console.print(preview_words(preview), highlight=False)
    elif not facts:
        console.print("Its classes and sizes are not known before that.")
    if reason:
        console.print(Text(clean(f"Its description on the hub could not be read. {reason}"), style="dim"))


def undownloaded_json(plan: "DataPlan") -> dict[str, Any]:
    """The same as an object for JSON.

    Raises:
        UsageError: a setting is wrong, or it takes one to decide.
    """
    preview, _ = _preview(plan)
    found: dict[str, Any] = {"format": FORMAT, "name": plan.located.name, "source": plan.located.description}
    found |= {"download": True, "published": _published(plan)}
    if preview is not None:
        classes = [{"name": name} for name in preview.classes]
        found |= {"download_bytes": preview.download, **asdict(preview.listing), "classes": classes}
    return found


def _published(plan: "DataPlan") -> dict[str, int]:
    """Published sizes of a dataset; empty where they are not known."""
    facts = dataset_facts(plan.request.name)
    if facts is None or not facts.train:
        return {}
    return {key: getattr(facts, key) for key in ("classes", "train", "test", "channels", "resolution")}


def _preview(plan: "DataPlan") -> tuple[Preview | None, str]:
    """What the publisher says; or None, and why it is not known."""
    ask = plan.located.preview
    if ask is None:
        return None, ""
    made: list[Preview] = []

    def asking() -> "Generator[Event, None, None]":
        at = Progress(stage="data", done=0, total=1, unit="datasets")
        made.append((yield from with_progress(run_in_thread(ask), at, "asking the hub")))

    try:
        code = follow(asking(), Console(stderr=True))
    except DataError as error:  # no network: what is published elsewhere is still known
        return None, error.message
    if not made:
        raise typer.Exit(code)
    return made[0], ""
