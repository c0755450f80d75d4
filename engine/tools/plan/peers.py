"""Planning the methods that need no teachers: what is measured of them, and their memory. Pure functions."""

from dataclasses import dataclass

from engine.settings import Settings
from engine.tools.plan.facts import Facts
from engine.tools.plan.memory import dataset_parts, evaluation_part
from engine.tools.plan.problem import Found, Problem, used_bytes
from engine.tools.plan.report import How, Part

CARRIED = 6
"""Times its images that a method may hold in an iteration: images, momentum, moments, and new ones of each."""
SHARE = 0.5
"""Share of the available memory that the measured images may take."""
CHOSEN_FROM = 2**28
"""Bytes of real images that a selection is measured on: as many whole classes as fit, one at least."""


@dataclass(frozen=True)
class Case:
    """The size at which a method is measured."""

    classes: int
    ipc: int
    train: int
    """Real images."""

    def share(self, settings: Settings, facts: Facts) -> float:
        """The run's synthetic images over the measured ones."""
        return facts.classes * settings.distill.ipc / (self.classes * self.ipc)


def case_of(settings: Settings, facts: Facts, available: int) -> Case:
    """The largest size up to the run's own that is safe to measure."""
    image = 4 * facts.values
    ipc = settings.distill.ipc
    per_class = max(ipc, facts.train // facts.classes)
    if not settings.traits.iterates:
        classes = max(1, min(facts.classes, CHOSEN_FROM // (per_class * facts.values)))
        return Case(classes, ipc, classes * per_class)
    most = int(SHARE * available) // (CARRIED * image * facts.classes)
    ipc = max(1, min(ipc, most))
    return Case(facts.classes, ipc, facts.classes * max(ipc, min(per_class, settings.peers.batch_real)))


def at_run_size(found: Found, case: Case, settings: Settings, facts: Facts) -> Found:
    """A measurement scaled up to the run: what grows with the synthetic images in proportion to them."""
    share = case.share(settings, facts)
    selects = not settings.traits.iterates
    return {
        **found,
        "seconds": found["seconds"] * share,
        "first_seconds": found["first_seconds"] * (facts.classes / case.classes if selects else share),
        "state_bytes": int(found["state_bytes"] * share),
        "measured_bytes": found["state_bytes"],
        "share": 1.0 if selects else share,  # a selection looks at one class after the other
        "whole": found["whole"] and share == 1,
    }


def peer_parts(problem: Problem, found: Found, evaluations: list[Found], free: int) -> list[Part]:
    """Every use of memory.

    Args:
        problem: the run.
        found: measured, see `at_run_size`.
        evaluations: measured.
        free: bytes free on the device, of which the dataset may take a share.
    """
    how: How = "measured" if found["whole"] else "extrapolated"
    base = max(0, found["base"] - (found["train_bytes"] if problem.device == "cpu" else 0))
    scratch = max(0, used_bytes(problem, found) - found["measured_bytes"])
    doing = "one iteration's graph and scratch" if problem.settings.traits.iterates else "choosing the images"
    return [
        Part("Python, PyTorch, the program", base, problem.host, "always", "measured"),
        *dataset_parts(problem, free),
        Part("images and what the method carries", found["state_bytes"], "device", "distillation", how, between=True),
        Part(doing, int(scratch * found["share"]), "device", "distillation", how),
        evaluation_part(problem, evaluations),
    ]
