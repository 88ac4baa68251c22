"""Self-Instruct's tasks (Wang et al. 2023, arXiv:2212.10560) as they are published: an ``instruction`` with
``instances``, each an ``input``, which may be empty, and an ``output``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graft.adapters.text import rows
from graft.adapters.text.problems import BadLine
from graft.training.errors import of_data

_INSTANCE = ("input", "output")


def read(path: Path) -> list[dict[str, Any]]:
    """Alpaca's rows, one for each instance, in their order: ``instruction``, ``input`` and ``output``.

    Reads JSON lines, plain or gzip. Raises ``DataError`` where a row is of another kind, with all such lines.
    """
    return [row for _, found in of_data(rows.read_rows, path, _rows) for row in found]


def _rows(value: Any) -> list[dict[str, Any]]:
    instruction = value.get("instruction") if isinstance(value, dict) else None
    instances = value.get("instances") if isinstance(value, dict) else None
    if not _is_text(instruction) or not isinstance(instances, list) or not instances:
        raise BadLine("a task of Self-Instruct has an instruction, and instances with input and output.")
    return [{"instruction": instruction, **_instance(one, number)} for number, one in enumerate(instances, start=1)]


def _instance(value: Any, number: int) -> dict[str, Any]:
    found = {name: value.get(name) for name in _INSTANCE} if isinstance(value, dict) else {}
    if not isinstance(found.get("input"), str) or not _is_text(found.get("output")):
        raise BadLine(f"instance {number} needs the texts input, which may be empty, and output.")
    return found


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
