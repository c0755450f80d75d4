"""A process that ends with the one that started it, from its first instruction on.

    subprocess.Popen(command, env=child_environment())      # the parent
    end_with_parent()                                       # the child's first statement

A parent that is killed cannot end what it started. On Linux the kernel does: it kills the child at once, whatever the
child is doing (prctl(2), PR_SET_PDEATHSIG). Everywhere a thread looks at the parent twice a second, too: it serves
macOS, and children that a thread of the parent started, since Linux kills those when the *thread* ends.

Processes that torchrun or another launcher of `torch.distributed` started follow it in the same way. A worker that has
something to save calls `allow_saving`: from then on it asks `parent_ended`, saves, and ends itself.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping

PARENT = "TESLA_PARENT"
"""Names the parent's process and thread to the child, in its environment."""

TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Set by torchrun for the workers that it starts from its main thread."""

LOOK = 0.5
"""Seconds between two looks at the parent."""

SAVE_WITHIN = 45.0
"""Seconds that a process which may save gets after the end of its parent."""

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""

_parent: int | None = None
_saves = threading.Event()


def child_environment(
    changes: Mapping[str, str] | None = None, number: signal.Signals = signal.SIGKILL
) -> dict[str, str]:
    """The environment for a process that shall end with this one.

    Args:
        changes: variables to set besides this process's own.
        number: the signal that ends it; one that can be caught lets it save.
    """
    told = f"{os.getpid()} {threading.get_native_id()} {number.value}"
    return {**os.environ, **(changes or {}), PARENT: told}


def end_with_parent() -> None:
    """End this process when its parent ends, even if that has already happened. In a process that was not started by
    torchrun or with `child_environment`, do nothing.
    """
    global _parent
    number: int = signal.SIGKILL
    told = os.environ.pop(PARENT, None)  # not for this process's own children
    if told is not None:
        parent, thread, number = map(int, told.split())
    elif TORCHRUN in os.environ and "RANK" in os.environ:
        parent = thread = os.getppid()
        if not _is_torchrun(parent):
            os._exit(1)
    else:
        return
    if parent == thread:  # the main thread, which lives as long as the process
        _signal_at_the_end_of_the_parent(number)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)
    _parent = parent
    threading.Thread(target=_watch, args=(parent, number), name="tesla-parent", daemon=True).start()


def allow_saving() -> None:
    """Let this process live on for `SAVE_WITHIN` seconds after its parent. It must look at `parent_ended`."""
    _saves.set()
    if _parent is not None:
        _signal_at_the_end_of_the_parent(0)


def parent_ended() -> bool:
    """Whether the process that this one follows has ended; False if it follows none."""
    return _parent is not None and os.getppid() != _parent


def _is_torchrun(parent: int) -> bool:
    """Whether torchrun can be the parent of this process, and not what adopted it after torchrun's end.

    It starts workers in sessions of their own, with its own interpreter. A script between the two is believed.
    """
    if os.getsid(0) != os.getpid() or "PYTHON_EXEC" in os.environ:
        return True
    import psutil

    try:
        return psutil.Process(parent).exe() == psutil.Process().exe()
    except psutil.Error:  # it has ended, or is another user's
        return False


def _watch(parent: int, number: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK)
    if _saves.is_set():
        time.sleep(SAVE_WITHIN)
    os.kill(os.getpid(), number)


def _signal_at_the_end_of_the_parent(number: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
