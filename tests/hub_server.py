"""As much of the Hugging Face Hub as a push and a download need, on 127.0.0.1."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class Repositories:
    """What the hub holds: by repository and revision, the files of a commit; and what was asked."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], dict[str, bytes]] = {}
        self.heads: dict[tuple[str, str], str] = {}
        self.requests: list[str] = []
        self.address = ""

    def commit(self, name: str, branch: str, files: dict[str, bytes]) -> str:
        """A commit on top of a branch: its hash."""
        before = self.files.get((name, self.heads.get((name, branch), "")), {})
        now = {**before, **files}
        content = repr(sorted((k, hashlib.sha1(v).hexdigest()) for k, v in now.items()))
        sha = hashlib.sha1(content.encode()).hexdigest()
        self.files[name, sha] = now
        self.heads[name, branch] = sha
        return sha

    def find(self, name: str, revision: str) -> str | None:
        """The hash that a branch, tag or hash means."""
        found = self.heads.get((name, revision), revision)
        return found if (name, found) in self.files else None


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub: Repositories = self.server.hub
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.requests.append(f"{self.command} {self.path}")
        match [self.command, *path]:
            case ["POST", "api", "repos", "create"]:
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                name = name if "/" in name else f"someone/{name}"
                self.say({"url": f"{hub.address}/{name}", "id": name, "name": name})
            case ["POST", "api", "validate-yaml"]:
                self.say({"errors": [], "warnings": []})
            case ["POST", "api", "models", _, _, "preupload", _]:
                files = json.loads(body)["files"]
                told = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                    for f in files
                ]
                self.say({"files": told})
            case ["POST", "api", "models", owner, name, "commit", branch]:
                lines = [json.loads(line) for line in body.decode().splitlines()]
                new = {
                    line["value"]["path"]: base64.b64decode(line["value"]["content"])
                    for line in lines
                    if line["key"] == "file"
                }
                sha = hub.commit(f"{owner}/{name}", branch, new)
                url = f"{hub.address}/{owner}/{name}/commit/{sha}"
                self.say({"success": True, "commitOid": sha, "commitUrl": url})
            case ["GET", "api", "models", owner, name, *rest]:
                revision = rest[1] if rest[:1] in (["revision"], ["tree"]) else "main"
                self.tell(hub, f"{owner}/{name}", revision, tree=rest[:1] == ["tree"])
            case [_, owner, name, "resolve", revision, *rest]:
                self.file(hub, f"{owner}/{name}", revision, "/".join(rest))
            case _:
                self.say({"error": "not found"}, code=404)

    def tell(self, hub: Repositories, name: str, revision: str, *, tree: bool) -> None:
        sha = hub.find(name, revision)
        if sha is None:
            known = any(n == name for n, _ in hub.files)
            error = "RevisionNotFound" if known else "RepoNotFound"
            self.say({"error": error}, code=404, X_Error_Code=error, X_Error_Message=error)
            return
        files = hub.files[name, sha]
        if tree:
            listed = [
                {"type": "file", "path": p, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                for p, c in files.items()
            ]
            self.say(listed, X_Repo_Commit=sha)
            return
        siblings = [{"rfilename": path} for path in files]
        self.say({"id": name, "sha": sha, "siblings": siblings, "private": False})

    def file(self, hub: Repositories, name: str, revision: str, path: str) -> None:
        sha = hub.find(name, revision)
        content = hub.files.get((name, sha or ""), {}).get(path)
        if content is None:
            error = "EntryNotFound" if sha else "RevisionNotFound"
            self.say({}, code=404, X_Error_Code=error, X_Error_Message=error)
            return
        tag = f'"{hashlib.sha1(content).hexdigest()}"'
        self.send(200, content, "application/octet-stream", ETag=tag, X_Repo_Commit=sha)

    def say(self, told: Any, *, code: int = 200, **headers: Any) -> None:
        self.send(code, json.dumps(told).encode(), "application/json", **headers)

    def send(self, code: int, content: bytes, kind: str, **headers: Any) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def hub() -> Iterator[Repositories]:
    """A running hub."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = held = Repositories()  # type: ignore[attr-defined]
    held.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
