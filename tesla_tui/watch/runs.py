"""All runs of a workspace next to each other: what is compared, in which settings they differ, filtered and sorted."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.events import EvaluationDone
from engine.runs.accuracies import KEYS
from engine.settings.facts import AFFECTS, value_before
from tesla_tui.watch.feed import RunFeed

IGNORED = ("compute.", "distill.checkpoint_every", "distill.keep")
"""Settings that do not change the experiment."""
MEASURED = ("dataset.", "network.", *(f"evaluate.{key}" for key in (*KEYS, "selection_repeats")))
"""Settings that change what a held-out accuracy is of."""


@dataclass(frozen=True)
class RunFacts:
    """A run in one line."""

    name: str
    state: str
    """As in `RunFeed.state`."""
    iteration: int
    iterations: int
    held_out: EvaluationDone | None
    """The best: that of the selected checkpoint."""
    test: EvaluationDone | None
    """Of the distilled images, the last."""
    random: EvaluationDone | None
    """Of as many random real images, on the test part."""
    seconds: float | None
    """It was driven, in all."""
    settings: Mapping[str, Any]
    """Effective and flat; empty before the first start."""


def facts_of(feed: RunFeed, now: float) -> RunFacts:
    """What is known of a run; `now` in seconds since 1970."""
    view = feed.view
    tests = view.tests()
    return RunFacts(
        feed.run.name,
        feed.state,
        view.iteration,
        view.iterations,
        view.best(),
        next((result for result in reversed(tests) if result.subject == "distilled"), None),
        next((result for result in tests if result.subject == "random"), None),
        view.driven_seconds(now if feed.live else None),
        view.settings,
    )


def natural(text: str) -> list[tuple[int, str]]:
    """A sort key with which `t5` is before `t10`."""
    parts = re.findall(r"\d+|\D+", text)
    return [(int(part[:9]), part) if part[0].isdigit() else (-1, part.casefold()) for part in parts]


SORTS: Mapping[str, tuple[Callable[[RunFacts], Any], bool]] = {
    "run": (lambda facts: natural(facts.name), False),
    "state": (lambda facts: facts.state, False),
    "iteration": (lambda facts: facts.iteration, True),
    "held out %": (lambda facts: facts.held_out and facts.held_out.mean, True),
    "test %": (lambda facts: facts.test and facts.test.mean, True),
    "random %": (lambda facts: facts.random and facts.random.mean, True),
    "time": (lambda facts: facts.seconds, False),
}
"""What runs are sorted by, and whether the highest is first."""


def ordered(runs: Sequence[RunFacts], by: str, *, reverse: bool) -> list[RunFacts]:
    """Sorted by a key of `SORTS`, equal ones by name; those without a value last."""
    key, highest_first = SORTS[by]
    by_name = sorted(runs, key=lambda facts: natural(facts.name))
    known = sorted((one for one in by_name if key(one) is not None), key=key, reverse=highest_first != reverse)
    return [*known, *(one for one in by_name if key(one) is None)]


def differing(runs: Sequence[RunFacts]) -> list[str]:
    """The settings in which runs that started differ, by name; what a run of an older version did counts."""
    started = [facts.settings for facts in runs if facts.settings]
    keys = sorted({key for settings in started for key in settings if not key.startswith(IGNORED)})
    return [key for key in keys if len({repr(setting(settings, key)) for settings in started}) > 1]


def setting(settings: Mapping[str, Any], key: str) -> Any:
    """The value of a setting in a run, also in one of a version that did not have it."""
    return settings[key] if key in settings else value_before(key) if key in AFFECTS else None


def setting_names(keys: Sequence[str]) -> dict[str, str]:
    """Their last parts, where those are told apart."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}


def matching(runs: Sequence[RunFacts], texts: Mapping[str, str], words: str) -> list[RunFacts]:
    """Those with all words in their name, their state or `texts`, which has more about each by name."""
    wanted = words.lower().split()
    return [
        facts
        for facts in runs
        if all(word in f"{facts.name} {facts.state} {texts.get(facts.name, '')}".lower() for word in wanted)
    ]
