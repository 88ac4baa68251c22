"""The kinds of tasks by their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.training.tasks.kinds.multiple_choice import Choosing
from graft.training.tasks.kinds.question_answering import QuestionAnswering
from graft.training.tasks.kinds.text_classification import TextClassification
from graft.training.tasks.kinds.text_to_text import Writing
from graft.training.tasks.kinds.token_classification import Tagging
from graft.training.tasks.names import CHOICES, QUESTIONS, TEXT, TOKENS, WRITING
from graft.training.tasks.rows.choices import choices
from graft.training.tasks.rows.labelled import labelled
from graft.training.tasks.rows.questions import question
from graft.training.tasks.rows.reading import Row
from graft.training.tasks.rows.tagged import tagged
from graft.training.tasks.rows.written import written
from graft.training.tasks.task import Setup, Task


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How a row of a file is read, and the task that is made of all of them."""

    parse: Callable[[Row], Any]
    of: Callable[[Path, Sequence[tuple[int, Any]], Setup], Task]


KINDS = {
    TEXT: Kind(parse=labelled, of=TextClassification.of),
    TOKENS: Kind(parse=tagged, of=Tagging.of),
    QUESTIONS: Kind(parse=question, of=QuestionAnswering.of),
    CHOICES: Kind(parse=choices, of=Choosing.of),
    WRITING: Kind(parse=written, of=Writing.of),
}
