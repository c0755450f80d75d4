"""What is known about a dataset before anything is decoded: what was chosen and why, and what is left out.

A source fills in a `Listing` (splits, configuration, columns, what it leaves out); `engine.data.resolve` adds
classes, modes, sizes and value range, which gives the `DataReport` that people read and the cache keeps.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from pydantic import TypeAdapter

FORMAT = 1
"""Version of a report as JSON."""


BAD_REASON = "no readable image"
"""Why bad files are left out (`dataset.on_bad_file`): the only kind whose examples are all of them."""

SKIPPED = "they cannot be read (dataset.on_bad_file = skip)"
"""Why images are left out whose files have no name; before decoding, those whose header cannot be read."""


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why."""

    value: str
    why: str


@dataclass(frozen=True)
class SplitFacts:
    """A split that was found."""

    name: str
    role: Literal["train", "test", "unused"]
    count: int
    unit: Literal["files", "rows", "images"]
    why: str
    """Why it is that split, and why it has that role."""
    sources: tuple[str, ...] = ()
    """Its files or folders; the first few."""


@dataclass(frozen=True)
class ColumnFacts:
    """A column of a table."""

    name: str
    kind: str
    """Its type."""
    role: Literal["image", "label", "split", "unused"]
    why: str = ""


@dataclass(frozen=True)
class LeftOut:
    """Things of one kind that are not used."""

    what: str
    """Plural noun with its count: `3 broken links`."""
    count: int
    reason: str
    examples: tuple[str, ...] = ()
    """The first few."""
    setting: str = ""
    """What to set to take them, as `dataset.recursive = true`; empty if there is no such setting."""


@dataclass(frozen=True)
class ClassFacts:
    """A class, in the order of its number."""

    name: str
    train: int
    test: int


@dataclass(frozen=True)
class Listing:
    """What a source says about itself."""

    splits: tuple[SplitFacts, ...] = ()
    config: Choice | None = None
    """The configuration, where a dataset has any."""
    columns: tuple[ColumnFacts, ...] = ()
    class_order: str = ""
    """What decides the numbers of the classes."""
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    """Whatever else a user must know, one sentence each."""


@dataclass(frozen=True)
class DataReport:
    """Everything that is known about a dataset before it is decoded."""

    name: str
    source: str
    """Where the images come from, for people."""
    listing: Listing
    classes: tuple[ClassFacts, ...]
    modes: dict[str, int]
    """Images by Pillow's mode (`L`, `RGB`, ...), of those that were looked at."""
    sizes: dict[str, int]
    """Images by `width x height`, of those that were looked at; the most frequent first."""
    looked: int
    """Images whose header was read."""
    total: int
    """Images of all splits."""
    channels: Choice
    """1 or 3."""
    resolution: Choice
    """Side of the decoded images, pixels."""
    value_range: Choice
    """Which values are black and white."""
    fit: Choice
    """How pictures that are not square become square."""

    def to_json(self) -> dict[str, Any]:
        """As an object for JSON: the fields of this class and of `Listing` side by side, and `format`."""
        whole = asdict(self)
        head = {"format": FORMAT, "name": whole.pop("name"), "source": whole.pop("source")}
        return {**head, **whole.pop("listing"), **whole}

    @staticmethod
    def from_json(value: Any) -> "DataReport":
        """A report from its JSON object.

        Raises:
            ValueError: not one.
        """
        if not isinstance(value, Mapping):
            raise ValueError("not a report")
        parts = {field.name for field in fields(Listing)}
        listing = {key: item for key, item in value.items() if key in parts}
        rest = {key: item for key, item in value.items() if key not in parts and key != "format"}
        return TypeAdapter(DataReport).validate_python({**rest, "listing": listing})
