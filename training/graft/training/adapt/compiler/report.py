"""What was compiled, how exactly, and what a server needs for it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graft.adapters.form import ServingForm
from graft.training.adapt.made.engine_ranks import engine_rank
from graft.training.adapt.method import Route

FILE_NAME = "compiled.json"


@dataclass(frozen=True, kw_only=True)
class LayerReport:
    """Of one layer; ``error`` and ``size`` are Frobenius norms: of what differs from the trained update, and of it."""

    path: str
    rank: int | None
    """None where it was merged."""
    num_parameters: int
    error: float
    size: float

    @property
    def relative_error(self) -> float:
        return self.error / self.size if self.size else 0.0


def relative_error(layers: Sequence[LayerReport]) -> float:
    """Of all updates as one long vector."""
    size = math.sqrt(sum(one.size**2 for one in layers))
    return math.sqrt(sum(one.error**2 for one in layers)) / size if size else 0.0


@dataclass(frozen=True, kw_only=True)
class AsWritten:
    """A merged base that is served as its files are: rounding to the base's own type is all that is lost."""

    relative_error: float
    nats: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """Of one compilation."""

    method: str
    route: Route
    form: ServingForm
    base: str
    lineage: Mapping[str, Any]
    layers: Sequence[LayerReport]
    nats: float
    """Mean |Δ log p| between the original and what was compiled, of the probe rows' tokens."""
    logits: float
    num_probe_tokens: int
    notes: Sequence[str] = ()
    as_written: AsWritten | None = None
    """Of a merged base, whose other errors are those in ``form``."""

    @property
    def rank(self) -> int | None:
        return max((one.rank for one in self.layers if one.rank is not None), default=None)

    @property
    def num_parameters(self) -> int:
        return sum(one.num_parameters for one in self.layers)

    @property
    def relative_error(self) -> float:
        return relative_error(self.layers)

    @property
    def max_rank(self) -> int | None:
        """The smallest ``--max-rank`` of a server that takes it."""
        rank = self.rank
        return None if rank is None else engine_rank(rank)

    def as_json(self) -> str:
        body = {
            **asdict(self),
            "route": self.route.value,
            "form": self.form.value,
            "rank": self.rank,
            "num_parameters": self.num_parameters,
            "relative_error": self.relative_error,
            "layers": [{**asdict(one), "relative_error": one.relative_error} for one in self.layers],
        }
        return json.dumps(body, indent=2, sort_keys=True) + "\n"

    def write(self, folder: Path) -> None:
        (folder / FILE_NAME).write_text(self.as_json(), encoding="utf-8")

    def __str__(self) -> str:
        """A table of the kinds of layers, and what it comes to."""
        rows = [("LAYERS", "COUNT", "RANK", "PARAMETERS", "ERROR")]
        for name, of_kind in _by_kind(self.layers).items():
            ranks = sorted({one.rank for one in of_kind if one.rank is not None})
            rows.append(
                (
                    name,
                    str(len(of_kind)),
                    "-" if not ranks else str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]}–{ranks[-1]}",
                    f"{sum(one.num_parameters for one in of_kind):,}",
                    f"{max(one.relative_error for one in of_kind):.2g}",
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        table = [
            "  ".join(
                one.ljust(width) if column == 0 else one.rjust(width)
                for column, (one, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        return "\n".join([*table, self.summary(), *(f"note: {one}" for one in self.notes)])

    def summary(self) -> str:
        served = f", to be served with --max-rank {self.max_rank} or more" if self.max_rank else ""
        return (
            f"{self.method} on {self.base} as {self.form}, {self.route}{served}; relative error of the update "
            f"{self.relative_error:.2g}, mean |Δ log p| {self.nats:.2g} over {self.num_probe_tokens} tokens"
        )


def _by_kind(layers: Sequence[LayerReport]) -> dict[str, list[LayerReport]]:
    found: dict[str, list[LayerReport]] = {}
    for one in layers:
        found.setdefault(one.path.rpartition(".")[2], []).append(one)
    return found
