"""`python -m tests.torture`: choose trials, run them, print the table; 1 if anything was lost."""

import argparse
import json
import math
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

from tests.torture import inside, outside
from tests.torture.cases import CASES, Case
from tests.torture.processes import load
from tests.torture.report import print_report
from tests.torture.trials import Call, Outcome, Trial, World, attempt


def main() -> int:
    """Parse the arguments, do the trials, print the table; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0, help="kills at calls, from inside", metavar="N")
    parser.add_argument("--clock", type=int, default=0, help="kills at random moments", metavar="N")
    parser.add_argument("--errors", type=int, default=0, help="calls refused, from inside", metavar="N")
    parser.add_argument("--power", type=int, default=0, help="power cuts", metavar="N")
    parser.add_argument("--outside", type=int, default=0, help="system calls struck by strace", metavar="N")
    parser.add_argument(
        "--case", action="append", help="only commands whose name starts so; repeatable", metavar="NAME"
    )
    parser.add_argument(
        "--how", action="append", help="only these faults, as SIGKILL or EIO; repeatable", metavar="NAME"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no trial after so many")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write every outcome here")
    parser.add_argument("--again", type=Path, help="only the trials that were lost in this record", metavar="FILE")
    parser.add_argument("--keep", type=Path, help="a folder for all files, kept; default: a temporary one")
    chosen = parser.parse_args()
    if chosen.outside and (why := outside.available()):
        parser.error(why)
    begun = time.monotonic()
    lost = _lost(chosen.again) if chosen.again else []
    chosen.case = [*(chosen.case or ()), *{trial.call.case for trial in lost}]
    cases = [case for case in CASES if not chosen.case or any(_is_meant(case, name) for name in chosen.case)]
    load()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where a sync costs nothing
    with tempfile.TemporaryDirectory(prefix="tesla-torture-", dir=memory) as name:
        world = World(Path(chosen.keep or name).resolve())
        world.root.mkdir(exist_ok=True)
        world.prepare()
        trials = _trials(world, cases, chosen) + lost
        outcomes = _all(world, trials, chosen.jobs, begun + 60 * chosen.minutes)
    seconds = time.monotonic() - begun
    print_report(outcomes, seconds)
    if chosen.json:
        record = {"seconds": seconds, "outcomes": [asdict(outcome) for outcome in outcomes]}
        chosen.json.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if any(outcome.problems for outcome in outcomes) else 0


def _lost(record: Path) -> list[Trial]:
    return [outcome.trial for outcome in map(_outcome, json.loads(record.read_text())["outcomes"]) if outcome.problems]


def _is_meant(case: Case, name: str) -> bool:
    """Whether a name is that of the case, or begins it and is no other's."""
    return case.name == name or (case.name.startswith(name) and name not in [other.name for other in CASES])


def _trials(world: World, cases: list[Case], chosen: argparse.Namespace) -> list[Trial]:
    """What is asked for, in an order in which a limit of time leaves some of every sort."""
    draw = random.Random(chosen.seed)
    groups: dict[str, list[Trial]] = {"kills": [], "errors": [], "power": [], "outside": []}
    for number, case in enumerate(cases):
        print(f"reference {number + 1} of {len(cases)}: {case.name}", file=sys.stderr)
        world.refer(case)
    for number, case in enumerate(cases):  # only now: every module that is loaded before its fork shifts its calls
        if not case.processes and (chosen.kills or chosen.errors or chosen.power):
            found = inside.calls(world, case, f"inside-{number}")
            for group in ("kills", "errors", "power"):
                groups[group] += inside.trials(found, group)
        if chosen.outside:
            groups["outside"] += outside.trials(outside.calls(world, case, f"outside-{number}"))
    if chosen.how:
        groups = {group: [trial for trial in every if trial.how in chosen.how] for group, every in groups.items()}
    trials = [trial for group, every in groups.items() for trial in spread(every, getattr(chosen, group), draw)]
    for _ in range(chosen.clock):
        case = draw.choice(cases)
        moment = Call(case.name, "any", "a random moment", 0)
        after = draw.uniform(0.01, world.seconds[case.name])
        trials.append(replace(Trial("inside", moment, "clock", times=draw.choice((1, 1, 3))), after=after))
    draw.shuffle(trials)
    return trials


def spread(every: list[Trial], most: int, draw: random.Random) -> list[Trial]:
    """A selection that has every command, call, kind of file and fault before it has one twice."""
    draw.shuffle(every)
    seen: Counter[tuple[str, ...]] = Counter()
    ranked = []
    processes = [case.name for case in CASES if case.processes]
    for trial in every:
        site = (trial.call.case, trial.call.who, trial.call.name, trial.call.kind, trial.how)
        seen[site] += 1
        # Commands that start processes take many times longer: a few of them.
        ranked.append((seen[site] + draw.choice((0, 9, 9, 9)) * (site[0] in processes), trial))
    ranked.sort(key=lambda pair: pair[0])
    return [trial for _, trial in ranked][:most]


def _all(world: World, trials: list[Trial], jobs: int, until: float) -> list[Outcome]:
    """Do the trials in `jobs` processes, telling on standard error how far they are."""
    workers = {}
    for job in range(jobs):
        results = world.root / f"results-{job}"
        child = os.fork()
        if child == 0:
            with open(results, "w") as file:
                for number, trial in list(enumerate(trials))[job::jobs]:
                    if time.monotonic() > until:
                        break
                    strike = inside.strike if trial.view == "inside" else outside.strike
                    outcome = attempt(world, trial, f"trial-{number}", strike)
                    file.write(json.dumps(asdict(outcome)) + "\n")
                    file.flush()
            os._exit(0)
        workers[child] = results
    lines: list[str] = []
    while workers:
        child, _ = os.waitpid(-1, os.WNOHANG)
        if child:
            del workers[child]
        before = len(lines)
        lines = [line for path in sorted(world.root.glob("results-*")) for line in path.read_text().splitlines()]
        if len(lines) > before:
            print(f"\r{len(lines)} of {len(trials)} trials", end="", file=sys.stderr, flush=True)
        time.sleep(0.5)
    print(file=sys.stderr)
    return [_outcome(json.loads(line)) for line in lines]


def _outcome(value: dict[str, object]) -> Outcome:
    trial = value["trial"]
    assert isinstance(trial, dict)
    return Outcome(**{**value, "trial": Trial(**{**trial, "call": Call(**trial["call"])})})  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
