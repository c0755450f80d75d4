"""Rendering a report: facts, curves and pictures into the template, with all untrusted text escaped."""

import time
import tomllib
from importlib.resources import files
from pathlib import Path

from engine.errors import UsageError
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.settings.decoders import formation_words
from engine.storage.atomic import write_bytes
from engine.storage.reading import open_to_read
from tesla_tui.render.cells import cut
from tesla_tui.render.words import clean
from tesla_tui.report import words
from tesla_tui.report.commands import commands
from tesla_tui.report.facts import Facts, gather

GENERATOR = "tesla report"
"""Marks a file as a report, so that only reports are overwritten."""


def write_report(workspace: Workspace, run: Run, path: Path) -> int:
    """Write the report of a run; its bytes. An older report of that name is replaced.

    Raises:
        UsageError: a file that is not a report has that name.
        TeslaError: the run's settings are damaged.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder.", "Name a file, e.g. --to report.html")
    if path.exists() and not _is_report(path):
        raise UsageError(f"{path} already exists and is not a report.", "Choose another file with --to.")
    page = render(gather(workspace, run)).encode()
    write_bytes(path, page, tidy=True)
    return len(page)


def _is_report(path: Path) -> bool:
    with open_to_read(path) as file:
        return f'content="{GENERATOR}'.encode() in file.read(4096)


def render(facts: Facts) -> str:
    """The page as one string."""
    # Slow to import, and nothing else of the program needs them.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from engine import __version__
    from tesla_tui.report.charts import charts
    from tesla_tui.report.pictures import pictures

    environment = Environment(
        loader=PackageLoader("tesla_tui.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cut"] = cut
    rows = words.settings_table(facts)
    figure, figure_of = words.headline(facts)
    return environment.get_template("report.html.j2").render(
        generator=f"{GENERATOR} {__version__}",
        style=files("tesla_tui.report").joinpath("report.css").read_text(encoding="utf-8"),
        dataset=clean(words.dataset_name(facts)),
        run=facts.run.name,
        workspace=clean(facts.workspace.folder.resolve().name),
        ipc=facts.effective.settings.distill.ipc,
        holding=formation_words(facts.effective.settings.distill.formation),
        state=facts.state,
        state_words=words.state_words(facts),
        summary=words.summary(facts),
        figure=figure,
        figure_of=figure_of,
        bars=words.bars(facts),
        charts=charts(facts),
        pictures=pictures(facts),
        evaluations=words.evaluation_rows(facts.tests, facts.unimproved),
        others=words.evaluation_rows(facts.others, facts.unimproved),
        settings=[row for row in rows if row.own],
        defaults=[row for row in rows if not row.own],
        costs=words.costs(facts),
        environment=words.environment(facts),
        provenance=words.provenance(facts),
        troubles=words.troubles(facts),
        skipped=facts.view.skipped,
        recoveries=facts.view.recoveries,
        commands=commands(facts),
        citations=_citations(facts),
        made=time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(facts.made)),
    )


def _citations(facts: Facts) -> list[str]:
    """BibTeX of the method and, where it is known, of the dataset."""
    entries = tomllib.loads(files("tesla_tui.report").joinpath("citations.toml").read_text(encoding="utf-8"))
    wanted = [] if facts.origin is not None else ["tesla"]
    name = facts.effective.settings.dataset.name
    wanted += [entry for entry, known in entries.items() if name in known.get("datasets", ())]
    return [entries[entry]["bibtex"].strip() for entry in wanted]
