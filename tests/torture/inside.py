"""From inside: break at a call of the object that durable writes go through (tests/faults.py), or cut the power."""

from pathlib import Path

from tests.faults import Fault, Faulty, Forgetful, kind_of
from tests.torture.cases import Case
from tests.torture.processes import Ended, fork
from tests.torture.trials import POWER, Call, Trial, World

KILLS = ("before", "half", "after")
ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS")
FILLED = ("open", "write", "reserve", "make_folder")
"""Calls that a full disk refuses."""


def calls(world: World, case: Case, name: str) -> list[Call]:
    """The calls of a case, undisturbed."""
    folder = world.start(case, name)
    report = world.root / f"{name}.calls"
    fork(folder, [case.words], Faulty(report=report))
    found = []
    for line in report.read_text().splitlines() if report.exists() else ():
        number, call, path = line.split("\t")
        found.append(Call(case.name, call, kind_of(path), int(number)))
    return found


def trials(found: list[Call], group: str) -> list[Trial]:
    """Every call in every way of a group: `kills`, `errors` or `power`."""
    hows = {"kills": KILLS, "errors": ERRORS, "power": POWER}[group]
    return [
        Trial("inside", call, how, lasting=how != "EIO" or bool(call.number % 2))
        for call in found for how in hows
        if (how != "half" or call.name == "write") and (how not in ("ENOSPC", "EDQUOT") or call.name in FILLED)
    ]  # fmt: skip


def strike(trial: Trial, case: Case, folder: Path) -> tuple[Ended, str]:
    """See `trials.Strike`."""
    if trial.how == "clock":
        ended = fork(folder, [case.words], stop=trial.after)
        return ended, "a random moment" if ended.killed else ""
    fault = Fault(trial.how, trial.call.number, trial.lasting)
    if trial.how in POWER:
        aside = folder.with_name(f"{folder.name}.aside")
        aside.mkdir(exist_ok=True)
        ended = fork(folder, [case.words], Forgetful(fault, folder, aside))
    else:
        ended = fork(folder, [case.words], Faulty(fault))
    broken = ended.killed or ended.codes != [0]
    return ended, f"{trial.call.name} of {trial.call.kind}" if broken else ""
