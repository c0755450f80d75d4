"""`f` writes the run's film beside it, under a name that no file has."""

import pytest
from PIL import Image
from textual.pilot import Pilot

from engine.runs.workspace import Workspace
from tests.tui.live.conftest import Show, until

pytestmark = pytest.mark.slow


def test_f_writes_the_film(show: Show, ws: Workspace) -> None:
    async def body(pilot: Pilot[str]) -> None:
        for name in (f"{ws.folder.name}-soft.webp", f"{ws.folder.name}-soft-2.webp"):
            await pilot.press("f")
            await until(pilot, lambda name=name: (ws.folder / name).exists())
            await until(
                pilot, lambda name=name: f"{name}:" in " ".join(said.message for said in pilot.app._notifications)
            )
            with Image.open(ws.folder / name) as picture:
                assert picture.format == "WEBP" and picture.n_frames > 1

    show(body, run="soft", workspace=ws)
