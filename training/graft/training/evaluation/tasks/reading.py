"""A task by the file's name, or by the name of one that comes with Graft."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from graft.adapters.text.file import read_text
from graft.adapters.text.rows import kind_of
from graft.training.errors import DataError, of_data
from graft.training.evaluation.tasks import harness, rows
from graft.training.evaluation.tasks.harness_marks import METRICS
from graft.training.evaluation.tasks.task import Kind, Task

READY = Path(__file__).parents[1] / "ready"
OWN = ".task.json"
"""Suffix of tasks as ``graft evaluate import`` writes them."""
_TASK = TypeAdapter(Task)
CHECKED = ("pass", "score")
"""Metrics of questions that bring checks."""


def ready() -> dict[str, Path]:
    """The task files that come with Graft, by name."""
    return {path.stem: path for path in sorted(READY.glob("*.yaml"))}


def read(named: str) -> Task:
    """A ready task by name; else a file: ``.yaml`` of lm-evaluation-harness, ``.task.json``, or rows.

    Raises:
        DataError: there is no such task, or it cannot be used.
    """
    if named in ready():
        return harness.read(ready()[named])
    path = Path(named)
    if not path.exists():
        raise DataError(f"there is no task or file {named!r}; tasks that come with Graft: {', '.join(ready())}.")
    if path.name.endswith(OWN):
        return _own(path)
    if kind_of(path) in (".yaml", ".yml"):
        return harness.read(path)
    return rows.read(path)


def write(task: Task, path: Path) -> None:
    """The task as a file that ``read`` takes. Raises OSError."""
    path.write_bytes(_TASK.dump_json(task, indent=1, exclude_defaults=True) + b"\n")


def _own(path: Path) -> Task:
    try:
        task = _TASK.validate_json(of_data(read_text, path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: {where or 'the file'}: {first['msg']}.") from None
    known = (*METRICS[task.kind], *(CHECKED if task.kind is Kind.GENERATE else ()))
    for metric in task.metrics:
        if metric.name not in known:
            raise DataError(f"{path}: metric `{metric.name}` is not supported for {task.kind}; use {', '.join(known)}.")
    return task
