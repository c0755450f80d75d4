"""The live screens in a browser: textual-serve behind an access check.

Anyone who reaches the page can start and stop runs with the rights of this user, so the server checks, for pages,
files, downloads and web sockets alike: the name the browser asked for (against DNS rebinding), the page a connection
comes from (web sockets know no same-origin rule), when the server listens to this machine only, that the other end is
a process of the same user (a shared box has others), and when it listens to more, a token.
"""

import asyncio
import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable
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

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_loopback(host: str) -> bool:
    """Whether an address is only this machine's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def choose_token(host: str, token: str | None) -> str | None:
    """The token to ask for: the one given, a new one where other users can connect, else none.

    Other machines reach every address but loopback; on loopback it is the system that tells users apart, or not.

    Raises:
        UsageError: too short to be one.
    """
    if token is not None and len(token) < SHORTEST:
        raise UsageError(f"--token must have at least {SHORTEST} characters.", "Omit it to get a random one.")
    if token is None and not (is_loopback(host) and tells_owners()):
        return secrets.token_urlsafe(18)
    return token


class TeslaServer(Server):  # type: ignore[misc]  # textual-serve is untyped
    """Serves one command.

    Args:
        command: run by the shell for every browser that comes.
        host: address to listen on.
        port: port to listen on.
        token: asked of every request; None for none.
    """

    def __init__(self, command: str, host: str, port: int, token: str | None) -> None:
        super().__init__(command, host=host, port=port, title="tesla")
        self.token = token
        self.loopback = is_loopback(host)

    def initialize_logging(self) -> None:
        """Keep the library's log lines out; sessions report their own errors."""

    async def on_startup(self, app: web.Application) -> None:
        """The command has said where it serves."""

    async def _make_app(self) -> web.Application:
        app: web.Application = await super()._make_app()

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
        if self.loopback and not is_loopback(_split(f"//{request.host}").hostname or ""):
            raise web.HTTPForbidden(text="This server accepts requests for localhost only.")
        origin = request.headers.get("Origin")
        if origin is not None and _split(origin).netloc != request.host:
            raise web.HTTPForbidden(text="Connections from other sites are refused.")
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
                answer.set_cookie(COOKIE, self.token, httponly=True, samesite="Strict")
                raise answer
        return await handler(request)

    @aiohttp_jinja2.template("app_index.html")
    async def handle_index(self, request: web.Request) -> dict[str, Any]:
        """The page, with addresses as the browser knows this server."""
        size = request.query.get("fontsize", "14")
        secure = request.scheme == "https"
        return {
            "font_size": int(size) if size.isdigit() and 4 <= int(size) <= 64 else 14,
            "app_websocket_url": f"{'wss' if secure else 'ws'}://{request.host}/ws",
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
    """No framing, no sniffing, no address passed on, nothing kept on a shared disk."""
    if response.prepared:
        return
    response.headers.setdefault("X-Frame-Options", "DENY")
    response.headers.setdefault("Content-Security-Policy", "frame-ancestors 'none'")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    response.headers.setdefault("Cache-Control", "no-store")
