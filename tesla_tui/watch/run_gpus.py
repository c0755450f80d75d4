"""Which GPUs are a run's: those its processes compute on, else those that its environment and settings give it."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.nvml import Board

JOB = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")
"""What the workers of one job have in common in their environments."""


@dataclass(frozen=True)
class Use:
    """What is known of how a run uses this machine."""

    pid: int | None = None
    """Its driver; None if none runs on this machine."""
    device: str = "auto"
    """`compute.device`, or what came of it."""
    elsewhere: str = ""
    """The host of a driver on another machine."""


NOT_DRIVEN = Use()
"""No process drives the run, as far as is known."""


def use_of(feed: RunFeed | None) -> Use:
    """How the run of a feed uses this machine."""
    if feed is None or not feed.live or feed.driver is None:
        return NOT_DRIVEN
    if not feed.driver.mine:
        return Use(elsewhere=feed.driver.host)
    chosen = feed.view.environment.get("device") or feed.view.settings.get("compute.device", "auto")
    return Use(feed.driver.pid, str(chosen))


class Job:
    """The processes of a run on this machine: its driver, what that started, and the other workers.

    Args:
        pid: the driver.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.environment = _environment(pid)
        self._known: dict[int, bool] = {}

    def has(self, pid: int) -> bool:
        """Whether a process belongs to the run."""
        if pid not in self._known:
            self._known[pid] = pid == self.pid or self._belongs(pid)
        return self._known[pid]

    def _belongs(self, pid: int) -> bool:
        with suppress(psutil.Error):
            if any(parent.pid == self.pid for parent in psutil.Process(pid).parents()):
                return True
        if self.environment is None or self.workers == 1:
            return False
        other = _environment(pid) or {}
        return all(self.environment.get(name) == other.get(name) for name in JOB)

    @property
    def workers(self) -> int:
        """How many processes of the run are on this machine."""
        count = (self.environment or {}).get("LOCAL_WORLD_SIZE", "1")
        return int(count) if count.isdigit() else 1


def _environment(pid: int) -> Mapping[str, str] | None:
    """The variables a process was started with; None where this user may not read them."""
    if pid == os.getpid():
        return os.environ
    with suppress(psutil.Error):
        return psutil.Process(pid).environ()
    return None


def visible(variables: Mapping[str, str], boards: Sequence[Board]) -> list[Board]:
    """The GPUs that CUDA shows a process, in its order: by number, or by the beginning of an identifier.

    As CUDA reads `CUDA_VISIBLE_DEVICES`: the first entry that is no GPU ends the list, and one that is named twice
    leaves none.
    """
    names = variables.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return list(boards)
    found: list[Board] = []
    for name in map(str.strip, names.split(",")):
        board = _named(name, boards)
        if board is None:
            break
        if board in found:
            return []
        found.append(board)
    return found


def _named(name: str, boards: Sequence[Board]) -> Board | None:
    """A GPU by its number or identifier; of one that MIG divides, CUDA takes the first part."""
    if number := re.match(r"\+?(\d+)", name):
        return next((board for board in boards if board.index == int(number[1])), None)
    if name.startswith("GPU-"):
        wholes = [board for board in boards if (board.whole_uuid or "").startswith(name)]
        return wholes[0] if len({board.index for board in wholes}) == 1 else None
    parts = [board for board in boards if name.startswith("MIG-") and (board.uuid or "").startswith(name)]
    return parts[0] if len(parts) == 1 else None


def given(device: str, job: Job | None, boards: Sequence[Board]) -> list[Board]:
    """The GPUs a run has by its environment and settings; without a run, those that one started here could have."""
    seen = visible(os.environ if job is None or job.environment is None else job.environment, boards)
    if job is None:
        return seen
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cuda"):
        return []
    if job.workers > 1:
        return seen[: job.workers]
    return seen[int(number or 0) :][:1] if number.isdigit() or not number else []


def is_unsure(variables: Mapping[str, str], boards: Sequence[Board]) -> bool:
    """Whether CUDA may count the GPUs otherwise than NVML: it puts the fastest first, unless it is told not to."""
    names = variables.get("CUDA_VISIBLE_DEVICES", "")
    by_number = not names.startswith(("GPU-", "MIG-"))
    mixed = len({board.name for board in boards}) > 1
    return by_number and mixed and variables.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID"
