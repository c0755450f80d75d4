"""A small TLS proxy as a process of its own, as nginx or Caddy would stand in front of a server.

    python -m tests.tls_proxy CERTIFICATE KEY BACKEND_PORT [--keep-host]

Prints the port it listens on. It tells the backend about the browser in `X-Forwarded-` headers, and replaces `Host` by
the backend's address unless told to keep it (nginx replaces it, Caddy keeps it).
"""

import argparse
import asyncio
import ssl
import sys
from contextlib import suppress

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


def rewritten(head: bytes, host: str | None) -> bytes:
    """The head of a request as the backend gets it: one request a connection, unless it becomes a web socket."""
    request, *headers = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    fields = [line.partition(b":") for line in headers]
    named = {name.strip().lower(): value.strip() for name, _, value in fields}
    replaced = [b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"]
    kept = [name + b":" + value for name, _, value in fields if name.strip().lower() not in replaced]
    if host is not None:
        kept = [line for line in kept if not line.lower().startswith(b"host:")] + [b"Host: " + host.encode()]
    if b"upgrade" not in named:
        kept = [line for line in kept if not line.lower().startswith(b"connection:")] + [b"Connection: close"]
    kept += [b"X-Forwarded-Proto: https", b"X-Forwarded-For: 203.0.113.7", b"X-Forwarded-Host: " + named[b"host"]]
    return b"\r\n".join([request, *kept]) + b"\r\n\r\n"


async def copy(source: Reader, target: Writer) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()


async def serve(certificate: str, key: str, backend: int, host: str | None) -> None:
    async def connected(browser: Reader, browser_out: Writer) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            head = await browser.readuntil(b"\r\n\r\n")
            server, server_out = await asyncio.open_connection("127.0.0.1", backend)
            server_out.write(rewritten(head, host))
            await asyncio.gather(copy(browser, server_out), copy(server, browser_out))

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    sys.stdout.write(f"{listening.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await listening.serve_forever()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("certificate")
    parser.add_argument("key")
    parser.add_argument("backend", type=int)
    parser.add_argument("--keep-host", action="store_true")
    asked = parser.parse_args()
    host = None if asked.keep_host else f"127.0.0.1:{asked.backend}"
    asyncio.run(serve(asked.certificate, asked.key, asked.backend, host))
    return 0


if __name__ == "__main__":
    sys.exit(main())
