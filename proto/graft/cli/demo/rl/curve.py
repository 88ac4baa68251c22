"""A curve in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_BLOCKS = " ▁▂▃▄▅▆▇█"
HEIGHT, WIDTH = 8, 60


def curve(values: Sequence[float], *, most: float = 1.0) -> list[str]:
    """Lines from the top, for values from 0 to ``most``, the last one over the last column; many are averaged."""
    columns = _columns(values)
    lines = []
    for row in range(HEIGHT - 1, -1, -1):
        cells = (round((value / most * HEIGHT - row) * (len(_BLOCKS) - 1)) for value in columns)
        text = "".join(_BLOCKS[max(0, min(len(_BLOCKS) - 1, cell))] for cell in cells)
        lines.append(f"{most * (row + 1) / HEIGHT:5.2f} ┤{text}")
    return [*lines, f"{0:5.2f} └{'─' * len(columns)}"]


def _columns(values: Sequence[float]) -> list[float]:
    num = min(WIDTH, len(values))
    edges = [round(place * len(values) / num) for place in range(num + 1)] if num else []
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
