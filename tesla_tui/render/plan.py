"""A plan as tables."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.storage.filesystem import format_bytes
from engine.tools.plan.report import Peak, Plan
from tesla_tui.render.words import clean, duration, literal

STAGES = {"always": "always", "teachers": "teachers", "distillation": "distilling", "evaluation": "evaluating"}
HOW = {"measured": "measured", "extrapolated": "extrapolated", "computed": "calculated"}


def plan_words(plan: Plan) -> RenderableType:
    """The whole plan; shortages come last and stand out."""
    store = f", {plan.store} store" if plan.store else ""
    compiled = "compiled" if plan.compiled else "eager"
    seen = f", {plan.views} smaller ones in each" if plan.views > 1 else ""
    about = Text.assemble(
        (clean(plan.run), "bold"),
        f": {plan.images:,} images (IPC {plan.ipc}{seen}) of {clean(plan.dataset)}, {plan.parameters:,} parameters, "
        f"{plan.device}, {compiled}{store}. Sizes: {plan.origin}.",
    )
    parts: list[RenderableType] = [about, *_calculated(plan), _memory(plan), _disk(plan), _time(plan)]
    if plan.shortages:
        parts += [
            Text.assemble(("Does not fit: ", "bold red"), clean(shortage.message), " ", (shortage.hint, "bold"))
            for shortage in plan.shortages
        ]
    else:
        parts.append(Text("It fits.", style="bold green"))
    parts.append(
        Text(
            f"measured: at the run's own size. extrapolated: measured smaller or shorter, and scaled up. "
            f"calculated: from sizes, or for another machine. Planning took {duration(plan.measuring_seconds)}.",
            style="dim",
        )
    )
    return Group(*parts)


def _calculated(plan: Plan) -> list[RenderableType]:
    """What a plan for another machine is calculated from."""
    return [Text(plan.calculated, style="yellow")] if plan.calculated else []


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="dim", title_style="bold")


def _memory(plan: Plan) -> Table:
    table = _table("Memory")
    two = len(plan.peaks) > 1
    for name, justify in (("", "left"), ("bytes", "right"), ("when", "left"), ("basis", "left"), ("", "left")):
        table.add_column(name, justify=justify, no_wrap=name != "")  # type: ignore[arg-type]
    for part in plan.memory:
        where = f" ({part.where})" if two else ""
        table.add_row(f"{part.name}{where}", format_bytes(part.bytes), STAGES[part.stage], HOW[part.how], part.note)
    for peak in plan.peaks:
        table.add_row(*_peak_row(peak, two), style="bold")
    return table


def _peak_row(peak: Peak, two: bool) -> tuple[str, str, str, str]:
    name = f"peak ({peak.where})" if two else "peak"
    return name, format_bytes(peak.bytes), STAGES[peak.stage], f"{format_bytes(peak.free)} free"


def _disk(plan: Plan) -> Table:
    table = _table("Disk")
    for name, justify in (("", "left"), ("bytes", "right"), ("", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for use in plan.disk:
        table.add_row(use.name, format_bytes(use.bytes), use.note)
    for room in plan.room:
        free = f"{format_bytes(room.free)} free"
        table.add_row(f"total at {literal(room.place)}", format_bytes(room.bytes), free, style="bold")
    return table


def _time(plan: Plan) -> Table:
    table = _table("Time")
    for name, justify in (("", "left"), ("", "right"), ("basis", "left"), ("", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for stage in plan.time:
        table.add_row(stage.name, duration(stage.seconds), HOW[stage.how], stage.note)
    words = f"{plan.seconds_per_iteration:,.3g} s per iteration" if plan.seconds_per_iteration else ""
    words += f", {plan.seconds_per_step:,.3g} s per matching step" if plan.seconds_per_step else ""
    table.add_row("total", duration(plan.seconds), "", words, style="bold")
    return table
