"""The evaluations in a journal, and which of them count: accuracies of different protocols are not compared."""

from dataclasses import dataclass, field
from typing import Any

from engine.events import EvaluationDone
from engine.settings.facts import value_before

MOST_EVALUATIONS = 2000
KEYS = ("epochs", "whole_epochs", "augment", "batch", "reset_momentum")
"""Settings `evaluate.*`, besides the repeats, that may change between two starts and change what is measured."""


@dataclass
class Accuracies:
    """Evaluations in bounded memory. Those of the protocol of the last start count."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Effective settings of the last start, flat."""
    evaluations: dict[tuple[object, ...], EvaluationDone] = field(default_factory=dict)
    """By (iteration, subject, split, network), then the protocol as it was when they were measured."""

    def measured(self, event: EvaluationDone) -> None:
        """Add an evaluation; if one was repeated, the later counts."""
        protocol = self._protocol(event.split, event.subject, event.network)
        key = (event.iteration, event.subject, event.split, event.network, *protocol)
        if len(self.evaluations) < MOST_EVALUATIONS or key in self.evaluations:
            self.evaluations[key] = event

    def held_out(self) -> list[EvaluationDone]:
        """Held-out accuracies of the distilled images by iteration."""
        return sorted(self._own("holdout", "distilled"), key=lambda e: e.iteration)

    def baseline(self) -> EvaluationDone | None:
        """Random real images: on the held-out part if measured, else on the test part."""
        return next(iter([*self._own("holdout", "random"), *self._own("test", "random")]), None)

    def tests(self) -> list[EvaluationDone]:
        """Test accuracies, the random baseline of a network before its distilled ones."""
        found = [*self._own("test", "random"), *self._own("test", "distilled")]
        return sorted(found, key=lambda e: (e.network, e.subject != "random", e.iteration))

    def best(self) -> EvaluationDone | None:
        """The best held-out accuracy so far."""
        return max(self.held_out(), key=lambda e: (e.mean, e.iteration), default=None)

    def unimproved(self) -> bool:
        """Whether no later checkpoint has a higher held-out accuracy than the one before the first update."""
        best, last = self.best(), self.held_out()[-1:]
        return best is not None and best.iteration == 0 and last[0].iteration > 0

    def _own(self, split: str, subject: str) -> list[EvaluationDone]:
        """Those that count, in the order they were first measured."""
        found = [(key, e) for key, e in self.evaluations.items() if e.split == split and e.subject == subject]
        protocols = {network: self._protocol(split, subject, network) for network in {e.network for _, e in found}}
        return [e for key, e in found if key[4:] == protocols[e.network]]

    def _protocol(self, split: str, subject: str, network: str) -> tuple[object, ...]:
        more = ["repeats" if split == "test" else "selection_repeats"]
        if subject == "random":
            more.append("random_lr")
        if network != self.settings.get("network.name"):
            more.append("other_networks_lr")
        keys = (f"evaluate.{key}" for key in (*KEYS, *more))
        return tuple(repr(self.settings.get(key, value_before(key))) for key in keys)
