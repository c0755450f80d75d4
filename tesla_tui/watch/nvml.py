"""GPUs as NVML tells of them, and the parts that MIG divides one into. An unknown fact is None."""

from dataclasses import dataclass
from typing import Any

CORE = 0
"""The sensor of the processor itself, as NVML numbers them."""


@dataclass(frozen=True)
class Gpu:
    """One GPU or part of one, now."""

    index: int
    """As nvidia-smi counts: in the order of the PCI bus."""
    name: str | None
    used: int | None
    """Memory, bytes."""
    total: int | None
    utilisation: int | None
    """Percent."""
    temperature: int | None
    """Degrees Celsius."""
    power: float | None
    """Watts; of the whole GPU, also for a part."""
    power_limit: float | None
    part: int | None = None
    """Number of the part that MIG made; None for a whole GPU."""
    uuid: str | None = None
    own: int | None = None
    """Bytes of `used` that the processes of the run have."""
    ours: bool = False
    """Whether it is the run's, or would be of a run started here."""

    @property
    def label(self) -> str:
        """`3`, or `3:1` for a part."""
        return f"{self.index}" if self.part is None else f"{self.index}:{self.part}"


@dataclass(frozen=True)
class Board:
    """What NVML is asked about: a GPU or a part of one."""

    index: int
    handle: Any
    whole: Any
    """Handle of the GPU that it is, or is a part of: only that has a temperature and a power."""
    part: int | None = None
    uuid: str | None = None
    whole_uuid: str | None = None
    name: str | None = None


def boards(nvml: Any) -> list[Board]:
    """All GPUs of this machine; one that MIG divides is given as its parts, since only those can be used.

    Args:
        nvml: the `pynvml` module or a stand-in for it, initialised.
    """
    found = []
    for index in range(nvml.nvmlDeviceGetCount()):
        whole = _ask(nvml, "DeviceGetHandleByIndex", index)
        if whole is None:
            continue  # fell off the bus, or not this user's
        uuid = _text(_ask(nvml, "DeviceGetUUID", whole))
        for part, handle in _parts(nvml, whole) or [(None, whole)]:
            own = uuid if part is None else _text(_ask(nvml, "DeviceGetUUID", handle))
            found.append(Board(index, handle, whole, part, own, uuid, _text(_ask(nvml, "DeviceGetName", handle))))
    return found


def look(nvml: Any, board: Board) -> Gpu:
    """A GPU now. Boards differ in what they tell; each fact fails alone."""
    memory = _ask(nvml, "DeviceGetMemoryInfo", board.handle)
    power, limit = (_ask(nvml, f"DeviceGet{name}", board.whole) for name in ("PowerUsage", "EnforcedPowerLimit"))
    return Gpu(
        index=board.index,
        name=board.name,
        used=getattr(memory, "used", None),
        total=getattr(memory, "total", None),
        utilisation=getattr(_ask(nvml, "DeviceGetUtilizationRates", board.handle), "gpu", None),
        temperature=_ask(nvml, "DeviceGetTemperature", board.whole, CORE),
        power=None if power is None else power / 1000,
        power_limit=None if limit is None else limit / 1000,
        part=board.part,
        uuid=board.uuid,
    )


def processes(nvml: Any, board: Board) -> dict[int, int | None] | None:
    """Memory in bytes by process id of those that compute on a GPU; None where NVML does not tell which there are."""
    found = _ask(nvml, "DeviceGetComputeRunningProcesses", board.handle)
    return None if found is None else {process.pid: process.usedGpuMemory for process in found}


def _parts(nvml: Any, whole: Any) -> list[tuple[int | None, Any]]:
    current, _ = _ask(nvml, "DeviceGetMigMode", whole) or (0, 0)
    most = (_ask(nvml, "DeviceGetMaxMigDeviceCount", whole) or 0) if current else 0
    handles = [(part, _ask(nvml, "DeviceGetMigDeviceHandleByIndex", whole, part)) for part in range(most)]
    return [(part, handle) for part, handle in handles if handle is not None]  # not every place has a part


def _ask(nvml: Any, question: str, *about: Any) -> Any:
    """An answer of NVML; None where it has none."""
    try:
        return getattr(nvml, f"nvml{question}")(*about)
    except Exception:  # its errors have no common base outside of its package, and old ones lack some questions
        return None


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
