"""How a part tells what it finds, while it goes: one line of JSON for each thing."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any, TextIO

import torch


@dataclass(frozen=True, kw_only=True)
class Teller:
    """A part's way to the report."""

    rehearses: bool
    """Toy sizes, on the CPU."""
    stream: TextIO = field(default_factory=lambda: sys.stdout)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu") if self.rehearses else torch.device("cuda", 0)

    def figure(self, name: str, value: float | str, unit: str = "") -> None:
        self._say({"name": name, "value": value, "unit": unit})

    def lacks(self, what: str) -> None:
        """Something is not here; the part goes on with the rest."""
        self._say({"lacks": what})

    def text(self, name: str, text: str) -> None:
        self._say({"name": name, "text": text})

    def _say(self, value: dict[str, Any]) -> None:
        self.stream.write(json.dumps(value) + "\n")
        self.stream.flush()
