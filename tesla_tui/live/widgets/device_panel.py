"""The machine in a few lines: the run's devices first, in two lines each where there is room, else in one."""

import sys

from rich.text import Text
from textual import work
from textual.widgets import Static
from textual.worker import get_current_worker

from tesla_tui.live.widgets.bars import strip
from tesla_tui.live.widgets.device_words import (
    UNKNOWN,
    bytes_of,
    device_name,
    driver_words,
    load_words,
    memory_words,
    number,
    owner_sign,
    share_words,
)  # fmt: skip
from tesla_tui.watch.devices import CPU, Devices, Sample
from tesla_tui.watch.nvml import Gpu
from tesla_tui.watch.run_gpus import Use

ROOMY = 46
"""Columns from which on a line has room for the power."""
MAC = "GPU shares this memory; macOS does not report its load"


class DevicePanel(Static):
    """Devices as text; whatever is not known is n/a."""

    DEFAULT_CSS = "DevicePanel { height: 1fr; width: 1fr; text-wrap: nowrap; text-overflow: ellipsis; }"

    def __init__(self) -> None:
        super().__init__()
        self._drawn: tuple[object, ...] = ()
        self._shown: tuple[Devices, Sample] | None = None

    def show(self, devices: Devices, use: Use) -> None:
        """Look at the machine, in a thread because eight busy GPUs take their time to answer, and draw."""
        if devices.due:
            self._look(devices, use)
        elif devices.last is not None:
            self._draw(devices, devices.last)

    @work(thread=True, group="devices")
    def _look(self, devices: Devices, use: Use) -> None:
        sample = devices.sample(use)
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._draw, devices, sample)

    def on_resize(self) -> None:
        """Draw again in the room there is now: the first GPU that is found makes more of it."""
        if self._shown is not None:
            self._draw(*self._shown)

    def _draw(self, devices: Devices, sample: Sample) -> None:
        self._shown = devices, sample
        drawn = (sample, self.app.theme, self.content_size)
        if drawn == self._drawn:
            return
        self._drawn = drawn
        if self.parent is not None:
            self.parent.set_class(len(sample.gpus) > 0, "-gpus")
        self.update(Text("\n").join(self._lines(devices, sample)), layout=False)

    def _lines(self, devices: Devices, sample: Sample) -> list[Text]:
        """As many devices as fit: the run's first, and how many are left out."""
        room = max(1, self.content_size.height - 1)
        gpus, more = list(sample.gpus), 0
        processor = self._processor(devices, sample)
        if 2 * len(gpus) + len(processor) <= room:
            lines = [line for gpu in gpus for line in self._full(gpu, devices)]
        else:
            lines = [self._short(gpu, devices) for gpu in gpus]
            processor = processor[:1] if len(gpus) + len(processor) > room else processor
        if gpus and not any(gpu.ours for gpu in gpus) and sample.use.pid is not None:
            lines = processor + lines  # a run on the CPU
        elif len(lines) < room:
            lines += processor
        if len(lines) > room:
            more, lines = len(lines) - room, lines[:room]
        return [self._heading(sample, more), *lines]

    def _heading(self, sample: Sample, more: int) -> Text:
        quiet = self.app.theme_variables["quiet"]
        heading = Text("devices" if sample.gpus else "device", style="bold")
        if more:
            heading.append(f"  {more} more: press g", style=f"not bold {self.app.theme_variables['accent']}")
        if sample.words:
            heading.append(f"  {sample.words}", style=f"not bold {quiet}")
        return heading

    def _full(self, gpu: Gpu, devices: Devices) -> list[Text]:
        colours = self.app.theme_variables
        first = Text(no_wrap=True, overflow="ellipsis")
        first.append(f"{owner_sign(gpu)}GPU {gpu.label} ", style=colours["primary"])
        power = UNKNOWN if gpu.power is None else f"{gpu.power:.0f} W"
        if gpu.power is not None and gpu.power_limit:
            power = f"{gpu.power:.0f}/{gpu.power_limit:.0f} W"
        first.append(f"{number(gpu.utilisation, '%')}  {number(gpu.temperature, '°C')}  {power}  ")
        first.append(device_name(gpu), style=colours["quiet"])
        second = Text("  memory ", style=colours["quiet"], no_wrap=True, overflow="ellipsis")
        second.append(f"{memory_words(gpu)} ", style=colours["foreground"])
        if shares := share_words(gpu):
            second.append(f"{shares} ")
        return [first, self._with_past(second, devices, gpu.label, "memory", 1.0)]

    def _short(self, gpu: Gpu, devices: Devices) -> Text:
        colours = self.app.theme_variables
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{owner_sign(gpu)}GPU {gpu.label:<2}", style=colours["primary"])
        line.append(f"{number(gpu.utilisation, '%'):>6} {number(gpu.temperature, '°C'):>6}  ")
        if self.content_size.width >= ROOMY:
            line.append(f"{number(gpu.power, 'W'):>5}  ")
        line.append(f"{bytes_of(gpu)} ")
        return self._with_past(line, devices, gpu.label, "memory", 1.0)

    def _processor(self, devices: Devices, sample: Sample) -> list[Text]:
        """Load, memory and driver; the first line alone says what matters most."""
        colours, cpu = self.app.theme_variables, sample.processor
        first = Text(no_wrap=True, overflow="ellipsis")
        first.append("CPU ", style=colours["primary"])
        first.append(f"{cpu.utilisation:.0f} % of {cpu.cores} cores")
        first.append(f"  {load_words(cpu)}", style=colours["quiet"])
        memory = Text("memory ", style=colours["quiet"], no_wrap=True, overflow="ellipsis")
        memory.append(memory_words(cpu), style=colours["foreground"])
        driver = Text("driver ", style=colours["quiet"], no_wrap=True, overflow="ellipsis")
        driver.append(f"{driver_words(cpu)} ", style=colours["foreground"])
        lines = [first, memory, self._with_past(driver, devices, CPU, "driver", None)]
        if sys.platform == "darwin":
            lines.append(Text(MAC, style=colours["quiet"]))
        return lines

    def _with_past(self, line: Text, devices: Devices, label: str, fact: str, top: float | None) -> Text:
        room = max(20, self.content_size.width) - line.cell_len - 1
        past = strip(devices.past(label, fact), room, top)
        return line.append(past, style=self.app.theme_variables["primary"])
