"""Any task that a user may name: a ready one, a file of Graft's or the harness', or another tool's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from graft.adapters.text.file import read_text
from graft.adapters.text.rows import kind_of
from graft.training.errors import ConfigurationError, DataError, of_data
from graft.training.evaluation.importing import openai_evals, promptfoo
from graft.training.evaluation.tasks import located, reading
from graft.training.evaluation.tasks.task import Task

FORMATS = ("promptfoo", "openai")


def read(named: str, *, run: Path | None = None, data: Path | None = None) -> Task:
    """The task. Raises ``DataError`` or ``ConfigurationError`` where there is none or it cannot be used."""
    path = Path(named)
    kind = format_of(path) if named not in reading.ready() else None
    if kind == "openai":
        return openai_evals.read(path, run=run, data=data)
    if run is not None or data is not None:
        raise ConfigurationError(f"--run and --data belong to an OpenAI eval, and {named} is none.")
    return promptfoo.read(path) if kind == "promptfoo" else reading.read(named)


def import_file(path: Path, *, run: Path | None = None, data: Path | None = None) -> Task:
    """As ``read``, of another tool's file only."""
    if not path.exists():
        raise DataError(f"there is no file {path}.")
    if format_of(path) is None:
        raise DataError(
            f"{path} is neither a promptfoo configuration (`prompts`, `tests`) nor an OpenAI eval "
            "(`testing_criteria`); a task of any other kind is run as it is: graft evaluate run FILE."
        )
    return read(str(path), run=run, data=data)


def format_of(path: Path) -> str | None:
    """Which other tool a file is written for, by its top keys; None for none."""
    if not path.is_file() or kind_of(path) not in (".yaml", ".yml", ".json") or path.name.endswith(reading.OWN):
        return None
    try:
        value = _top(path)
    except DataError:
        return None  # whoever reads it next says what is wrong
    return "openai" if openai_evals.is_one(value) else "promptfoo" if promptfoo.is_one(value) else None


def _top(path: Path) -> Any:
    """A JSON file, which may hold many rows, is not read as YAML for its lines."""
    if kind_of(path) != ".json":
        return located.read(path, only_true_and_false=True).value
    try:
        return json.loads(of_data(read_text, path))
    except (ValueError, RecursionError):
        return None
