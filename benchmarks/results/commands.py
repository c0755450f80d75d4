"""The commands of an experiment as a shell script: what `run --list` prints and the documentation shows."""

import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import groupby

from benchmarks.results.experiments import RATE, Experiment, Planned

WIDTH = 112
UNKNOWN = "RATE"
"""Stands for a rate that the search has not decided yet."""


def script(experiment: Experiment, chosen: Mapping[str, float | None], folder: str | None = None) -> list[str]:
    """Lines that make the workspace and all runs, one loop for a member.

    Args:
        experiment: the experiment.
        chosen: the rate that the search found, by member.
        folder: of the workspace; unset: the experiment's name for it.
    """
    where = shlex.quote(folder or experiment.workspace)
    if experiment.runs_of:
        networks = " ".join(f"--network {name}" for name in experiment.networks)
        lines = []
        for member in experiment.members:
            runs = [run for run in experiment.planned if run.member == member]
            lines += _loop("k", [run.seed for run in runs], f"tesla evaluate {where} --run {_pattern(runs)} {networks}")
        return lines
    shared = " ".join(f"--set {text}" for text in experiment.set)
    init = " ".join(["tesla init", where, "--dataset", experiment.dataset, *(f"--set {t}" for t in experiment.init)])
    lines = [*_wrapped(init), *(_wrapped(f'S="{shared}"') if shared else [])]
    for _, group in groupby(experiment.planned, key=lambda run: (run.rate is None, run.member.name)):
        lines += _member(experiment, list(group), chosen, where, bool(shared))
    return lines


def _member(
    experiment: Experiment, runs: Sequence[Planned], chosen: Mapping[str, float | None], where: str, shared: bool
) -> list[str]:
    """The loop over the runs of a member, or over the rates that its search tries."""
    first = runs[0]
    own = [text for text in first.settings if text not in experiment.set]
    # A method that decides a shared setting itself refuses it: its runs name the others one by one.
    left_out = any(text not in first.settings and _key(text) not in map(_key, own) for text in experiment.set)
    own = list(first.settings) if left_out else own
    if first.rate is not None:
        own = [text for text in own if _key(text) != RATE] + [f"{RATE}=$r"]
    elif first.waits:
        rate = chosen.get(first.member.name)
        own.append(f"{RATE}={UNKNOWN if rate is None else f'{rate:g}'}")
    common = ["$S"] if shared and not left_out else []
    seed = "$k" if first.rate is None and len(runs) > 1 else str(first.seed)
    sets = [f"--set {text}" for text in (f"seed={seed}", *own)]
    call = " ".join(["tesla run", where, "--run", _pattern(runs), f"--ipc {first.ipc}", *common, *sets])
    if first.rate is not None:
        return _loop("r", [f"{run.rate:g}" for run in runs], call)
    return _loop("k", [run.seed for run in runs], call)


def _key(text: str) -> str:
    return text.partition("=")[0]


def _pattern(runs: Sequence[Planned]) -> str:
    """The name of a member's runs, with the shell's variable for what differs."""
    name, first = runs[0].name, runs[0]
    if len(runs) == 1:
        return name
    old, new = (str(first.seed), "$k") if first.rate is None else (f"lr{first.rate:g}", "lr${r}")
    head, _, tail = name.rpartition(old)
    return f"{head}{new}{tail}"


def _loop(variable: str, values: Sequence[object], call: str) -> list[str]:
    if len(values) == 1:
        return _wrapped(call)
    return [f"for {variable} in {' '.join(map(str, values))}; do", *(f"  {line}" for line in _wrapped(call)), "done"]


def _wrapped(text: str) -> list[str]:
    """A long command on several lines."""
    lines, line = [], ""
    for word in re.split(r" (?=--)", text):  # an option and its value stay together
        if line and len(line) + len(word) + 3 > WIDTH:
            lines.append(line + " \\")
            line = "   "
        line = f"{line} {word}" if line else word
    return [*lines, line]
