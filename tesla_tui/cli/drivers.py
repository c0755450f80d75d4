"""Watching for heartbeats of drivers on other machines, announced on stderr."""

from collections.abc import Sequence

from rich.console import Console

from engine.runs.liveness import LOOK, driver_alive, driver_of, watch_drivers
from engine.runs.run import Run
from tesla_tui.render.words import duration, literal


def watch(runs: Sequence[Run], seconds: float = LOOK) -> list[Run]:
    """Watch the drivers of runs that may be driven on other machines; the runs of which it is still not known.

    Returns at once, without a word, where no such driver is in doubt.
    """
    console, announced = Console(stderr=True), False
    for unknown in watch_drivers(runs, seconds):
        for run in [] if announced else unknown:
            words = f"{run.name}: watching for a heartbeat of {driver_name(run)}, up to {duration(seconds)}..."
            console.print(f"[dim]{words}[/]", highlight=False)
        announced = True
    return [run for run in runs if driver_alive(run) is None] if announced else []


def driver_name(run: Run) -> str:
    """`process 12 on box of ada since ...`, safe to print."""
    driver = driver_of(run)
    return literal(driver.words) if driver is not None else "its driver"
