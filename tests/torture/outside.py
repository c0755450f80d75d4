"""From outside: `strace` kills a command, or refuses its system calls, at the n-th call of one name in a thread.

The program is not changed and knows nothing of it. What was really struck is read from the tracer's record. Of a
command that starts other processes, one is struck: the command itself, or one that it started.
"""

import re
import shutil
import subprocess
from pathlib import Path

from tests.faults import kind_of
from tests.torture.cases import Case
from tests.torture.processes import Ended, fork, start
from tests.torture.trials import Call, Trial, World

CALLS = (
    "openat", "write", "pwrite64", "writev", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink",
    "unlinkat", "rmdir", "close", "mkdir", "mkdirat", "ftruncate", "fallocate", "readv", "getdents64",
)  # fmt: skip
WRITES = ("write", "pwrite64", "writev")
ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EACCES", "EMFILE", "ESTALE")
GIVEN = {
    "ENOSPC": ("openat", *WRITES, "mkdir", "mkdirat", "fallocate", "fsync", "rename", "close"),
    "EDQUOT": ("openat", *WRITES, "mkdir", "mkdirat", "fallocate", "fsync", "rename", "close"),
    "EROFS": ("openat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
    "EACCES": ("openat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
    "EMFILE": ("openat",),
}
"""The calls that the system refuses for this reason. The others, EIO and ESTALE, can come from any."""

RECORD = re.compile(r"^(?:(\d+) +)?(\w+)\((.*)")
"""A line of the tracer: process or thread (if it follows several), call, the rest. A resumed call has no bracket right
after its name."""
ELSEWHERE = "no file of the case"
SPREAD = 40
"""Of the calls of another process that concern no file of the case, one in so many: it may be killed there."""


def available() -> str:
    """Why there is no outside view here; empty if there is one."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return "" if done.returncode == 0 else f"tracing is not allowed: {done.stderr.strip()}"


def tracer(record: Path, *injected: str, follow: bool = True) -> list[str]:
    """The command line of strace, without the process; `follow`: its threads and the processes that it starts, too.

    Its fast way to trace, --seccomp-bpf, neither attaches to a process nor delivers signals, without a word about it.
    """
    words = ["strace", *(("-f",) if follow else ()), "-y", "-s", "400", "-o", str(record)]
    return [*words, "-e", f"trace={','.join(CALLS)}", *(word for one in injected for word in ("-e", f"inject={one}"))]


def traced(case: Case, folder: Path, record: Path, who: str, *injected: str) -> Ended:
    """Run a case with one of its processes under a tracer."""
    words = tracer(record, *injected, follow=not case.processes or who != "itself")
    if not case.processes:
        return fork(folder, [case.words], tracer=words)
    if "-f" in words and not any("signal=" in word for word in words):
        words.append("--seccomp-bpf")
    return start(folder, case.words, words, who)


def calls(world: World, case: Case, name: str) -> list[Call]:
    """The calls of a case that concern its folder, undisturbed."""
    return [call for who in case.processes or ("itself",) for call in _calls(world, case, f"{name}-{who}", who)]


def _calls(world: World, case: Case, name: str, who: str) -> list[Call]:
    """Those of one of its processes."""
    folder = world.start(case, name)
    record = world.root / f"{name}.strace"
    ended = traced(case, folder, record, who)
    if ended.codes != [0]:
        raise SystemExit(f"{case.name} failed under strace:\n{ended.text}")
    counts: dict[tuple[str, str], int] = {}
    found = []
    for line in record.read_text(errors="replace").splitlines():
        if (match := RECORD.match(line)) is None:
            continue
        thread, call, rest = match.groups()
        counts[thread, call] = number = counts.get((thread, call), 0) + 1
        if path := concerned(rest, folder):
            found.append(Call(case.name, call, kind_of(path), number, who))
        elif who != "itself" and number % SPREAD == 0:
            found.append(Call(case.name, call, ELSEWHERE, number, who))
    shutil.rmtree(folder)
    return found


def concerned(rest: str, folder: Path) -> str:
    """The path inside the folder that a call is about; empty if it is about something else.

    Args:
        rest: the line of the tracer after the call's name.
        folder: that the command works in.
    """
    inside = re.search(rf"{re.escape(str(folder))}/([^>\"]+)", rest.partition(" = ")[0])
    if inside:
        return f"/{inside[1]}"
    named = re.search(r"\"([^\"]+)\"", rest)
    if named is None or named[1].startswith("/") or not rest.startswith(('"', f"AT_FDCWD<{folder}>")):
        return ""
    return f"/{named[1]}"


def trials(found: list[Call]) -> list[Trial]:
    """Every call in every way that the system has for it."""
    ways = [Trial("outside", call, "SIGKILL") for call in found]
    for call in found:
        for how in ERRORS:
            if call.name in GIVEN.get(how, CALLS) and call.kind != ELSEWHERE:
                # The program's own words go through write, and its modules through openat: not for ever.
                lasting = call.name not in ("openat", "write", "close", "readv", "getdents64") and call.number % 2 == 0
                ways.append(Trial("outside", call, how, lasting=lasting))
    return ways


def strike(trial: Trial, case: Case, folder: Path) -> tuple[Ended, str]:
    """See `trials.Strike`."""
    record = folder.with_name(f"{folder.name}.strace")
    what = "signal=KILL" if trial.how == "SIGKILL" else f"error={trial.how}"
    when = f"{trial.call.number}{'+' if trial.lasting else ''}"
    ended = traced(case, folder, record, trial.call.who, f"{trial.call.name}:{what}:when={when}")
    return ended, struck(record.read_text(errors="replace") if record.exists() else "", trial)


def struck(record: str, trial: Trial) -> str:
    """The call that was struck, from the tracer's record; empty if none was."""
    lines = record.splitlines()
    if trial.how != "SIGKILL":
        return next((line for line in lines if line.endswith("(INJECTED)")), "")
    if not any("killed by SIGKILL" in line for line in lines):
        return ""
    made = [line for line in lines if (match := RECORD.match(line)) and match[2] == trial.call.name]
    return made[-1] if made else ""
