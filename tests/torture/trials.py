"""One trial: break a command, look, give it again, and judge what came of it."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.cases import CASES, STAGES, Case, damage, write_inputs
from tests.torture.processes import Ended, fork, load_more
from tests.torture.state import differences, digests, leftovers

KILLED = ("before", "half", "after", "clock", "SIGKILL")
POWER = ("names", "data")


@dataclass(frozen=True)
class Call:
    """A call that a command makes undisturbed."""

    case: str
    name: str
    kind: str
    """Of the file."""
    number: int
    """Which one: of all calls (inside), or of those of this name in its thread (outside)."""
    who: str = "itself"
    """Which process makes it: one of `Case.processes`."""


@dataclass(frozen=True)
class Trial:
    """One way to break a command."""

    view: str
    """`inside` or `outside`."""
    call: Call
    how: str
    """`before`, `half`, `after` (inside), `clock`, `SIGKILL`: killed. `names`, `data`: power cut. Else an errno."""
    times: int = 1
    """How many times the command is struck, one after the other, before anybody looks."""
    lasting: bool = False
    """Of an errno: later calls fail as well."""
    after: float = 0.0
    """Of `clock`: seconds."""


@dataclass
class Outcome:
    """What came of a trial."""

    trial: Trial
    struck: str
    """The call that was struck, as the system saw it; empty if the command was over before."""
    problems: list[str]
    seconds: float


@dataclass
class World:
    """The prepared folders, and the references.

    Args:
        root: a folder for all of it.
    """

    root: Path
    wanted: dict[str, dict[str, str]] = field(default_factory=dict)
    """The state that each case ends in."""
    again: dict[str, int] = field(default_factory=dict)
    """Exit code of its command when that is given once more."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds that it takes undisturbed."""

    def prepare(self) -> None:
        """Make the folders that the cases start from."""
        before = self.root / "nothing"
        before.mkdir()
        write_inputs(before)
        for name, commands in STAGES:
            folder = self.root / name
            shutil.copytree(before, folder)
            _expect(fork(folder, commands), len(commands))
            if commands:
                load_more(folder)
            before = folder
        shutil.copytree(self.root / "made", self.root / "damaged")
        damage(self.root / "damaged")
        shutil.copytree(self.root / "made", self.root / "no-toml")
        for lost in ("tesla.toml", "runs/ipc-1/settings.toml"):
            (self.root / "no-toml" / "ws" / lost).write_text("")

    def start(self, case: Case, name: str) -> Path:
        """A new copy of the folder that a case starts from."""
        folder = self.root / name
        shutil.copytree(self.root / case.before, folder, symlinks=True)
        return folder

    def refer(self, case: Case) -> None:
        """Run a case undisturbed, twice in a row, and keep what it ends in."""
        folder = self.start(case, f"reference-{CASES.index(case)}")
        begun = time.monotonic()
        _expect(fork(folder, [case.words]), 1)
        self.seconds[case.name] = time.monotonic() - begun
        load_more(folder)
        self.wanted[case.name] = digests(folder)
        again = fork(folder, [case.words])
        self.again[case.name] = again.codes[0]
        if differing := differences(digests(folder), self.wanted[case.name]):
            raise SystemExit(f"{case.name}: the same command again changes its state: {differing}\n{again.text}")
        shutil.rmtree(folder)


def _expect(ended: Ended, count: int) -> None:
    if ended.codes != [0] * count:
        raise SystemExit(f"a reference failed:\n{ended.text}")


Strike = Callable[[Trial, Case, Path], tuple[Ended, str]]
"""Runs the command of a case in a folder and breaks it; how it ended, and the call that was struck."""


def attempt(world: World, trial: Trial, name: str, strike: Strike) -> Outcome:
    """Do a trial in a folder of this name, which is removed unless the trial is lost."""
    begun = time.monotonic()
    case = next(case for case in CASES if case.name == trial.call.case)
    wanted = world.wanted[case.name]
    folder = world.start(case, name)
    problems: list[str] = []
    struck = ""
    for _ in range(trial.times):
        ended, found = strike(trial, case, folder)
        struck = struck or found
        problems += _of_the_strike(trial, ended, bool(found), lambda: differences(digests(folder), wanted))
        if not ended.killed:
            break
    whole = digests(folder) == wanted
    there = (folder / case.workspace / "tesla.toml").exists()
    looks = (("status", case.workspace), ("doctor", case.workspace)) if there and not case.damaged else ()
    commands = (*looks, case.words)
    ended = fork(folder, commands)
    good = [0] * len(looks)
    if ended.codes != [*good, 0] and not (whole and ended.codes == [*good, world.again[case.name]]):
        bad = [line for line in ended.text.splitlines() if "✗" in line or "Error" in line or "Traceback" in line]
        problems.append(f"afterwards {[word[:2] for word in commands]}: {ended.codes}: {bad or ended.text[-800:]}")
    problems += differences(digests(folder), wanted) + leftovers(folder)
    if not case.damaged:
        problems += [f"{path.relative_to(folder)} was set aside" for path in folder.rglob("damaged")]
    if not problems:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(trial, struck, problems, time.monotonic() - begun)


def _of_the_strike(trial: Trial, ended: Ended, struck: bool, differing: Callable[[], list[str]]) -> list[str]:
    """What is wrong with how a broken command ended."""
    if ended.hung:
        return [f"it did not end: {ended.text[-600:]}"]
    if ended.killed:
        return [] if trial.how in (*KILLED, *POWER) else [f"killed by a refusal: {ended.text[-600:]}"]
    if ended.codes == [0]:  # it was over before, or did without what was refused
        return [f"exit code 0, but: {found}" for found in differing()[:3]]
    of_another = bool(struck) and trial.call.who != "itself"  # it lives on, and must say what happened
    if not of_another and trial.how in (*KILLED, *POWER):
        return [f"ended without being killed: {ended.text[-600:]}"]
    said = ("Error: ", "✗") if trial.call.case.startswith("doctor") else ("Error: ",)
    if "Traceback" in ended.text or not any(word in ended.text for word in said):
        return [f"not told in words: {ended.text[-1500:]}"]
    return []
