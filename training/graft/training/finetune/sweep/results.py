"""What came out of a sweep, the best first: a table, a page, and a file for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from graft.training.errors import first_line
from graft.training.loop.progress import METRICS, read_metrics
from graft.training.report.chart import Curve, chart
from graft.training.report.page import Section, page, paragraph, table
from graft.training.report.report import FILE as REPORT
from graft.training.runtime import markdown
from graft.training.runtime.disk import put_text

PAGE, VALUES = "sweep.html", "sweep.json"
_PART = 10
"""Of the steps: so many parts, of which the last one's loss is told."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Of one run."""

    name: str
    varied: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    """Of its ``metrics.jsonl``."""
    failure: str | None = None

    @classmethod
    def of(cls, folder: Path, varied: Mapping[str, Any], failure: BaseException | None) -> Result:
        return cls(
            name=folder.name,
            varied=varied,
            rows=read_metrics(folder) if (folder / METRICS).exists() else [],
            failure=None if failure is None else first_line(failure),
        )

    @property
    def losses(self) -> list[float]:
        return [row["loss"] for row in self.rows if row["loss"] is not None]

    @property
    def loss(self) -> float | None:
        """Of the last tenth of its steps."""
        last = self.losses[-max(1, len(self.losses) // _PART) :]
        return fmean(last) if last else None

    @property
    def validation_loss(self) -> float | None:
        measured = [row["validation_loss"] for row in self.rows if row.get("validation_loss") is not None]
        return measured[-1] if measured else None

    @property
    def place(self) -> tuple[bool, bool, float]:
        """In the table: what failed last, what was measured on held-out rows before what was not."""
        known = self.validation_loss if self.validation_loss is not None else self.loss
        return self.failure is not None, self.validation_loss is None, float("inf") if known is None else known


def told(results: Sequence[Result]) -> str:
    """A Markdown table."""
    head, rows = _table(results)
    return markdown.table(" | ".join(head), [[_cell(value) for value in row] for row in rows])


def write(results: Sequence[Result], folder: Path, *, base: str) -> Path:
    """Writes the page and the file; returns the page. Raises ``NotWritten``, ``OSError``."""
    ordered = sorted(results, key=lambda one: one.place)
    values = [
        {
            "name": one.name,
            **one.varied,
            "steps": len(one.rows),
            "loss": one.loss,
            "validation_loss": one.validation_loss,
            "failure": one.failure,
        }
        for one in ordered
    ]
    put_text(folder / VALUES, json.dumps(values, indent=1, default=str) + "\n")
    put_text(folder / PAGE, _page(ordered, base))
    return folder / PAGE


def _page(ordered: Sequence[Result], base: str) -> str:
    head, rows = _table(ordered)
    body = table(head, [["" if value is None else value for value in row] for row in rows])
    links = "".join(f'<li><a href="{one.name}/{REPORT}">{one.name}</a></li>' for one in ordered if one.failure is None)
    curves = [
        Curve(name=one.name, steps=[row["step"] for row in one.rows if row["loss"] is not None], values=one.losses)
        for one in ordered
        if one.losses
    ]
    sections = [
        Section(title="The best first", body=body),
        Section(title="Loss", body=chart(curves, unit="loss (nats)") if curves else paragraph("no step was taken")),
        Section(title="Pages of the runs", body=f"<ul>{links}</ul>"),
    ]
    num_failed = sum(one.failure is not None for one in ordered)
    lead = f"{len(ordered)} fine-tunings of {base} in one training" + (f", {num_failed} failed" if num_failed else "")
    return page(f"Sweep on {base}", f"{lead}.", sections)


def _table(results: Sequence[Result]) -> tuple[list[str], list[list[object]]]:
    ordered = sorted(results, key=lambda one: one.place)
    names = list(dict.fromkeys(name for one in ordered for name in one.varied))
    head = ["run", *names, "steps", "loss"]
    is_measured = any(one.validation_loss is not None for one in ordered)
    has_failed = any(one.failure is not None for one in ordered)
    head += ["held out"] * is_measured + ["ended by"] * has_failed
    rows = []
    for one in ordered:
        row = [one.name, *(one.varied.get(name) for name in names), len(one.rows), one.loss]
        rows.append(row + [one.validation_loss] * is_measured + [one.failure] * has_failed)
    return head, rows


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
