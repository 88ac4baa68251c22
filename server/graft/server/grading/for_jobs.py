"""Graders of jobs: read when the job is made, and compared with the rows of its files before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from graft.server.grading.graders import templates_of
from graft.server.grading.grading import Grading
from graft.server.grading.reading import Allowed, read_grader
from graft.server.grading.templates import MissingValue, value_at
from graft.server.runtime.violations import Violations

RowProblems = Callable[[Mapping[str, Any]], Iterator[str]]
"""What a row lacks that a grader names."""
_ITEM = "item"


async def check_job_grader(value: object, grading: Grading, violations: Violations, *, field: str) -> None:
    """Add all that is wrong with a job's grader, what only running shows too; scripts where none are run."""
    grader = read_grader(value, grading.allowed, violations, field=field)
    if grader is not None:
        await grading.check(grader, violations, field=field)


def row_problems(value: Mapping[str, Any]) -> RowProblems:
    """Of a grader that was read when its job was made: which of its `{{ item.… }}` a row, the item, does not have."""
    grader = read_grader(value, Allowed(no_python=None), Violations())
    templates = () if grader is None else templates_of(grader)
    paths = dict.fromkeys(path for template in templates for path in template.paths if path[0] == _ITEM)

    def problems(row: Mapping[str, Any]) -> Iterator[str]:
        for path in paths:
            try:
                value_at({_ITEM: row}, path)
            except MissingValue as error:
                yield f"{error}, which the grader names"

    return problems
