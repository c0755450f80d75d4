"""The evaluations in a run's folder: one file for each result and its protocol, those of other protocols beside it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.errors import CorruptFileError, NewerFormatError
from engine.events import EvaluationDone
from engine.runs.protocol import protocol_digest
from engine.storage.atomic import FORMAT, read_json, write_json
from engine.storage.reading import paths_in
from engine.storage.untrusted import typed
from engine.storage.versions import check_format


def write_evaluation(folder: Path, result: EvaluationDone, protocol: dict[str, Any], *, apart: bool = False) -> None:
    """Save a result with its protocol, beside those of other protocols; `apart`: it leaves them the plain name."""
    path = _plain_path(folder, result.iteration, result.subject, result.split, result.network)
    there = _read(path)
    if apart or (there is not None and there[1] != protocol):
        path = _told_apart(path, protocol)
    write_json(path, {"format": FORMAT, "protocol": protocol, "result": asdict(result)}, tidy=True)


def read_evaluations(folder: Path) -> list[tuple[EvaluationDone, dict[str, Any]]]:
    """Every result that this version can read, of whichever protocol, with its protocol; by iteration."""
    records = map(_read, paths_in(folder, ".json"))
    return [record for record in records if record is not None]


def find_evaluation(
    folder: Path, iteration: int, subject: str, split: str, network: str, protocol: dict[str, Any]
) -> EvaluationDone | None:
    """The result, if it was measured to the same protocol."""
    path = _plain_path(folder, iteration, subject, split, network)
    for record in (_read(path), _read(_told_apart(path, protocol))):
        if record is not None and record[1] == protocol:
            return record[0]
    return None


def find_in_other_runs(
    folder: Path, iteration: int, subject: str, split: str, network: str, protocol: dict[str, Any]
) -> EvaluationDone | None:
    """A result of the same protocol that another run of the workspace already has; `folder` is this run's."""
    for run in paths_in(folder.parents[1]):
        if run != folder.parent:
            found = find_evaluation(run / folder.name, iteration, subject, split, network, protocol)
            if found is not None:
                return found
    return None


def _plain_path(folder: Path, iteration: int, subject: str, split: str, network: str) -> Path:
    safe = "".join(c if c.isalnum() or c in "._" else "-" for c in network)
    return folder / f"{iteration:07d}-{split}-{subject}-{safe}.json"


def _told_apart(path: Path, protocol: dict[str, Any]) -> Path:
    """Where a result is stored if one of another protocol has its plain name."""
    return path.with_name(f"{path.stem}@{protocol_digest(protocol)}{path.suffix}")


def _read(path: Path) -> tuple[EvaluationDone, dict[str, Any]] | None:
    """A result and its protocol; None if there is none that this version can read."""
    try:
        value = read_json(path)
        check_format(value.get("format"), FORMAT, path)
        return typed(EvaluationDone, value["result"]), dict(value["protocol"])
    except (OSError, CorruptFileError, NewerFormatError, AttributeError, KeyError, TypeError, ValueError):
        return None
