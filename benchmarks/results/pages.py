"""The pages: what stands between `<!-- results:NAME -->` and `<!-- end -->` is replaced, and plots are drawn."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import Any

from benchmarks.results import gradient_study, sections
from benchmarks.results.experiments import Experiment
from benchmarks.results.plots import digest, draw, numbers_of
from benchmarks.results.rows import duration, paired, points, unfinished
from benchmarks.results.sections import NOT_MEASURED, Results, read_results
from engine.tools.studies.outcome import Chart

PAGES = ("README.md", "docs/index.md", "docs/results.md", "docs/gradient.md")
BLOCK = re.compile(r"(<!-- results:(?P<name>[A-Za-z0-9-]+) -->\n)(?P<text>.*?)(<!-- end -->)", re.DOTALL)
WIDTH = 116
START = re.compile(r"<!-- results:")
FIRST = ("C", "B", "A", "C-h200", "E")
"""Experiments by what a newcomer wants to see; the README has the first one with a distilled set that was tested."""

Charts = dict[str, tuple[Chart, dict[str, Any]]]


def built(root: Path, experiments: Mapping[str, Experiment]) -> tuple[dict[Path, str], Charts]:
    """The text of every page as it should be, and the plots by file name.

    Raises:
        SystemExit: a marker without its end, or of no known part; names the page.
    """
    results, charts = read_results(root, experiments), Charts()
    texts = {}
    for name in PAGES:
        path = root / name
        if not path.exists():
            continue
        text = path.read_text()
        if len(START.findall(text)) != len(BLOCK.findall(text)):
            raise SystemExit(
                f"{path}: a `<!-- results:NAME -->` has no `<!-- end -->`, or its name has other characters."
            )
        texts[path] = BLOCK.sub(partial(_replaced, results=results, charts=charts, root=root, path=path), text)
    return texts, charts


def rebuild(root: Path, experiments: Mapping[str, Experiment]) -> list[Path]:
    """Rewrite the pages and plots that are not as they should be; their paths."""
    texts, charts = built(root, experiments)
    changed = []
    for path, text in texts.items():
        if path.read_text() != text:
            path.write_text(text)
            changed.append(path)
    for name, (chart, setting) in charts.items():
        path = root / "docs" / "images" / name
        if draw(chart, setting, path):
            changed.append(path)
    return changed


def stale(root: Path, experiments: Mapping[str, Experiment]) -> list[str]:
    """Pages and plots that differ from the numbers in docs/data; empty if all are up to date."""
    texts, charts = built(root, experiments)
    found = [str(path.relative_to(root)) for path, text in texts.items() if path.read_text() != text]
    images = {root / "docs" / "images" / name: digest(*drawn) for name, drawn in charts.items()}
    return found + [str(path.relative_to(root)) for path, wanted in images.items() if numbers_of(path) != wanted]


def _replaced(match: re.Match[str], results: Results, charts: Charts, root: Path, path: Path) -> str:
    name = match["name"]
    special: dict[str, Callable[[], list[str]]] = {
        "first": lambda: _first(results, "docs/" if path.parent == root else ""),
        "exactness": lambda: _exactness(results),
        "verdict": lambda: _verdict(results),
        "gradient-study": lambda: _gradient_study(root, charts),
    }
    if name in special:
        lines = special[name]()
    elif name in results.experiments:
        lines, drawn = sections.section(results, name)
        charts.update(drawn)
    else:
        known = ", ".join((*special, *results.experiments))
        raise SystemExit(f"{path}: there is no part {name!r}. There are: {known}.")
    return f"{match[1]}\n" + "\n".join(_wrapped(lines)).strip("\n") + f"\n\n{match[4]}"


def _wrapped(lines: Sequence[str]) -> Iterator[str]:
    """Long paragraphs on several lines; tables, commands and pictures as they are."""
    for line in lines:
        if not line or line.startswith(("|", "    ", "!", "<")):
            yield line
        else:
            indent = "  " if line.startswith("* ") else ""
            yield from wrap(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _first(results: Results, docs: str) -> list[str]:
    """The table a newcomer sees: distilled, random and whole, with n and hours."""
    for key in FIRST:
        data = results.data.get(key)
        if data is None or not any(row.ours and row.test for row in results.rows(key)):
            continue
        experiment, rows = results.experiments[key], results.rows(key)
        runs = [run for run in data.runs if run.rate is None]
        machine = ", ".join(sorted({run.machine for run in runs}))
        what = f"{data.settings['dataset.name']}, {experiment.ipc} image{'s' if experiment.ipc > 1 else ''} per class"
        width = data.settings.get("network.width")
        spent = 3600 * sum(run.hours for run in data.runs)
        made = max((run.iterations for run in runs), default=0)
        network = f"{data.settings['network.name']} of width {width}"
        about = f"{experiment.title} ({what}, {network}, at most {made:,} iterations)"
        missing = unfinished(experiment, data)
        tail = f" Not measured yet: {'; '.join(missing)}." if missing else ""
        return [
            *sections.table(rows, short=True),
            "",
            f"{about}, on {machine}: mean over n runs with its 95 % interval (Student's t), {duration(spent)} in "
            f"all. The checkpoint is selected on held-out training images, and the test images are used once.{tail} "
            f"[All results]({docs}results.md).",
        ]
    return [NOT_MEASURED]


def _exactness(results: Results) -> list[str]:
    """The paired differences of every experiment that has pairs."""
    lines = []
    for key, experiment in results.experiments.items():
        data = results.data.get(key)
        if experiment.pairs and data is not None:
            lines += [*sections.pair_table(experiment, data), "", *sections.origin(data), ""]
    return lines or [NOT_MEASURED]


def _verdict(results: Results) -> list[str]:
    """The answer of every pair as a sentence."""
    found = [
        f"{experiment.title}, {pair.label}: {points(difference)} points of test accuracy, {difference.count} pairs of "
        f"runs: {sections.verdict(difference)}."
        for key, experiment in results.experiments.items()
        if (data := results.data.get(key)) is not None
        for pair in experiment.pairs
        if (difference := paired(pair, data)) is not None
    ]
    if not found:
        return ["Whether exactness pays in accuracy is not measured yet."]
    return [*(f"* {words}" for words in found)]


def _gradient_study(root: Path, charts: Charts) -> list[str]:
    study = gradient_study.read(root)
    if study is None:
        return [NOT_MEASURED]
    lines = []
    for name, chart in gradient_study.charts(study).items():
        charts[name] = (chart, study["setting"])
        lines += [f"![{chart.title}](images/{name})", f"<!-- numbers: {digest(chart, study['setting'])} -->", ""]
    setting = ", ".join(f"`{key}` {value}" for key, value in study["setting"].items())
    return [*lines, *gradient_study.table(study), "", f"Settings: {setting}."]
