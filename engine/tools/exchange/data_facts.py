"""What an export says about the real data: splits, class order and what was left out, without paths of the maker."""

from pathlib import Path
from typing import Any

from engine.data.cache import cached_report
from engine.data.report import DataReport
from engine.settings.tables import Flat

PATHS = ("dataset.path", "dataset.classes")


def data_facts(folder: Path, settings: Flat) -> dict[str, Any] | None:
    """The short report on a dataset for recipe.json; None if a version without reports decoded it.

    Args:
        folder: its cache entry.
        settings: of the run; its paths are shortened to their last part wherever they occur.
    """
    report = cached_report(folder)
    return None if report is None else without_paths(_facts(report), settings)


def without_paths(value: Any, settings: Flat) -> Any:
    """Facts with the run's local paths shortened to their last part."""
    if isinstance(value, dict):
        return {key: without_paths(item, settings) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item, settings) for item in value]
    if not isinstance(value, str):
        return value
    for key in PATHS:
        path = settings.get(key)
        if isinstance(path, str) and len(path) > 1:
            for whole in (str(Path(path).expanduser()), path):
                value = value.replace(whole, Path(path).name)
    return value


def _facts(report: DataReport) -> dict[str, Any]:
    listing = report.listing
    return {
        "splits": [
            {"name": s.name, "role": s.role, "count": s.count, "unit": s.unit, "why": s.why} for s in listing.splits
        ],
        "class_order": listing.class_order,
        "left_out": [{"what": item.what, "count": item.count, "reason": item.reason} for item in listing.left_out],
        "value_range": report.value_range.value,
        "fit": report.fit.value,
        "notes": list(listing.notes),
    }
