"""What becomes of an example that is longer than a row may be."""

from __future__ import annotations

from graft.training.batch.packing import Encoded
from graft.training.finetune.choices import KEEP_END, KEEP_START, SPLIT


def shortened(example: Encoded, most: int, how: str) -> list[Encoded]:
    """What is learned of it in ``most`` tokens: nothing where all that is learned would be cut off.

    ``split`` goes on in another example, which begins with the last token of the one before: so each token is learned
    once, from those before it in its part.
    """
    size = len(example.input_ids)
    if how == KEEP_START:
        parts = [_part(example, 0, most)]
    elif how == KEEP_END:
        parts = [_part(example, size - most, size)]
    elif how == SPLIT and most > 1:
        parts = [_part(example, start, start + most) for start in range(0, size - 1, most - 1)]
    else:
        parts = []
    return [part for part in parts if any(part.supervised[1:])]


def _part(example: Encoded, start: int, end: int) -> Encoded:
    return Encoded(input_ids=example.input_ids[start:end], supervised=example.supervised[start:end])
