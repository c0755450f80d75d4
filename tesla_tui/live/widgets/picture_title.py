"""The words about a page of pictures: which iteration, which picture, what is not seen."""

from rich.text import Text

from engine.runs.preview_frames import Frame
from engine.settings.decoders import formation_words
from tesla_tui.live.context import Context
from tesla_tui.render.cells import caption, cut
from tesla_tui.watch.previews import SEEN, formation_of
from tesla_tui.watch.selected import SIGN, selected_of

NARROW = 72
"""Columns up to which less is said, so that the page is."""
LEAST_NAME = 8
"""Columns of the name of the selected image, at least."""


def class_name(context: Context, number: int) -> str:
    """Of a class; its number where the names are not known."""
    names = context.feed.view.names if context.feed is not None else []
    return caption(names[number]) if number < len(names) else f"class {number}"


def captions_of(context: Context, frame: Frame, views: int) -> list[str]:
    """The class of every picture, with its number where there are several.

    Args:
        context: of the run.
        frame: its pictures.
        views: pictures that stand for a stored one.
    """
    numbers = [n % frame.shown for n in range(len(frame.pixels))]
    image = [f" {n // views + 1}" * (frame.shown > views) for n in numbers]
    view = [f"{'.' if frame.shown > views else ' '}{n % views + 1}" * (views > 1) for n in numbers]
    return [class_name(context, n // frame.shown) + image[n] + view[n] for n in range(len(numbers))]


def iteration_words(context: Context, iteration: int, colours: dict[str, str], *, short: bool = False) -> Text:
    """`iteration 60  ◆ best held-out accuracy 88.3 %`; `short` leaves a word out."""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"iteration {iteration}", style="bold")
    selected = selected_of(context.feed)
    if selected is not None and selected.iteration == iteration:
        text.append(f"  {SIGN} {selected.short if short else selected.words}", style=colours["accent"])
    return text


def title_words(
    context: Context,
    frame: Frame,
    colours: dict[str, str],
    *,
    picture: int,
    views: int,
    playing: bool,
    newest: bool,
    page: tuple[int, int],
    width: int,
) -> Text:
    """The line above the pictures, most important first.

    Args:
        context: of the run.
        frame: that is shown.
        colours: of the theme.
        picture: number of the selected one.
        views: pictures that stand for a stored one.
        playing: whether the film is played.
        newest: whether the frame is the newest.
        page: the number of the page and of all pages.
        width: columns there are.
    """
    feed = context.feed
    assert feed is not None
    narrow = width <= NARROW
    title = iteration_words(context, frame.iteration, colours, short=narrow)
    if playing:
        title.append("  ▶ playing", style=colours["accent"])
    elif newest and not narrow:
        title.append("  live" if feed.live else "  newest", style=colours["success"])
    if page[1] > 1:
        title.append(f"   page {page[0]}/{page[1]} (pgdn)", style=colours["accent"])
    name = cut(captions_of(context, frame, views)[picture], max(LEAST_NAME, width - title.cell_len - 5))
    title.append(f"   ▸ {name}", style=colours["primary"])
    if frame.top is not None and picture < len(frame.top):
        best = ", ".join(f"{class_name(context, k)} {100 * p:.0f} %" for k, p in frame.top[picture][:3])
        title.append(f"  {best}", style=colours["quiet"])
    if holding := formation_words(formation_of(feed.view.settings)):
        title.append(f"   {SEEN if views > 1 else holding} (d)", style=colours["quiet"])
    shown, ipc = frame.shown // views, int(feed.view.settings.get("distill.ipc", frame.shown))
    if shown < ipc:
        title.append(f"   first {shown} of {ipc} per class", style=colours["quiet"])
    return title
