"""The figures for people, and for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from graft.bench.training.pruning.figures import Figures
from graft.training.runtime import markdown

_HEAD = (
    "base | zeros | error of outputs | perplexity | with an adapter | MB dense | MB sparse | tokens/s | sparse products"
)


def table(figures: Mapping[str, Figures]) -> str:
    """Markdown."""
    rows = [
        [
            name,
            f"{one.zeros:.1%}",
            _shown(one.error, ".2%"),
            f"{one.perplexity:.4g}",
            _shown(one.recovered_perplexity, ".4g"),
            f"{one.dense_bytes / 1e6:.3g}",
            f"{one.sparse_bytes / 1e6:.3g}",
            f"{one.tokens_per_second:.0f}",
            _shown(one.sparse_speed, ".2f", "×"),
        ]
        for name, one in figures.items()
    ]
    return markdown.table(_HEAD, rows)


def _shown(value: float | None, form: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{form}}{unit}"


def write_json(figures: Mapping[str, Figures], path: Path) -> None:
    """Raises ``OSError``."""
    path.write_text(json.dumps({name: asdict(one) for name, one in figures.items()}, indent=1) + "\n", encoding="utf-8")
