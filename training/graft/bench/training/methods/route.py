"""From a trained folder to what a server takes, by ``graft compile`` where that is the way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from graft.adapters.base.base import Base, find_base
from graft.bench.training.methods.trial import BASE, Trial, graft, plain, settings_of
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.method import Route
from graft.training.adapt.methods.catalog import method_of


@dataclass(frozen=True, kw_only=True)
class Servable:
    """What is served of a method."""

    route: Route
    told: str
    """As ``graft finetune`` says it beforehand."""
    folder: Path | None
    """An adapter, or a base; None of what cannot be served."""
    rank: int = 1
    error: float = 0.0
    """Of its update, relative to the trained one (Frobenius norms)."""
    nats: float = 0.0
    """Mean |Δ log p| between it and what was trained, over the compiler's probe rows."""

    @property
    def is_base(self) -> bool:
        return self.route in (Route.MERGE, Route.BASE)


def servable(trial: Trial, work: Path) -> Servable:
    """Raises ``TrialFailed``."""
    way = method_of(settings_of(trial.name)).way(Adaptable.of(Base.from_folder(find_base(BASE))))
    if way.route is Route.NONE:
        return Servable(route=way.route, told=str(way), folder=None)
    if way.route in (Route.AS_IS, Route.PROMPT, Route.BASE):
        return Servable(route=way.route, told=str(way), folder=trial.adapter, rank=way.rank or 1)
    report = work / f"{plain(trial.name)}.json"
    compiled = work / f"{plain(trial.name)}-compiled"
    command = ["compile", str(trial.adapter), "--base", BASE, "--output", str(compiled), "--json", str(report)]
    graft(command, log=compiled.with_suffix(".log"))
    found = json.loads(report.read_text(encoding="utf-8"))
    return Servable(
        route=Route(found["route"]),
        told=str(way),
        folder=compiled,
        rank=found["rank"] or 1,
        error=found["relative_error"],
        nats=found["nats"],
    )
