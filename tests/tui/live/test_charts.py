"""The scales of a chart: numbers that can be told apart, at least two on every axis, at any size."""

import asyncio
import itertools
import re
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual import events
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from engine.runs.workspace import Workspace
from tesla_tui.live.themes import DARK
from tesla_tui.live.widgets.braille import Line
from tesla_tui.live.widgets.chart import Chart
from tesla_tui.live.widgets.view import View
from tesla_tui.watch.series import smoothed
from tests.tui.live.conftest import Show, screen_text, until

RECORDED = Path(__file__).parents[2] / "data" / "recorded"

FEW_CLASSES, MANY_CLASSES = (0.1, 0.62), (0.0, 0.012)
RANGES = [
    FEW_CLASSES, MANY_CLASSES, (0.31, 0.312), (0.9999, 1.0), (123456.0, 123458.0), (1e-7, 3e-7), (-0.004, 0.004),
    (0.0123, 0.0124), (0.5, 0.5), (0.0, 0.0), (1e-9, 3e-9), (1e6, 3e6), (-5.0, -1.0), (-3e-6, 8e-6), (0.0, 0.02),
]  # fmt: skip


Looks = Callable[[Pilot[None], Chart], Awaitable[None]]


class Page(App[None]):
    """A chart alone."""

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(DARK.variables)

    def compose(self) -> ComposeResult:
        yield Chart("title", empty="nothing yet")


def on_chart(size: tuple[int, int], lines: list[Line], body: Looks, **how: Any) -> None:
    """Show lines in a chart of that size, and do something with it."""

    async def session() -> None:
        async with Page().run_test(size=size) as pilot:
            chart = pilot.app.query_one(Chart)
            chart.focus()
            chart.show(lines, **how)
            await pilot.pause()
            await body(pilot, chart)

    asyncio.run(session())


def text_of(chart: Chart) -> list[str]:
    return [chart.render_line(row).text for row in range(chart.size.height)]


def curve(y: Sequence[float], name: str = "", first: float = 1.0, step: float = 1.0) -> Line:
    return Line.through(first + step * np.arange(len(y)), np.array(y, dtype=float), "primary", name=name)


def drawn(y: Sequence[float], size: tuple[int, int], **how: Any) -> list[str]:
    """The rows of a chart of these values."""
    rows: list[str] = []

    async def body(_pilot: Pilot[None], chart: Chart) -> None:
        rows.extend(text_of(chart))

    on_chart(size, [curve(y)], body, **how)
    return rows


def plot(rows: list[str]) -> list[str]:
    """The curves' area, row by row."""
    return [re.split("[┤│]", row, maxsplit=1)[1] for row in rows[1:-1]]


def scale(rows: list[str]) -> list[str]:
    return [row.split("┤")[0].strip() for row in rows if "┤" in row]


@pytest.mark.parametrize("how", [{}, {"percent": True}, {"logarithmic": True}])
@pytest.mark.parametrize("size", [(30, 6), (40, 9), (100, 30)])
@pytest.mark.parametrize("ends", RANGES)
def test_every_axis_has_two_numbers_that_differ(
    ends: tuple[float, float], size: tuple[int, int], how: dict[str, Any]
) -> None:
    if how.get("logarithmic") and ends[0] <= 0:
        ends = (1e-3, 0.9)
    rows = drawn(list(np.linspace(*ends, 50)), size, **how)
    labels = scale(rows)
    assert len(labels) >= 2 and len(set(labels)) == len(labels), labels
    assert not any(label.startswith("-0") and not label.strip("-0.%e ") for label in labels), labels
    numbers = [float(label.removesuffix("%")) for label in labels]
    assert numbers == sorted(numbers, reverse=True)
    assert {"1", "50"} <= set(rows[-1].split())


def test_percents_of_a_hundred_classes_have_digits() -> None:
    labels = scale(drawn(list(np.linspace(*MANY_CLASSES, 50)), (60, 12), percent=True))
    assert "0.5 %" in labels and "1.0 %" in labels


def test_a_single_point_has_a_scale() -> None:
    rows = drawn([0.3], (60, 12))
    assert rows[-1].split()[0] == "1" and rows[-1].split()[-1] == "2" and len(scale(rows)) >= 2


def test_numbers_that_differ_in_late_digits_are_told_apart() -> None:
    for y in (np.linspace(1e6, 1e6 + 3e-3, 50), np.linspace(0.01 + 1e-10, 0.01 + 3e-10, 50)):
        rows = drawn(list(y), (60, 12))
        labels = scale(rows)
        assert len(labels) >= 2 and len(set(labels)) == len(labels), labels
    assert any(
        label.startswith("+") for label in scale(drawn(list(np.linspace(0.01 + 1e-10, 0.01 + 3e-10, 50)), (60, 12)))
    )


def test_a_scale_ends_where_values_cannot_be() -> None:
    for y in ([0.0, 0.004, 0.001], [0.98, 1.0, 0.99]):
        labels = scale(drawn(y, (60, 20), percent=True))
        assert all(0 <= float(label.removesuffix("%")) <= 100 for label in labels), labels


@pytest.mark.parametrize("columns", [30, 60, 120, 200])
@pytest.mark.parametrize("count", [2, 9, 57, 1234, 99999])
def test_numbers_below_stand_under_their_points(count: int, columns: int) -> None:
    below = drawn(list(np.linspace(0, 1, count)), (columns, 10))[-1]
    found = [(match.start(), match.end(), int(match[0])) for match in re.finditer(r"\d+", below)]
    assert len(found) >= 2 and found[0][2] == 1 and found[-1][2] == count
    assert [number for _, _, number in found] == sorted({number for _, _, number in found})
    left = below.index("1")
    for start, end, number in found[1:-1]:
        at = left + (number - 1) / (count - 1) * (columns - 1 - left - 1)
        assert start - 1 <= at <= end + 1, (number, below)
    assert columns < 100 or count < 9 or len(found) >= 4


def test_missing_values_are_gaps_and_lonely_points_are_seen() -> None:
    y = [1.0] * 20 + [np.nan] * 20 + [2.0] * 20 + [np.nan] * 19 + [1.5]
    area = plot(drawn(y, (70, 12)))
    used = ["".join(column).strip() != "" for column in itertools.zip_longest(*area, fillvalue=" ")]
    runs = [(here, len(list(group))) for here, group in itertools.groupby(used[: len(used) - 1])]
    assert [here for here, _ in runs] == [True, False, True, False, True]
    assert runs[-1][1] in (1, 2) and runs[1][1] > 10
    assert "nothing yet" in "".join(drawn([np.nan] * 5, (70, 12)))


def test_a_logarithmic_scale_leaves_out_what_it_cannot_show_and_says_so() -> None:
    area = plot(drawn(list(np.linspace(-1, 3, 60)), (70, 12), logarithmic=True))
    assert all(row[:10].strip() == "" for row in area)
    rows = drawn([-1.0, -2.0], (70, 12), logarithmic=True)
    assert "no values above 0" in "".join(rows)


def test_a_trend_keeps_gaps() -> None:
    y = np.random.default_rng(1).normal(size=60)
    y[20:25] = np.nan
    trend = smoothed(y, 9)
    naive = [np.nan if np.isnan(y[i]) else np.nanmean(y[max(0, i - 4) : i + 5]) for i in range(60)]
    assert trend == pytest.approx(naive, nan_ok=True)


def test_the_cursor_reads_every_value() -> None:
    y = [0.5, 0.25, 0.875, 0.125, 0.75]

    async def body(pilot: Pilot[None], chart: Chart) -> None:
        read = []
        for _ in y:
            await pilot.press("left")
            read.append(text_of(chart)[0].split("iteration ")[1].split())
        assert read == [[str(n), f"{y[n - 1]:g}"] for n in (5, 4, 3, 2, 1)]
        await pilot.press("left", "end")
        assert text_of(chart)[0].endswith("iteration 5  0.75")
        await pilot.press("home")
        assert text_of(chart)[0].endswith("iteration 1  0.5")
        lines = {at for row in text_of(chart)[1:-1] for at, cell in enumerate(row) if cell == "│" and at > 6}
        assert lines == {7}  # the first column
        await pilot.press("escape")
        assert "iteration" not in text_of(chart)[0]

    on_chart((60, 12), [curve(y)], body)


def test_one_zooms_into_a_range_and_back_out() -> None:
    y = list(np.linspace(0, 1, 100)) + [50.0] * 100

    async def body(pilot: Pilot[None], chart: Chart) -> None:
        whole = text_of(chart)
        await pilot.press("home", *["shift+right"] * 15)
        assert "1 to " in text_of(chart)[0] and "enter" in text_of(chart)[0]
        await pilot.press("enter")
        zoomed = text_of(chart)
        last = int(zoomed[-1].split()[-1])
        assert 1 < last < 100 and zoomed[-1].split()[0] == "1"
        assert max(float(label) for label in scale(zoomed)) <= 1  # the scale of y follows
        await pilot.press(*["right"] * 20)
        panned = text_of(chart)[-1].split()
        assert int(panned[-1]) > last and int(panned[0]) > 1
        await pilot.press("minus", "minus", "minus", "minus", "escape", "escape")
        assert text_of(chart) == whole
        await pilot.press("plus")
        half = text_of(chart)[-1].split()
        assert half[-1] == "200" and 95 <= int(half[0]) <= 105  # without a cursor, the newer half
        await pilot.press(*["plus"] * 20)
        assert int(text_of(chart)[-1].split()[-1]) - int(text_of(chart)[-1].split()[0]) >= 1

    on_chart((70, 12), [curve(y)], body)


def test_escape_and_enter_are_left_to_the_screen_when_there_is_nothing_to_undo() -> None:
    passed: list[str] = []

    def note(key: str) -> None:
        passed.append(key)

    async def body(pilot: Pilot[None], chart: Chart) -> None:
        pilot.app.action_note = note  # type: ignore[attr-defined]
        for number, key in enumerate(("enter", "escape"), 1):
            pilot.app.bind(key, f"note('{key}')")
            await pilot.press(key)
            assert len(passed) == number and passed[-1] == key
            await pilot.press("home", "shift+right", "shift+right", key)
            assert len(passed) == number and chart.view.selected is None
            chart.look(View())

    on_chart((70, 12), [curve(list(range(20)))], body)


def test_the_mouse_reads_zooms_and_selects() -> None:
    async def body(pilot: Pilot[None], chart: Chart) -> None:
        await pilot.hover(Chart, offset=(40, 5))
        assert "iteration" in text_of(chart)[0] and chart.view.cursor is None
        await pilot.click(Chart, offset=(20, 5))
        assert chart.view.cursor is not None and chart.view.window is None
        await pilot.mouse_down(Chart, offset=(20, 5))
        await pilot.hover(Chart, offset=(40, 5))
        await pilot.mouse_up(Chart, offset=(40, 5))
        window = chart.view.window
        assert window is not None and 10 < window[0] < 35 < window[1] < 70
        for event in (events.MouseScrollDown, events.MouseScrollDown, events.MouseScrollUp):
            chart.post_message(event(chart, 30, 5, 0, 0, 0, False, False, False))
            await pilot.pause()
        assert chart.view.window is not None  # out to everything, and in again

    on_chart((70, 12), [curve(list(range(100)))], body)


def test_many_curves_are_read_in_a_box_the_last_one_first() -> None:
    lines = [curve([n / 10, n / 10 + 0.005 * n], f"run-{n}", step=10) for n in range(1, 6)]
    lines.append(curve([0.03, 0.04], "in-front", step=5))

    async def body(pilot: Pilot[None], chart: Chart) -> None:
        await pilot.press("left")
        rows = text_of(chart)
        assert rows[0].endswith("iteration 11")
        box = [re.sub(r"^.*━ | *[│⠀-⣿].*$", "", row) for row in rows[1:-1] if "━" in row]
        assert [line.split()[0] for line in box] == ["in-front", "run-5", "run-4", "run-3", "run-2", "run-1"]
        assert box[0].split()[1:] == ["4.0", "%", "(6)"]  # the last one measured, and when
        assert box[1].split()[1:] == ["52.5", "%"]
        await pilot.press("home")
        assert text_of(chart)[1].index("━") > 30  # on the other side of the cursor

    on_chart((70, 12), lines, body, percent=True)


def test_the_selected_checkpoint_is_marked() -> None:
    rows: list[str] = []

    async def body(_pilot: Pilot[None], chart: Chart) -> None:
        rows.extend(text_of(chart))

    on_chart((70, 12), [curve([0.1, 0.9, 0.5], step=40)], body, percent=True, mark=41.0)
    (marked,) = (row for row in rows if "◆" in row)
    assert rows.index(marked) <= 2 and abs(marked.index("◆") - (7 + 62 / 2)) <= 1


@pytest.mark.slow
def test_the_charts_of_a_run_read_the_same_iteration_and_zoom_together(show: Show, tmp_path: Path) -> None:
    recorded = Workspace(Path(shutil.copytree(RECORDED, tmp_path / "recorded")))

    async def body(pilot: Pilot[str]) -> None:
        charts = list(pilot.app.screen.query("OverviewPane Chart").results(Chart))
        await pilot.press("left", "left", "left", "plus", "plus")
        await pilot.pause(0.1)
        views = {chart.view for chart in charts}
        assert len(views) == 1 and charts[0].view.cursor and charts[0].view.window
        read = {found for chart in charts if (found := re.search(r"(?:iteration )?\b(\d+)  ", text_of(chart)[0]))}
        assert {match[1] for match in read} == {f"{charts[0].view.cursor:.0f}"}
        for chart in charts:
            assert text_of(chart)[-1].split()[0] == f"{charts[0].view.window[0]:.0f}"
        await pilot.press("escape", "escape")
        assert {chart.view for chart in charts} == {View()}

    show(body, workspace=recorded, run="learned", size=(160, 50))


@pytest.mark.slow
def test_smoothing_is_the_same_on_every_tab(show: Show, tmp_path: Path) -> None:
    recorded = Workspace(Path(shutil.copytree(RECORDED, tmp_path / "recorded")))

    async def body(pilot: Pilot[str]) -> None:
        def chart(title: str) -> list[str]:
            return screen_text(pilot).split(title)[1].split("\n")

        for title in ("matching loss", "student_lr", "gradient norm"):
            assert "avg mid" in chart(title)[0][:60], title
        await pilot.press("m", "4", "v")
        await until(pilot, lambda: "avg high" in chart("matching loss")[0])
        before = chart("matching loss")
        await pilot.press("m")
        await until(pilot, lambda: "avg" not in chart("matching loss")[0])
        assert chart("matching loss")[1:9] != before[1:9]
        await pilot.press("m", "3")
        await until(pilot, lambda: "avg low" in chart("training loss")[0])
        assert chart("training accuracy")[0].count("avg low") == 1
        await pilot.press("1")
        await until(pilot, lambda: "avg low" in screen_text(pilot))

    show(body, workspace=recorded, run="learned", size=(160, 50))
