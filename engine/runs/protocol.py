"""What a result depends on besides the checkpoint: its protocol, which is written down beside it.

Results of different protocols stand beside each other. A run's own are those of its settings: they select its
checkpoint, and what is said of the run is said of them.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from engine.events import EvaluationDone
from engine.settings import Settings

LATER = {"parameters": "logits", "loss": "cross-entropy", "init": "one-hot"}
"""Settings of labels that older results do not name, with what they were then."""


def distilled_protocol(settings: Settings, repeats: int) -> dict[str, Any]:
    """What the accuracy of a distilled set depends on besides its checkpoint and the network it is trained with."""
    labels = settings.labels.model_dump()
    return {
        "epochs": settings.evaluate.whole_epochs if settings.traits.all_images else settings.evaluate.epochs,
        "repeats": repeats,
        **_augmentation(settings),
        "labels": {key: value for key, value in labels.items() if key not in LATER or value != LATER[key]},
        "width": settings.network.width,
        "depth": settings.network.depth,
        "seed": settings.seed,
    }


def random_protocol(settings: Settings, repeats: int) -> dict[str, Any]:
    """What the accuracy of random real images depends on besides the dataset, whichever run asks for it."""
    return {
        "epochs": settings.evaluate.epochs,
        "repeats": repeats,
        **_augmentation(settings),
        "network": settings.network.model_dump(),
        "ipc": settings.distill.ipc,
        "zca": settings.dataset.zca,
        "holdout": settings.dataset.holdout,
        "dtype": settings.compute.dtype,
        "seed": settings.seed,
    }


def _augmentation(settings: Settings) -> dict[str, Any]:
    """What networks see of the images; DSA, which older results do not name, goes without a name."""
    ops, name = list(settings.augment.ops), settings.evaluate.augment
    return {"ops": ops} if name == "dsa" else {"augment": name}


def is_own(result: EvaluationDone, protocol: Mapping[str, Any], settings: Settings) -> bool:
    """Whether a result was measured as the settings ask for it, as far as its protocol tells.

    What an older version did not write down it did in one way only, which is taken for that of the settings.
    """
    repeats = settings.evaluate.repeats if result.split == "test" else settings.evaluate.selection_repeats
    of = random_protocol if result.subject == "random" else distilled_protocol
    asked = {"augment": "dsa", **of(settings, repeats)}
    found = {"augment": "dsa", **protocol}
    return all(_same(found[key], asked[key]) for key in asked.keys() & found.keys())


def _same(found: Any, asked: Any) -> bool:
    if isinstance(found, Mapping) and isinstance(asked, Mapping):  # keys of either alone are of another version
        return all(found[key] == asked[key] for key in found.keys() & asked.keys())
    return bool(found == asked)


def protocol_words(settings: Settings, own: Settings) -> str:
    """How tests to these settings differ from the run's own, in words; empty if they do not."""
    keys = ("whole_epochs" if settings.traits.all_images else "epochs", "repeats", "augment")
    pairs = [(key, getattr(settings.evaluate, key), getattr(own.evaluate, key)) for key in keys]
    return ", ".join(f"evaluate.{key} = {asked} (the run's: {was})" for key, asked, was in pairs if asked != was)


def protocol_digest(protocol: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that tell a protocol from others in the name of a file."""
    return hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:8]
