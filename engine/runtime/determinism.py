"""Deterministic kernels, and the names of operators that have none.

Operators without one are allowed: a network of one's own shall run. PyTorch warns about them, and the warning becomes a
notice of the run. What even PyTorch does not know to differ (cuDNN's sampler, for one) no notice can name.
"""

import os
import re
import warnings
from collections.abc import Generator
from typing import Any, TypeVar

import torch

from engine.events import Event, Notice

Result = TypeVar("Result")

_NONDETERMINISTIC = re.compile(
    r"^(?P<name>\S+) does not have a deterministic implementation"
    r"|not deterministic because it uses (?P<library>CuBLAS)"
    r"|^(?P<attention>[\w ]+ attention) defaults to a non-deterministic algorithm"
)

_found: list[str] = []
"""Operators that PyTorch has named since the last choice, in order."""


def set_deterministic(wanted: bool) -> None:
    """Choose deterministic kernels for this process, or PyTorch's usual ones."""
    if wanted or torch.are_deterministic_algorithms_enabled():  # else nothing changes: it loads PyTorch's compiler
        torch.use_deterministic_algorithms(wanted, warn_only=True)
    _found.clear()
    if not wanted:
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    # Every new tensor would be filled, to show reads of what was never written: 13 % of an eager step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    _listen()


def _listen() -> None:
    """Collect PyTorch's warnings instead of printing them."""
    # Always: another run in this process may meet the same operator.
    warnings.filterwarnings(
        "always", message=".*(deterministic implementation|deterministic because|non-deterministic)"
    )
    shown = warnings.showwarning
    if getattr(shown, "collects", False):
        return

    def show(message: Warning | str, *details: Any, **more: Any) -> None:
        name = operator_named(str(message))
        if name is None:
            shown(message, *details, **more)
        elif name not in _found:
            _found.append(name)

    show.collects = True  # type: ignore[attr-defined]
    warnings.showwarning = show


def operator_named(message: str) -> str | None:
    """The operator without a deterministic kernel that a warning of PyTorch is about; None if it is about others."""
    found = _NONDETERMINISTIC.search(message)
    return None if found is None else next(name for name in found.groups() if name)


def with_operators(events: Generator[Event, None, Result]) -> Generator[Event, None, Result]:
    """The events of stages, with a notice for each operator that turned out to have no deterministic kernel."""
    told: set[str] = set()

    def new() -> list[str]:
        names = [name for name in dict.fromkeys(_found) if name not in told]
        told.update(names)
        return names

    try:
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                result: Result = end.value
                break
            yield from map(notice, new())
            yield event
        yield from map(notice, new())
        return result
    finally:
        events.close()


def notice(name: str) -> Notice:
    """What a run says about an operator, once."""
    return Notice(
        level="warning",
        message=f"{name} has no deterministic kernel on this device: a run that is repeated, or stopped and resumed, "
        "may differ in rounding.",
        about=f"deterministic: {name}",
    )
