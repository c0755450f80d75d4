"""Planning the methods that need no teachers: a measurement on some of the classes, scaled up. Pure functions."""

from engine.settings import Settings
from engine.tools.plan.facts import Facts
from engine.tools.plan.memory import dataset_parts, evaluation_part, line
from engine.tools.plan.problem import Found, Problem
from engine.tools.plan.report import How, Part


def real_per_class(settings: Settings, facts: Facts) -> int:
    """Real images of a class that a method looks at: all, or a batch of them (of all classes, for `frepo`)."""
    in_class = max(1, facts.train // facts.classes)
    if settings.traits.iterates:
        in_class = min(in_class, settings.peers.batch_real)
    return max(settings.distill.ipc, in_class)


def at_run_size(found: Found, settings: Settings) -> Found:
    """A measurement on some classes scaled up to all: time in proportion, memory by the line through two of them."""
    share = found["all_classes"] / found["classes"]
    used = line(found["points"], found["all_classes"])
    state = int(found["state_bytes"] * share)
    return {
        **found,
        "seconds": found["seconds"] * share,
        "first_seconds": found["first_seconds"] * share,
        "state_bytes": state,
        # A selection looks at one class after the other, so that only what it returns grows.
        "scratch": max(0, (used if settings.traits.iterates else found["points"][-1][1]) - found["state_bytes"]),
        "whole": found["whole"] and share == 1,
        "compiled": False, "seen": False, "compiling": 0.0,
    }  # fmt: skip


def peer_parts(problem: Problem, found: Found, evaluations: list[Found], free: int) -> list[Part]:
    """Every use of memory.

    Args:
        problem: the run.
        found: measured, see `at_run_size`.
        evaluations: measured.
        free: bytes free on the device, of which the dataset may take a share.
    """
    how: How = "measured" if found["whole"] else "extrapolated"
    note = "" if found["whole"] else f"measured on {found['classes']} of {found['all_classes']} classes"
    doing = "one iteration's graph and scratch" if problem.settings.traits.iterates else "choosing the images"
    return [
        Part("Python, PyTorch, the program", found["base"], problem.host, "always", "measured"),
        *dataset_parts(problem, free),
        Part("images and what the method carries", found["state_bytes"], "device", "distillation", how, between=True),
        Part(doing, found["scratch"], "device", "distillation", how, note=note),
        evaluation_part(problem, evaluations),
    ]
