"""The rows of a fine-tuning as tokens, checked against what the base can hold."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from graft.adapters.text.problems import BadLine
from graft.training.adapt.adaptable import Adaptable
from graft.training.batch.encoding import RowEncoder
from graft.training.batch.packing import Encoded
from graft.training.batch.rows import Row, read_rows

_log = logging.getLogger(__name__)


def read_examples(path: Path, encoder: RowEncoder, base: Adaptable, *, max_length: int) -> list[Encoded]:
    """What is learned from a file of rows. Raises ``DataError`` with all rows that cannot be learned from."""

    def encode(row: Row) -> list[Encoded]:
        examples = encoder.examples(row)
        _check_length(examples, base, max_length)
        _check_ids(examples, base)
        return examples

    numbered = read_rows(path, encode)
    _warn_of_unknown_positions(path, numbered, base)
    return [example for _, examples in numbered for example in examples]


def _check_length(examples: Sequence[Encoded], base: Adaptable, max_length: int) -> None:
    longest = _longest(examples)
    if longest > max_length:
        raise BadLine(f"{longest} tokens, max_length is {max_length}; shorten the row or raise max_length.")
    if base.has_learned_positions and base.num_positions is not None and longest > base.num_positions:
        raise BadLine(f"{longest} tokens, {base.name} has {base.num_positions} positions; shorten the row.")


def _check_ids(examples: Sequence[Encoded], base: Adaptable) -> None:
    highest = max(max(example.input_ids) for example in examples)
    if highest >= base.num_embeddings:
        raise BadLine(
            f"it has the token id {highest}, and the embeddings of {base.name} end at {base.num_embeddings - 1}; "
            "its tokenizer does not belong to its weights, take the one that came with them."
        )


def _warn_of_unknown_positions(path: Path, numbered: Sequence[tuple[int, Sequence[Encoded]]], base: Adaptable) -> None:
    """Angles of rotary positions can be computed for any place; what they mean was never learned."""
    room = base.num_positions
    longer = [] if room is None else [number for number, examples in numbered if _longest(examples) > room]
    if longer:
        _log.warning(
            "%s: %d rows are longer than the %d positions that %s was made for, the first in line %d: no server takes "
            "such a text whole; shorten the rows, or lower max_length to have them refused",
            path,
            len(longer),
            room,
            base.name,
            longer[0],
        )


def _longest(examples: Sequence[Encoded]) -> int:
    return max(len(example.input_ids) for example in examples)
