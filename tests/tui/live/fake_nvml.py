"""A stand-in for NVML: boards that are described, and what each of them refuses to tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

GB = 10**9


class NotSupportedError(Exception):
    """As NVML answers for a fact a board does not tell."""


@dataclass
class FakeBoard:
    """A GPU, or a part of one."""

    name: str | bytes = "NVIDIA A100-SXM4-80GB"
    uuid: str = ""
    used: int = 31 * GB
    total: int = 80 * GB
    busy: int = 97
    heat: int = 61
    power: int = 285_000
    limit: int = 400_000
    pids: Mapping[int, int | None] = field(default_factory=dict)
    """Memory by process."""
    silent: frozenset[str] = frozenset()
    """Names of the questions that are refused; `all` for a GPU that fell off the bus."""
    parts: Sequence["FakeBoard | None"] = ()
    """Of a GPU in MIG mode, by place."""


class FakeNvml:
    """So many boards, asked as NVML is."""

    def __init__(self, *boards: FakeBoard) -> None:
        self.boards = boards

    def __getattr__(self, name: str) -> Any:
        question = name.removeprefix("nvmlDeviceGet")
        if question not in ANSWERS:
            raise AttributeError(name)

        def ask(board: FakeBoard, *_: object) -> Any:
            if question in board.silent or "all" in board.silent:
                raise NotSupportedError(question)
            return ANSWERS[question](board)

        return ask

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        """Ready."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeBoard:  # noqa: N802
        return self.boards[index]

    def nvmlDeviceGetMigDeviceHandleByIndex(self, board: FakeBoard, part: int) -> FakeBoard:  # noqa: N802
        found = board.parts[part]
        if found is None:
            raise NotSupportedError
        return found


ANSWERS: dict[str, Any] = {
    "Name": lambda board: board.name,
    "UUID": lambda board: board.uuid,
    "MemoryInfo": lambda board: SimpleNamespace(used=board.used, total=board.total),
    "UtilizationRates": lambda board: SimpleNamespace(gpu=board.busy),
    "Temperature": lambda board: board.heat,
    "PowerUsage": lambda board: board.power,
    "EnforcedPowerLimit": lambda board: board.limit,
    "ComputeRunningProcesses": lambda board: [
        SimpleNamespace(pid=pid, usedGpuMemory=memory) for pid, memory in board.pids.items()
    ],
    "MigMode": lambda board: (int(bool(board.parts)), 0),
    "MaxMigDeviceCount": lambda board: len(board.parts),
}


def eight(**of_some: Mapping[str, Any]) -> FakeNvml:
    """Eight A100; `gpu3={...}` changes the fourth."""
    known = [
        {"uuid": f"GPU-{k}{k}{k}{k}-aaaa", "used": (31 + k) * GB, "busy": 90 + k, **of_some.get(f"gpu{k}", {})}
        for k in range(8)
    ]
    return FakeNvml(*(FakeBoard(**facts) for facts in known))
