"""What a job's training has made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from graft.training.runtime.disk import replace_text

FILE, FAILURE = "trained.json", "failure.json"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """It is there as a whole, and nobody was told of it yet."""

    adapter: Path
    """A PEFT folder with its record: the version that is to be pushed."""
    num_steps: int
    trained_tokens: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the last step, in OpenAI's names."""
    files: Sequence[Path] = ()
    """What the job leaves as result files."""

    def write(self, folder: Path) -> None:
        """Into the attempt's folder. Raises OSError."""
        values = vars(self) | {"files": list(map(str, self.files)), "adapter": str(self.adapter)}
        replace_text(folder / FILE, json.dumps(values, indent=1))

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """None where the training did not come to its end. Raises OSError, ValueError."""
        if not (folder / FILE).exists():
            return None
        values = json.loads((folder / FILE).read_text(encoding="utf-8"))
        adapter, files = Path(values.pop("adapter")), tuple(map(Path, values.pop("files")))
        return cls(adapter=adapter, files=files, **values)


@dataclass(frozen=True, kw_only=True)
class Failed:
    """Why there is nothing."""

    code: str
    message: str

    def write(self, folder: Path) -> None:
        """Into the attempt's folder. Raises OSError."""
        replace_text(folder / FAILURE, json.dumps(vars(self)))

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """None where nothing was said. Raises OSError, ValueError."""
        path = folder / FAILURE
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
