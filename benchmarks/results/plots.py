"""Plots as SVG. Each ends with the digest of its numbers: only a plot whose numbers changed is drawn again."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.results.experiments import Experiment
from benchmarks.results.records import Data
from engine.tools.studies.outcome import Chart, Curve, Outcome
from engine.tools.studies.statistics import mean_interval

MARK = "<!-- numbers: "


def held_out_chart(experiment: Experiment, data: Data) -> Chart | None:
    """Held-out accuracy by iteration of every member: the mean over its complete runs; None without curves."""
    several = len({member.ipc or experiment.ipc for member in experiment.members}) > 1
    curves = []
    for member in experiment.members:
        runs = [dict(run.holdout) for run in data.of(member.name) if run.complete]
        shared = sorted(set.intersection(*map(set, runs))) if runs else []
        if len(shared) < 2:
            continue
        values = [mean_interval([run[at] for run in runs]) for at in shared]
        label = f"{member.label} (IPC {member.ipc or experiment.ipc})" if several else member.label
        curves.append(Curve(label, shared, [v.mean for v in values], [v.half or 0.0 for v in values]))
    if not curves:
        return None
    return Chart(f"{experiment.title}: held-out accuracy", "iteration", "accuracy, %", curves, percent=True)


def digest(chart: Chart, setting: dict[str, Any]) -> str:
    """Of everything that is drawn."""
    return hashlib.sha256(json.dumps([asdict(chart), setting], sort_keys=True).encode()).hexdigest()[:16]


def numbers_of(path: Path) -> str:
    """The digest at the end of a plot; empty if there is none."""
    if not path.exists():
        return ""
    return path.read_text().rpartition(MARK)[2].removesuffix(" -->\n") if MARK in path.read_text() else ""


def draw(chart: Chart, setting: dict[str, Any], path: Path) -> bool:
    """Write a plot; False if the one that is there has the same numbers."""
    wanted = digest(chart, setting)
    if numbers_of(path) == wanted:
        return False
    from tesla_tui.render.study_chart import draw_charts  # loads matplotlib

    outcome = Outcome(path.stem, chart.title, "", (), (), [chart], setting=setting)
    with tempfile.TemporaryDirectory() as folder:
        svg = next(file for file in draw_charts(outcome, Path(folder)) if file.suffix == ".svg")
        text = "\n".join(line.rstrip() for line in svg.read_text().splitlines())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n{MARK}{wanted} -->\n")
    return True


def setting_of(data: Data, keys: Sequence[str] = ("dataset.name", "network.name", "network.width")) -> dict[str, Any]:
    """What the line below a plot's title says."""
    keys = (*keys, "distill.ipc", "teachers.count", "distill.iterations")
    return {key: data.settings[key] for key in keys if key in data.settings}
