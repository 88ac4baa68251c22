"""What a fit says, in words, on disk and as a picture; and what a law says of budgets."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graft.adapters.text.file import read_text
from graft.adapters.text.json_values import parse_value
from graft.adapters.text.problems import BadLine, UnreadableText
from graft.adapters.text.rows import read_rows
from graft.training.errors import ConfigurationError, of_data
from graft.training.runtime import markdown
from graft.training.scaling.fit import fit
from graft.training.scaling.laws import PUBLISHED, Chinchilla, Kaplan, Point
from graft.training.scaling.picture import draw

POINTS, LAW, PICTURE = "points.jsonl", "law.json", "isoflop.png"


def report(points: Sequence[Point], checks: Sequence[Point], folder: Path, *, budget: float) -> str:
    """Fits, writes ``points.jsonl``, ``law.json`` and ``isoflop.png`` into the folder, and says what was found.

    Raises ``DataError`` for too few trainings.
    """
    found = fit(points)
    law, kaplan = found.chinchilla, found.kaplan
    (folder / POINTS).write_text("".join(json.dumps(asdict(one)) + "\n" for one in points), encoding="utf-8")
    (folder / LAW).write_text(json.dumps(asdict(law)) + "\n", encoding="utf-8")
    draw(law, points, checks, folder / PICTURE)
    named = zip(("E", "α", "β"), (found.intervals[name] for name in ("e", "alpha", "beta")), strict=True)
    sure = [f"{name} {low:.2f} to {high:.2f}" for name, (low, high) in named]
    parameters, tokens = law.optimum(budget)
    lines = [
        "| parameters | tokens | loss | Chinchilla's form says | Kaplan's says |",
        "| --- | --- | --- | --- | --- |",
        *(_row(point, law, kaplan) for point in points),
        *(_row(point, law, kaplan) + " not fitted" for point in checks),
        "",
        f"L(N, D) = {law.e:.3f} + {law.a:.4g} / N^{law.alpha:.3f} + {law.b:.4g} / D^{law.beta:.3f}"
        f"   (80 % of resamples: {', '.join(sure)})",
        f"L(N, D) = (({kaplan.n_c:.3g} / N)^({kaplan.alpha_n:.3f} / {kaplan.alpha_d:.3f}) + {kaplan.d_c:.3g} / D)"
        f"^{kaplan.alpha_d:.3f}",
        *(
            f"L({what}) = ({one.scale:.3g} / {what})^{one.alpha:.3f} {where}"
            for what, one, where in (
                ("N", found.of_parameters, "at the most tokens"),
                ("D", found.of_tokens, "of the largest models"),
            )
            if one is not None
        ),
        f"best for {budget:.3g} FLOPs: {parameters:.3g} parameters, {tokens:.3g} tokens "
        f"({tokens / parameters:.1f} tokens for each parameter), loss {law.loss(parameters, tokens):.3f}",
        f"points, law and picture in {folder}",
    ]
    return "\n".join(lines)


def _row(point: Point, law: Chinchilla, kaplan: Kaplan) -> str:
    said = [one.loss(point.parameters, point.tokens) for one in (law, kaplan)]
    told = [f"{loss:.4f} ({loss / point.loss - 1:+.2%})" for loss in said]
    return f"| {point.parameters:.3g} | {point.tokens:.3g} | {point.loss:.4f} | {told[0]} | {told[1]} |"


def read_points(path: Path) -> list[Point]:
    """Raises ``DataError`` naming every line that is no point."""
    return [point for _, point in of_data(read_rows, path, _point)]


def _point(row: Any) -> Point:
    try:
        point = Point(**{name: float(row[name]) for name in ("parameters", "tokens", "loss")})
    except (KeyError, TypeError, ValueError):
        raise BadLine("no point; write an object with the numbers parameters, tokens and loss.") from None
    if not all(0 < value < math.inf for value in (point.parameters, point.tokens, point.loss)):
        raise BadLine("parameters, tokens and loss must be above 0 and finite.")
    return point


def law_of(name: str) -> Chinchilla | Kaplan:
    """A published law, or the one in a file. Raises ``ConfigurationError``."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    try:
        return Chinchilla(**parse_value(read_text(Path(name))))
    except (UnreadableText, BadLine, TypeError) as error:
        raise ConfigurationError(
            f"{name!r} is no law: give {', '.join(PUBLISHED)}, or the law.json of `graft scaling fit` ({error})."
        ) from None


def optima(law: Chinchilla | Kaplan, budgets: Sequence[float]) -> str:
    """The best N and D of each budget, and its days on one H200 at 40 % of its peak."""
    day = 0.4 * 989e12 * 86400
    rows = []
    for flops in budgets:
        parameters, tokens = law.optimum(flops)
        shown = [f"{one:.3g}" for one in (flops, parameters, tokens)]
        loss = law.loss(parameters, tokens)
        rows.append([*shown, f"{tokens / parameters:.1f}", f"{loss:.3f}", f"{flops / day:.3g}"])
    return markdown.table("FLOPs | parameters | tokens | tokens/parameter | loss | H200 days at 40 % MFU", rows)
