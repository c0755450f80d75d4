"""The overview of a run: what it says, and how its charts are changed."""

import shutil
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.runs.workspace import Workspace
from tests.tui.live.conftest import Show, screen_text

RECORDED = Path(__file__).parents[2] / "data" / "recorded"


def test_the_overview_says_how_a_run_went(show: Show, ws: Workspace) -> None:
    async def body(pilot: Pilot[str]) -> None:
        text = screen_text(pilot)
        for words in (
            "ws › soft",
            "digits, 10 classes",
            "IPC 2",
            "finished",
            "matching loss",
            "student_lr",
            "gradient norm",
        ):
            assert words in text
        assert "6/6" in text and "100 %" in text
        tested = next(r for r in ws.run("soft").evaluations() if r.split == "test" and r.subject == "distilled")
        assert f"{100 * tested.mean:.1f} ± {100 * tested.std:.1f}" in text
        assert "random" in text

    show(body, run="soft")


@pytest.mark.slow
def test_the_stages_stay_on_their_line(show: Show, tmp_path: Path) -> None:
    recorded = Workspace(Path(shutil.copytree(RECORDED, tmp_path / "recorded")))
    journal = recorded.run("learned").journal_file
    journal.write_text(journal.read_text().replace('iterations": 80', 'iterations": 800000'))

    async def body(pilot: Pilot[str]) -> None:
        stages, progress = screen_text(pilot).split("\n")[2:4]
        assert "✓ teachers 6/6 › " in stages and "/800000" in stages and stages.endswith("evaluation")
        assert " % " in progress

    show(body, workspace=recorded, run="learned", size=(60, 18))


@pytest.mark.slow
def test_log_scale_smoothing_and_raw_change_the_chart(show: Show, tmp_path: Path) -> None:
    recorded = Workspace(Path(shutil.copytree(RECORDED, tmp_path / "recorded")))

    async def body(pilot: Pilot[str]) -> None:
        seen = [screen_text(pilot)]
        for keys, note in (("l", "log"), ("mm", "log"), ("m", "avg low"), ("r", "avg low")):
            await pilot.press(*keys)
            await pilot.pause(0.1)
            seen.append(screen_text(pilot))
            assert note in seen[-1].split("matching loss")[1].split("\n")[0]
            # The curve itself is another, not only the words above it.
            assert seen[-1].split("\n")[6:16] != seen[-2].split("\n")[6:16], keys

    show(body, workspace=recorded, run="learned")


@pytest.mark.slow
def test_a_chart_can_fill_the_screen(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("z")
        await pilot.pause()
        assert "student_lr" not in screen_text(pilot)
        await pilot.press("z")
        await pilot.pause()
        assert "student_lr" in screen_text(pilot)

    show(body, run="soft")
