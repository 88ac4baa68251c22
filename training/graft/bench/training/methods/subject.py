"""One method on its way through the stages of the table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graft.adapters.base.base import Base, find_base
from graft.bench.training.forks import forked
from graft.bench.training.ledger import Ledger
from graft.bench.training.methods import bases, route, task, trial
from graft.bench.training.methods.reference import InFourBits, Reference, Trained, refer
from graft.bench.training.methods.route import Servable, trained_folder
from graft.bench.training.methods.said import Said
from graft.bench.training.methods.trial import METHODS, Trial, plain
from graft.training.adapt.method import Route
from graft.training.errors import TrainingError
from graft.training.job.lineage import code_version


@dataclass(kw_only=True)
class Subject:
    """Each stage returns None where it failed, or one before it did."""

    name: str
    work: Path
    ledger: Ledger
    failure: str | None = None

    @classmethod
    def of(cls, name: str, work: Path) -> Subject:
        return cls(name=name, work=work, ledger=Ledger(work / f"{plain(name)}.json", key_of(trial.given(name))))

    @property
    def base(self) -> Path:
        return METHODS[self.name].base(self.work)

    def train(self, data: Path) -> Trial | None:
        found = self._stage("trained", lambda: vars(trial.run(self.name, self.base, data, self.work)))
        return None if found is None else Trial(**found)

    def compile(self) -> Servable | None:
        found = self._stage("compiled", lambda: vars(route.servable(self.name, self.base, self.work)))
        return None if found is None else Servable(**found)

    def serve(self, answers: Callable[[], Said]) -> Said | None:
        found = self._stage("served", lambda: vars(answers()))
        return None if found is None else Said(**found)

    @property
    def is_served(self) -> bool:
        return self.ledger.knows("served")

    def refer(self, way: Servable, prompts: list[str], served: Said | None) -> Reference | None:
        """``served`` is None of what no server takes."""

        def made() -> dict[str, Any]:
            trained = Trained(
                method=self.name,
                base=self.base,
                form=trial.settings_of(self.name).form,
                folder=trained_folder(self.name, way, self.work),
                is_base=way.route == Route.BASE,
            )
            merged = way.folder(self.name, self.work) if way.route == Route.MERGE else None
            log = self.work / f"{plain(self.name)}-reference.log"
            return asdict(forked(refer, trained, merged, prompts, served, log=log).value)

        found = self._stage("referred", made)
        if found is None:
            return None
        four = found["in_four_bits"]
        return Reference(
            own=Said(**found["own"]),
            said=Said(**found["said"]),
            below_nats=found["below_nats"],
            in_four_bits=four and InFourBits(said=Said(**four["said"]), error=four["error"]),
        )

    def _stage(self, stage: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        if self.failure is not None:
            return None
        try:
            found: dict[str, Any] = self.ledger.once(stage, make)
        except (TrainingError, OSError) as error:
            self.failure = f"not {stage}: {error}"
            return None
        return found


def key_of(settings: object) -> str:
    """Of what is measured with these settings by this code on the shipped base."""
    base = Base.from_folder(find_base(bases.SHIPPED)).digest
    told = [settings, base, code_version(), task.NUM_ROWS, task.NUM_QUESTIONS, task.MAX_TOKENS]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
