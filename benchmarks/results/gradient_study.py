"""The numbers of `tesla study gradient`, kept in docs/data and drawn as its table and plots."""

import json
from pathlib import Path
from typing import Any

from benchmarks.results.records import DATA
from benchmarks.results.rows import markdown
from engine.tools.studies.outcome import Chart, Curve

FILE = DATA / "gradient-study.json"
FIGURES = ("cosine", "norm_ratio", "student_lr_ratio")
HEADINGS = (
    "T", "start epoch", "cosine of dL/dimages", "norm, paper / exact", "dL/dstudent_lr, paper / exact", "matching loss",
)  # fmt: skip


def keep(root: Path, study: Path) -> Path:
    """Copy rows and setting of a study.json.

    Raises:
        SystemExit: it is not one of this study.
    """
    try:
        value = json.loads(study.read_text())
        rows = [
            {"steps": row["steps"], "epoch": row["epoch"], **{key: row[key] for key in FIGURES}, "loss": row["loss"]}
            for row in value["rows"]
        ]
        setting = value["setting"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{study} is not the study.json of `tesla study gradient`: {error!r}") from error
    file = root / FILE
    lines = ",\n".join(json.dumps(row) for row in rows)
    file.write_text(f'{{"setting": {json.dumps(setting)}, "rows": [\n{lines}\n]}}\n')
    return file


def read(root: Path) -> dict[str, Any] | None:
    """What was kept; None if nothing."""
    file = root / FILE
    return json.loads(file.read_text()) if file.exists() else None


def table(study: dict[str, Any]) -> list[str]:
    """A row for every T and start epoch."""
    rows = sorted(study["rows"], key=lambda row: (row["epoch"], row["steps"]))
    cells = [
        [str(row["steps"]), str(row["epoch"]), *(_value(row[key]) for key in FIGURES), f"{row['loss']:.4g}"]
        for row in rows
    ]
    return markdown(HEADINGS, cells, left=0)


def charts(study: dict[str, Any]) -> dict[str, Chart]:
    """The two plots, by file name."""
    return {
        "results-gradient-cosine.svg": _chart(study, "Cosine of the two image gradients", "cosine", "cosine"),
        "results-gradient-student-lr.svg": _chart(study, "dL/dstudent_lr, paper / exact", "ratio", FIGURES[2]),
    }


def _chart(study: dict[str, Any], title: str, y_label: str, figure: str) -> Chart:
    curves = []
    steps = sorted({row["steps"] for row in study["rows"]})
    for epoch in sorted({row["epoch"] for row in study["rows"]}):
        rows = sorted((row for row in study["rows"] if row["epoch"] == epoch), key=lambda row: row["steps"])
        means, spreads = ([row[figure][part] or 0.0 for row in rows] for part in ("mean", "std"))
        curves.append(Curve(f"start epoch {epoch}", [row["steps"] for row in rows], means, spreads))
    curves.append(Curve("equal", [steps[0], steps[-1]], [1, 1], reference=True))
    return Chart(title, "matching steps T", y_label, curves)


def _value(value: dict[str, Any]) -> str:
    spread = "" if value["std"] is None else f" ± {value['std']:.4f}"
    return f"{value['mean']:.4f}{spread}"
