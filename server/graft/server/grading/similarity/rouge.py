"""ROUGE-N and ROUGE-L, F1: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries".

Tokens as Google's rouge_score has them without stemming: runs of lower-case letters and digits; here of any script,
where that library drops all but ASCII.
"""

from __future__ import annotations

import re

from graft.server.grading.similarity.ngrams import harmonic, ngrams
from graft.server.grading.similarity.subsequence import common_length

_WORD = re.compile(r"[^\W_]+")


def rouge_n(text: str, reference: str, n: int) -> float:
    """F1 of the runs of n tokens that both have."""
    found, wanted = ngrams(_tokens(text), n), ngrams(_tokens(reference), n)
    return _f1((found & wanted).total(), found.total(), wanted.total())


def rouge_l(text: str, reference: str) -> float:
    """F1 of the longest common subsequence of tokens."""
    found, wanted = _tokens(text), _tokens(reference)
    return _f1(common_length(found, wanted), len(found), len(wanted))


def _tokens(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _f1(num_common: int, num_found: int, num_wanted: int) -> float:
    return harmonic(num_common / num_found, num_common / num_wanted) if num_found and num_wanted else 0.0
