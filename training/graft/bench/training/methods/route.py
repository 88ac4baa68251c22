"""From a trained folder to what a server takes, by ``graft compile`` where that is the way."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from graft.adapters.base.base import Base
from graft.bench.training.forks import graft
from graft.bench.training.methods.trial import plain, settings_of
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Route
from graft.training.adapt.methods.catalog import method_of


@dataclass(frozen=True, kw_only=True)
class Servable:
    """What is served of a method."""

    route: str
    told: str
    """As ``graft finetune`` says it beforehand."""
    rank: int = 1
    error: float = 0.0
    """Of its update, relative to the trained one (Frobenius norms); of a new base as it is written."""
    nats: float = 0.0
    """Mean |Δ log p| between it and what was trained, over the compiler's probe rows."""

    @property
    def is_compiled(self) -> bool:
        return self.route in (Route.EXACT, Route.SVD, Route.MERGE)

    @property
    def is_base(self) -> bool:
        return self.route in (Route.MERGE, Route.BASE)

    def folder(self, name: str, work: Path) -> Path | None:
        """An adapter, or a base; None of what cannot be served."""
        if self.route == Route.NONE:
            return None
        return work / f"{plain(name)}-compiled" if self.is_compiled else trained_folder(name, self, work)


def trained_folder(name: str, servable: Servable, work: Path) -> Path:
    return work / plain(name) / ("base" if servable.route == Route.BASE else "adapter")


def servable(name: str, base: Path, work: Path) -> Servable:
    """Of what was trained into ``work``. Raises ``StageFailed``."""
    way = method_of(settings_of(name)).way(Adaptable.of(Base.from_folder(base)))
    found = Servable(route=way.route.value, told=str(way), rank=way.rank or 1)
    if not found.is_compiled:
        return found
    report, compiled = work / f"{plain(name)}-compiled.json", work / f"{plain(name)}-compiled"
    shutil.rmtree(compiled, ignore_errors=True)
    command = ["compile", str(trained_folder(name, found, work)), "--base", str(base), "--output", str(compiled)]
    graft([*command, "--json", str(report)], log=compiled.with_suffix(".log"))
    told = json.loads(report.read_text(encoding="utf-8"))
    as_written = told["as_written"] or told
    return Servable(
        route=told["route"],
        told=found.told,
        rank=told["rank"] or 1,
        error=as_written["relative_error"],
        nats=as_written["nats"],
    )
