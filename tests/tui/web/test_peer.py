"""Attacks on `tesla serve` with real sockets: everything that is not a page of the same user's is kept out."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from engine.runs.workspace import Workspace
from engine.settings import resolve_settings
from tesla_tui.web import peer as neighbours
from tesla_tui.web.server import COOKIE

TOKEN = "correct-horse-battery"
PATHS = ("/", "/ws", "/static/js/textual.js", "/static/", "/download/abc", "/nowhere")


class Served:
    """A server in a process of its own."""

    def __init__(self, folder: Path, *options: str, environment: dict[str, str] | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        words = ["serve", str(folder), "--watch", "--port", str(self.port), *options]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tesla_tui.main", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "TESLA_TUI_CONFIG": str(folder / "none"), **(environment or {})},
        )  # fmt: skip
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("it does not serve")

    def raw(self, *lines: str) -> str:
        """Status line of the answer to a request as it is, which no client would send."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
            return connection.recv(65536).decode("latin-1").splitlines()[0]

    def status(self, path: str = "/", **headers: str) -> int:
        """Of a request with some headers (`_` for `-`)."""
        named = {"Host": f"127.0.0.1:{self.port}", **{name.replace("_", "-"): text for name, text in headers.items()}}
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} if path.startswith("/ws") else {}  # fmt: skip
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {text}" for name, text in {**named, **upgrade}.items())]
        return int(self.raw(*lines).split()[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Workspace.create(tmp_path_factory.mktemp("door") / "ws", resolve_settings(), set()).folder


def serving(folder: Path, *options: str, environment: dict[str, str] | None = None) -> Iterator[Served]:
    server = Served(folder, *options, environment=environment)
    yield server
    server.process.terminate()
    server.process.wait(30)


@pytest.fixture(scope="module")
def open_door(folder: Path) -> Iterator[Served]:
    """On loopback, without a token."""
    yield from serving(folder)


@pytest.fixture(scope="module")
def locked_door(folder: Path) -> Iterator[Served]:
    """On every interface; the token came in the environment, where other users cannot see it."""
    yield from serving(folder, "--host", "0.0.0.0", environment={"TESLA_TOKEN": TOKEN})


@pytest.mark.parametrize("path", PATHS)
def test_loopback_keeps_other_names_and_pages_out(open_door: Served, path: str) -> None:
    port = open_door.port
    hostile = (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{port}"},
        {"Host": f"localhost.evil.example:{port}"},
        {"Host": f"127.0.0.1.evil.example:{port}"},
        {"Host": f"127.0.0.1@evil.example:{port}"},
        {"Host": f"[::1:{port}"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": f"http://localhost:{port}"},  # another name is another origin
        {"Origin": f"http://127.0.0.1:{port + 1}"},  # another server of this machine
        {"Origin": f"http://127.0.0.1:{port}.evil.example"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "websocket"},
    )
    for headers in hostile:
        assert open_door.status(path, **headers) in (400, 403), headers


def test_loopback_lets_its_own_pages_in(open_door: Served) -> None:
    port = open_door.port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
        assert open_door.status(Host=host, Origin=f"http://{host}") == 200
    assert open_door.status(Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate") == 200  # a link in a mail
    assert open_door.status("/ws?width=80&height=24", Origin=f"http://127.0.0.1:{port}") == 101
    assert open_door.status("/nowhere") == 404
    assert open_door.status("/static/../../../../etc/passwd") in (403, 404)
    assert open_door.status("/static/%2e%2e/%2e%2e/server.py") in (403, 404)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_a_token_is_asked_of_everything(locked_door: Served, path: str) -> None:
    wrong = ("", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "%00", "%ff%fe", "\xff\xfe", "é" * 21)
    assert locked_door.status(path) == 401
    for token in wrong:
        assert locked_door.status(path, Cookie=f"{COOKIE}={token}") in (400, 401), token
    for token in ("", "x", TOKEN[:-1], "%00", "%ff%fe", "%F0%9F%92%A3"):
        assert locked_door.status(f"{path}?token={token}") == 401, token
    # The right cookie does not help a request with a wrong token, and a right one no foreign page.
    assert locked_door.status(f"{path}?token=x", Cookie=f"{COOKIE}={TOKEN}") == 401
    assert locked_door.status(path, Cookie=f"{COOKIE}={TOKEN}", Origin="http://evil.example") == 403
    assert locked_door.status(path, Cookie=f"{COOKIE}={TOKEN}") not in (401, 403) or path == "/static/"


@pytest.mark.slow
def test_the_token_becomes_a_cookie_that_opens_the_web_socket(locked_door: Served) -> None:
    async def visit() -> tuple[int, str, bytes]:
        jar = aiohttp.CookieJar(unsafe=True)  # cookies of a numerical address
        async with aiohttp.ClientSession(f"http://127.0.0.1:{locked_door.port}", cookie_jar=jar) as session:
            async with session.get(f"/?token={TOKEN}", allow_redirects=False) as answer:
                assert answer.status == 302 and answer.headers["Location"] == "/"
                cookie = answer.headers["Set-Cookie"]
                assert answer.headers["Cache-Control"] == "no-store"
            async with session.get("/") as answer:
                page = answer
                text = await answer.text()
                assert answer.headers["X-Frame-Options"] == "DENY" and TOKEN not in text
            async with session.ws_connect("/ws?width=80&height=24") as browser:
                message = await browser.receive(timeout=60)
                return page.status, cookie, message.data if isinstance(message.data, bytes) else b"text"

    status, cookie, drawn = asyncio.run(visit())
    assert status == 200 and drawn
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie


@pytest.mark.slow
def test_another_user_of_this_machine_is_kept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may connect as anybody; else the owner in the kernel's table is asked for somebody else."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        connection, _ = server.accept()
        with connection:
            both = neighbours.ends(connection)
            assert both == (client.getsockname(), connection.getsockname())
            assert neighbours.is_own(*both)
            owner = os.getuid()
            monkeypatch.setattr(neighbours, "ROOT", -1)
            monkeypatch.setattr(os, "getuid", lambda: owner + 1)
            assert neighbours.is_own(*both) is False
            monkeypatch.setattr(neighbours, "TABLES", (Path("/nowhere"),))
            assert neighbours.is_own(*both) is None


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0 or not Path("/usr/bin/setpriv").exists(), reason="needs root to be somebody else")
def test_a_real_other_user_is_kept_out(folder: Path) -> None:
    server = Served(folder)
    try:
        fetch = (
            "import sys, urllib.request, urllib.error\n"
            "try: print(urllib.request.urlopen(sys.argv[1]).status)\n"
            "except urllib.error.HTTPError as error: print(error.code, error.read().decode())"
        )
        address = f"http://127.0.0.1:{server.port}/"
        own = subprocess.run(["/usr/bin/python3", "-c", fetch, address], capture_output=True, text=True)
        assert own.stdout.startswith("200")
        become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        other = subprocess.run([*become, "/usr/bin/python3", "-c", fetch, address], capture_output=True, text=True)
        assert other.stdout.startswith("403") and "belongs to another user" in other.stdout, other
    finally:
        server.process.terminate()
        server.process.wait(30)
