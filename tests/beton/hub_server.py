"""A small Hugging Face hub: the part of its HTTP interface that downloads a data set's repository."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT, BRANCH_COMMIT = "a" * 40, "b" * 40


class Hub:
    """Repositories OWNER/NAME, each with files by path and revision.

    Attributes:
        repositories: files of each repository.
        gated: repositories that need a token.
        requested: paths of all requests so far.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.revisions = {"main": COMMIT, "v1": BRANCH_COMMIT, "refs/convert/parquet": BRANCH_COMMIT}
        self.gated: set[str] = set()
        self.requested: list[str] = []
        self.url = ""


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve repositories on a port of this machine."""
    hub = Hub()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.state.requested.append(path)
        parts = path.removeprefix("api/").split("/")
        name, action, rest = "/".join(parts[1:3]), parts[3] if len(parts) > 3 else "", "/".join(parts[4:])
        files = self.state.repositories.get(name)
        if parts[0] != "datasets" or files is None:
            return self._send(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
        if action == "resolve":
            return self._resolve(name, files, rest)
        commit = self.state.revisions.get(rest, rest)
        if action in ("revision", "tree") and commit not in self.state.revisions.values():
            return self._send(404, b'{"error": "Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
        listed = [{"type": "file", "path": path, "size": len(data), "oid": _oid(data)} for path, data in files.items()]
        if action == "tree":
            return self._send(200, json.dumps(listed).encode())
        siblings = [{"rfilename": path} for path in files]
        return self._send(200, json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode())

    def _resolve(self, name: str, files: dict[str, bytes], rest: str) -> None:
        if name in self.state.gated and "Authorization" not in self.headers:
            return self._send(401, b"{}", {"X-Error-Code": "GatedRepo"})
        commit, _, path = rest.partition("/")
        if path not in files:
            return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        return self._send(200, files[path], {"ETag": f'"{_oid(files[path])}"', "X-Repo-Commit": commit})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
