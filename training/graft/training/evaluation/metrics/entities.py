"""Entities in tagged words, right when type, beginning and end are (CoNLL-2003: Tjong Kim Sang & De Meulder 2003)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graft.training.evaluation.metrics.classes import f1_of_each

Entity = tuple[str, int, int]
"""Type, the first word, and the word behind the last."""
_OUTSIDE = "O"
_MARKS = frozenset("BIESUL")


def are_of_entities(tags: Sequence[str]) -> bool:
    """Whether the tags mark entities (IOB2, IOB1, IOE, BIOES, BILOU): ``O``, or a mark and a type as in ``B-LOC``."""
    return any("-" in tag for tag in tags) and all(tag == _OUTSIDE or _split(tag)[0] in _MARKS for tag in tags)


def entities_of(tags: Sequence[str]) -> list[Entity]:
    """By the rules of ``conlleval``: what continues without a beginning is one."""
    found: list[Entity] = []
    begin: int | None = None
    before, kind_before = _OUTSIDE, ""
    for place, tag in enumerate([*tags, _OUTSIDE]):
        mark, kind = _split(tag)
        is_other = mark == _OUTSIDE or kind != kind_before or mark in "BSU" or before in "ELSU"
        if begin is not None and is_other:
            found.append((kind_before, begin, place))
            begin = None
        if begin is None and mark != _OUTSIDE:
            begin = place
        before, kind_before = mark, kind
    return found


def of_tags(said: Sequence[Sequence[str]], right: Sequence[Sequence[str]]) -> dict[str, float]:
    """``accuracy`` of words and, where tags mark entities, ``precision``, ``recall`` and ``f1`` of them over all rows;
    of other tags ``macro_f1``, the mean over those that occur. Each row has as many tags said as right.
    """
    flat_said, flat_right = [tag for row in said for tag in row], [tag for row in right for tag in row]
    accuracy = sum(map(str.__eq__, flat_said, flat_right)) / max(1, len(flat_right))
    if not are_of_entities([*flat_said, *flat_right]):
        kinds = np.array(sorted({*flat_said, *flat_right}))
        sides = (np.array(one)[:, None] == kinds for one in (flat_said, flat_right))
        each = f1_of_each(*(one.astype(np.int64) for one in sides))
        return {"accuracy": accuracy, "macro_f1": float(each.mean())}
    pairs = [(set(entities_of(one)), set(entities_of(other))) for one, other in zip(said, right, strict=True)]
    num_right = sum(len(one & other) for one, other in pairs)
    precision = num_right / max(1, sum(len(one) for one, _ in pairs))
    recall = num_right / max(1, sum(len(other) for _, other in pairs))
    f1 = 2 * precision * recall / (precision + recall) if num_right else 0.0
    return {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}


def _split(tag: str) -> tuple[str, str]:
    mark, _, kind = tag.partition("-")
    return mark, kind
