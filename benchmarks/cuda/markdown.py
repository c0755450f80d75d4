"""The page: a table for each group, from whatever rows there are."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cuda.groups import GROUPS, Group
from benchmarks.cuda.rows import Row

MACHINE = "machine"
"""What the row of the group `doctor` is called that describes the machine."""


def page(rows: Sequence[Row], device: str, seconds: float) -> str:
    """Markdown of all rows."""
    counts = Counter(row.verdict for row in rows)
    machine = next((row.measured for row in rows if row.group == "doctor" and row.what == MACHINE), "unknown machine")
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(min((row.at for row in rows), default=time.time())))
    lines = [
        "# Results of `make cuda`",
        "",
        f"{machine}. {made}, {seconds:.0f} s.",
        "",
        f"{counts['pass']} passed, {counts['fail']} failed, {counts['not finished']} not finished, "
        f"{counts['not run']} not run; {counts['']} figures without a limit.",
        "",
    ]
    if device == "cpu":
        lines += ["**On a CPU, at the smallest sizes: a rehearsal. Its figures mean nothing.**", ""]
    problems = [row for row in rows if row.verdict in ("fail", "not finished")]
    if problems:
        lines += ["## What failed", "", *_table(problems, named=True), ""]
    for group in GROUPS:
        found = [row for row in rows if row.group == group.name]
        if found:
            lines += [f"## {group.title}", "", group.about, "", *_table(_in_order(group, found)), ""]
    return "\n".join(lines)


def write_page(path: Path, rows: Sequence[Row], device: str, seconds: float) -> None:
    """Replace the page at once, so that a kill leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(page(rows, device, seconds))
    draft.replace(path)


def _in_order(group: Group, rows: list[Row]) -> list[Row]:
    """By part, as they are listed; within one as they came."""
    return sorted(rows, key=lambda row: group.parts.index(row.part) if row.part in group.parts else len(group.parts))


def _table(rows: Sequence[Row], *, named: bool = False) -> list[str]:
    lines = ["| | what | measured | limit | |", "|---|---|---|---|---|"]
    for row in rows:
        first = row.group + (f", {row.part}" if row.part else "") if named else row.part
        cells = (first, row.what, row.measured, row.limit, row.verdict)
        lines.append("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    return lines
