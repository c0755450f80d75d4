"""What a run is doing at this moment, in one line."""

from dataclasses import dataclass

from engine.runs.heartbeat import Heartbeat
from engine.settings import method_traits
from engine.storage.filesystem import disk, format_bytes
from tesla_tui.render.eta import is_compiling
from tesla_tui.render.words import accuracy_of, clean
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.view import RunView

FULL = 2**20
"""Free bytes below which a disk counts as full: no checkpoint fits."""
SHORT = 2**28
"""Free bytes below which the line warns."""


@dataclass(frozen=True)
class Now:
    """What happens, and how serious that is: `info`, `good`, `warning` or `error`."""

    text: str
    level: str = "info"
    press: str = ""
    """What a key does about it, as a sentence."""


def now(feed: RunFeed) -> Now:
    """What the run of a feed is doing, or why it does nothing and what to press."""
    view = feed.view
    if feed.trouble:
        return Now(feed.trouble, "error")
    if feed.live:
        return _live(feed)
    at = f" at iteration {view.iteration}" if view.iteration else ""
    room = _disk_words(feed, FULL)
    match feed.state:
        case "new":
            return Now("Not started.", press="Press space to start it.")
        case "gone":
            return Now(f"{clean(feed.run.name)} is gone: deleted, moved, or its disk is away.", "error")
        case "finished":
            return Now(f"Finished{_result_words(view)}.", "good")
        case "imported":
            return Now("Imported: nothing to run.", "good")
        case "failed":
            return Now(f"Failed{at}: {clean(view.failure)}".replace("\n", " "), "error")
        case "interrupted":
            return Now(f"The driver died{at}{room or '.'}", "error", "Press t to resume.")
    return Now(f"Stopped{at}.", press="Press space to resume.")


def _result_words(view: RunView) -> str:
    """The test accuracy of the first network, and of random real images; empty if it was not measured."""
    tests = view.tests()
    ours = next((result for result in tests if result.subject != "random"), None)
    if ours is None:
        return ""
    base = next((result for result in tests if result.subject == "random" and result.network == ours.network), None)
    said = {"test accuracy": ours, "random": base}
    return ": " + ", ".join(f"{name} {accuracy_of(result)} %" for name, result in said.items() if result is not None)


def _live(feed: RunFeed) -> Now:
    view, beat = feed.view, feed.heartbeat
    doing = _doing(view, beat)
    if feed.state == "paused":
        return Now(f"Paused: {doing}.", "warning", "Press space to resume.")
    if feed.state == "stalled":
        return Now(f"Stalled{_disk_words(feed, FULL) or ', no recent progress:'} {doing}", "warning")
    low = _disk_words(feed, SHORT)
    return Now(f"{doing}{low}", "warning" if low else "info")


def _doing(view: RunView, beat: Heartbeat | None) -> str:
    """What a driver does, from its heartbeat; from the journal where it has said nothing yet."""
    stage = (beat.stage if beat is not None else "") or view.stage
    detail = clean(beat.detail) if beat is not None and beat.stage else ""
    if is_compiling(detail):
        return f"{detail} ({stage})"
    match stage:
        case "data":
            return f"opening the data: {detail}" if detail else "opening the data"
        case "teachers":
            count = "" if view.plan is None else f" {view.teachers_done}/{view.plan.count}"
            return f"training teachers{count}" + (f": {detail}" if detail else "")
        case "distillation":
            count = f"iteration {view.iteration}/{view.iterations}"
            what = "distilling" if view.iteration or not detail else "preparing the images"
            return f"{what}: {detail or count}" + (f", {count}" if detail and view.iteration else "")
        case "evaluation":
            at = f" iteration {view.iteration}" if view.distilling else ""
            return f"evaluating{at}" + (f": {detail}" if detail else "")
    teachers = method_traits(str(view.settings.get("distill.method", "tesla"))).teachers
    if view.data is None:
        return "starting: opening the data"
    return "preparing the teachers" if teachers and view.plan is None else "preparing the next stage"


def _disk_words(feed: RunFeed, least: int) -> str:
    """That the run's disk is full or nearly so; empty where it is not, or where that is not known."""
    free = disk.free(feed.run.folder)
    if free is None or free >= least:
        return ""
    if free < FULL:
        return (
            f" because the disk is full ({format_bytes(free)} free in {clean(str(feed.run.folder))}). Free some space."
        )
    return f", only {format_bytes(free)} of disk space are left"
