"""What is not as published in the settings of a profile, and why."""

from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from engine.settings import EffectiveSettings
from engine.settings.profiles import NONE, ProfileRow, profile_row, profile_title
from engine.settings.tables import value_words


def print_comparison(console: Console, effective: EffectiveSettings) -> None:
    """The source of the profile, the settings that differ from it, and what no setting expresses; else nothing."""
    row = _row(effective)
    if row is None:
        return
    found = row.differences(effective.flat())
    console.print()
    console.print(Text.assemble((profile_title(row.profile), "bold"), f", {row.dataset}, IPC {row.ipc}"))
    console.print(Text(f"Source: {row.source}.", "dim"))
    console.print(Text("Not as published:" if found else "Every setting is as published."))
    for one in found:
        reason = one.reason or f"Set by: {effective.origins[one.key]}"
        words = f"{one.key} = {value_words(one.ours)}", f" (published: {value_words(one.published)})"
        _print_item(console, words, reason)
    console.print(Text("Different whatever the settings are:"))
    for departure in row.departures:
        if not departure.key:
            _print_item(console, (departure.what, ""), departure.reason)
    if not row.comparable:
        console.print(Text("No published number is shown beside such a run."))


def comparison_json(effective: EffectiveSettings) -> dict[str, dict[str, Any]]:
    """The same for --json: what to add to the entries of settings, by key."""
    row = _row(effective)
    if row is None:
        return {}
    more: dict[str, dict[str, Any]] = {
        one.key: {"published": one.published, "reason": one.reason} for one in row.differences(effective.flat())
    }
    unmatched = [{"what": one.what, "reason": one.reason} for one in row.departures if not one.key]
    return {**more, "profile": {"source": row.source, "different": unmatched, "comparable": row.comparable}}


def _row(effective: EffectiveSettings) -> ProfileRow | None:
    settings = effective.settings
    if settings.profile in (None, NONE):
        return None
    return profile_row(settings.profile, settings.dataset.name, settings.distill.ipc)


def _print_item(console: Console, words: tuple[str, str], reason: str) -> None:
    console.print(Padding(Text.assemble((words[0], "bold"), words[1]), (0, 0, 0, 2)))
    console.print(Padding(Text(f"{reason}.", "dim"), (0, 0, 0, 4)))
