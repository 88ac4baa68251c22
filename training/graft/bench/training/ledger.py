"""What is known so far, on disk: a run that was ended goes on with what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.training.runtime.disk import replace_text


@dataclass(frozen=True)
class Ledger:
    """Of one row: each stage's outcome, as JSON."""

    path: Path
    key: str
    """What decides the outcomes: what was noted under another one is not known."""

    def once(self, stage: str, make: Callable[[], Any]) -> Any:
        """What is known of a stage, or what ``make`` makes of it, which is noted; its errors are not."""
        stages = self._stages()
        if stage not in stages:
            value = make()
            replace_text(self.path, json.dumps({"key": self.key, "stages": {**self._stages(), stage: value}}, indent=1))
            return value
        return stages[stage]

    def knows(self, stage: str) -> bool:
        return stage in self._stages()

    def _stages(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        body = json.loads(self.path.read_text(encoding="utf-8"))
        found: dict[str, Any] = body["stages"] if body["key"] == self.key else {}
        return found
