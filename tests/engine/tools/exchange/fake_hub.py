"""A Hugging Face hub on localhost: what uploading a dataset needs of its interface, with one repository in memory."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeHub:
    """The hub's state, and what was asked of it."""

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.repo: str | None = None
        self.private: bool | None = None
        self.commits = 0
        self.refuse: int | None = None
        """Status of every answer."""
        self.held = threading.Event()
        """That an upload has begun, with `go` cleared."""
        self.go = threading.Event()
        """Answers to an upload wait for it."""
        self.go.set()
        self.tokens: set[str] = set()
        self.unknown: list[str] = []

    def answer(self, method: str, path: str, body: bytes) -> Any:
        """JSON for a request; None for one that is not known."""
        where = f"/api/datasets/{self.repo}"
        if path == "/api/repos/create":
            asked = json.loads(body)
            assert asked["type"] == "dataset"
            self.repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.private = asked.get("private") or asked.get("visibility") == "private"
            return {"url": f"{self.url}/datasets/{self.repo}", "name": self.repo, "id": "1"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path.startswith(f"{where}/preupload/"):
            self.held.set()
            self.go.wait()
            kinds = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            return {"files": [{**kind, "shouldIgnore": False, "oid": None} for kind in kinds]}
        if path.startswith(f"{where}/tree/"):
            sizes = {name: len(data) for name, data in self.files.items()}
            return [{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in sizes.items()]
        if path.startswith((f"{where}/revision/", f"{where}?")) or path == where:
            return {"id": self.repo, "sha": "0" * 40, "siblings": [{"rfilename": name} for name in self.files]}
        if path.startswith(f"{where}/commit/"):
            return self._commit([json.loads(line) for line in body.splitlines()])
        self.unknown.append(f"{method} {path}")
        return None

    def _commit(self, lines: list[dict[str, Any]]) -> dict[str, str]:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del self.files[value["path"]]
        self.commits += 1
        return {"commitUrl": f"{self.url}/datasets/{self.repo}/commit/1", "commitOid": "1" * 40, "hookOutput": ""}


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.tokens.add(self.headers.get("Authorization", ""))
            found = hub.answer(self.command, self.path, body) if hub.refuse is None else {"error": "Forbidden"}
            data = json.dumps(found).encode()
            self.send_response(hub.refuse or (200 if found is not None else 404))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """Nothing on stderr."""

    return Handler


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that answers at its `url` inside the context."""
    hub = FakeHub()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub)) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield hub
        server.shutdown()
