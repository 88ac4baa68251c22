"""The files in which a tour's findings are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from graft.training.runtime.disk import put_text
from graft.training.tour.chapter import Chapter
from graft.training.tour.report import html
from graft.training.tour.tour import found


def write(
    chapters: Sequence[Chapter], *, base: str, missing: Sequence[str], page: Path | None, figures: Path | None
) -> list[OSError]:
    """Each file that is wanted, whole or not at all; what the disk refused, naming the file."""
    problems = []
    if page is not None:
        problems += _written(page, html(chapters, base=base, missing=missing))
    if figures is not None:
        result = found(chapters, missing=missing)
        problems += _written(figures, json.dumps(result, ensure_ascii=False, indent=2) + "\n")
    return problems


def _written(path: Path, text: str) -> list[OSError]:
    try:
        put_text(path, text)
    except OSError as problem:
        return [problem]
    return []
