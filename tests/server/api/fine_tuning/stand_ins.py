"""In front of the server: openai-python's own tests name things that are there on OpenAI's side only.

Their names are replaced by those of things that were made here; all else goes through as it is, both ways.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.server.api.conftest import Server
from tests.server.api.fine_tuning.working import ROWS, Worker, reached, uploaded

MODEL, FILE, FILE_IN_PATH, JOB = "gpt-4o-mini", "file-abc123", "file_id", "ft-AF1WoRqd3aJAHsqc9NY7iL8F"
_HOP = {"content-length", "transfer-encoding", "connection", "host", "content-encoding"}


@dataclass(frozen=True, kw_only=True)
class StandIns:
    """What was made here, by what it is asked for."""

    server: Server
    bodies: Mapping[str, str]
    """A value in a body by the name of its field."""
    jobs: Mapping[str, str]
    """A job by the verb that ends the path; `""`: any other."""
    file: str
    client: httpx.AsyncClient = field(repr=False)

    @classmethod
    async def made(cls, server: Server) -> StandIns:
        jobs = {verb: await _job(server) for verb in ("cancel", "pause")}
        shown = await _job(server)
        for verb, job in jobs.items():
            await server.http.post(f"/v1/fine_tuning/jobs/{job}/{verb}")
        worker = Worker(server)
        await worker.claimed()
        await worker.report(1)
        await worker.succeed()
        bodies = {
            "model": "tiny",
            "training_file": await uploaded(server),
            "validation_file": await uploaded(server, name="held.jsonl"),
        }
        return cls(
            server=server,
            bodies=bodies,
            jobs={"cancel": jobs["cancel"], "pause": jobs["pause"], "resume": jobs["pause"], "": shown},
            file=await uploaded(server),
            client=server.http,
        )

    def app(self) -> Starlette:
        """An ASGI application."""
        return Starlette(routes=[Route("/{path:path}", self._pass_on, methods=["GET", "POST", "DELETE"])])

    async def _pass_on(self, request: Request) -> Response:
        path, body = request.url.path, await request.body()
        verb = path.rpartition("/")[2]
        path = path.replace(JOB, self.jobs.get(verb, self.jobs[""]))
        if FILE_IN_PATH in path:
            # One that is deleted is deleted once.
            file = await uploaded(self.server) if request.method == "DELETE" else self.file
            path = path.replace(FILE_IN_PATH, file)
        if request.headers.get("content-type") == "application/json" and body:
            body = json.dumps(self._replaced(json.loads(body))).encode()
        headers = {name: value for name, value in request.headers.items() if name not in _HOP}
        answer = await self.client.request(
            request.method, path, params=request.query_params, content=body, headers=headers
        )
        kept = {name: value for name, value in answer.headers.items() if name not in _HOP}
        return Response(answer.content, status_code=answer.status_code, headers=kept)

    def _replaced(self, body: dict[str, object]) -> dict[str, object]:
        return {
            name: self.bodies[name] if value in (MODEL, FILE) and name in self.bodies else value
            for name, value in body.items()
        }


async def _job(server: Server) -> str:
    asked = {"model": "tiny", "training_file": await uploaded(server, ROWS)}
    job = (await server.http.post("/v1/fine_tuning/jobs", json=asked)).json()["id"]
    await reached(server, job, "queued")
    return str(job)
