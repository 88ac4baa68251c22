"""Rows of other documents: what did not follow a text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Generator

from graft.training.corpus.texts import Sentences
from graft.training.errors import DataError


class Others:
    """For each row one of another document, every such row alike likely. Raises ``DataError`` for a single document."""

    def __init__(self, documents: Sequence[Sequence[Sentences]], *, what: str) -> None:
        """``documents`` are the rows that each makes, ``what`` names them in an error."""
        self._rows = [row for document in documents for row in document]
        self._begins = [0, *accumulate(len(document) for document in documents if document)]
        if len(self._begins) < 3:
            raise DataError(
                f"next_sentence takes wrong second sentences from another document, and {what} is a single one: give "
                "several, such as one a line of a .jsonl file, or take another objective."
            )

    def draw(self, row: int, generator: Generator) -> Sentences:
        """A row that is of another document than this one."""
        document = bisect_right(self._begins, row) - 1
        begin, end = self._begins[document], self._begins[document + 1]
        at = int(torch.randint(len(self._rows) - (end - begin), (), generator=generator))
        return self._rows[at if at < begin else at + end - begin]
