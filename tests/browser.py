"""A headless Chromium, driven through its DevTools protocol: what it requests, what is typed, what it shows."""

import asyncio
import base64
import itertools
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.processes import HANGS
from tests.terminal import Drawing

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
BINARY = 2
"""Opcode of a web socket's frame of bytes."""
MISSING = "there is no Chromium here (Debian: apt-get install chromium)"


class Browser:
    """One page of a Chromium with a profile of its own. Use as an asynchronous context manager.

    Args:
        profile: an empty folder.
        size: of the page, in pixels.
    """

    def __init__(self, profile: Path, size: tuple[int, int] = (1000, 700)) -> None:
        assert CHROMIUM is not None
        # No --disable-background-networking and the like: only what the page itself asks for is looked at.
        words = [
            CHROMIUM,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]
        words += ["--remote-debugging-port=0", f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
        self._profile, self._words = profile, words
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requests: list[str] = []
        """Addresses that the page asked for, web sockets too."""
        self.refused: list[str] = []
        """What the page's own rules kept it from, and errors of its scripts."""
        self.terminal = Drawing((size[0], size[1]))
        """What the page's terminal was told to draw; it paints pixels, which cannot be read."""

    async def __aenter__(self) -> Self:
        self._process = subprocess.Popen(
            [*self._words, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(self._profile)}, start_new_session=True,
        )  # fmt: skip
        self._session = aiohttp.ClientSession()
        try:
            port = await self._port()
            async with self._session.get(f"http://127.0.0.1:{port}/json/list") as response:
                page = next(page for page in await response.json() if page["type"] == "page")
            self._socket = await self._session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
            self._reader = asyncio.create_task(self._read())
            for domain in ("Network", "Page", "Runtime", "Log"):
                await self.call(f"{domain}.enable")
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if hasattr(self, "_reader"):
            self._reader.cancel()
        await self._session.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    async def _port(self) -> int:
        told = self._profile / "DevToolsActivePort"
        until = time.monotonic() + HANGS
        while not (told.exists() and told.read_text().strip()):
            assert self._process.poll() is None, "Chromium ended at once"
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        return int(told.read_text().split()[0])

    async def _read(self) -> None:
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
                continue
            about = said["params"]
            match said["method"]:
                case "Network.requestWillBeSent":
                    self.requests.append(about["request"]["url"])
                case "Network.webSocketCreated":
                    self.requests.append(about["url"])
                case "Network.webSocketFrameReceived" if about["response"]["opcode"] == BINARY:
                    self.terminal.draw(base64.b64decode(about["response"]["payloadData"]))
                case "Log.entryAdded" if about["entry"]["level"] == "error":
                    self.refused.append(about["entry"]["text"])
                case "Runtime.exceptionThrown":
                    self.refused.append(str(about["exceptionDetails"]))

    async def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Call the browser: the result of a DevTools method."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": arguments})
        answer = await asyncio.wait_for(self._answers[number], HANGS)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def open(self, address: str) -> None:
        """Go to an address, and no more: nothing is loaded when this returns."""
        await self.call("Page.navigate", url=address)

    async def value(self, script: str) -> Any:
        """What a script in the page gives."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until a script in the page gives something true."""
        end = time.monotonic() + HANGS
        while not await self.value(script):
            assert time.monotonic() < end, f"never true in the page: {script}"
            await asyncio.sleep(0.05)

    async def drawn(self, words: str) -> None:
        """Wait until the page's terminal shows these words."""
        end = time.monotonic() + HANGS
        while words not in self.terminal.text:
            assert time.monotonic() < end, f"not drawn: {words}\n{self.terminal.text.rstrip()}"
            await asyncio.sleep(0.05)

    async def type(self, text: str) -> None:
        """Press keys, without a click into the page before."""
        for char in text:
            await self.call("Input.dispatchKeyEvent", type="keyDown", text=char, key=char)
            await self.call("Input.dispatchKeyEvent", type="keyUp", key=char)

    async def picture(self) -> bytes:
        """A PNG of what is shown."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])
