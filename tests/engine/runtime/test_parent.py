"""Processes that end with the one that started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from engine.runtime.parent import PARENT, child_environment, parent_ended

ROOT = Path(__file__).parents[3]
WITHIN = 30.0
"""A bound for a busy machine; the kernel takes no time, a look half a second."""

BLOCKED = "import ctypes; ctypes.PyDLL(None).sleep(1000)"
"""Holds Python's lock: no thread runs, as in a library that waits for its device."""
ASLEEP = "import time; time.sleep(1000)"

STARTS = """
import os, subprocess, sys, threading, time
from engine.runtime.parent import child_environment
def start():
    child = subprocess.Popen([sys.executable, "-c", sys.argv[2]], env=child_environment(), stdout=subprocess.PIPE)
    child.stdout.readline()
    print(child.pid, flush=True)
if sys.argv[1] == "thread":
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
else:
    start()
time.sleep(1000)
"""
"""A parent that prints its child's process id, as soon as that follows it: `STARTS WHO CHILD`."""

FOLLOWS = "from engine.runtime.parent import end_with_parent; end_with_parent(); print(flush=True); "

pids: list[int] = []


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    yield
    while pids:
        with suppress(ProcessLookupError):
            os.kill(pids.pop(), signal.SIGKILL)


def family(
    who: str, then: str, starts: str = STARTS, follows: str = FOLLOWS
) -> tuple["subprocess.Popen[str]", psutil.Process]:
    """A parent and its child; `who` starts it: `main` or `thread`."""
    command = [sys.executable, "-c", starts, who, follows + then]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as said:
        child = int(said.readline())
    pids.extend((parent.pid, child))
    return parent, psutil.Process(child)


def ends(process: psutil.Process) -> bool:
    with suppress(psutil.TimeoutExpired):
        process.wait(WITHIN)
        return True
    return False


@pytest.mark.parametrize(
    ("who", "then"),
    [
        ("main", ASLEEP),
        pytest.param(
            "main", BLOCKED, marks=pytest.mark.skipif(sys.platform != "linux", reason="no parent-death signal here")
        ),
        ("thread", ASLEEP),
    ],
)
def test_a_child_ends_with_its_killed_parent(who: str, then: str) -> None:
    parent, child = family(who, then)
    time.sleep(1)  # the thread that started it has ended: that is not the end of its parent
    assert child.is_running()
    parent.kill()
    parent.wait()
    assert ends(child)


def test_a_child_whose_parent_is_gone_before_its_first_statement_ends_at_once() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    environment = {**os.environ, PARENT: f"{gone.pid} {gone.pid} {signal.SIGKILL.value}"}
    child = subprocess.run(
        [sys.executable, "-c", FOLLOWS], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert child.returncode == 1 and child.stdout == ""


def test_a_worker_of_torchrun_ends_with_it() -> None:
    starts = STARTS.replace("env=child_environment()", "env={**os.environ, 'TORCHELASTIC_RUN_ID': 'x', 'RANK': '0'}")
    assert starts != STARTS
    parent, child = family("main", ASLEEP, starts)
    parent.kill()
    parent.wait()
    assert ends(child)


@pytest.mark.parametrize("orphaned", [True, False])
def test_a_worker_whose_torchrun_is_gone_before_its_first_statement_ends_at_once(orphaned: bool) -> None:
    environment = {**os.environ, "TORCHELASTIC_RUN_ID": "x", "RANK": "0"}
    worker = FOLLOWS + "print('lives')"
    command = [sys.executable, "-c", worker]
    if orphaned:  # adopted, since the shell that started it has ended
        adopted = "import os, time; os.setsid()\nwhile os.getppid() == int(os.environ['SHELL_ID']): time.sleep(0.05)\n"
        command = ["sh", "-c", 'SHELL_ID=$$ "$@" & exit 0', "sh", sys.executable, "-c", adopted + worker]
    run = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=not orphaned
    )
    assert run.stdout.strip() == ("" if orphaned else "lives")


def test_nothing_follows_unasked() -> None:
    words = (
        FOLLOWS + "import os; from engine.runtime import parent; print(parent._parent, os.environ.get(parent.PARENT))"
    )
    for environment in (dict(os.environ), child_environment()):
        run = subprocess.run(
            [sys.executable, "-c", words], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        followed = PARENT in environment
        assert run.stdout.split() == [str(os.getpid()) if followed else "None", "None"]
    assert not parent_ended()


@pytest.mark.parametrize(("seconds", "saved"), [(1000.0, True), (0.0, False)])
def test_a_worker_with_something_to_save_gets_a_bounded_time(tmp_path: Path, seconds: float, saved: bool) -> None:
    file = tmp_path / "saved"
    follows = (
        f"import time; from engine.runtime import parent; parent.SAVE_WITHIN = {seconds}; parent.end_with_parent()\n"
        "parent.allow_saving(); print(flush=True)\n"
    )
    words = f"while not parent.parent_ended(): time.sleep(0.05)\ntime.sleep(2); open({str(file)!r}, 'w').close()"
    parent, child = family("main", words, follows=follows)
    parent.kill()
    parent.wait()
    assert ends(child)
    assert file.exists() is saved
