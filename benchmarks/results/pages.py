"""The pages: what stands between `<!-- results:NAME -->` and `<!-- end -->` is replaced, and plots are drawn.

Each plot ends with the digest of its numbers: one whose numbers are the same is not drawn again.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from benchmarks.results.experiments import Experiment
from benchmarks.results.records import DATA, Record, read_records
from benchmarks.results.tables import (
    Row,
    duration,
    held_out_chart,
    main_rows,
    network_table,
    pair_table,
    paired,
    search_table,
    sentence,
    table,
    tested_networks,
    unimproved,
    whole_row,
)
from engine.tools.studies.outcome import Chart, Column, Curve, Outcome, Value, table_lines

PAGES = ("README.md", "docs/index.md", "docs/results.md", "docs/gradient.md")
IMAGES = Path("docs") / "images"
BLOCK = re.compile(r"(<!-- results:(?P<name>[A-Za-z0-9-]+) -->\n)(?P<text>.*?)(<!-- end -->)", re.DOTALL)
START = "<!-- results:"
MARK = "<!-- numbers: "
WIDTH = 116
FIRST = ("C", "B128", "C32", "B", "A", "C-h200", "E")
"""Experiments by what a newcomer wants to see; the README has the first one with a distilled set that was tested."""
NOT_MEASURED = "Not measured yet."
STUDY = DATA / "gradient-study.json"
"""The study.json of `tesla study gradient`."""
STUDY_COLUMNS = (
    Column("steps", "T", "count"), Column("epoch", "start epoch", "count"),
    Column("cosine", "cosine of dL/dimages", "ratio"), Column("norm_ratio", "norm, paper / exact", "ratio"),
    Column("student_lr_ratio", "dL/dstudent_lr, paper / exact", "ratio"), Column("loss", "matching loss", "number"),
)  # fmt: skip
SHOWN = (
    "dataset.name", "dataset.holdout", "network.name", "network.width", "teachers.count", "distill.ipc",
    "distill.steps", "distill.teacher_epochs", "distill.max_start_epoch", "distill.iterations", "distill.lr_images",
    "evaluate.epochs", "evaluate.repeats", "evaluate.selection_repeats", "evaluate.random_lr",
)  # fmt: skip
"""Settings that a reader of a table needs."""
DRAWN = ("dataset.name", "network.name", "network.width", "distill.ipc", "teachers.count", "distill.iterations")
"""Settings in the line below a plot's title."""


class Pages:
    """Pages and plots as they should be.

    Args:
        root: the folder with README.md and docs.
        experiments: all, by key.

    Raises:
        SystemExit: a marker without its end, or of no known part; names the page.
    """

    def __init__(self, root: Path, experiments: Mapping[str, Experiment]) -> None:
        self.root, self.experiments = root, experiments
        self.records = {key: read_records(root, key) for key in experiments}
        self.plots: dict[Path, tuple[Chart, dict[str, Any]]] = {}
        """Chart and settings of every plot that a page shows."""
        self.texts = {path: self._text(path) for path in (root / name for name in PAGES) if path.exists()}

    def _text(self, path: Path) -> str:
        text = path.read_text()
        if text.count(START) != len(BLOCK.findall(text)):
            raise SystemExit(
                f"{path}: a `<!-- results:NAME -->` has no `<!-- end -->`, or its name has other characters."
            )
        return BLOCK.sub(lambda match: f"{match[1]}\n{self._part(match['name'], path)}\n\n{match[4]}", text)

    def _part(self, name: str, path: Path) -> str:
        special = {
            "first": lambda: self._first("docs/" if path.parent == self.root else ""),
            "exactness": self._exactness,
            "verdict": self._verdict,
            "gradient-study": self._study,
        }
        if name not in (*special, *self.experiments):
            known = ", ".join((*special, *self.experiments))
            raise SystemExit(f"{path}: there is no part {name!r}. There are: {known}.")
        lines = special[name]() if name in special else self.section(name)
        return "\n".join(_wrapped(lines)).strip("\n")

    def rows(self, key: str, ipc: int | None = None) -> list[Row]:
        """The rows of an experiment, with that of all training images."""
        experiment, whole = self.experiments[key], whole_row(self.experiments, self.records, key)
        rows = main_rows(experiment, self.records[key], ipc or experiment.ipc)
        return [*(row for row in rows if row.method != "whole"), *([whole] if whole else [])]

    def section(self, key: str) -> list[str]:
        """Tables, plot, search, origin and command of an experiment."""
        experiment, records = self.experiments[key], self.records[key]
        where = f"{key} --folder {experiment.workspace}"
        repeat = ["To repeat it (`--list` prints the command of every run):", ""]
        repeat += [f"    python -m benchmarks.results {command} {where}" for command in ("run", "collect")]
        searches = search_table(experiment, records)
        if searches:
            searches = ["How the rates are chosen, one run for each:", "", *searches, ""]
        if records:
            repeat = [f"Every run, with its settings: [results-{key}.json](data/results-{key}.json).", "", *repeat]
        if not any(run.complete and run.rate is None for run in records):
            return [NOT_MEASURED, "", *searches, *repeat]
        lines = [experiment.note, ""] if experiment.note else []
        if experiment.networks:
            lines += [*network_table(experiment, records), ""]
            missing = [name for name in experiment.networks if name not in tested_networks(records)]
            lines += [f"Not tested yet: {', '.join(missing)}.", ""] if missing else []
            return [*lines, *_origin(records), "", *repeat]
        for ipc in experiment.ipcs:
            lines += [f"IPC {ipc}:", ""] if len(experiment.ipcs) > 1 else []
            lines += [
                *table(self.rows(key, ipc)),
                "",
                *self._unfinished(key, ipc),
                *unimproved(experiment, records, ipc),
            ]
        if pairs := pair_table(experiment, records):
            lines += [*pairs, ""]
        if chart := held_out_chart(experiment, records):
            lines += [self._plot(f"results-{key}.svg", chart, _shared(records, DRAWN)), ""]
        return [*lines, *searches, *_origin(records), "", *repeat]

    def _unfinished(self, key: str, ipc: int) -> list[str]:
        """The members of an IPC that lack a test."""
        tested = {row.label for row in main_rows(self.experiments[key], self.records[key], ipc) if row.test}
        missing = [member.label for member in self.experiments[key].of_ipc(ipc) if member.label not in tested]
        return [f"Not tested yet: {'; '.join(missing)}.", ""] if missing else []

    def _plot(self, name: str, chart: Chart, setting: dict[str, Any]) -> str:
        self.plots[self.root / IMAGES / name] = chart, setting
        return f"![{chart.title}](images/{name})"

    def _first(self, docs: str) -> list[str]:
        """The table a newcomer sees: distilled, random and whole, with n and hours."""
        for key in FIRST:
            records = self.records.get(key, [])
            if not records or not any(row.test and row.method in ("tesla", "mtt", "datm") for row in self.rows(key)):
                continue
            experiment, settings = self.experiments[key], records[0].settings
            count = f"{experiment.ipc} image{'s' if experiment.ipc > 1 else ''} per class"
            network = f"{records[0].network} of width {settings.get('network.width')}"
            most = max(run.iterations for run in records if run.rate is None)
            machines = ", ".join(sorted({run.machine for run in records}))
            spent = duration(3600 * sum(run.hours for run in records))
            return [
                *table(self.rows(key), left_out=("networks", "runs")),
                "",
                f"{experiment.title} ({settings['dataset.name']}, {count}, {network}, {most:,} iterations), on "
                f"{machines}: mean over n runs with its 95 % interval (Student's t), {spent} in all. Checkpoints and "
                "rates are selected on held-out training images, nothing on test images. "
                + " ".join([*filter(None, self._unfinished(key, experiment.ipc)), f"[All results]({docs}results.md)."]),
            ]
        return [NOT_MEASURED]

    def _exactness(self) -> list[str]:
        """The paired differences of every experiment that has pairs."""
        found = [(pair_table(self.experiments[key], records), records) for key, records in self.records.items()]
        lines = [line for rows, records in found if rows for line in (*rows, "", *_origin(records), "")]
        return lines or [NOT_MEASURED]

    def _verdict(self) -> list[str]:
        """The answer of every pair as a sentence."""
        found = [
            f"* {sentence(experiment, pair, difference)}"
            for key, experiment in self.experiments.items()
            for pair in experiment.pairs
            if (difference := paired(pair, self.records[key])) is not None
        ]
        return found or ["Whether exactness pays in accuracy is not measured yet."]

    def _study(self) -> list[str]:
        """Table and plots of `tesla study gradient`."""
        file = self.root / STUDY
        if not file.exists():
            return [NOT_MEASURED]
        study = json.loads(file.read_text())
        keys = [column.key for column in STUDY_COLUMNS]
        rows = [
            {key: Value(**row[key]) if isinstance(row[key], dict) else row[key] for key in keys}
            for row in sorted(study["rows"], key=lambda row: (row["epoch"], row["steps"]))
        ]
        lines = []
        for key, name, title in (
            ("cosine", "cosine", "Cosine of the two image gradients"),
            ("student_lr_ratio", "student-lr", "dL/dstudent_lr, paper / exact"),
        ):
            curves = []
            for epoch in sorted({row["epoch"] for row in rows}):
                some = [row for row in rows if row["epoch"] == epoch]
                means, spreads = [row[key].mean for row in some], [row[key].std or 0.0 for row in some]
                curves.append(Curve(f"start epoch {epoch}", [row["steps"] for row in some], means, spreads))
            curves.append(Curve("equal", [rows[0]["steps"], rows[-1]["steps"]], [1, 1], reference=True))
            chart = Chart(title, "matching steps T", key.replace("_", " "), curves, spread="standard deviation")
            lines += [self._plot(f"results-gradient-{name}.svg", chart, study["setting"]), ""]
        setting = ", ".join(f"`{key}` {value}" for key, value in study["setting"].items())
        return [*lines, *table_lines(STUDY_COLUMNS, rows), "", f"Settings: {setting}."]


def rebuild(root: Path, experiments: Mapping[str, Experiment]) -> list[Path]:
    """Rewrite the pages and plots that are not as they should be; their paths."""
    pages = Pages(root, experiments)
    changed = stale(pages)
    for path in changed:
        if path in pages.texts:
            path.write_text(pages.texts[path])
        else:
            _draw(path, *pages.plots[path])
    return changed


def stale(pages: Pages) -> list[Path]:
    """Pages and plots that differ from the numbers in docs/data; empty if all are up to date."""
    plots = [path for path, drawn in pages.plots.items() if not _is_of(path, _digest(*drawn))]
    return [path for path, text in pages.texts.items() if path.read_text() != text] + plots


def _origin(records: Sequence[Record]) -> list[str]:
    """Settings, versions, machine and hours."""
    measured = [r for r in records if r.rate is None and r.settings["distill.method"] not in ("random", "whole")]
    settings = ", ".join(f"`{key}` {_number(v)}" for key, v in _shared(measured or records, SHOWN).items())
    versions, torch, machines, threads = (
        ", ".join(sorted(values))
        for values in (
            {f"tesla {r.version}" + (f" ({r.commit})" if r.commit else "") for r in records},
            {r.torch for r in records},
            {r.machine for r in records},
            {str(r.threads) for r in records},
        )
    )
    teachers = 3600 * sum(r.teacher_hours for r in records)
    more = f", and {duration(teachers)} for teachers within them" if teachers else ""
    return [
        f"Settings: {settings}.",
        "",
        f"Measured with {versions}, PyTorch {torch} on {machines}, {threads} thread{'' if threads == '1' else 's'} "
        f"each: {len(records)} runs, {duration(3600 * sum(r.hours for r in records))} in all{more}.",
    ]


def _shared(records: Sequence[Record], keys: Sequence[str]) -> dict[str, Any]:
    """The settings, of some, that all runs have."""
    first = records[0].settings
    return {key: first[key] for key in keys if key in first and all(r.settings.get(key) == first[key] for r in records)}


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _wrapped(lines: Sequence[str]) -> Iterator[str]:
    """Long paragraphs on several lines; tables, commands and pictures as they are."""
    for line in lines:
        if not line or line.startswith(("|", "    ", "!")):
            yield line
        else:
            indent = "  " if line.startswith("* ") else ""
            yield from wrap(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _digest(chart: Chart, setting: dict[str, Any]) -> str:
    """Of what is drawn; fields of charts that others use do not count."""
    curves = [(curve.label, curve.x, curve.y, curve.spread) for curve in chart.curves]
    drawn = [chart.title, chart.x_label, chart.y_label, chart.spread, curves, setting]
    return hashlib.sha256(json.dumps(drawn, sort_keys=True).encode()).hexdigest()[:16]


def _is_of(path: Path, digest: str) -> bool:
    return path.exists() and path.read_text().endswith(f"{MARK}{digest} -->\n")


def _draw(path: Path, chart: Chart, setting: dict[str, Any]) -> None:
    from tesla_tui.render.study_chart import draw_charts  # loads matplotlib

    outcome = Outcome(path.stem, chart.title, "", (), (), [chart], setting=setting)
    with tempfile.TemporaryDirectory() as folder:
        svg = next(file for file in draw_charts(outcome, Path(folder)) if file.suffix == ".svg")
        text = "\n".join(line.rstrip() for line in svg.read_text().splitlines())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n{MARK}{_digest(chart, setting)} -->\n")
