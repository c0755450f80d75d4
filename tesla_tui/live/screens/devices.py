"""All devices of the machine, with how their memory, load, power and temperature went; the run's first."""

import sys
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import ItemGrid, VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from engine.storage.processes import processor_name
from tesla_tui.live.widgets.bars import strip
from tesla_tui.live.widgets.device_panel import MAC
from tesla_tui.live.widgets.device_words import (
    UNKNOWN,
    device_name,
    driver_words,
    load_words,
    memory_words,
    number,
    owner_sign,
    share_words,
)  # fmt: skip
from tesla_tui.live.widgets.key_line import KeyLine
from tesla_tui.render.cells import cut, padded
from tesla_tui.watch.devices import CPU, Devices, Processor
from tesla_tui.watch.nvml import Gpu

HOT = 100.0
"""Degrees Celsius at the top of the temperature's history."""
NAMES = len("temperature  ")
CARD = 58
"""Columns that a device needs, at least."""
VALUES = 20
"""Columns of a value, before its history."""


class DeviceCard(Static):
    """One device: a heading, and a line for every fact with its history."""

    DEFAULT_CSS = "DeviceCard { height: auto; text-wrap: nowrap; text-overflow: ellipsis; }"

    def show_gpu(self, gpu: Gpu, devices: Devices, *, driven: bool) -> None:
        """Draw a GPU. `driven`: there is a run that it may belong to."""
        colours = self.app.theme_variables
        whose = "the run's" if gpu.ours and driven else ""
        name = cut(device_name(gpu), max(8, self._width() - len(f"  GPU {gpu.label}  {whose}") - 2))
        text = Text(f"{owner_sign(gpu)}GPU {gpu.label}", style=f"bold {colours['primary']}")
        text.append(f"  {name}", style=f"not bold {colours['foreground']}")
        if whose:
            text.append(f"  {whose}", style=f"not bold {colours['success']}")
        power = number(gpu.power, "W") + (f" of {gpu.power_limit:.0f} W" if gpu.power and gpu.power_limit else "")
        self._line(text, "memory", memory_words(gpu), devices.past(gpu.label, "memory"), 1.0)
        self._shares(text, gpu)
        self._line(text, "utilisation", number(gpu.utilisation, "%"), devices.past(gpu.label, "utilisation"), 100.0)
        self._line(text, "power", power, devices.past(gpu.label, "power"), gpu.power_limit)
        heat = number(gpu.temperature, "°C")
        self._line(text, "temperature", heat, devices.past(gpu.label, "temperature"), HOT)
        self.update(text)

    def show_processor(self, cpu: Processor, devices: Devices) -> None:
        """Draw the processor and its memory."""
        colours = self.app.theme_variables
        text = Text("  CPU", style=f"bold {colours['primary']}")
        name = cut(processor_name(), max(8, self._width() - 20))
        text.append(f"  {name}, {cpu.cores} cores", style=f"not bold {colours['foreground']}")
        self._line(text, "memory", memory_words(cpu), devices.past(CPU, "memory"), 1.0)
        load = f"{cpu.utilisation:.0f} %, {load_words(cpu)}"
        self._line(text, "utilisation", load, devices.past(CPU, "utilisation"), 100.0)
        self._line(text, "driver", driver_words(cpu), devices.past(CPU, "driver"), None)
        if sys.platform == "darwin":
            text.append(f"\n    {MAC}", style=f"not bold {colours['quiet']}")
        self.update(text)

    def _width(self) -> int:
        return self.content_size.width or CARD

    def _line(self, text: Text, name: str, value: str, past: Sequence[float], top: float | None) -> None:
        colours = self.app.theme_variables
        text.append(f"\n    {name:<{NAMES}}", style=f"not bold {colours['quiet']}")
        text.append(padded(value, VALUES), style=f"not bold {colours['foreground']}")
        room = self._width() - 4 - NAMES - VALUES - 1
        text.append(strip(past, room, top), style=f"not bold {colours['primary']}")

    def _shares(self, text: Text, gpu: Gpu) -> None:
        """Whose memory it is: the run's, that of other processes, and what is free."""
        colours = self.app.theme_variables
        text.append(f"\n    {'':<{NAMES}}", style="not bold")
        if gpu.own is None or gpu.used is None or not gpu.total:
            text.append(f"by process: {UNKNOWN}", style=f"not bold {colours['quiet']}")
            return
        words = share_words(gpu)
        text.append(f"{words} " if words else "", style=f"not bold {colours['quiet']}")
        room = max(0, self._width() - 4 - NAMES - len(words) - 2)
        own = round(room * min(1.0, gpu.own / gpu.total))
        others = min(room - own, round(room * max(0, gpu.used - gpu.own) / gpu.total))
        text.append("█" * own, style=f"not bold {colours['primary']}")
        text.append("▒" * others, style=f"not bold {colours['warning']}")
        text.append("░" * (room - own - others), style=f"not bold {colours['chart-axis']}")


class DevicesScreen(Screen[None]):
    """What every GPU and the processor do, followed while it is open."""

    HELP = """
All GPUs of this machine and its processor. A dot marks the GPUs of the run: those its processes compute on, or, until
they do, those that `CUDA_VISIBLE_DEVICES` and `compute.device` give it; without a run, those that one could use. Memory
is split into the run's (█), that of other processes (▒) and what is free (░). Histories end at the right, with a sample
every second.
"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,g", "close", "close", key_display="esc", id="devices.close"),
        Binding("question_mark", "app.help", "help", key_display="?", show=False),
    ]

    def __init__(self, devices: Devices) -> None:
        super().__init__()
        self._devices = devices

    def compose(self) -> ComposeResult:
        """A line about the run, and a card for every device."""
        yield Static(id="devices-words")
        with VerticalScroll(id="devices-body"):
            yield ItemGrid(id="devices-grid", min_column_width=CARD)
        yield KeyLine()

    def on_mount(self) -> None:
        """The workbench below looks at the machine; this draws what it saw."""
        self.query_one("#devices-body").focus()
        self.set_interval(1.0, self.draw)
        self.call_after_refresh(self.draw)

    def on_resize(self) -> None:
        """Histories as long as there is room."""
        self.call_after_refresh(self.draw)

    def action_close(self) -> None:
        """Back to the run."""
        self.dismiss()

    def draw(self) -> None:
        """The newest sample."""
        sample = self._devices.last
        if sample is None:
            return
        colours = self.app.theme_variables
        words = Text("devices", style="bold")
        words.append(f"  {sample.words}" if sample.words else "", style=f"not bold {colours['quiet']}")
        if self.query_one("#devices-body").max_scroll_y > 0:
            words.append("  ↑ ↓ scroll", style=f"not bold {colours['accent']}")
        self.query_one("#devices-words", Static).update(words)
        cards = self._cards(len(sample.gpus) + 1)
        for card, gpu in zip(cards, sample.gpus, strict=False):
            card.show_gpu(gpu, self._devices, driven=sample.use.pid is not None)
        if len(cards) > len(sample.gpus):
            cards[-1].show_processor(sample.processor, self._devices)

    def _cards(self, count: int) -> list[DeviceCard]:
        grid = self.query_one("#devices-grid", ItemGrid)
        missing = count - len(grid.children)
        if missing > 0:
            grid.mount_all(DeviceCard() for _ in range(missing))
            self.call_after_refresh(self.draw)  # now they have a size
        return list(grid.query(DeviceCard))
