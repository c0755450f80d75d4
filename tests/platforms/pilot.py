"""`python -m tests.platforms.pilot WORKSPACE RUN`: the live screens of a run, without a terminal; prints the screen."""

import asyncio
import sys
from pathlib import Path

from engine.runs.workspace import Workspace
from tesla_tui.live.app import TeslaApp
from tesla_tui.live.preferences import Preferences
from tests.tui.live.conftest import screen_text, settled, until


async def show(workspace: Path, run: str) -> None:
    """Open the app, wait until the machine is drawn, and leave by its key."""
    app = TeslaApp(Preferences(refresh=0.1), Workspace(workspace), run=run, watch=True)
    async with app.run_test(size=(120, 40)) as pilot:
        await settled(pilot)
        await until(pilot, lambda: "cores" in screen_text(pilot))
        print(screen_text(pilot))  # noqa: T201
        await pilot.press("q")


if __name__ == "__main__":
    asyncio.run(show(Path(sys.argv[1]), sys.argv[2]))
