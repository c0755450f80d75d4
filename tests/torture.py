"""Break a small whole run at every turn, and see that it ends in the same bits: `make torture`.

The reference: teachers, distillation, evaluations, film and export of a tiny run on the digits, its dataset cache built
on the way, undisturbed. A trial does the same with one fault, then looks at the workspace (`tesla status`, `tesla
doctor`), gives the same command again, looks again, and compares every file that matters with the reference.

Python and PyTorch are loaded once; every command is a fork of that process, so a SIGKILL is a real one and a trial
takes about the time of a run. Nothing is computed before the forks.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import math
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

from engine.storage.atomic import TEMP_MARK
from tests.faults import Fault, Faulty, Forgetful, install, kind_of

SETTINGS = {
    "network.width": 4, "network.depth": 1, "teachers.count": 2, "teachers.epochs": 2, "teachers.batch": 512,
    "distill.max_start_epoch": 1, "distill.teacher_epochs": 1, "distill.iterations": 6, "distill.steps": 2,
    "distill.lr_images": 10, "distill.checkpoint_every": 2, "distill.keep": 1, "evaluate.every": 3,
    "evaluate.epochs": 3, "evaluate.repeats": 1, "compute.threads": 1, "compute.compile": "off",
}  # fmt: skip
RUN = ("run", "ws", "--ipc", "1", *(word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")))
INIT = ("init", "ws", "--dataset", "digits")
EXPORT = ("export", "ws", "--to", "out")
LOOK = (("status", "ws"), ("doctor", "ws"))
PHASES = {"init": (INIT,), "run": (RUN,), "export": (EXPORT,)}
KILLS = ("before", "half", "after")
ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS")
POWER = ("names", "data")


@dataclass(frozen=True)
class Call:
    """A call of the reference."""

    phase: str
    number: int
    name: str
    kind: str


@dataclass(frozen=True)
class Trial:
    """One way to break a phase."""

    phase: str
    how: str
    """See Fault; or `clock`: SIGKILL after so many seconds."""
    at: float
    name: str = ""
    kind: str = ""
    times: int = 1
    """How many times the phase is struck, one after the other, before anybody looks."""
    lasting: bool = True


@dataclass
class Outcome:
    """What came of it."""

    trial: Trial
    struck: bool
    """Whether the fault took place: a phase may be over before."""
    problems: list[str]
    seconds: float


def main() -> int:
    """Parse the arguments, do the trials, print the table; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, help="at most so many kills at calls", metavar="N")
    parser.add_argument("--clock", type=int, default=40, help="kills at random moments")
    parser.add_argument("--errors", type=int, default=80, help="calls refused")
    parser.add_argument("--power", type=int, default=60, help="power cuts")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no trial after so many")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write every outcome here")
    chosen = parser.parse_args()
    begun = time.monotonic()
    _load()
    with tempfile.TemporaryDirectory(prefix="tesla-torture-") as name:
        root = Path(name)
        reference, calls, seconds = _reference(root)
        trials = _trials(calls, seconds, chosen)
        outcomes = _all(trials, root, reference, chosen.jobs, begun + 60 * chosen.minutes)
    _report(outcomes, calls, time.monotonic() - begun)
    if chosen.json:
        record = {"calls": len(calls), "seconds": time.monotonic() - begun, "outcomes": [asdict(o) for o in outcomes]}
        chosen.json.write_text(json.dumps(record, indent=1) + "\n")
    return 1 if any(outcome.problems for outcome in outcomes) else 0


def _load() -> None:
    """Everything a command imports, without computing anything."""
    import datasets  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import torch

    import tesla_tui.cli.app
    import tesla_tui.main  # noqa: F401

    torch.set_num_threads(1)


def _fork(folder: Path, commands: tuple[tuple[str, ...], ...], system: Faulty | None = None, stop: float = 0.0) -> str:
    """Do commands in a forked process; what it printed. The last lines are `exit N` for every command.

    Args:
        folder: to work in; the dataset cache is in it.
        commands: arguments of `tesla`.
        system: the file system of the process.
        stop: seconds after which it is killed; 0: never.
    """
    printed = folder / "printed"
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.chdir(folder)
            loaded = set(sys.modules)
            os.environ.update(TESLA_CACHE=str(folder / "cache"), COLUMNS="200", NO_COLOR="1")
            out = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            if system is not None:
                install(system)
            from tesla_tui.main import main as tesla

            for command in commands:
                sys.argv = ["tesla", *command]
                try:
                    code = tesla()
                except SystemExit as end:
                    code = int(end.code or 0)
                sys.stdout.flush()
                sys.stderr.flush()
                os.write(1, f"\nexit {int(code)}\n".encode())
            (folder / "loaded").write_text("\n".join(sys.modules.keys() - loaded))
        finally:
            os._exit(code)
    if stop:
        time.sleep(stop)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    text = printed.read_text(errors="replace")
    return text + (f"\nkilled by {os.WTERMSIG(status)}\n" if os.WIFSIGNALED(status) else "")


def _codes(text: str) -> list[int]:
    return [int(code) for code in re.findall(r"^exit (\d+)$", text, re.MULTILINE)]


def _reference(root: Path) -> tuple[dict[str, str], list[Call], float]:
    """Digests of an undisturbed run, its calls, and the seconds that `tesla run` takes."""
    folder = root / "reference"
    folder.mkdir()
    calls = []
    seconds = 0.0
    for phase, commands in PHASES.items():
        report = root / f"{phase}.calls"
        begun = time.monotonic()
        text = _fork(folder, commands, Faulty(report=report))
        if phase == "run":
            seconds = time.monotonic() - begun
        if _codes(text) != [0]:
            raise SystemExit(f"the reference failed:\n{text}")
        for name in (folder / "loaded").read_text().splitlines():  # once for all trials: most of their time
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        for line in report.read_text().splitlines():
            number, call, path = line.split("\t")
            calls.append(Call(phase, int(number), call, kind_of(path)))
        shutil.copytree(folder, root / f"after-{phase}", symlinks=True)
    return digests(folder), calls, seconds


def _trials(calls: list[Call], seconds: float, chosen: argparse.Namespace) -> list[Trial]:
    """Every call in every way that is asked for, or a selection that has every kind of call of every kind of file."""
    draw = random.Random(chosen.seed)

    def spread(hows: tuple[str, ...], most: int | None) -> list[Trial]:
        every = [
            Trial(call.phase, how, call.number, call.name, call.kind)
            for call in calls for how in hows if how != "half" or call.name == "write"
        ]  # fmt: skip
        draw.shuffle(every)
        seen: Counter[tuple[str, str, str, str]] = Counter()
        ranked = []
        for trial in every:
            site = (trial.phase, trial.name, trial.kind, trial.how)
            seen[site] += 1
            ranked.append((seen[site], trial))
        ranked.sort(key=lambda pair: pair[0])
        return [trial for _, trial in ranked][:most]

    trials = spread(KILLS, chosen.kills)
    trials += [
        Trial("run", "clock", draw.uniform(0.01, seconds), "any", "a random moment", times=draw.choice((1, 1, 3)))
        for _ in range(chosen.clock)
    ]
    errors = spread(ERRORS, chosen.errors)
    trials += [
        Trial(**{**asdict(trial), "lasting": trial.how not in ("EIO",) or bool(i % 2)})
        for i, trial in enumerate(errors)
        if trial.how not in ("ENOSPC", "EDQUOT") or trial.name in ("open", "write", "reserve", "make_folder")
    ]
    trials += spread(POWER, chosen.power)
    draw.shuffle(trials)  # so that those that a limit of time leaves are of every sort
    return trials


def _all(trials: list[Trial], root: Path, reference: dict[str, str], jobs: int, until: float) -> list[Outcome]:
    """Do the trials in `jobs` processes, telling on standard error how far they are."""
    workers = {}
    for job in range(jobs):
        results = root / f"results-{job}"
        child = os.fork()
        if child == 0:
            with open(results, "w") as file:
                for number, trial in list(enumerate(trials))[job::jobs]:
                    if time.monotonic() > until:
                        break
                    folder = root / f"trial-{number}"
                    outcome = _try(trial, folder, root, reference)
                    file.write(json.dumps(asdict(outcome)) + "\n")
                    file.flush()
                    shutil.rmtree(folder, ignore_errors=True)
            os._exit(0)
        workers[child] = results
    while workers:
        child, _ = os.waitpid(-1, os.WNOHANG)
        if child:
            del workers[child]
        done = sum(len(path.read_text().splitlines()) for path in root.glob("results-*"))
        print(f"\r{done} of {len(trials)} trials", end="", file=sys.stderr, flush=True)
        time.sleep(0.5)
    print(file=sys.stderr)
    lines = [line for path in sorted(root.glob("results-*")) for line in path.read_text().splitlines()]
    values = [json.loads(line) for line in lines]
    return [Outcome(Trial(**value["trial"]), value["struck"], value["problems"], value["seconds"]) for value in values]


def _try(trial: Trial, folder: Path, root: Path, reference: dict[str, str]) -> Outcome:
    begun = time.monotonic()
    before = {"init": None, "run": "after-init", "export": "after-run"}[trial.phase]
    if before:
        shutil.copytree(root / before, folder, symlinks=True)
    else:
        folder.mkdir()
    problems: list[str] = []
    text = ""
    for _ in range(trial.times):
        text = _fork(folder, PHASES[trial.phase], _system(trial, folder), trial.at if trial.how == "clock" else 0.0)
    killed = "killed by 9" in text
    if trial.how in ERRORS:
        # Refused: words and a plain failure. A failing picture of the pulse or a retried call may also pass unharmed.
        struck = _codes(text) != [0]
        if struck and (_codes(text) != [1] or "Traceback" in text or "Error: " not in text):
            problems.append(f"not told in words: {text[-600:]}")
        if struck and not re.search(r"/|ws|out|cache", text.partition("Error: ")[2]):
            problems.append(f"no place is named: {text[-300:]}")
    else:
        struck = killed
        if not killed and _codes(text) != [0]:
            problems.append(f"ended without being killed: {text[-600:]}")
    # An `init` may have been cut off before there was a workspace: then it is given again.
    there = (folder / "ws" / "tesla.toml").exists()
    after = [*(LOOK if there else (INIT,)), RUN, *LOOK]
    if not (folder / "out").exists():
        after.append(EXPORT)
    text = _fork(folder, tuple(after))
    codes = _codes(text)
    if codes != [0] * len(after):
        words = [" ".join(command[:2]) for command in after]
        bad = [line for line in text.splitlines() if "✗" in line or "Error" in line or "Traceback" in line]
        problems.append(f"afterwards {list(zip(words, codes, strict=False))}: {bad or text[-1500:]}")
    found = digests(folder)
    problems += [f"{name} is missing" for name in sorted(reference.keys() - found.keys())]
    problems += [f"{name} is too many" for name in sorted(found.keys() - reference.keys())]
    both = sorted(reference.keys() & found.keys())
    problems += [f"{name} differs" for name in both if reference[name] != found[name]]
    problems += [f"{path.name} is left" for path in folder.rglob(f"*{TEMP_MARK}*")]
    problems += [f"{path} was set aside" for path in folder.rglob("damaged")]
    return Outcome(trial, struck, problems, time.monotonic() - begun)


def _system(trial: Trial, folder: Path) -> Faulty | None:
    if trial.how == "clock":
        return None
    fault = Fault(trial.how, int(trial.at), trial.lasting)
    if trial.how not in POWER:
        return Faulty(fault)
    aside = folder / "aside"
    aside.mkdir(exist_ok=True)
    return Forgetful(fault, folder, aside)


CLOCKS = ("seconds", "made_at", "time", "pid", "since", "beat", "moved", "checksum")
"""Keys whose values are times, or depend on them."""


def digests(folder: Path) -> dict[str, str]:
    """Digest of every file a user gets: checkpoints, evaluations, teachers, lasting frames, the export."""
    found = {}
    for pattern in (
        "ws/runs/*/checkpoints/*.*", "ws/runs/*/evaluations/*.json", "ws/runs/*/settings.toml", "ws/tesla.toml",
        "ws/buffers/*/trajectory-*.*", "ws/buffers/*/manifest.json", "out/**/*", "cache/datasets/*/*",
    ):  # fmt: skip
        for path in folder.glob(pattern):
            if path.is_file() and path.name != "SHA256SUMS" and not path.name.endswith(".lock"):
                found[str(path.relative_to(folder))] = hashlib.sha256(_timeless(path)).hexdigest()
    for path in folder.glob("ws/runs/*/previews/*.png"):
        if path.with_suffix(".safetensors").name in {p.name for p in folder.glob("ws/runs/*/checkpoints/*")}:
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _timeless(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(_without(json.loads(data)), sort_keys=True).encode()
    return re.sub(rb"\d{4}-\d\d-\d\d(T[\d:+]+)?", b"", data) if path.name == "README.md" else data


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(part) for key, part in value.items() if key not in CLOCKS}
    return [_without(part) for part in value] if isinstance(value, list) else value


def _report(outcomes: list[Outcome], calls: list[Call], seconds: float) -> None:
    """Print what was done to what, and what came of it."""
    rows: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        how = outcome.trial.how
        group = "SIGKILL" if how in (*KILLS, "clock") else "power cut" if how in POWER else how
        rows.setdefault((group, outcome.trial.kind), []).append(outcome)
    print(f"{'fault':<10} {'at a file of kind':<24} {'trials':>7} {'struck':>7} {'lost':>5}")
    for (group, kind), found in sorted(rows.items()):
        lost = sum(bool(outcome.problems) for outcome in found)
        print(f"{group:<10} {kind:<24} {len(found):>7} {sum(o.struck for o in found):>7} {lost:>5}")
    struck = sum(outcome.struck for outcome in outcomes)
    lost = [outcome for outcome in outcomes if outcome.problems]
    print(
        f"\n{len(outcomes)} trials over {len(calls)} file-system calls in {seconds:.0f} s: {struck} struck, "
        f"{struck - sum(o.struck for o in lost)} survived bit for bit, {len(lost)} lost."
    )
    for outcome in lost[:20]:
        print(f"\n{outcome.trial}\n  " + "\n  ".join(outcome.problems[:6]))


if __name__ == "__main__":
    sys.exit(main())
