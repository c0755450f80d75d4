"""The result of a run: what was measured of its selected checkpoint, and what it took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.events import EvaluationDone
from engine.runs.judgement import Outcome, outcomes
from engine.settings import method_traits
from engine.storage.filesystem import format_bytes
from tesla_tui.render.words import duration, short_duration
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.selected import SIGN, selected_of
from tesla_tui.watch.view import RunView

WHOLE = "whole data"
"""What all training images are called."""


@dataclass(frozen=True)
class Measured:
    """Test accuracies of one network."""

    network: str
    ours: EvaluationDone
    random: EvaluationDone | None
    whole: EvaluationDone | None


@dataclass(frozen=True)
class Fact:
    """Something a run took, in three lengths; what its journal does not say is said."""

    name: str
    words: str
    """For a line of its own, behind the name."""
    short: str
    """For one line with all the others; empty to leave it out."""
    shortest: str


def measured(view: RunView, whole: Mapping[str, EvaluationDone]) -> list[Measured]:
    """By network, in the order of the journal; empty until the test. `whole`: on all training images, by network."""
    tests = view.tests()
    random = {result.network: result for result in tests if result.subject == "random"}
    ours = {result.network: result for result in tests if result.subject != "random"}
    return [Measured(name, result, random.get(name), whole.get(name)) for name, result in ours.items()]


def gains(view: RunView, found: Sequence[Measured]) -> tuple[Outcome, ...]:
    """What was gained over random real images with each network."""
    random = [one.random for one in found if one.random is not None]
    unimproved = view.unimproved() and found[0].ours.iteration == 0
    return outcomes([one.ours for one in found], random, unimproved=unimproved)


def own_name(view: RunView) -> str:
    """What the images of a run are called beside random ones."""
    if view.settings.get("labels.kind") == "given":
        return "imported"
    method = str(view.settings.get("distill.method", "tesla"))
    traits = method_traits(method)
    if traits.all_images:
        return WHOLE
    return "distilled" if traits.iterates else "own draws" if method == "random" else method


def facts_of(feed: RunFeed) -> list[Fact]:
    """The selected checkpoint, the time and the memory of a run."""
    view, facts = feed.view, list[Fact]()
    selected = selected_of(feed)
    if selected is not None and own_name(view) != WHOLE:
        at = f"{SIGN} {selected.iteration}"
        of = f" of {view.iterations}" if view.iterations else ""
        short = f"{at}{of}, {selected.short}"
        facts.append(Fact("selected", f"{at}{of}, {selected.words}", short, f"{at}, {selected.short}"))
    if feed.state == "imported":
        return [*facts, Fact("took", "not known: made elsewhere", "time and memory not known", "time not known")]
    costs, total = view.costs, view.driven_seconds()
    parts = (("teachers", costs.teachers), ("distillation", costs.distillation), ("evaluation", costs.evaluation))
    spent = ", ".join(f"{name} {short_duration(seconds)}" for name, seconds in parts if seconds)
    if total is not None:
        took = duration(total)
        facts.append(Fact("took", took, f"took {took}", took))
    if spent:
        facts.append(Fact("", spent, "", ""))
    peak = peak_words(view)
    shortest = f"peak {peak if costs.peak_bytes is not None else 'n/a'}"
    return [*facts, Fact("peak memory", peak, f"peak memory {peak}", shortest)]


def peak_words(view: RunView) -> str:
    """The most memory that the driver of a run took, of the machine and of its GPU."""
    costs = view.costs
    if costs.peak_bytes is None:
        return "not recorded"
    words = format_bytes(costs.peak_bytes)
    if costs.peak_device_bytes is not None:
        words += f", GPU {format_bytes(costs.peak_device_bytes)}"
    workers = view.environment.get("workers", 1)
    return words if workers == 1 else f"{words} (first of {workers} workers)"
