"""Answers in words, by SQuAD's rules (Rajpurkar et al. 2016, arXiv:1606.05250, §6.1; with questions that have none:
Rajpurkar et al. 2018, arXiv:1806.03822).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """Lower case, without punctuation, English articles and superfluous blanks, in this order."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(said: str, right: str) -> float:
    return float(normalized(said) == normalized(right))


def token_f1(said: str, right: str) -> float:
    """Of the words that both have. Where either has none, both must have none."""
    given, wanted = normalized(said).split(), normalized(right).split()
    if not given or not wanted:
        return float(given == wanted)
    num_shared = sum((Counter(given) & Counter(wanted)).values())
    if not num_shared:
        return 0.0
    precision, recall = num_shared / len(given), num_shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def of_answers(said: Sequence[str], right: Sequence[Sequence[str]]) -> dict[str, float]:
    """``exact_match`` and ``f1``, of each question the best over its right answers; one without any has none to give,
    and its answer is the empty text.
    """
    found = {"exact_match": 0.0, "f1": 0.0}
    for answer, those in zip(said, right, strict=True):
        wanted = those or [""]
        found["exact_match"] += max(exact(answer, one) for one in wanted)
        found["f1"] += max(token_f1(answer, one) for one in wanted)
    return {name: total / max(1, len(right)) for name, total in found.items()}
