"""A model hub on the loopback: the few endpoints that huggingface_hub asks for a model, and whom they refuse."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants


@dataclass(kw_only=True)
class Repository:
    """The files of each commit, and the commit of each branch; `token` is what a caller must bring, if any."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    token: str | None = None

    def commit(self, folder: Path, *, branch: str = "main", further: dict[str, bytes] | None = None) -> str:
        """Make the folder's files the newest of the branch; the commit's 40 hex digits."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        files |= further or {}
        made = hashlib.sha1(json.dumps({name: hashlib.sha1(body).hexdigest() for name, body in files.items()}).encode())
        self.commits[made.hexdigest()] = files
        self.branches[branch] = made.hexdigest()
        return made.hexdigest()


@dataclass(kw_only=True)
class LocalHub:
    """What lies on the hub by name, and what was asked of it as `METHOD path`."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""
    stop_after_bytes: int | None = None
    """Each answer breaks off after so many bytes."""
    holds: str | None = None
    """A file whose bytes never come; `held` is set once it was asked for."""
    held: threading.Event = field(default_factory=threading.Event)

    @property
    def sent(self) -> set[str]:
        """Names of the files whose bytes were asked for."""
        return {line.rpartition("/")[2] for line in self.asked if line.startswith("GET") and "/resolve/" in line}


def _handler(hub: LocalHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            if self.headers.get("Range"):
                hub.asked.append(f"Range: {self.headers['Range']}")
            found = re.match(
                r"/(?:api/models/(?P<api>[^/]+/[^/?]+)(?:/(?P<part>revision|tree)/(?P<at>[^?]+))?"
                r"|(?P<files>[^/]+/[^/]+)/resolve/(?P<of>[^/]+)/(?P<file>[^?]+))",
                self.path,
            )
            repository = found and hub.repositories.get(found["api"] or found["files"])
            if not found or repository is None:
                return self.refuse(401, "RepoNotFound", "Repository not found")
            given = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if given and repository.token not in (None, given):
                return self.refuse(401, "", "Invalid credentials in Authorization header")
            if repository.token is not None and given != repository.token and (not repository.gated or found["files"]):
                return self.refuse(
                    *((403, "GatedRepo") if repository.gated else (401, "RepoNotFound")), "Access denied"
                )
            revision = found["at"] or found["of"] or "main"
            commit = repository.branches.get(revision, revision)
            if commit not in repository.commits:
                return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            files = repository.commits[commit]
            if found["api"] and found["part"] != "tree":
                siblings = [{"rfilename": name} for name in files]
                return self.answer(json.dumps({"id": found["api"], "sha": commit, "siblings": siblings}).encode())
            if found["api"]:
                return self.answer(json.dumps([_entry(name, body) for name, body in files.items()]).encode())
            if found["file"] not in files:
                return self.refuse(404, "EntryNotFound", "Entry not found")
            if found["file"] == hub.holds and self.command == "GET":
                hub.held.set()
                threading.Event().wait()
            body = files[found["file"]]
            return self.answer(body, {"ETag": f'"{_digest(body)}"', "X-Repo-Commit": commit})

        def refuse(self, status: int, code: str, message: str) -> None:
            self.answer(b"{}", {"X-Error-Code": code, "X-Error-Message": message}, status=status)

        def answer(self, body: bytes, headers: dict[str, str] | None = None, *, status: int = 200) -> None:
            begin = self.headers.get("Range")
            first = int(begin.removeprefix("bytes=").partition("-")[0]) if begin and status == 200 else 0
            part = body[first:]
            self.send_response(206 if first else status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.stop_after_bytes is not None and len(part) > hub.stop_after_bytes and status == 200:
                self.wfile.write(part[: hub.stop_after_bytes])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(part)

    return Handler


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _entry(name: str, body: bytes) -> dict[str, object]:
    large = {"lfs": {"oid": _digest(body), "size": len(body), "pointerSize": 134}} if name.endswith("tensors") else {}
    return {"type": "file", "path": name, "size": len(body), "oid": _digest(body)[:40], **large}


@contextmanager
def running() -> Iterator[LocalHub]:
    """A hub that answers until the block ends."""
    hub = LocalHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def use(hub: LocalHub | None, cache: Path, patch: pytest.MonkeyPatch, *, offline: bool = False) -> None:
    """Point huggingface_hub in this process at the hub (None: at a port where nothing listens) and an own cache; in
    other processes `environment` does it.
    """
    url = "http://127.0.0.1:9" if hub is None else hub.url
    patch.setattr(constants, "ENDPOINT", url)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    patch.setattr(constants, "HF_HUB_OFFLINE", offline)
    patch.delenv("HF_TOKEN", raising=False)


def environment(hub: LocalHub, home: Path, **further: str) -> dict[str, str]:
    """The variables by which a process uses the hub."""
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **further}
