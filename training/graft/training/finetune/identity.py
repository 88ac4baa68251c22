"""What a fine-tuning is, so that no other is continued by mistake and a version says where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from graft.adapters.adapter import Lineage
from graft.adapters.base.base import Base
from graft.adapters.digest import PREFIX, digest_of_json
from graft.adapters.form import ServingForm
from graft.training.errors import OtherRun
from graft.training.finetune.settings import FinetuneSettings
from graft.training.job import prolonging
from graft.training.job.lineage import code_version, data_digest
from graft.training.loop.checkpoint import complete_checkpoints
from graft.training.loop.optim import Schedule
from graft.training.settings.settings import CONTROLS, ELSEWHERE, SCHEDULE

FILE = "job.json"
_BASE, _DATA, _FORM, _SCHEDULE = "base", "data", "form", "schedule"


@dataclass(frozen=True, kw_only=True)
class FinetuneIdentity:
    """Everything that decides the result, on however many data-parallel processes."""

    values: Mapping[str, Any]
    schedule: Schedule
    seed: int

    @classmethod
    def of(
        cls, base: Base, form: ServingForm, data: Path, settings: FinetuneSettings, schedule: Schedule, *, dp: int
    ) -> Self:
        """Raises ``OSError`` where the data cannot be read."""
        elsewhere = ELSEWHERE | CONTROLS | SCHEDULE | {"gradient_accumulation_steps"}
        values = {name: str(value) for name, value in vars(settings).items() if name not in elsewhere}
        values["micro-batches per step"] = str(settings.gradient_accumulation_steps * dp)
        values |= {_BASE: base.digest, _FORM: form.value, _DATA: data_digest(data)}
        return cls(values=values, schedule=schedule, seed=settings.seed)

    @property
    def job(self) -> str:
        """Its name: the same training has the same when it is resumed."""
        return "finetune-" + digest_of_json(self._record).removeprefix(PREFIX)[:12]

    @property
    def _record(self) -> dict[str, Any]:
        return {**self.values, _SCHEDULE: asdict(self.schedule)}

    def lineage(self) -> Lineage:
        return Lineage(job=self.job, data_digest=self.values[_DATA], code_version=code_version(), seed=self.seed)

    def check(self, folder: Path) -> int:
        """How many steps of the folder's checkpoints are also this training's (``prolonging``).

        Raises ``CheckpointError`` where they are another training's, naming what differs.
        """
        if not complete_checkpoints(folder):
            return 0
        try:
            before = json.loads((folder / FILE).read_text(encoding="utf-8"))
            schedule = Schedule(**before[_SCHEDULE])
            changed = [
                self._told(name, before.get(name)) for name in self.values if before.get(name) != self.values[name]
            ]
        except (OSError, ValueError, AttributeError, TypeError, KeyError):
            raise OtherRun(
                f"{folder} holds checkpoints of an unknown training, or of an earlier version's: its {FILE} does not "
                "say which. Choose another --output."
            ) from None
        if changed:
            raise OtherRun(
                f"{folder} holds checkpoints of another training: {'; '.join(changed)}. Take that back, or choose "
                "another --output."
            )
        return prolonging.num_shared(folder, schedule, self.schedule, flag="--output")

    def _told(self, name: str, before: object) -> str:
        if name in (_BASE, _DATA):
            return f"its {name} was another"
        return f"{name} was {before} and is {self.values[name]}"

    def claim(self, folder: Path, num_kept: int) -> None:
        """Makes the folder this training's; checkpoints after ``num_kept`` steps are not on its way."""
        prolonging.leave(folder, num_kept)
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{FILE}"
        draft.write_text(json.dumps(self._record, indent=1), encoding="utf-8")
        draft.rename(folder / FILE)
