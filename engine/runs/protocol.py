"""What a result depends on besides the checkpoint: its protocol, which is stored with it.

Results of different protocols are kept beside each other. A run's own are those of its settings: they select its
checkpoint, and what is reported about the run is about them.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from engine.events import EvaluationDone
from engine.settings import Settings
from engine.settings.facts import AFFECTS, may_change, record
from engine.settings.tables import flatten

FIXED_RATE = {"lr": 0.01}
"""Of random real images, where a protocol does not name it: what was asked for, or what an older version used."""


def distilled_protocol(settings: Settings, repeats: int, network: str | None = None) -> dict[str, Any]:
    """What the accuracy of a distilled set depends on besides its checkpoint.

    `network` is what is trained with it; None: the teachers' network.
    """
    drawn = {"draws": "per network"} if settings.draws_random else {}
    return {**_protocol(settings, "distilled", network), **drawn, "repeats": repeats}


def random_protocol(settings: Settings, repeats: int, network: str | None = None) -> dict[str, Any]:
    """What the accuracy of random real images depends on besides the dataset, for any run."""
    return {**_protocol(settings, "random", network), "repeats": repeats}


def tunes_network(settings: Settings, subject: str, network: str | None) -> bool:
    """Whether a network of the test has a learning rate of its own, chosen for this subject."""
    other = network not in (None, settings.network.name)
    whole = subject == "distilled" and settings.traits.all_images
    return other and not whole and settings.evaluate.other_networks_lr == "tuned"


def _protocol(settings: Settings, subject: Literal["distilled", "random"], network: str | None) -> dict[str, Any]:
    """What is named for a subject, with the networks that each rate was judged by where one was chosen."""
    evaluate, tuned = settings.evaluate, tunes_network(settings, subject, network)
    unused = _unused(settings, subject)
    unused.add("evaluate.random_lr" if tuned else "evaluate.other_networks_lr")
    chosen = tuned or ("evaluate.random_lr" not in unused and evaluate.random_lr == "tuned")
    return {**record(settings, subject, unused), **({"tuning": evaluate.selection_repeats} if chosen else {})}


def _unused(settings: Settings, subject: str) -> set[str]:
    """Settings of the protocol that have no effect, given the value of another."""
    whole = subject == "distilled" and settings.traits.all_images
    unused = {"evaluate.epochs", "evaluate.other_networks_lr"} if whole else {"evaluate.whole_epochs"}
    if subject == "distilled" and not settings.draws_random:
        unused.add("evaluate.random_lr")
    return unused if settings.evaluate.augment == "dsa" else {*unused, "augment.ops"}


_UNNAMED = {"augment": "dsa", "batch": 256, "reset_momentum": False, "other_networks_lr": "same"}
"""What protocols say by leaving it out, of settings that may change on an existing run."""


def is_own(result: EvaluationDone, protocol: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a result was measured as the settings say, as far as its protocol says.

    What an older version did not record it did in one way only, which is taken to match the settings.
    """
    repeats = settings.evaluate.repeats if result.split == "test" else settings.evaluate.selection_repeats
    of = random_protocol if result.subject == "random" else distilled_protocol
    asked = {**_UNNAMED, **FIXED_RATE, **of(settings, repeats, result.network)}
    found = {**_UNNAMED, **protocol}
    return all(_same(found[key], asked[key]) for key in asked.keys() & found.keys())


def own_results(records: Iterable[tuple[EvaluationDone, dict[str, Any]]], settings: Settings) -> list[EvaluationDone]:
    """The results that were measured as the settings say, in order; of several for the same thing one.

    That is the one whose protocol names most: an older version's result counts until there is another.
    """
    found: dict[tuple[object, ...], tuple[int, EvaluationDone]] = {}
    for result, protocol in records:
        key, names = (result.iteration, result.subject, result.split, result.network), len(flatten(protocol))
        if is_own(result, protocol, settings) and names > found.get(key, (0,))[0]:
            found[key] = names, result
    return [result for _, result in found.values()]


def _same(found: Any, asked: Any) -> bool:
    if isinstance(found, Mapping) and isinstance(asked, Mapping):  # keys in only one are from another version
        return all(found[key] == asked[key] for key in found.keys() & asked.keys())
    return bool(found == asked)


def protocol_words(settings: Settings, own: Settings) -> str:
    """How tests to these settings differ from the run's own, as text; empty if they do not."""
    unused = {"evaluate.selection_repeats", *_unused(settings, "distilled")}
    keys = [key for key, affects in AFFECTS.items() if affects.distilled and may_change(key) and key not in unused]
    asked, was = (flatten(some.model_dump(mode="json")) for some in (settings, own))
    return ", ".join(f"{key} = {asked[key]} (the run's: {was[key]})" for key in keys if asked[key] != was[key])


def protocol_digest(protocol: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that identify a protocol in the name of a file."""
    return hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:8]
