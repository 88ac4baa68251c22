"""OpenAI's hyperparameters as numbers of this very run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graft.training.errors import ConfigurationError

AUTO = "auto"
_TARGET_EPOCHS, _MIN_ROWS, _MAX_ROWS, _MAX_EPOCHS = 3, 100, 25_000, 25
"""OpenAI's cookbook, "Data preparation and analysis for chat model fine-tuning": so many times all rows are seen, but
rows and times together are not fewer than this, nor more."""
_SHARE, _MAX_BATCH = 0.002, 256
"""OpenAI's fine-tuning guide: a batch has 0.2 % of the rows, and 256 at most."""
_MAX_ROWS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What every method with epochs has."""

    n_epochs: int
    batch_size: int
    """Rows of a step."""
    learning_rate_multiplier: float
    rows_at_once: int
    """Of a forward pass in one process."""
    passes: int
    """Forward passes of a step, in each process."""

    @classmethod
    def of(cls, asked: Mapping[str, Any], *, num_rows: int, num_processes: int = 1) -> Numbers:
        """Raises ``ConfigurationError`` where processes cannot share a step's rows evenly."""
        epochs, batch = asked.get("n_epochs", AUTO), asked.get("batch_size", AUTO)
        multiplier = asked.get("learning_rate_multiplier", AUTO)
        if batch == AUTO:
            batch = max(1, min(_MAX_BATCH, round(_SHARE * num_rows)))
            batch = -(-batch // num_processes) * num_processes
        share, rest = divmod(batch, num_processes)
        if rest:
            raise ConfigurationError(
                f"batch_size is {batch}, and this worker's {num_processes} processes share a step's rows: take a "
                f"multiple of {num_processes}, or auto."
            )
        at_once = max(one for one in range(1, _MAX_ROWS_AT_ONCE + 1) if share % one == 0)
        return cls(
            n_epochs=_epochs(num_rows) if epochs == AUTO else int(epochs),
            batch_size=batch,
            learning_rate_multiplier=1.0 if multiplier == AUTO else float(multiplier),
            rows_at_once=at_once,
            passes=share // at_once,
        )

    @property
    def told(self) -> dict[str, int | float | str]:
        """In OpenAI's names."""
        names = ("n_epochs", "batch_size", "learning_rate_multiplier")
        return {name: getattr(self, name) for name in names}

    def settings(self, *, learning_rate: float) -> dict[str, Any]:
        """In ours; ``learning_rate`` is what the multiplier multiplies."""
        return {
            "num_train_epochs": float(self.n_epochs),
            "per_device_train_batch_size": self.rows_at_once,
            "gradient_accumulation_steps": self.passes,
            "learning_rate": learning_rate * self.learning_rate_multiplier,
        }


def _epochs(num_rows: int) -> int:
    if num_rows * _TARGET_EPOCHS < _MIN_ROWS:
        return min(_MAX_EPOCHS, _MIN_ROWS // num_rows)
    if num_rows * _TARGET_EPOCHS > _MAX_ROWS:
        return max(1, _MAX_ROWS // num_rows)
    return _TARGET_EPOCHS


def num_rows_of(path: Any) -> int:
    """Lines that hold something. Raises OSError."""
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())
