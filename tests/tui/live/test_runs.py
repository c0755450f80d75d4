"""The Runs tab: sorted, filtered, with curves over each other and the images of two runs side by side."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.runs.preview_frames import frame_iterations
from engine.runs.workspace import Workspace
from tesla_tui.live.dialogs.compare import CompareScreen
from tesla_tui.live.widgets.pictures import PictureGrid
from tesla_tui.live.widgets.runs_chart import RunsChart
from tesla_tui.live.widgets.runs_table import RunsTable
from tests.tui.live.conftest import Show, screen_text, until

Change = Callable[[dict[str, Any]], None]


def variant(ws: Workspace, name: str, *, accuracy: float = 0.0, **settings: Any) -> None:
    """A copy of the finished run whose journal has other settings (`__` for a dot) and higher held-out accuracies."""
    folder = Path(shutil.copytree(ws.run("soft").folder, ws.run(name).folder))
    lines = []
    for text in (folder / "journal.jsonl").read_text().splitlines():
        line = json.loads(text)
        line.pop("crc", None)  # as an older version wrote it
        if line["kind"] == "RunStarted":
            line["settings"] |= {key.replace("__", "."): value for key, value in settings.items()}
        if line["kind"] == "EvaluationDone" and (line["split"], line["subject"]) == ("holdout", "distilled"):
            line["mean"] = accuracy + 0.001 * line["iteration"]
        lines.append(json.dumps(line))
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture
def several(ws: Workspace) -> Workspace:
    """Runs with other numbers of steps and other accuracies."""
    for steps, accuracy in ((5, 0.4), (10, 0.6), (20, 0.5)):
        variant(ws, f"digits-with-long-names-t{steps}", accuracy=accuracy, distill__steps=steps, seed=steps)
    return ws


def names_of(pilot: Pilot[str]) -> list[str]:
    """The runs in the table, from the top."""
    return list(pilot.app.screen.query_one(RunsTable)._names)


async def open_runs(pilot: Pilot[str], number: int) -> None:
    await pilot.press("4")
    await until(pilot, lambda: f"{number} runs" in screen_text(pilot))


def test_runs_are_sorted_by_any_column_and_keep_their_colours_and_the_cursor(show: Show, several: Workspace) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await open_runs(pilot, 5)
        natural = [f"digits-with-long-names-t{n}" for n in (5, 10, 20)]
        assert names_of(pilot) == [*natural, "soft", "stopped"]
        await pilot.press("down")
        table = pilot.app.screen.query_one(RunsTable)
        colours = {row[1].plain: row[0].style for row in map(table.get_row_at, range(5))}
        best = [several.run(name) for name in ("digits-with-long-names-t10", "digits-with-long-names-t20")]
        await pilot.press(*["greater_than_sign"] * 4, "less_than_sign")
        assert "held out % ▼" in screen_text(pilot)
        order = names_of(pilot)
        assert [order.index(run.name) for run in best] == sorted(order.index(run.name) for run in best)
        assert order.index("digits-with-long-names-t20") < order.index("digits-with-long-names-t5")
        assert table.chosen == "digits-with-long-names-t10"
        assert {row[1].plain: row[0].style for row in map(table.get_row_at, range(5))} == colours
        await pilot.press("r")
        assert "held out % ▲" in screen_text(pilot)
        valued = [name for name in names_of(pilot) if name.startswith("digits")]
        assert valued == [natural[0], natural[2], natural[1]]
        header = screen_text(pilot).split("\n")[3]
        await pilot.click(RunsTable, offset=(header.index("run"), 0))
        assert names_of(pilot)[0] == natural[0] and "run ▲" in screen_text(pilot)
        await pilot.click(RunsTable, offset=(header.index("run"), 0))
        assert names_of(pilot)[-1] == natural[0] and "run ▼" in screen_text(pilot)

    show(body, workspace=several, run="soft", size=(160, 40))


def test_a_filter_has_words_of_names_states_and_settings(show: Show, several: Workspace) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await open_runs(pilot, 5)
        for words, found in (
            ("long t2", ["digits-with-long-names-t20"]),
            ("steps=10", ["digits-with-long-names-t10"]),
            ("distill.steps finished t5", ["digits-with-long-names-t5"]),
            ("stopped", ["stopped"]),
            ("nothing like it", []),
        ):
            await pilot.press("slash", *words)
            assert names_of(pilot) == found, words
            assert f"{len(found)} of 5 runs" in screen_text(pilot)
            chart = pilot.app.screen.query_one(RunsChart)
            assert {line.name for line in chart._content.lines if line.name} <= set(found)
            if not found:
                await pilot.press("enter", "c")
                assert "no run matches" in screen_text(pilot) and not isinstance(pilot.app.screen, CompareScreen)
                assert [notice.message for notice in pilot.app._notifications] == ["No run matches the filter."]
                await pilot.press("slash")
            await pilot.press("escape", "escape")
            assert len(names_of(pilot)) == 5

    show(body, workspace=several, run="soft", size=(120, 40))


@pytest.mark.parametrize("size", [(60, 18), (80, 24), (120, 40), (200, 50)])
def test_what_differs_is_never_cut(show: Show, ws: Workspace, size: tuple[int, int]) -> None:
    values = {
        "teachers__lr": 0.0123456, "distill__steps": 77, "distill__lr_images": 12345.5, "distill__momentum": 0.75,
        "augment__ops": ["flip", "crop"],
    }  # fmt: skip
    variant(ws, "another", **values)

    async def body(pilot: Pilot[str]) -> None:
        await open_runs(pilot, 3)
        text = screen_text(pilot)
        for words in ("lr=0.0123456", "steps=77", "lr_images=12345.5", "momentum=0.75", "ops=flip, crop"):
            assert words in text, words
        await pilot.press("down")
        await pilot.pause(0.1)
        assert "steps=4" in screen_text(pilot)

    show(body, workspace=ws, run="soft", size=size)


def test_settings_whose_last_part_is_another_ones_are_named_in_full(show: Show, ws: Workspace) -> None:
    variant(ws, "another", teachers__batch=11, evaluate__batch=22)

    async def body(pilot: Pilot[str]) -> None:
        await open_runs(pilot, 3)
        text = screen_text(pilot)
        assert "teachers.batch=11" in text and "evaluate.batch=22" in text

    show(body, workspace=ws, run="soft", size=(200, 40))


def test_names_that_are_too_long_are_still_told_apart(show: Show, ws: Workspace) -> None:
    names = [f"a-very-long-name-of-a-run-with-exact-gradients-lr{n}-seed-100" for n in (10, 100, 1000)]
    for name in names:
        variant(ws, name)
    for name in ("soft", "stopped"):
        shutil.rmtree(ws.run(name).folder)

    async def body(pilot: Pilot[str]) -> None:
        await open_runs(pilot, 3)
        cells = [str(pilot.app.screen.query_one(RunsTable).get_row_at(n)[1]) for n in range(3)]
        assert len(set(cells)) == 3 and all("lr10" in cell or "lr100" in cell for cell in cells), cells
        assert names[0] in screen_text(pilot).replace("\n ", "") or "differs" not in screen_text(pilot)

    show(body, workspace=ws, run=names[0], size=(60, 24))


def test_accuracies_lie_over_each_other_and_losses_are_one_key_away(show: Show, several: Workspace) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await open_runs(pilot, 5)
        chart = pilot.app.screen.query_one(RunsChart)
        named = {line.name: line for line in chart._content.lines if line.name}
        assert {"soft", *(f"digits-with-long-names-t{n}" for n in (5, 10, 20))} <= set(named)
        view = several.run("digits-with-long-names-t10")
        assert view.exists and named["digits-with-long-names-t10"].low.max() == pytest.approx(0.606)
        text = screen_text(pilot)
        assert "held-out accuracy" in text and "┄ random" in text and "◆" in text
        await pilot.press("o")
        assert "digits-with-long-names-t5" not in {line.name for line in chart._content.lines}
        await pilot.press("o", "v")
        text = screen_text(pilot)
        assert "matching loss" in text and "other distill.steps do not compare" in text
        assert chart._content.lines[-1].name == "digits-with-long-names-t5"  # the run under the cursor, in front

    show(body, workspace=several, run="soft", size=(160, 50))


def test_the_images_of_two_runs_share_a_time_line(show: Show, several: Workspace) -> None:
    shortest = several.run("digits-with-long-names-t5")
    there = frame_iterations(shortest.film)
    for iteration in there[2:]:
        (shortest.film / f"{iteration:07}.png").unlink()

    async def body(pilot: Pilot[str]) -> None:
        await open_runs(pilot, 5)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
        await pilot.pause(0.2)
        text = screen_text(pilot)
        assert "soft" in text and "digits-with-long-names-t5" in text
        assert "distill.steps 4 · 5" in text and "seed 0 · 5" in text
        assert f"iteration {there[-1]} " in text and f"iteration {there[1]} " in text  # the newest of each
        left, right = (pilot.app.screen.query_one(f"#compare-{side}-grid", PictureGrid) for side in ("left", "right"))
        assert len(left.pixels) == len(right.pixels) > 0
        last = left.pixels.copy()
        await pilot.press(*["comma"] * len(there))
        assert screen_text(pilot).count(f"iteration {there[0]} ") >= 2 and (left.pixels != last).any()
        await pilot.press("full_stop")
        assert screen_text(pilot).count(f"iteration {there[1]} ") >= 2
        await pilot.press("greater_than_sign")
        assert (left.pixels == last).all()
        await pilot.press("down")
        assert "digits-with-long-names-t10" in screen_text(pilot)
        await pilot.press("x")
        titles = [row for row in screen_text(pilot).split("\n") if "soft" in row and "t10" in row]
        assert titles and titles[0].index("t10") < titles[0].index("soft")
        await pilot.press("b")
        assert "◆ selected" in screen_text(pilot)
        await pilot.press("escape")
        await pilot.pause(0.1)
        assert "5 runs" in screen_text(pilot)

    show(body, workspace=several, run="soft", size=(120, 40))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(60, 18), (80, 24), (200, 50)])
def test_two_runs_fit_every_terminal(show: Show, several: Workspace, size: tuple[int, int]) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await open_runs(pilot, 5)
        await pilot.press("down", "c")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
        await pilot.pause(0.2)
        text = screen_text(pilot)
        assert text.count("▀") > 40 and "distill.steps 4 · 10" in text and "esc close" in text

    show(body, workspace=several, run="soft", size=size)


def test_one_run_alone_has_nothing_to_compare_with(show: Show, ws: Workspace) -> None:
    shutil.rmtree(ws.run("stopped").folder)

    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("4")
        await until(pilot, lambda: "1 run, by name" in screen_text(pilot))
        await pilot.press("c")
        await pilot.pause(0.2)
        assert not isinstance(pilot.app.screen, CompareScreen) and "only one run" in screen_text(pilot)
        assert pilot.app.screen.query_one(RunsTable).has_focus

    show(body, workspace=ws, run="soft")
