"""Every event comes back from the journal, whether or not somebody thought of it."""

import types
import typing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from engine.events import KINDS, Event, event_from_json, event_to_json
from engine.runs.journal import JournalWriter, read_journal


def example(hint: Any) -> Any:
    """A value of a field's type, which no field has for its default."""
    simple = {int: 7, float: 0.5, str: "text", bool: True, Any: [1, "x"], types.NoneType: None}
    if hint in simple:
        return simple[hint]
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return example(next(part for part in parts if part is not types.NoneType))
    if origin is list:
        return [example(parts[0])] * 2
    if origin is dict:
        return {"key": example(parts[1])}
    raise TypeError(f"no example of {hint}")


def instance(cls: type[Event]) -> Event:
    hints = typing.get_type_hints(cls)
    return cls(**{field.name: example(hints[field.name]) for field in fields(cls)})


def subclasses(cls: type[Event]) -> set[type[Event]]:
    return {cls, *(found for inner in cls.__subclasses__() for found in subclasses(inner))}


def written_and_read(event: Event, path: Path) -> list[Event]:
    JournalWriter(path).append(event)
    return [entry.event for entry, _ in read_journal(path)]


@pytest.mark.parametrize("name", sorted(cls.__name__ for cls in subclasses(Event) - {Event}))
def test_every_event_is_read_back(name: str, tmp_path: Path) -> None:
    event = instance(KINDS[name])
    assert event_from_json(event_to_json(event)) == event
    if event.journaled:
        assert written_and_read(event, tmp_path / "journal.jsonl") == [event]


def test_an_event_is_known_once_it_is_defined(tmp_path: Path) -> None:
    try:

        @dataclass(frozen=True, kw_only=True)
        class KilnFired(Event):
            degrees: float
            pots: list[str]
            potter: str | None = None

        event = instance(KilnFired)
        assert written_and_read(event, tmp_path / "journal.jsonl") == [event]
    finally:
        del KINDS["KilnFired"]
    assert event_from_json(event_to_json(event)) is None


def test_two_events_cannot_have_one_name() -> None:
    with pytest.raises(TypeError, match=r"two events named Notice: engine.events has one"):
        type("Notice", (Event,), {})
