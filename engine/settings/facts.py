"""Questions about settings, answered by what their fields declare (`engine.settings.affects`)."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.settings.affects import Affects, Part, affects_of
from engine.settings.settings import Settings
from engine.settings.tables import flatten, nest


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section of the schema by name, in its order."""
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation


def _fields() -> Iterator[tuple[str, FieldInfo]]:
    inner = dict(sections())
    for name, field in Settings.model_fields.items():
        if name in inner:
            yield from ((f"{name}.{part}", value) for part, value in inner[name].model_fields.items())
        else:
            yield name, field


FIELDS: Mapping[str, FieldInfo] = dict(_fields())
"""Every setting by its dotted key, in the schema's order."""

AFFECTS: Mapping[str, Affects] = {key: found for key, field in FIELDS.items() if (found := affects_of(field))}


def may_change(key: str) -> bool:
    """Whether a setting may change on an existing run."""
    return AFFECTS[key].change != "never"


def value_before(key: str) -> Any:
    """What a run of a version without this setting did."""
    unnamed, default = AFFECTS[key].unnamed, FIELDS[key].default
    return unnamed[0] if unnamed and default not in unnamed else default


def needs_other_teachers(key: str) -> bool:
    """Whether a run with another value cannot share the teachers."""
    return AFFECTS[key].images or bool(AFFECTS[key].teachers)


def record(settings: Settings, part: Part, without: Collection[str] = ()) -> dict[str, Any]:
    """The settings that a record names, under their names there; but for the keys in `without`."""
    values = flatten(settings.model_dump(mode="json"))
    named: dict[str, Any] = {}
    for key, affects in AFFECTS.items():
        name = getattr(affects, part)
        if name and key not in without and values[key] not in affects.unnamed:
            named.setdefault(name, values[key])  # teachers.seed, where it is set, stands before seed
    return nest(named)


def check_reads(reads: Iterable[str]) -> None:
    """Check what a method lists as read: keys, or sections with a final dot.

    Raises:
        ValueError: there is no such setting or section, or every method reads it.
    """
    for name in reads:
        if not any(affects.by_method and is_read(key, (name,)) for key, affects in AFFECTS.items()):
            raise ValueError(f"{name!r} is not a setting or section that only some methods read.")


def is_read(key: str, reads: Iterable[str]) -> bool:
    """Whether a method that reads these keys, or sections with a final dot, reads a setting."""
    return not AFFECTS[key].by_method or any(
        key == name or (name[-1:] == "." and key.startswith(name)) for name in reads
    )


def change_words(key: str) -> str:
    """What changing a setting does, for people."""
    affects = AFFECTS[key]
    if affects.change == "never":
        return "another run, other teachers" if needs_other_teachers(key) else "another run"
    measured = "any time; results are measured again"
    others = {"any time": "any time", "rounding": "any time; numbers differ by rounding"}
    return measured if affects.distilled or affects.random else others[affects.change]
