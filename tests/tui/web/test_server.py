"""The browser's door: who is let in, and that a page shows the app."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from engine.errors import UsageError
from engine.runs.run import Run
from tesla_tui.web.server import COOKIE, TeslaServer, choose_token, is_loopback
from tests.processes import HANGS

pytestmark = pytest.mark.slow

Drive = Callable[..., Run]


def status_of(host: str, token: str | None, path: str, headers: dict[str, str], cookies: dict[str, str]) -> int:
    async def ask() -> int:
        server = TestServer(await TeslaServer("false", host, 8000, token)._make_app())
        async with TestClient(server, cookies=cookies) as client:
            response = await client.get(path, headers=headers, allow_redirects=False)
            return response.status

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("host", "token", "path", "headers", "cookies", "status"),
    [
        ("127.0.0.1", None, "/", {}, {}, 200),
        ("127.0.0.1", None, "/", {"Host": "evil.example"}, {}, 403),  # DNS rebinding
        ("127.0.0.1", None, "/ws", {"Origin": "http://evil.example"}, {}, 403),  # another page's web socket
        ("127.0.0.1", None, "/ws", {"Origin": "null"}, {}, 403),
        ("0.0.0.0", "s" * 20, "/", {}, {}, 401),
        ("0.0.0.0", "s" * 20, "/ws", {}, {}, 401),
        ("0.0.0.0", "s" * 20, "/static/js/textual.js", {}, {}, 401),
        ("0.0.0.0", "s" * 20, "/?token=wrong", {}, {}, 401),
        ("0.0.0.0", "s" * 20, "/?token=" + "s" * 20, {}, {}, 302),
        ("0.0.0.0", "s" * 20, "/", {}, {COOKIE: "s" * 20}, 200),
        ("0.0.0.0", "s" * 20, "/", {}, {COOKIE: "s" * 19}, 401),
        ("0.0.0.0", "s" * 20, "/?token=" + "s" * 20, {"Origin": "http://evil.example"}, {}, 403),
    ],
)
def test_the_door(
    host: str, token: str | None, path: str, headers: dict[str, str], cookies: dict[str, str], status: int
) -> None:
    assert status_of(host, token, path, headers, cookies) == status


def test_the_page_names_addresses_as_the_browser_knows_them() -> None:
    async def ask() -> str:
        server = TestServer(await TeslaServer("false", "127.0.0.1", 8000, None)._make_app())
        async with TestClient(server) as client:
            response = await client.get("/?fontsize=<script>")
            assert response.headers["X-Frame-Options"] == "DENY"
            return f"{server.port} " + await response.text()

    port, text = asyncio.run(ask()).split(" ", 1)
    assert f"ws://127.0.0.1:{port}/ws" in text and "<script>&" not in text and "fontsize=<script>" not in text


def test_tokens_and_hosts() -> None:
    assert choose_token("127.0.0.1", None) is None and choose_token("localhost", None) is None
    made = choose_token("0.0.0.0", None)
    assert made is not None and len(made) >= 20 and made != choose_token("0.0.0.0", None)
    with pytest.raises(UsageError, match="12 characters"):
        choose_token("0.0.0.0", "short")
    assert (
        is_loopback("::1")
        and is_loopback("127.8.8.8")
        and not is_loopback("10.0.0.1")
        and not is_loopback("localhost.evil")
    )


def test_a_browser_sees_the_run_and_two_see_the_same(tiny_run: Drive, tmp_path: Path) -> None:
    run = tiny_run("r")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "tesla_tui.main",
        "serve",
        str(run.folder.parents[1]),
        "--run",
        "r",
        "--port",
        str(port),
    ]
    environment = {**os.environ, "TESLA_TUI_CONFIG": str(tmp_path / "none")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    async def watch() -> list[str]:
        async with aiohttp.ClientSession() as session:

            async def one() -> str:
                drawn = b""
                async with session.ws_connect(f"ws://127.0.0.1:{port}/ws?width=100&height=30") as browser:
                    until = time.monotonic() + 120
                    while b"matching loss" not in drawn or b"finished" not in drawn:
                        message = await browser.receive(timeout=until - time.monotonic())
                        data = message.data
                        drawn += data if isinstance(data, bytes) else str(data).encode()
                return drawn.decode(errors="replace")

            for _ in range(100):
                try:
                    await session.get(f"http://127.0.0.1:{port}/")
                    break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)
            return [await one(), await one()]

    try:
        assert all("held-out accuracy" in drawn for drawn in asyncio.run(watch()))
    finally:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=HANGS)
    assert f"http://127.0.0.1:{port}/" in said and "Traceback" not in said
