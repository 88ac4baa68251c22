"""What becomes of rows that are longer than they may be: by a stated choice, never silently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graft.adapters.text.problems import BadLine

ERROR, CUT, DROP = "error", "cut", "drop"


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """``most`` tokens of a row."""

    most: int
    long_rows: str = ERROR
    name: str = "max_length"
    """The setting's."""

    def holds(self, num_tokens: int) -> bool:
        """Whether a row is not too long. Raises ``BadLine`` where one that is must not be cut or left out."""
        if num_tokens > self.most and self.long_rows == ERROR:
            raise BadLine(
                f"{num_tokens} tokens, {self.name} is {self.most}: shorten the row, raise {self.name}, or say what "
                "becomes of such rows with --long-rows cut or drop."
            )
        return num_tokens <= self.most

    def cut(self, *texts: Sequence[int], added: int) -> list[list[int]]:
        """The texts without as many of their last tokens as must go, of the longest first."""
        kept = [list(text) for text in texts]
        while sum(map(len, kept)) + added > self.most:
            longest = max(kept, key=len)
            if not longest:
                raise BadLine(f"{self.name} {self.most} leaves no room for a text; raise it.")
            longest.pop()
        return kept
