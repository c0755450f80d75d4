"""Accuracies printed in papers (paper_results.toml), given only for runs with the published protocol.

A run has it where every setting of its protocol that its method reads equals that of a profile
(`engine.settings.profiles`), whether it was started with the profile or not. Only what the profile's departures declare
may differ, and is said with the number. Anything else, be it more iterations, and there is no number.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

from engine.methods.registry import find_method
from engine.settings import Settings
from engine.settings.facts import is_read
from engine.settings.profiles import Difference, ProfileRow, rows_of_method
from engine.settings.tables import Flat, flatten, value_words

NAMED = 3
"""Differences that are named; the others are counted."""


@dataclass(frozen=True)
class _Table:
    """A table of paper_results.toml, which says what its keys mean."""

    source: str
    profiles: list[str]
    percent: dict[str, dict[str, float]]
    changed: Flat = field(default_factory=dict)
    network: str = ""

    def number(self, row: ProfileRow) -> float | None:
        """The published accuracy in percent for a row of a profile."""
        return self.percent.get(row.dataset, {}).get(str(row.ipc)) if row.profile in self.profiles else None


@dataclass(frozen=True)
class Published:
    """A number that may stand beside a run."""

    accuracy: float
    """Test accuracy, 0..1."""
    source: str
    declared: tuple[str, ...]
    """What is not the same nevertheless: settings with their values, and what no setting expresses."""


def published(settings: Settings, network: str = "") -> Published | None:
    """The published number for these settings; None where anything but the declared differs.

    Args:
        settings: of a run.
        network: that was trained on its images. Empty: its own.
    """
    for table, row, percent in _candidates(settings, "" if network == settings.network.name else network):
        found = _differences(settings, row)
        if row.comparable and all(one.reason for one in found):
            named = [_words(one) for one in found] + [one.what for one in row.departures if not one.key]
            return Published(percent / 100, table.source, tuple(named))
    return None


def accuracy(settings: Settings) -> float | None:
    """Published accuracy of the settings' method with their kind of labels, 0..1."""
    found = published(settings)
    return None if found is None else found.accuracy


def cross_accuracy(settings: Settings, network: str) -> float | None:
    """Published accuracy of the settings' images under another network, 0..1."""
    found = published(settings, network)
    return None if found is None else found.accuracy


def difference(settings: Settings) -> list[str]:
    """Why no published number stands beside a run; empty if one does."""
    if published(settings) is not None:
        return []
    method, dataset, ipc = settings.distill.method, settings.dataset.name, settings.distill.ipc
    candidates = list(_candidates(settings, ""))
    if not candidates:
        if not any(dataset in table.percent for table in _tables()):
            return [f"no published numbers for this dataset ({dataset})"]
        return [f"no published number with a known protocol for {method} on {dataset} at IPC {ipc}"]
    rows = [row for _, row, _ in candidates]
    found, row = min(((_undeclared(settings, row), row) for row in rows), key=lambda pair: len(pair[0]))
    words = [_words(one) for one in found] + [one.what for one in row.departures if not one.number]
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return [f"{method} at IPC {ipc} (profile {row.profile}): {', '.join(words[:NAMED])}{more}"]


def sources(settings: Settings) -> list[str]:
    """Where the number beside a run is printed, and what is not the same; empty if there is no number."""
    found = published(settings)
    if found is None:
        return []
    return [f"{settings.distill.method} at IPC {settings.distill.ipc}: {found.source}. Not the same there: "
            f"{', '.join(found.declared)} (docs/published.md)."]  # fmt: skip


@cache
def _tables() -> tuple[_Table, ...]:
    text = files("engine.tools.studies").joinpath("paper_results.toml").read_text()
    return tuple(_Table(**table) for table in tomllib.loads(text)["table"])


def _candidates(settings: Settings, network: str) -> Iterator[tuple[_Table, ProfileRow, float]]:
    """Published numbers of the settings' method, dataset and IPC, with the row they were measured with."""
    for row in rows_of_method(settings.distill.method, settings.dataset.name, settings.distill.ipc):
        for table in _tables():
            percent = table.number(row)
            if percent is not None and table.network == network:
                yield table, replace(row, printed={**row.printed, **table.changed}), percent


def _differences(settings: Settings, row: ProfileRow) -> list[Difference]:
    """How the settings that the method reads differ from a row."""
    flat: dict[str, Any] = flatten(settings.model_dump(mode="json"))
    reads = find_method(settings.distill.method).reads
    return [one for one in row.differences(flat) if is_read(one.key, reads)]


def _undeclared(settings: Settings, row: ProfileRow) -> list[Difference]:
    return [one for one in _differences(settings, row) if not one.reason]


def _words(one: Difference) -> str:
    return f"{one.key} = {value_words(one.ours)} (published: {value_words(one.published)})"
