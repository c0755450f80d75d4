"""What bounds the host memory of this process: the machine, its control groups, its own limits (`ulimit`).

A process that gets no memory says "out of memory" whatever the reason, while most of the machine may be free. Here the
reason is told from how much each bound leaves.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import psutil

from engine.errors import OutOfMemoryError
from engine.storage.filesystem import format_bytes

GROUPS = Path("/sys/fs/cgroup")
UNLIMITED = 2**60
"""Bytes above which the number of a control group means no limit."""
LOADING = {"numpy": 200 * 10**6, "torch": 800 * 10**6}
"""Bytes of addresses that libraries need before they do anything, rounded up (NumPy 2.3: 0.15 GB; PyTorch 2.13 for the
CPU with two threads: 0.78 GB). With less they abort the process instead of raising an error."""


@dataclass(frozen=True)
class Bound:
    """One bound on the memory of this process."""

    left: int
    """Bytes that it still allows."""
    words: str = ""
    """What it is, a sentence; empty for the machine itself."""
    remedy: str = ""
    """How to raise it."""


def tightest_bound() -> Bound:
    """The bound that leaves the least memory."""
    return min(_bounds(), key=lambda bound: bound.left)


def memory_words(error: BaseException) -> tuple[str, str]:
    """Message and hint for memory that ran out somewhere, with the bound that is to blame."""
    bound, lines = tightest_bound(), str(error).strip().splitlines()
    said = f"Out of memory: {lines[0].rstrip('.')}." if lines else "Out of memory."
    said += f" {bound.words}" if bound.words else f" {format_bytes(bound.left)} of the machine's memory are free."
    return said, f"{bound.remedy} Saved files are intact; `tesla plan` shows what fits.".strip()


class LoadingGuard(MetaPathFinder):
    """Refuses to load a library for which the limit of addresses leaves no room; for `sys.meta_path`."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        """Let any library be found by the others, or refuse it.

        Raises:
            OutOfMemoryError: the limit is too low for it.
        """
        limit = _limits().get("address space") if name in LOADING else None
        if limit is not None and limit < LOADING[name]:
            bound = next(bound for bound in _bounds() if "address space" in bound.words)
            raise OutOfMemoryError(
                f"Out of memory: loading {name} needs about {format_bytes(LOADING[name])} of address space. "
                f"{bound.words}",
                bound.remedy,
            )


def _bounds() -> Iterator[Bound]:
    yield Bound(int(psutil.virtual_memory().available))
    memory = psutil.Process().memory_info()
    used = {"address space": memory.vms, "data": getattr(memory, "data", 0)}
    for kind, limit in _limits().items():
        option = {"address space": "-v", "data": "-d"}[kind]
        words = f"This process may have at most {format_bytes(limit)} of {kind} (ulimit {option})."
        yield Bound(max(0, limit - used[kind]), words, f"Raise that limit: ulimit {option} unlimited.")
    for limit, taken in _group_limits():
        words = (
            f"The control group (container, or job) of this process may have at most {format_bytes(limit)}, and "
            f"{format_bytes(taken)} are taken."
        )
        yield Bound(max(0, limit - taken), words, "Start the container or job with more memory.")


def _limits() -> dict[str, int]:
    """Bytes of this process's own limits; without those that are not set. macOS does not hold a process to them."""
    if sys.platform == "darwin":
        return {}
    try:
        import resource
    except ImportError:
        return {}
    found = {
        "address space": resource.getrlimit(resource.RLIMIT_AS)[0],
        "data": resource.getrlimit(resource.RLIMIT_DATA)[0],
    }
    return {kind: limit for kind, limit in found.items() if limit != resource.RLIM_INFINITY}


def _group_limits() -> Iterator[tuple[int, int]]:
    """Limit and use in bytes of the process's control groups and those above them, of versions 1 and 2."""
    for folder, most, used in _group_folders():
        with suppress(OSError, ValueError):  # without a limit, version 2 says "max"
            limit = int((folder / most).read_text())
            if limit < UNLIMITED:
                yield limit, int((folder / used).read_text())


def _group_folders() -> Iterator[tuple[Path, str, str]]:
    groups = {("0", ""): "/", ("", "memory"): "/"}  # a container sees its own as the root
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if found := re.fullmatch(r"(\d+):([^:]*):(/.*)", line):
                version = ("0", "") if found[1] == "0" and not found[2] else ("", "memory")
                if version[0] or "memory" in found[2].split(","):
                    groups[version] = found[3]
    for (two, _), name in groups.items():
        root = GROUPS if two else GROUPS / "memory"
        files = ("memory.max", "memory.current") if two else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        inner = root / name.strip("/")
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(root):
                yield folder, *files
