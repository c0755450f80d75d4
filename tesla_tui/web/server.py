"""The live screens in a browser: textual-serve behind an access check.

Anyone who reaches the page can start and stop runs with the rights of this user, so the server checks, for pages,
files, downloads and web sockets alike: the name the browser asked for (against DNS rebinding), the page a connection
comes from (web sockets know no same-origin rule), when the server listens to this machine only, that the other end is
a process of the same user (a shared box has others), and when it listens to more, or to a proxy, a token.

What a proxy says about the browser in headers is never used: browsers can send the same headers. The address that
browsers use is declared once, when the server starts.
"""

import asyncio
import hmac
import ipaddress
import re
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import aiohttp_jinja2
from aiohttp import web
from textual_serve.server import Server

from engine.errors import UsageError
from tesla_tui.web.peer import ends, is_own, tells_owners

COOKIE = "tesla-token"
SHORTEST = 12
"""Minimum length of a chosen token."""
HERE = Path(__file__).parent
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
"""The browser itself refuses what would come from, or go to, any other server. xterm.js makes style elements."""
PROXY_HEADERS = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
"""Added by proxies, not by browsers."""
DEFAULT_PORTS = {"http": 80, "https": 443}
NAME = re.compile(r"[a-z0-9._:-]+")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_loopback(host: str) -> bool:
    """Whether an address is only this machine's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def public_origin(address: str) -> str:
    """The address of a proxy, `https://box.example/`, as browsers name it in `Origin`: no path, no default port.

    Raises:
        UsageError: it is not the address of a whole site.
    """
    try:
        parts = urlsplit(address.strip())
        name = (parts.hostname or "").encode("idna").decode()
        port = parts.port
    except ValueError:
        parts, name, port = urlsplit(""), "", None
    whole = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in DEFAULT_PORTS or not NAME.fullmatch(name) or not whole:
        raise UsageError(
            f"--public-url {address!r} is not the address of a site, such as https://box.example/.",
            "Give http or https, a name and, if needed, a port. The proxy needs a name or port of its own for tesla.",
        )
    shown = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{shown}" + ("" if port in (None, DEFAULT_PORTS[parts.scheme]) else f":{port}")


def choose_token(host: str, token: str | None, *, proxied: bool = False) -> str | None:
    """The token to ask for: the one given, a new one where other users can connect, else none.

    Other machines reach every address but loopback; on loopback it is the system that tells users apart, or not. A
    proxy connects for anyone who reaches it.

    Raises:
        UsageError: too short to be one.
    """
    if token is not None and len(token) < SHORTEST:
        raise UsageError(f"--token must have at least {SHORTEST} characters.", "Omit it to get a random one.")
    if token is None and (proxied or not (is_loopback(host) and tells_owners())):
        return secrets.token_urlsafe(18)
    return token


class TeslaServer(Server):  # type: ignore[misc]  # textual-serve is untyped
    """Serves one command.

    Args:
        command: run by the shell for every browser that comes.
        host: address to listen on.
        port: port to listen on.
        token: asked of every request; None for none.
        origin: of the pages, where browsers come through a proxy; see `public_origin`.
    """

    served = False
    """Whether a server of this process has served, and its event loop is closed."""

    def __init__(self, command: str, host: str, port: int, token: str | None, origin: str | None = None) -> None:
        super().__init__(command, host=host, port=port, title="tesla", templates_path=HERE / "templates")
        self.token = token
        self.origin = origin
        self.loopback = is_loopback(host)
        self._screens: set[asyncio.Task[Any]] = set()

    def serve(self, debug: bool = False) -> None:
        """Serve until a signal comes."""
        TeslaServer.served = True
        super().serve(debug)

    def initialize_logging(self) -> None:
        """Keep the library's log lines out; sessions report their own errors."""

    async def on_startup(self, app: web.Application) -> None:
        """The command has said where it serves."""

    async def on_shutdown(self, app: web.Application) -> None:
        """Ask the screens to end: aiohttp would wait a minute for browsers to close their pages."""
        for screen in self._screens:
            screen.cancel()

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """The screens of one page, until that is closed or the server stops."""
        task = asyncio.current_task()
        assert task is not None
        self._screens.add(task)
        try:
            closed: web.WebSocketResponse = await super().handle_websocket(request)
            return closed
        finally:
            self._screens.discard(task)

    async def _make_app(self) -> web.Application:
        app: web.Application = await super()._make_app()
        app.router.add_static("/page", HERE / "static")

        @web.middleware
        async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._door(request, handler)

        app.middlewares.append(door)
        return app

    async def _door(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse requests that are not allowed."""
        try:
            response = await self._let_in(request, handler)
        except web.HTTPException as refusal:
            _seal(refusal)
            raise
        _seal(response)
        return response

    async def _let_in(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._check_names(request)
        # A link on another page may open ours; nothing else of another page's may use it.
        foreign = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
        if foreign and request.headers.get("Sec-Fetch-Mode") != "navigate":
            raise web.HTTPForbidden(text="Requests from other sites are refused.")
        if self.token is None:
            if not await asyncio.to_thread(_is_own, request):
                raise web.HTTPForbidden(
                    text="This server belongs to another user, who can allow access by starting it with --token."
                )
        else:
            given = request.query.get("token")
            known = given if given is not None else request.cookies.get(COOKIE, "")
            # Bytes that are no text become something that is no token.
            if not hmac.compare_digest(known.encode(errors="backslashreplace"), self.token.encode()):
                raise web.HTTPUnauthorized(text="A token is required. Open the address printed by tesla serve.")
            if given is not None and request.path == "/":
                # The cookie takes over from here, so that the token does not stay in the address bar.
                answer = web.HTTPFound("/")
                encrypted = self._origin(request).startswith("https:")
                answer.set_cookie(COOKIE, self.token, httponly=True, samesite="Strict", secure=encrypted)
                raise answer
        return await handler(request)

    def _check_names(self, request: web.Request) -> None:
        """Refuse a foreign server name, a foreign page, and a proxy that was not declared."""
        if self.origin is None:
            # Without a token, everyone whom the proxy lets in would be this user; with one, the page would not work.
            undeclared = any(name in request.headers for name in PROXY_HEADERS) and self.token is None
            if undeclared or request.headers.get("X-Forwarded-Proto", "").lower() == "https":
                raise web.HTTPForbidden(
                    text="This request came through a proxy. Start tesla serve with --public-url and the address that "
                    "browsers use, such as https://box.example/."
                )
            if self.loopback and not is_loopback(_split(f"//{request.host}").hostname or ""):
                raise web.HTTPForbidden(text="This server accepts requests for localhost only.")
        given = request.headers.get("Origin")
        if given is not None:
            # Behind a proxy, `Host` is whatever the proxy makes of it.
            same = _split(given).netloc == request.host if self.origin is None else given == self.origin
            if not same:
                raise web.HTTPForbidden(text="Connections from other sites are refused.")

    def _origin(self, request: web.Request) -> str:
        """Scheme and name of this server, as the browser knows it."""
        return self.origin or f"{request.scheme}://{request.host}"

    @aiohttp_jinja2.template("app_index.html")
    async def handle_index(self, request: web.Request) -> dict[str, Any]:
        """The page, with addresses as the browser knows this server."""
        size = request.query.get("fontsize", "14")
        return {
            "font_size": int(size) if size.isdigit() and 4 <= int(size) <= 64 else 14,
            # http becomes ws, https becomes wss.
            "app_websocket_url": f"ws{self._origin(request).removeprefix('http')}/ws",
            "config": {"static": {"url": "/static/"}},
            "application": {"name": "tesla"},
        }


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:
        raise web.HTTPForbidden(text="Invalid address.") from None


def _is_own(request: web.Request) -> bool:
    connection = request.transport.get_extra_info("socket") if request.transport is not None else None
    both = ends(connection) if connection is not None else None
    # Where the system does not tell, a token is asked for: see choose_token.
    return both is None or is_own(*both) is not False


def _seal(response: web.StreamResponse) -> None:
    """Nothing from other servers, no framing, no sniffing, no address passed on, nothing kept on a shared disk."""
    if response.prepared:
        return
    response.headers.setdefault("X-Frame-Options", "DENY")
    response.headers.setdefault("Content-Security-Policy", POLICY)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Cache-Control", "no-store")
