"""Record the live screens over a finished run, as the moving picture of the README.

    python -m benchmarks.record_demo my-run ipc-1 docs/images/demo.webp

It serves the run read-only, looks at the page with a headless Chromium and presses the keys below. Every picture is
what the browser showed; nothing is drawn afterwards.
"""

import asyncio
import io
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from tests.browser import CHROMIUM, MISSING, Browser

SIZE = (960, 620)
"""Of the page, in pixels."""
STEPS = 24
"""Pictures of the images from the first iteration to the last."""
FRAME, PAUSE = 180, 2500
"""Milliseconds that a picture is shown, and one to be read."""
SETTLES = 1.5
"""Seconds from a key to its picture."""


async def record(folder: Path, run: str, to: Path) -> None:
    """Write what a browser shows of a run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "tesla_tui.main", "serve", str(folder), "--run", run, "--watch", "--port", str(port)]
    with tempfile.TemporaryDirectory() as name:
        server = subprocess.Popen(words, env={**os.environ, "TESLA_TUI_CONFIG": str(Path(name) / "none")})
        try:
            await reachable(port)
            async with Browser(Path(name) / "profile", SIZE) as browser:
                await browser.open(f"http://127.0.0.1:{port}/")
                save(await looked_at(browser, len(list((folder / "runs" / run / "previews").glob("*.png")))), to)
        finally:
            server.terminate()
            server.wait()


async def reachable(port: int) -> None:
    """Wait until the server listens."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return


async def looked_at(browser: Browser, frames: int) -> list[tuple[Image.Image, int]]:
    """The run's overview, and its images from the first iteration to the last; and for how long each is shown."""
    await browser.drawn("matching loss")
    await asyncio.sleep(3 * SETTLES)
    shown = [(await picture(browser), PAUSE)]
    for number, keys in enumerate(("2", "<", *["." * max(1, frames // STEPS)] * min(frames - 1, STEPS), ">")):
        await browser.type(keys)
        await asyncio.sleep(SETTLES)
        if number:
            shown.append((await picture(browser), FRAME))
    return [shown[0], (shown[1][0], PAUSE // 2), *shown[2:-1], (shown[-1][0], PAUSE)]


async def picture(browser: Browser) -> Image.Image:
    """What the browser shows now."""
    return Image.open(io.BytesIO(await browser.picture())).convert("RGB")


def save(shown: Sequence[tuple[Image.Image, int]], to: Path) -> None:
    """Write a WebP."""
    pictures, durations = zip(*shown, strict=True)
    pictures[0].save(
        to, save_all=True, append_images=pictures[1:], duration=list(durations), loop=0, quality=75, method=6
    )
    print(f"Wrote {to}: {len(pictures)} pictures, {to.stat().st_size / 1e6:.2f} MB.")


if __name__ == "__main__":
    if CHROMIUM is None or len(sys.argv) != 4:
        sys.exit(MISSING if CHROMIUM is None else __doc__)
    asyncio.run(record(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
