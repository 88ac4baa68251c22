"""``task.json``: what the outputs of a model mean, beside its weights or its adapter's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from graft.training.errors import ConfigurationError
from graft.training.runtime.disk import replace_text

FILE = "task.json"
KEPT = (
    *("task", "method", "max_length", "long_rows", "doc_stride", "max_answer_length", "source_prefix"),
    *("max_target_length", "num_beams", "delimiter_tokens"),
)
"""Settings that say how a row is read and its answer written."""


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """``labels`` are the names of the head's outputs in their order, where it has names; ``settings`` those of
    ``KEPT``.
    """

    settings: Mapping[str, Any]
    problem_type: str | None
    labels: tuple[str, ...] | None
    base: str
    """Its name."""
    base_digest: str
    data_digest: str
    job: str
    code_version: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    """On what was held out, at the end."""

    def write(self, folder: Path) -> None:
        replace_text(folder / FILE, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises ``ConfigurationError`` where there is none."""
        try:
            values = json.loads((folder / FILE).read_text(encoding="utf-8"))
            labels = values["labels"]
            return cls(**{**values, "labels": labels and tuple(labels)})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigurationError(
                f"{folder} is no model or adapter of a task: its {FILE} cannot be read ({error}); give the folder that "
                "graft finetune --task wrote."
            ) from None
