"""The figures of `graft bench forms` as a Markdown table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.bench.serving.figures.figures import Figure

BATCHES = (1, 32)
LOADS = (0, 8)
"""Adapters in the batch."""


def speed(form: ServingForm, batch: int, load: int) -> str:
    """The name of a throughput figure."""
    return f"{form}_batch{batch}_adapters{load}_tokens_per_second"


def table(base: Base, forms: Sequence[ServingForm], figures: Mapping[str, Figure]) -> str:
    """One row per form; tokens/s are medians, in brackets the median of the ratio to bf16 in the same round."""
    loads = [(batch, load) for batch in BATCHES for load in LOADS]
    heads = [f"tok/s, batch {batch}, {load} adapters" for batch, load in loads]
    header = [f"{base.name}", "weights on disk, MB", "engine's memory (PSS), MB", "perplexity", *heads]
    lines = [header, ["---"] * len(header)]
    for form in forms:
        row = [str(form), _value(figures, f"{form}_size_mb", ".1f"), _value(figures, f"{form}_memory_mb", ".0f")]
        row += [_value(figures, f"{form}_perplexity", ".4f")]
        lines.append(row + [_speed(figures, speed(form, batch, load)) for batch, load in loads])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _speed(figures: Mapping[str, Figure], name: str) -> str:
    ratio = figures.get(f"{name}_over_bf16")
    return _value(figures, name, ".0f") + ("" if ratio is None else f" ({ratio.value:.2f})")


def _value(figures: Mapping[str, Figure], name: str, style: str) -> str:
    return format(figures[name].value, style) if name in figures else "–"
