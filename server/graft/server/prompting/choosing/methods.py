"""Which demonstrations are taken. Pure: the same in gives the same out, on every machine."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from graft.server.prompting.choosing.likeness import Texts

MAX_CANDIDATES = 100
"""Of mmr: the nearest so many are compared with each other, or all that are taken where these are more."""


def at_random(num_texts: int, count: int, seed: int) -> list[int]:
    """Without repetition."""
    return random.Random(f"random/{seed}").sample(range(num_texts), min(count, num_texts))


def balanced(labels: Sequence[str], count: int, seed: int) -> list[int]:
    """As many of each class as of any other, or one fewer; a class that has too few gives its places to the others.

    Within a class, and which classes are one ahead, by chance.
    """
    chance = random.Random(f"balanced/{seed}")
    classes: dict[str, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        classes[label].append(index)
    members = [chance.sample(each, len(each)) for each in classes.values()]
    chance.shuffle(members)
    in_turns = itertools.chain.from_iterable(itertools.zip_longest(*members))
    return list(itertools.islice((index for index in in_turns if index is not None), count))


def nearest(texts: Texts, query: str, count: int) -> list[int]:
    """By BM25, the nearest first."""
    return texts.nearest(query)[:count]


def diverse(texts: Texts, query: str, count: int, diversity: float) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein 1998): one by one, the greatest of
    λ·sim(text, query) − (1 − λ)·max over those taken of sim(text, taken), with λ = 1 − `diversity`.

    sim is the cosine by words. The first is the nearest; of equals the one that BM25 has nearer.
    """
    candidates = texts.nearest(query)[: max(count, MAX_CANDIDATES)]
    cosines = texts.cosines(candidates, query)
    relevance = cosines.of(0)[1:]
    redundancy = relevance * 0.0
    taken: list[int] = []
    for _ in range(min(count, len(candidates))):
        marginal = (1.0 - diversity) * relevance - diversity * redundancy if taken else relevance.copy()
        marginal[taken] = float("-inf")
        taken.append(int(marginal.argmax()))
        redundancy = np.maximum(redundancy, cosines.of(taken[-1] + 1)[1:])
    return [candidates[place] for place in taken]
