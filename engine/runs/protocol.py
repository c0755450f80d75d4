"""What a result depends on besides the checkpoint: its protocol, which is stored with it.

Results of different protocols are kept beside each other. A run's own are those of its settings: they select its
checkpoint, and what is reported about the run is about them.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from engine.events import EvaluationDone
from engine.settings import Settings
from engine.settings.facts import AFFECTS, may_change, record
from engine.settings.tables import flatten


def distilled_protocol(settings: Settings, repeats: int) -> dict[str, Any]:
    """What the accuracy of a distilled set depends on besides its checkpoint and the network it is trained with."""
    return {**record(settings, "distilled", _unused(settings, "distilled")), "repeats": repeats}


def random_protocol(settings: Settings, repeats: int) -> dict[str, Any]:
    """What the accuracy of random real images depends on besides the dataset, for any run."""
    return {**record(settings, "random", _unused(settings, "random")), "repeats": repeats}


def _unused(settings: Settings, subject: str) -> set[str]:
    """Settings of the protocol that have no effect, given the value of another."""
    whole = subject == "distilled" and settings.traits.all_images
    unused = {"evaluate.epochs" if whole else "evaluate.whole_epochs"}
    return unused if settings.evaluate.augment == "dsa" else {*unused, "augment.ops"}


_UNNAMED = {"augment": "dsa", "batch": 256, "reset_momentum": False}
"""What protocols say by leaving it out, of settings that may change on an existing run."""


def is_own(result: EvaluationDone, protocol: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a result was measured as the settings say, as far as its protocol says.

    What an older version did not record it did in one way only, which is taken to match the settings.
    """
    repeats = settings.evaluate.repeats if result.split == "test" else settings.evaluate.selection_repeats
    of = random_protocol if result.subject == "random" else distilled_protocol
    asked = {**_UNNAMED, **of(settings, repeats)}
    found = {**_UNNAMED, **protocol}
    return all(_same(found[key], asked[key]) for key in asked.keys() & found.keys())


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
