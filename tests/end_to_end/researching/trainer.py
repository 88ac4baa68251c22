"""A trainer in the tests' process, on the shipped base, beside the session's server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.service.learning.computing import Computing
from graft.training.service.learning.held_base import HeldBase
from graft.training.service.sessions.kept import Kept
from graft.training.service.sessions.limits import Limits
from graft.training.service.sessions.served import Served
from graft.training.service.sessions.sessions import Sessions
from graft.training.service.sessions.training import Place
from graft.training.service.tinker.app import TinkerFront

RECORDED = "0" * 16
"""The session's id in what was recorded, as long as a real one: it stands in protobuf, too."""
PROTOBUF = "application/x-protobuf"


@contextmanager
def trainer(held: HeldBase, server: str, work: Path, limits: Limits) -> Iterator[tuple[TestClient, Sessions]]:
    computing, served = Computing(), Served(server)
    place = Place(held=held, computing=computing, served=served, kept=Kept(work), limits=limits)
    sessions = Sessions(place)
    computing.start()
    try:
        with TestClient(TinkerFront(sessions).app(), headers={"X-API-Key": "tml-test"}) as http:
            yield http, sessions
    finally:
        sessions.close()
        served.hurry()
        computing.stop()
        served.close()


def shipped(base: Base) -> HeldBase:
    return HeldBase.load(base, ServingForm.NF4, max_rank=64)


@dataclass
class Caller:
    """Sends what the SDK sent."""

    http: TestClient
    session: str = ""

    def send(self, recorded: Mapping[str, Any]) -> Any:
        """The reply to a recorded request; where that is no JSON, its bytes."""
        headers = {"Accept": recorded.get("accept", "application/json")}
        if "base64" in recorded:
            body = base64.b64decode(recorded["base64"]).replace(RECORDED.encode(), self.session.encode())
            headers["Content-Type"] = PROTOBUF
        else:
            body = json.dumps(recorded.get("json")).replace(RECORDED, self.session).encode()
        path = recorded["path"].replace(RECORDED, self.session)
        reply = self.http.request(recorded["method"], path, content=body, headers=headers)
        assert reply.status_code == 200, f"{path}: {reply.status_code} {reply.text}"
        if path.endswith("create_session"):
            self.session = reply.json()["session_id"]
        return reply.content if reply.headers["content-type"] == PROTOBUF else reply.json()

    def post(self, path: str, /, **body: Any) -> Any:
        return self.http.post(f"/api/v1/{path}", json=body)
