"""Facts about devices as text; what is not known is n/a."""

from engine.storage.filesystem import format_bytes
from tesla_tui.render.words import one_line
from tesla_tui.watch.devices import Processor
from tesla_tui.watch.nvml import Gpu

UNKNOWN = "n/a"


def number(value: float | None, unit: str) -> str:
    """`97 %`."""
    return UNKNOWN if value is None else f"{value:.0f} {unit}"


def device_name(gpu: Gpu) -> str:
    """What the GPU calls itself."""
    return one_line(gpu.name) if gpu.name else UNKNOWN


def owner_sign(gpu: Gpu) -> str:
    """A dot before the run's GPUs; it says so without colour too."""
    return "● " if gpu.ours else "  "


def memory_words(device: Gpu | Processor) -> str:
    """`31.0 GB of 80.0 GB`."""
    used, total = _memory(device)
    return UNKNOWN if used is None or not total else f"{format_bytes(used)} of {format_bytes(total)}"


def bytes_of(gpu: Gpu) -> str:
    """The same where room is short, and the run's part before that of others if it is known: `28+2.9/80 GB`."""
    if gpu.used is None or not gpu.total:
        return UNKNOWN
    parts = (gpu.own, max(0, gpu.used - gpu.own)) if gpu.own else (gpu.used,)
    return f"{'+'.join(map(_gigabytes, parts))}/{_gigabytes(gpu.total)} GB"


def share_words(gpu: Gpu) -> str:
    """`run 28.1 GB, others 2.9 GB`; empty where none is used, and where it is not known whose it is."""
    if gpu.own is None or gpu.used is None:
        return ""
    shares = {"run": gpu.own, "others": max(0, gpu.used - gpu.own)}
    return ", ".join(f"{whose} {format_bytes(size)}" for whose, size in shares.items() if size)


def load_words(cpu: Processor) -> str:
    """`load 6.5`."""
    return f"load {UNKNOWN if cpu.load is None else f'{cpu.load:.1f}'}"


def driver_words(cpu: Processor) -> str:
    """Memory of the process that drives the run."""
    return UNKNOWN if cpu.rss is None else format_bytes(cpu.rss)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.0f}" if size >= 9.95e9 else f"{size / 1e9:.1f}"


def _memory(device: Gpu | Processor) -> tuple[int | None, int | None]:
    if isinstance(device, Gpu):
        return device.used, device.total
    return device.memory_used, device.memory_total
