"""METEOR: Banerjee and Lavie 2005, "METEOR: An Automatic Metric for MT Evaluation", with Lavie and Agarwal 2007's form.

Words are aligned where they are the same, then where their stems are. WordNet's synonyms are left out: a database of
English that no package brings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

from graft.server.grading.similarity.bleu import tokens
from graft.server.grading.similarity.porter import stem

_ALPHA, _BETA, _GAMMA = 0.9, 3.0, 0.5


def meteor(text: str, reference: str) -> float:
    """(1 - γ · (chunks / matches)^β) · P·R / (α·P + (1 - α)·R), α = 0.9, β = 3, γ = 0.5."""
    found, wanted = tokens(text.lower()), tokens(reference.lower())
    aligned = _aligned(found, wanted)
    if not aligned:
        return 0.0
    precision, recall = len(aligned) / len(found), len(aligned) / len(wanted)
    mean = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
    scattered: float = (_num_chunks(aligned) / len(aligned)) ** _BETA
    return mean * (1 - _GAMMA * scattered)


def _aligned(found: Sequence[str], wanted: Sequence[str]) -> list[tuple[int, int]]:
    """Places of words in both, each once, in the first one's order. From the end, the last of several alike first, as
    NLTK aligns.
    """
    pairs: list[tuple[int, int]] = []
    left, right = list(range(len(found))), list(range(len(wanted)))
    forms: tuple[Callable[[str], str], ...] = (str, stem)
    for form in forms:
        places = defaultdict[str, list[int]](list)
        for at in right:
            places[form(wanted[at])].append(at)
        now = [(at, places[key].pop()) for at in reversed(left) if places[key := form(found[at])]]
        pairs += now
        taken, given = {one for one, _ in now}, {other for _, other in now}
        left, right = [at for at in left if at not in taken], [at for at in right if at not in given]
    return sorted(pairs)


def _num_chunks(aligned: Sequence[tuple[int, int]]) -> int:
    """Runs of words that stand side by side in both."""
    breaks = sum((after[0] - before[0], after[1] - before[1]) != (1, 1) for before, after in pairwise(aligned))
    return breaks + 1
