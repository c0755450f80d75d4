"""`tesla serve` behind a proxy with HTTPS: a real server, a real TLS proxy, a client that checks the certificate."""

import asyncio
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from engine.errors import UsageError
from engine.runs.workspace import Workspace
from engine.settings import resolve_settings
from tesla_tui.web.server import COOKIE, choose_token, public_origin
from tests.tui.web.test_peer import Served

TOKEN = "correct-horse-battery"
NAME = "box.example"
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")


class OnlyHere(AbstractResolver):
    """Every name is this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        """Nothing is held."""


class Proxied:
    """A server, the proxy in front of it, and the address that browsers use."""

    def __init__(self, folder: Path, certificate: Path, *proxy_options: str) -> None:
        # The public address is needed to start the server, and the server's port to start the proxy. No browser is
        # asked for the port in the address here, so that any will do.
        self.origin = f"https://{NAME}"
        self.server = Served(folder, "--public-url", f"{self.origin}/", environment={"TESLA_TOKEN": TOKEN})
        self.certificate = certificate
        words = [str(certificate), str(certificate.with_name("key.pem")), str(self.server.port), *proxy_options]
        self.proxy = subprocess.Popen(
            [sys.executable, "-m", "tests.tls_proxy", *words], stdout=subprocess.PIPE, text=True
        )
        assert self.proxy.stdout is not None
        self.port = int(self.proxy.stdout.readline())

    def close(self) -> None:
        for process in (self.proxy, self.server.process):
            process.terminate()
            process.communicate(timeout=30)

    @asynccontextmanager
    async def browser(self) -> Any:
        """A session at `https://box.example` that comes out at the proxy; cookies as a browser keeps them."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        connector = aiohttp.TCPConnector(resolver=OnlyHere(), ssl=context)
        headers = {"Host": NAME}
        async with aiohttp.ClientSession(
            f"https://{NAME}:{self.port}", connector=connector, headers=headers
        ) as session:
            yield session
        await asyncio.sleep(0.25)  # until encrypted connections are closed: aiohttp does not wait for them


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "certificate.pem"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Workspace.create(tmp_path_factory.mktemp("proxied") / "ws", resolve_settings(), set()).folder


@pytest.fixture(scope="module", params=[(), ("--keep-host",)], ids=["host-replaced", "host-kept"])
def proxied(request: pytest.FixtureRequest, folder: Path, certificate: Path) -> Iterator[Proxied]:
    both = Proxied(folder, certificate, *request.param)
    yield both
    both.close()


@pytest.mark.slow
@needs_openssl
def test_a_browser_works_through_https(proxied: Proxied) -> None:
    async def visit() -> tuple[str, str, bytes]:
        async with proxied.browser() as session:
            async with session.get("/") as answer:
                assert answer.status == 401
            async with session.get(f"/?token={TOKEN}", allow_redirects=False) as answer:
                assert answer.status == 302 and answer.headers["Location"] == "/"
                cookie = answer.headers["Set-Cookie"]
            async with session.get("/", headers={"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}) as answer:
                assert answer.status == 200
                page = await answer.text()
            own = {"Origin": proxied.origin, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "websocket"}
            async with session.ws_connect("/ws?width=80&height=24", headers=own) as browser:
                message = await browser.receive(timeout=120)
                return cookie, page, message.data if isinstance(message.data, bytes) else str(message.data).encode()

    cookie, page, drawn = asyncio.run(visit())
    assert {"Secure", "HttpOnly", "SameSite=Strict"} <= {part.strip() for part in cookie.split(";")}
    assert re.findall(r"wss?://[^\"]*", page) == [f"wss://{NAME}/ws"]
    assert TOKEN not in page and "http://" not in page.replace("http://www.w3.org/", "")
    assert drawn


@pytest.mark.slow
@needs_openssl
def test_other_pages_stay_out_whatever_the_headers_say(proxied: Proxied) -> None:
    backend = f"127.0.0.1:{proxied.server.port}"
    hostile = (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://{NAME}"},  # the same name without encryption may be anybody's
        {"Origin": f"https://{NAME}:444"},
        {"Origin": f"https://{NAME}.evil.example"},
        {"Origin": f"http://{backend}"},
        {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"},
        {"Origin": proxied.origin, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    )

    async def ask() -> list[int]:
        found = []
        async with proxied.browser() as session:
            for headers in hostile:
                for path in ("/", "/ws"):
                    async with session.get(path, headers={**headers, "Cookie": f"{COOKIE}={TOKEN}"}) as answer:
                        found.append(answer.status)
            async with session.get("/", headers={"X-Forwarded-User": "me", "X-Forwarded-For": "127.0.0.1"}) as answer:
                assert answer.status == 401  # no header replaces the token
        return found

    assert asyncio.run(ask()) == [403] * (2 * len(hostile))


@pytest.mark.slow
def test_a_proxy_that_was_not_declared_is_refused_with_what_to_type(folder: Path) -> None:
    """Without a token, everyone whom the proxy lets in would be this user."""
    server = Served(folder)
    try:
        for header in (
            "X-Forwarded-Proto: https",
            "X-Forwarded-For: 203.0.113.7",
            "Forwarded: proto=https",
            "Via: 1.1 x",
        ):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
                connection.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{header}\r\n\r\n".encode())
                said = connection.recv(65536).decode()
            assert " 403 " in said.splitlines()[0] and "--public-url" in said, header
        assert server.status() == 200
    finally:
        server.process.terminate()
        server.process.wait(30)


def printed(folder: Path, *options: str, token: str | None = None) -> str:
    """What the command prints before it serves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "TESLA_TUI_CONFIG": str(folder / "none"), "COLUMNS": "200"}
    environment |= {"TESLA_TOKEN": token} if token else {}
    command = [sys.executable, "-m", "tesla_tui.main", "serve", str(folder), "--port", str(port), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "Ctrl-C" in line:
                break
        process.terminate()
        return said + process.communicate(timeout=60)[0]


@pytest.mark.slow
def test_a_token_from_the_environment_is_not_printed(folder: Path) -> None:
    said = printed(folder, token=TOKEN)
    assert TOKEN not in said and "/?token=$TESLA_TOKEN" in said
    said = printed(folder, "--public-url", "https://Box.Example:443", token=TOKEN)
    assert TOKEN not in said and "https://box.example/?token=$TESLA_TOKEN" in said
    assert re.search(r"pass requests on to http://127\.0\.0\.1:\d+/", said)
    made = re.search(
        r"https://box\.example/\?token=([\w-]{20,})", printed(folder, "--public-url", "https://box.example")
    )
    assert made is not None


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("https://box.example", "https://box.example"),
        ("https://box.example/", "https://box.example"),
        (" https://BOX.example:443/ ", "https://box.example"),
        ("https://box.example:8443", "https://box.example:8443"),
        ("http://box:80", "http://box"),
        ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_a_public_address_is_written_as_browsers_write_it(address: str, origin: str) -> None:
    assert public_origin(address) == origin


@pytest.mark.parametrize(
    "address",
    [
        "", "box.example", "box.example:443", "ftp://box.example", "https://", "https://box.example/tesla",
        "https://box.example/?a=b", "https://box.example/#x", "https://me@box.example", "https://box.example:x",
        "https://box.example:99999", "https://[::1", "https://a b", 'https://a"onload=',
        "https://*.example", "https://" + "a" * 70 + ".example", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_anything_else_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="public-url"):
        public_origin(address)


def test_behind_a_proxy_there_is_always_a_token() -> None:
    made = choose_token("127.0.0.1", None, proxied=True)
    assert made is not None and len(made) >= 20
    assert choose_token("127.0.0.1", TOKEN, proxied=True) == TOKEN
