"""The report on a dataset in the terminal."""

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.data.report import ClassFacts, DataReport, LeftOut, Listing
from engine.data.sources import Preview
from engine.errors import counted
from tesla_tui.render.tables import is_bounded
from tesla_tui.render.words import clean, one_line

MOST_CLASSES = 20
"""Classes that are listed with their counts; of more, the first and last few."""
ENDS = (8, 2)
"""Of a long list, so many classes from its start and its end."""
MOST_SIZES = 3
INLINE = 12
"""Classes named in the short form."""
UNBOUNDED = 10_000
"""Characters of a line in a file or a pipe."""


def print_report(console: Console, report: DataReport, *, short: bool = False) -> None:
    """Print a report: wrapped in a terminal, in whole lines elsewhere."""
    if is_bounded(console):
        console.print(report_words(report, short=short), highlight=False)
    else:
        wide = Console(file=console.file, width=UNBOUNDED, quiet=console.quiet)
        wide.print(report_words(report, short=short), highlight=False)


def report_words(report: DataReport, *, short: bool = False) -> RenderableType:
    """The report.

    Args:
        report: on a dataset.
        short: classes and images in a line each, and only the columns that are used; nothing that is left out is
            left unsaid.
    """
    train, test = (sum(counts) for counts in zip(*((c.train, c.test) for c in report.classes), strict=True))
    head = Text(clean(report.source), style="bold")
    totals = Text(
        f"{counted(len(report.classes), 'class', 'classes')}, {counted(train, 'training image')}, "
        f"{counted(test, 'test image')}, {report.resolution.value}x{report.resolution.value} "
        f"{'grey' if report.channels.value == '1' else 'RGB'}"
    )
    parts: list[RenderableType] = [head, totals]
    parts += _tables(report.listing, short=short)
    order = clean(report.listing.class_order)
    title = f"Classes ({order})" if order else "Classes"
    parts += _section(title, _names(report.classes) if short else _classes(report.classes))
    parts += _section("Images", _images(report, short))
    return Group(*parts, *_remarks(report.listing))


def preview_words(preview: Preview) -> RenderableType:
    """What a publisher says about a dataset that is not downloaded."""
    parts = _tables(preview.listing)
    if preview.classes:
        listed = ", ".join(one_line(name) for name in preview.classes[:INLINE])
        more = f", and {len(preview.classes) - INLINE:,} more" if len(preview.classes) > INLINE else ""
        parts += _section(f"Classes ({len(preview.classes):,})", _bullet(Text(listed + more)))
    return Group(*parts, *_remarks(preview.listing))


def _tables(listing: Listing, *, short: bool = False) -> list[RenderableType]:
    parts = _section("Splits", _splits(listing)) if listing.splits else []
    if listing.config or listing.columns:
        parts += _section("Table", _columns(listing, short))
    return parts


def _remarks(listing: Listing) -> list[RenderableType]:
    parts = _section("Left out", Group(*map(_left_out, listing.left_out))) if listing.left_out else []
    if listing.notes:
        parts += _section("Notes", Group(*(_bullet(Text(clean(note))) for note in listing.notes)))
    return parts


def _section(title: str, body: RenderableType) -> list[RenderableType]:
    return [Text(), Text(title, style="bold cyan"), body]


def _grid(*columns: str) -> Table:
    """A table without lines; the columns' justifications, the last one takes what is left of the width."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=0)  # an indent of two
    for place, justify in enumerate(columns):
        last = place == len(columns) - 1
        table.add_column(justify="right" if justify == "right" else "left", no_wrap=not last, ratio=1 if last else None)
    return table


def _splits(listing: Listing) -> Table:
    table = _grid("left", "left", "right", "left")
    for split in listing.splits:
        style = "dim" if split.role == "unused" else ""
        unsaid = [source for source in split.sources if source not in split.why]
        where = f" ({_some(unsaid)})" if unsaid else ""
        table.add_row(
            "", Text(split.role, style=style), Text(clean(split.name), style=style),
            Text(f"{split.count:,} {split.unit}", style=style), Text(clean(split.why) + clean(where), style="dim"),
        )  # fmt: skip
    return table


def _columns(listing: Listing, short: bool) -> Table:
    table = _grid("left", "left", "left", "left")
    config = listing.config
    if config is not None:
        table.add_row("", "config", Text(clean(config.value)), "", Text(clean(config.why), style="dim"))
    for column in listing.columns:
        if short and column.role == "unused":
            continue
        style = "dim" if column.role == "unused" else ""
        table.add_row(
            "", Text(column.role, style=style), Text(clean(column.name), style=style),
            Text(clean(column.kind), style=style), Text(clean(column.why), style="dim"),
        )  # fmt: skip
    return table


def _classes(classes: tuple[ClassFacts, ...]) -> RenderableType:
    first, last = ENDS
    long = len(classes) > MOST_CLASSES
    shown = [*range(first), *range(len(classes) - last, len(classes))] if long else range(len(classes))
    table = _grid("right", "left", "right", "right")
    table.add_row("", *(Text(word, style="dim") for word in ("", "", "train", "test")))
    table.columns[-1].ratio = None
    table.columns[2].no_wrap = False
    table.columns[2].overflow = "ellipsis"
    for k in shown:
        if long and k == len(classes) - last:
            table.add_row("", "", Text("...", style="dim"))
        facts = classes[k]
        table.add_row("", Text(str(k), style="dim"), Text(one_line(facts.name)), f"{facts.train:,}", f"{facts.test:,}")
    all_of_them = f"{_balance(classes)} --json lists all {len(classes):,} classes."
    return Group(table, _bullet(Text(all_of_them, style="dim"))) if long else table


def _balance(classes: tuple[ClassFacts, ...]) -> str:
    sizes = [facts.train for facts in classes]
    if min(sizes) == max(sizes):
        return f"Each has {counted(sizes[0], 'training image')}."
    return f"From {min(sizes):,} to {max(sizes):,} training images a class."


def _names(classes: tuple[ClassFacts, ...]) -> RenderableType:
    listed = ", ".join(one_line(facts.name) for facts in classes[:INLINE])
    more = f", and {len(classes) - INLINE:,} more" if len(classes) > INLINE else ""
    return Group(_bullet(Text(listed + more)), _bullet(Text(_balance(classes), style="dim")))


def _images(report: DataReport, short: bool) -> RenderableType:
    found, chosen = _grid("left", "left"), _grid("left", "left", "left")
    for table in (found, chosen):
        table.columns[1].min_width = len("resolution")
    if not short:
        looked = "" if report.looked == report.total else f", of {report.looked:,} that were looked at"
        for name, counts in {"modes": report.modes, "sizes": report.sizes}.items():
            shown = [f"{kind} ({count:,})" for kind, count in list(counts.items())[:MOST_SIZES]]
            more = [counted(len(counts) - len(shown), "other")] if len(counts) > len(shown) else []
            found.add_row("", name, Text(", ".join([*shown, *more]) + looked))
    rows = {"resolution": report.resolution, "channels": report.channels, "values": report.value_range}
    for name, choice in {**rows, "fit": report.fit}.items():
        # The short form leaves out what changes no image.
        if not short or not choice.why.endswith(("8-bit images", "images are square")):
            chosen.add_row("", name, Text(clean(choice.value)), Text(clean(choice.why), style="dim"))
    return chosen if short else Group(found, chosen)


def _left_out(item: LeftOut) -> RenderableType:
    text = Text.assemble((clean(item.what), "yellow"), f": {clean(item.reason)}")
    if item.examples:
        text.append(f" ({_some(item.examples, item.count)})", style="dim")
    if item.setting:
        text.append(f". To take {'it' if item.count == 1 else 'them'}: ").append(clean(item.setting), style="bold")
    return _bullet(text)


def _bullet(text: Text) -> Table:
    table = _grid("left")
    table.add_row("", text)
    return table


def _some(examples: Iterable[str], count: int = 0) -> str:
    listed = [clean(example).replace("\n", " ") for example in examples]
    return ", ".join(listed[:3]) + (", ..." if max(len(listed), count) > 3 else "")
