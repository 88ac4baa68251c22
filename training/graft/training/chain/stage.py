"""A stage of a chain: a training in a folder of its own, which is not done again where it is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.adapters.digest import digest_of_json
from graft.training.errors import OtherRun
from graft.training.job.folder import FILE as JOB
from graft.training.runtime.disk import replace_text

_FILE = "stage.json"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """``inputs`` decide what comes out: settings, and digests of rows and of the stages before."""

    folder: Path
    inputs: Mapping[str, Any]

    @property
    def digest(self) -> str:
        return digest_of_json(dict(self.inputs))

    @property
    def made(self) -> Path | None:
        """What it made; None where it is not done. Raises ``OtherRun`` where it was done of something else."""
        path = self.folder / _FILE
        if not path.exists():
            return None
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        if found["digest"] != self.digest:
            raise OtherRun(
                f"{self.folder} holds a stage of other settings, rows or stages before it: choose another --output, or "
                "remove that folder and those behind it."
            )
        return self.folder / found["made"]

    def done(self, train: Callable[[bool], Path]) -> Path:
        """What it made, now or before; ``train`` is told whether there is something to go on from."""
        if (made := self.made) is not None:
            return made
        made = train((self.folder / JOB).exists())
        text = json.dumps({"digest": self.digest, "made": made.name, "inputs": dict(self.inputs)}, indent=1)
        replace_text(self.folder / _FILE, text + "\n")
        return made
