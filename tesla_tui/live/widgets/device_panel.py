"""The machine: a few lines for every GPU, else for the processor."""

import sys

from rich.text import Text
from textual import work
from textual.widgets import Static
from textual.worker import get_current_worker

from engine.storage.filesystem import format_bytes
from tesla_tui.live.widgets.bars import strip
from tesla_tui.render.words import clean
from tesla_tui.watch.devices import Devices, Gpu, Processor, Sample

UNKNOWN = "n/a"


class DevicePanel(Static):
    """Devices as text; whatever is not known is n/a."""

    DEFAULT_CSS = "DevicePanel { height: 1fr; width: 1fr; text-wrap: nowrap; text-overflow: ellipsis; }"

    def __init__(self) -> None:
        super().__init__()
        self._drawn: tuple[object, ...] = ()

    def show(self, devices: Devices, pid: int | None) -> None:
        """Look at the machine, in a thread because eight busy GPUs take their time to answer, and draw."""
        self._look(devices, pid)

    @work(thread=True, group="devices", exclusive=True)
    def _look(self, devices: Devices, pid: int | None) -> None:
        sample = devices.sample(pid)
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._draw, devices, sample)

    def _draw(self, devices: Devices, sample: Sample) -> None:
        drawn = (sample, self.app.theme, self.content_size)
        if drawn == self._drawn:
            return
        self._drawn = drawn
        if self.parent is not None:
            self.parent.set_class(len(sample.gpus) > 0, "-gpus")
        width = max(20, self.content_size.width)
        lines = [Text("device", style="bold")]
        for gpu in sample.gpus:
            lines += self._gpu(gpu, devices, width)
        lines += self._processor(sample.processor, devices, width)
        if sys.platform == "darwin":
            words = "GPU shares this memory; macOS does not report its load"
            lines.append(Text(words, style=self.app.theme_variables["quiet"]))
        self.update(Text("\n").join(lines), layout=False)

    def _gpu(self, gpu: Gpu, devices: Devices, width: int) -> list[Text]:
        colours = self.app.theme_variables
        name = clean(gpu.name) if gpu.name else UNKNOWN
        heat = UNKNOWN if gpu.temperature is None else f"{gpu.temperature} °C"
        busy = UNKNOWN if gpu.utilisation is None else f"{gpu.utilisation} %"
        power = UNKNOWN if gpu.power is None else f"{gpu.power:.0f} W"
        if gpu.power is not None and gpu.power_limit:
            power = f"{gpu.power:.0f}/{gpu.power_limit:.0f} W"
        first = Text(no_wrap=True, overflow="ellipsis")
        first.append(f"GPU {gpu.index} ", style=colours["primary"])
        first.append(f"{busy}  {heat}  {power}  ")
        first.append(name, style=colours["quiet"])
        memory = UNKNOWN
        if gpu.used is not None and gpu.total:
            memory = f"{format_bytes(gpu.used)} of {format_bytes(gpu.total)}"
        second = Text(no_wrap=True, overflow="ellipsis")
        second.append("  memory ", style=colours["quiet"])
        second.append(f"{memory} ")
        history = devices.history.get(gpu.index, ())
        second.append(strip(list(history), width - second.cell_len - 1, 1.0), style=colours["primary"])
        return [first, second]

    def _processor(self, cpu: Processor, devices: Devices, width: int) -> list[Text]:
        colours = self.app.theme_variables
        first = Text(no_wrap=True, overflow="ellipsis")
        first.append("CPU ", style=colours["primary"])
        load = UNKNOWN if cpu.load is None else f"{cpu.load:.1f}"
        first.append(f"{cpu.utilisation:.0f} % of {cpu.cores} cores")
        first.append(f"  load {load}", style=colours["quiet"])
        memory = Text(no_wrap=True, overflow="ellipsis")
        memory.append("memory ", style=colours["quiet"])
        memory.append(f"{format_bytes(cpu.memory_used)} of {format_bytes(cpu.memory_total)}")
        driver = Text(no_wrap=True, overflow="ellipsis")
        driver.append("driver ", style=colours["quiet"])
        driver.append(f"{UNKNOWN if cpu.rss is None else format_bytes(cpu.rss)} ")
        history = list(devices.history.get(-1, ()))
        driver.append(strip(history, width - driver.cell_len - 1), style=colours["primary"])
        return [first, memory, driver]
