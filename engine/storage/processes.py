"""Which machine this is, and whether a process of it is alive."""

import ctypes
import platform
import socket
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

SAME_START = 1.5
"""Seconds by which two readings of the start of one process may differ."""


@cache
def this_machine() -> str:
    """This boot of this kernel, and this space of process numbers (containers have their own)."""
    found = []
    with suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        found.append(str(Path("/proc/self/ns/pid").readlink()))
    # A Mac's host name follows the network it is in, and its boot time the clock.
    return " ".join(found) or mac_fact("kern.bootsessionuuid") or f"{socket.gethostname()} {psutil.boot_time():.0f}"


def mac_fact(name: str) -> str:
    """A text that the kernel of macOS knows, by its name for sysctl(3); empty elsewhere."""
    if sys.platform != "darwin":
        return ""
    with suppress(OSError, AttributeError):
        ask = ctypes.CDLL(None).sysctlbyname
        found, size = ctypes.create_string_buffer(256), ctypes.c_size_t(256)
        if ask(name.encode(), found, ctypes.byref(size), None, ctypes.c_size_t(0)) == 0:
            return found.value.decode(errors="replace")
    return ""


def processor_name() -> str:
    """What the processor calls itself: `AMD EPYC 7713`, `Apple M2 Pro`."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return mac_fact("machdep.cpu.brand_string") or platform.processor() or platform.machine()


def start_ticks(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot: setting the clock does not move it. None if unknown."""
    with suppress(OSError, ValueError, IndexError):
        # The name, in parentheses, may hold anything; the start is field 22, the third comes after the name.
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[22 - 3])
    return None


def process_alive(pid: int, started: float | None = None, ticks: int | None = None) -> bool:
    """Whether a process of this machine runs; its start tells it from a later one with the same number.

    A process that exists counts as alive where this user may not read more about it.

    Args:
        pid: its number.
        started: seconds since 1970, by a clock that may have been set since.
        ticks: see `start_ticks`; compared instead where both are known.
    """
    try:
        process = psutil.Process(pid)
        found = start_ticks(pid)
        if ticks is not None and found is not None:
            same = ticks == found
        else:
            same = started is None or abs(process.create_time() - started) < SAME_START
        return same and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.AccessDenied:  # another user's, on macOS: it exists, and nothing shows that it is a later one
        return True
    except psutil.Error:
        return False
