"""dataset.json of a workspace: what its dataset was when it was last looked at, and what changed since."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import CorruptFileError, NewerFormatError, UnreadableFileError
from engine.storage.atomic import FORMAT, read_json, write_json
from engine.storage.untrusted import typed
from engine.storage.versions import check_format

if TYPE_CHECKING:  # engine.data loads PyTorch
    from engine.data.report import DataReport
    from engine.data.request import DataRequest

FILE = "dataset.json"
SHOWN = 3


@dataclass(frozen=True)
class DataSummary:
    """A dataset in a few numbers."""

    source: str
    """Where the images come from, for people."""
    classes: int
    train: int
    test: int
    channels: int
    resolution: int

    @property
    def words(self) -> str:
        """One line."""
        return f"{self.source}: {self.classes:,} classes, {self.train:,} training and {self.test:,} test images"


@dataclass(frozen=True)
class DataDetails:
    """How a dataset was read, for people."""

    summary: DataSummary
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    """Their names, in order."""
    class_order: str
    """What decides it; may be empty."""
    left_out: tuple[str, ...]
    values_and_fit: str


def write_record(folder: Path, request: "DataRequest", report: "DataReport") -> None:
    """Write dataset.json into a workspace."""
    write_json(folder / FILE, _content(request, report), tidy=True)


def read_summary(folder: Path) -> DataSummary | None:
    """The summary in a workspace's dataset.json; None if there is none that can be read."""
    try:
        return check_record(folder)
    except (OSError, CorruptFileError, NewerFormatError, UnreadableFileError):
        return None


def read_details(folder: Path) -> DataDetails | None:
    """The report in a workspace's dataset.json, for people; None if there is none that can be read."""
    try:
        summary = check_record(folder)
        report = read_json(folder / FILE)["report"]
        return DataDetails(
            summary,
            tuple(f"{s['role']}: {s['name']}, {s['count']:,} {s['unit']} ({s['why']})" for s in report["splits"]),
            tuple(str(item["name"]) for item in report["classes"]),
            str(report["class_order"]),
            tuple(f"{item['what']} ({item['reason']})" for item in report["left_out"]),
            f"{report['value_range']['value']}, {report['fit']['value']}: {report['fit']['why']}",
        )
    except (OSError, CorruptFileError, NewerFormatError, UnreadableFileError, KeyError, TypeError, ValueError):
        return None


def check_record(folder: Path) -> DataSummary:
    """The summary in a workspace's dataset.json.

    Raises:
        OSError: there is none.
        CorruptFileError: it is damaged.
        NewerFormatError: a newer version wrote it.
    """
    path = folder / FILE
    found = read_json(path)
    check_format(found.get("format"), FORMAT, path)
    try:
        return typed(DataSummary, found.get("summary"))
    except ValueError as error:
        raise CorruptFileError(f"{path} is damaged: {error}.", "Delete it; the next run writes it again.") from error


def update_record(folder: Path, request: "DataRequest", report: "DataReport") -> str:
    """Rewrite dataset.json if the dataset or how it is read changed; what changed as one sentence, else empty.

    One that is damaged is replaced; one of a newer version stays.
    """
    path = folder / FILE
    new = _content(request, report)
    try:
        old = read_json(path)
        check_format(old.get("format"), FORMAT, path)
    except NewerFormatError:
        return ""
    except (OSError, CorruptFileError):
        old = {}
    if all(old.get(key) == new[key] for key in ("asked", "report")):
        return ""
    write_json(path, new, tidy=True)
    changes = _changes(old, new) if old else []
    return f"The dataset has changed since {FILE} was written: {'; '.join(changes)}." if changes else ""


def _content(request: "DataRequest", report: "DataReport") -> dict[str, Any]:
    summary = DataSummary(
        source=report.source,
        classes=len(report.classes),
        train=sum(facts.train for facts in report.classes),
        test=sum(facts.test for facts in report.classes),
        channels=int(report.channels.value),
        resolution=int(report.resolution.value),
    )
    asked = request.changed()
    # As it is read back: lists for tuples.
    return {"format": FORMAT, "summary": asdict(summary), "asked": asked, "report": _plain(report.to_json())}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs, a phrase each."""
    before, after = _mapping(old.get("asked")), new["asked"]
    keys = [key for key in dict.fromkeys((*before, *after)) if before.get(key) != after.get(key)]
    found = [f"dataset.{key} was {before.get(key, 'unset')}, now {after.get(key, 'unset')}" for key in keys]
    before, after = _mapping(old.get("summary")), new["summary"]
    names = {"source": "source", "train": "training images", "test": "test images", "channels": "channels",
             "resolution": "resolution"}  # fmt: skip
    for key, words in names.items():
        if before.get(key) != after[key]:
            found.append(f"{words}: was {_number(before.get(key))}, now {_number(after[key])}")
    was, now = _classes(old), _classes(new)
    if was != now:
        gone, added = [name for name in was if name not in now], [name for name in now if name not in was]
        found += [f"classes removed: {_some(gone)}"] if gone else []
        found += [f"classes added: {_some(added)}"] if added else []
        found += [] if gone or added else ["the order of the classes"]
    left = [_mapping(part.get("report")).get("left_out") for part in (old, new)]
    if left[0] != left[1]:
        found.append("what is left out")
    return found


def _classes(record: Mapping[str, Any]) -> list[str]:
    listed = _mapping(record.get("report")).get("classes")
    return [str(_mapping(item).get("name")) for item in listed] if isinstance(listed, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
