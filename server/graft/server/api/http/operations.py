"""Probes, metrics and the list of models."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from time import time
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from graft.adapters.adapter import STABLE
from graft.adapters.catalog.fine_tuned import name_of
from graft.adapters.catalog.snapshot import ANY_BASE
from graft.server.api.http.body import JsonResponse
from graft.server.operations.metrics import Metrics
from graft.server.operations.readiness import Readiness
from graft.server.registry.snapshots import Snapshots
from graft.server.runtime.tenant import current_tenant


@dataclass(frozen=True, kw_only=True)
class Operations:
    """What orchestrators and scrapers ask."""

    readiness: Readiness
    metrics: Metrics

    async def live(self, request: Request) -> Response:
        """200 while the process answers at all: a dead engine is replaced from inside."""
        return PlainTextResponse("live\n")

    async def ready(self, request: Request) -> Response:
        """200 while new work is taken, else 503 with the reason."""
        if self.readiness.ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse(f"not ready: {self.readiness.why}\n", status_code=503)

    async def scrape(self, request: Request) -> Response:
        """Prometheus text; vLLM's own series too, where they are in this process."""
        return Response(generate_latest(self.metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})


class Models:
    """`/v1/models`: the base under its name and as `base`, each adapter and each of its aliases, and what jobs made."""

    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots
        self._base = snapshots.base
        self._started_at = int(time())

    @property
    def base_name(self) -> str:
        """What the base is called."""
        return self._base.name

    async def list(self, request: Request) -> Response:
        return await asyncio.to_thread(lambda: JsonResponse({"object": "list", "data": list(self._all())}))

    async def get(self, request: Request) -> Response:
        """Any reference that a request could name. Raises what resolving does."""
        reference = request.path_params["model"]
        resolved = self._snapshots.current.resolve(reference, tenant=current_tenant())
        if resolved.version is None:
            return JsonResponse(self._model(reference, self._started_at))
        return JsonResponse(self._model(reference, int(resolved.version.create_time.timestamp())))

    def _all(self) -> Iterator[dict[str, Any]]:
        for name in dict.fromkeys((self._base.name, ANY_BASE)):
            yield self._model(name, self._started_at)
        tenant = current_tenant()
        aliases = (alias for alias in self._snapshots.current.aliases if alias.tenant == tenant)
        for alias in sorted(aliases, key=lambda one: (one.adapter, one.name != STABLE, one.name)):
            created = int(alias.update_time.timestamp())
            if alias.name == STABLE:
                yield self._model(alias.adapter, created)
            yield self._model(f"{alias.adapter}:{alias.name}", created)
        yield from self._fine_tuned(tenant)

    def _fine_tuned(self, tenant: str) -> Iterator[dict[str, Any]]:
        """Models of jobs that have succeeded, unless their version was deleted."""
        snapshot = self._snapshots.current
        for (owner, job), made in snapshot.fine_tuned.items():
            entry = snapshot.entries.get((owner, made.adapter))
            version = None if entry is None else entry.versions.get(made.version_digest or "")
            if owner == tenant and version is not None:
                name = name_of(base=snapshot.base_name, tenant=tenant, suffix=made.suffix, job=job)
                yield self._model(name, int(version.create_time.timestamp()))

    def _model(self, name: str, created: int) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": created, "owned_by": "graft", "root": self._base.name}
