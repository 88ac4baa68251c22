"""One file of preferences as the rows of all stages: those of a held-out prompt are seen by none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from transformers import PreTrainedTokenizerFast

from graft.adapters.text.problems import BadLine
from graft.training.batch.order import shuffled
from graft.training.batch.rows.reading import read_values
from graft.training.errors import DataError
from graft.training.reinforce.asking.questions import ids_of
from graft.training.runtime.disk import replace_text

_MIN_ROWS = 2
PAIRS, SUPERVISED, PROMPTS, HELD_OUT = (f"{name}.jsonl" for name in ("pairs", "supervised", "prompts", "held-out"))
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Each with ``prompt``, ``chosen`` and ``rejected``."""

    learned: Sequence[Row]
    held_out: Sequence[Row]
    num_long: int
    """Whose prompt leaves no room for an answer: left out."""

    @classmethod
    def read(
        cls, path: Path, tokenizer: PreTrainedTokenizerFast, *, max_tokens: int, held_out: float, seed: int
    ) -> Self:
        """Prompts have so many tokens at most, and all rows of one prompt go the same way. Raises ``DataError``."""

        def measured(value: Any) -> tuple[Row, int]:
            row = _row(value)
            return row, len(ids_of(_question(row), tokenizer))

        found = [one for _, one in read_values(path, measured)]
        short = [row for row, num_tokens in found if num_tokens <= max_tokens]
        prompts = list(dict.fromkeys(map(_prompt, short)))
        num = round(held_out * len(prompts))
        if min(num, len(prompts) - num) < _MIN_ROWS:
            raise DataError(
                f"{path} has {len(found)} rows, {len(short)} of them with a prompt of {max_tokens} tokens or less, and "
                f"{len(prompts)} such prompts: both what is learned and what is held out need {_MIN_ROWS} or more. "
                "Give more rows."
            )
        order = shuffled(len(prompts), f"held out/{seed}")
        kept = {prompts[number] for number in order[:num]}
        return cls(
            learned=[row for row in short if _prompt(row) not in kept],
            held_out=[row for row in short if _prompt(row) in kept],
            num_long=len(found) - len(short),
        )

    def write(self, folder: Path) -> None:
        """The files of the stages. Raises ``OSError``."""
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / PAIRS, self.learned)
        _write(folder / SUPERVISED, map(_answered, self.learned))
        _write(folder / PROMPTS, map(_question, self.learned))
        _write(folder / HELD_OUT, map(_question, self.held_out))


def _row(value: Any) -> Row:
    if not isinstance(value, dict) or {"prompt", "chosen", "rejected"} - set(value):
        raise BadLine("a chain learns from rows with prompt, chosen and rejected, and it is none.")
    prompt, answers = value["prompt"], (value["chosen"], value["rejected"])
    is_text = isinstance(prompt, str) and bool(prompt) and all(isinstance(one, str) and one for one in answers)
    is_chat = isinstance(prompt, list) and bool(prompt) and all(_is_answer(one) for one in answers)
    if not (is_text or is_chat):
        raise BadLine("prompt, chosen and rejected must be texts, or messages and one assistant's message each.")
    return value


def _is_answer(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and "content" in value[0]


def _prompt(row: Row) -> str:
    return json.dumps(row["prompt"], sort_keys=True)


def _question(row: Row) -> Row:
    return {"messages" if isinstance(row["prompt"], list) else "prompt": row["prompt"]}


def _answered(row: Row) -> Row:
    if isinstance(row["prompt"], list):
        return {"messages": [*row["prompt"], *row["chosen"]]}
    return {"prompt": row["prompt"], "completion": row["chosen"]}


def _write(path: Path, rows: Iterable[Row]) -> None:
    replace_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
