"""The page of `tesla serve` in a real browser: what it requests, and that keys reach the screens at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from engine.events import CheckpointSaved
from engine.runs.run import Run
from tests.browser import CHROMIUM, MISSING, Browser
from tests.tui.web.test_peer import Served, serving

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]

Drive = Callable[..., Run]
Visit = Callable[[Callable[[Browser], Awaitable[None]]], None]


@pytest.fixture
def server(tiny_run: Drive) -> Iterator[Served]:
    run = tiny_run("r", until=lambda event: isinstance(event, CheckpointSaved))
    yield from serving(run.folder.parents[1], "--run", "r")


@pytest.fixture
def visit(server: Served, tmp_path: Path) -> Visit:
    """`visit(steps)` takes these steps in a new browser that was just sent to the page."""

    def go(steps: Callable[[Browser], Awaitable[None]]) -> None:
        async def visited() -> None:
            async with Browser(tmp_path / "profile") as browser:
                await browser.open(f"http://127.0.0.1:{server.port}/")
                await steps(browser)

        asyncio.run(visited())

    return go


def test_nothing_is_asked_of_another_server(visit: Visit, server: Served) -> None:
    async def steps(browser: Browser) -> None:
        await browser.drawn("matching loss")
        own = f"//127.0.0.1:{server.port}/"
        assert [address for address in browser.requests if own not in address and address != "data:,"] == []
        assert {f"http:{own}", f"http:{own}static/js/textual.js"} < set(browser.requests)
        assert browser.refused == []
        fonts = await browser.value("[...document.fonts].map((font) => `${font.family} ${font.status}`)")
        assert set(fonts) == {"Roboto Mono loaded"}
        # The browser itself refuses whatever a later version of the terminal's script might ask for.
        picture = "const image = new Image(); image.onerror = refused; image.src = 'http://192.0.2.1/'"
        for script in ("fetch('http://192.0.2.1/')", f"new Promise((_, refused) => {{ {picture}; }})"):
            assert await browser.value(f"{script}.catch(() => 'refused')") == "refused"
        assert len(browser.refused) >= 2 and all("Content Security Policy" in words for words in browser.refused)

    visit(steps)


def test_keys_pressed_while_it_opens_are_not_lost(visit: Visit) -> None:
    async def steps(browser: Browser) -> None:
        await browser.until("document.activeElement?.matches('.xterm-helper-textarea')")
        assert browser.terminal.text.strip() == ""  # the command has not even started
        await browser.type("5/chec")
        await browser.drawn("chec")
        await browser.type("kpoint")
        await browser.drawn("checkpoint")
        assert "forced" not in browser.terminal.text

    visit(steps)


def test_a_session_that_ended_is_opened_again_by_enter(visit: Visit) -> None:
    async def steps(browser: Browser) -> None:
        await browser.drawn("matching loss")
        await browser.type("q")
        await browser.until("document.activeElement?.id === 'again'")
        before = len(browser.requests)
        await browser.type("\r")
        await browser.until("document.activeElement?.matches('.xterm-helper-textarea')")
        assert any(address.startswith("ws:") for address in browser.requests[before:])

    visit(steps)
