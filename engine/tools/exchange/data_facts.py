"""What an export says about the real data: name, licence, splits, class order, left out; no paths of the maker."""

import re
from pathlib import Path
from typing import Any

from engine.data.cache import cached_report
from engine.data.dataset import Dataset
from engine.data.registry import FOLDER
from engine.data.report import DataReport
from engine.data.request import DataRequest
from engine.errors import UsageError
from engine.settings.datasets import UNKNOWN, dataset_facts
from engine.settings.schema import DatasetSettings

LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
Paths = tuple[tuple[str, str], ...]
"""Local paths, and what is written instead of each."""


def check_licence(licence: str | None) -> None:
    """Check a licence that the exporter gives.

    Raises:
        UsageError: it is not spelled as the hub does.
    """
    if licence is not None and not LICENCE.fullmatch(licence):
        raise UsageError(
            f"{licence!r} is not a licence as the hub spells it.",
            "Give its id in lower case, such as cc-by-4.0 or mit; other, if it is not on the hub's list; or unknown.",
        )


def local_paths(settings: DatasetSettings, workspace: Path) -> Paths:
    """The paths in a run's settings, as they may occur in texts about its data; longest first."""
    whole = DataRequest.of(settings, workspace)
    found = {str(Path.home()): "~"}
    for path, given in ((whole.path, settings.path), (whole.classes, settings.classes)):
        if path is not None and given is not None:
            name = _last(path)
            forms = (path, path.absolute(), path.resolve(), Path(given).expanduser(), given)
            found |= {text: name for form in forms if len(text := str(form)) > 2}
    return tuple(sorted(found.items(), key=lambda pair: -len(pair[0])))


def without_paths(value: Any, paths: Paths) -> Any:
    """Facts with local paths shortened to their last part."""
    if isinstance(value, dict):
        return {key: without_paths(item, paths) for key, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item, paths) for item in value]
    if isinstance(value, str):
        for path, name in paths:
            value = value.replace(path, name)
    return value


def dataset_title(settings: DatasetSettings, workspace: Path) -> str:
    """What a dataset is called: its title, its hub id, or the name of a folder of pictures."""
    known = None if settings.name == FOLDER else dataset_facts(settings.name)
    return _name(settings, workspace) if known is None else known.title


def dataset_entry(dataset: Dataset, settings: DatasetSettings, workspace: Path) -> dict[str, Any]:
    """The table `dataset` of recipe.json, without the numbers of images.

    Args:
        dataset: the real data.
        settings: of the run.
        workspace: which paths in them are relative to.
    """
    known, paths = dataset_facts(settings.name), local_paths(settings, workspace)
    report = cached_report(dataset.folder)
    return {
        "name": _name(settings, workspace),
        "title": dataset_title(settings, workspace),
        "license": UNKNOWN if known is None else known.license,
        "source": without_paths(dataset.source, paths),
        "fingerprint": dataset.fingerprint,
        "classes": list(dataset.classes),
        # None if a version without reports decoded it.
        "report": None if report is None else without_paths(_facts(report), paths),
    }


def _name(settings: DatasetSettings, workspace: Path) -> str:
    path = DataRequest.of(settings, workspace).path
    if settings.name != FOLDER or path is None:
        return settings.name
    return _last(path).removesuffix(".zip").removesuffix(".parquet")


def _last(path: Path) -> str:
    return path.resolve().name if path.name in ("", "..") else path.name


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
