"""BLEU and Google's BLEU of one text against one reference."""

from __future__ import annotations

from collections import Counter

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from graft.server.grading.similarity.ngrams import ngrams

_MAX_N = 4
# A short answer has no runs of four: the longest that there are count (sacrebleu's own for single sentences).
_BLEU = BLEU(effective_order=True)
_TOKENIZER = Tokenizer13a()


def bleu(text: str, reference: str) -> float:
    """sacrebleu's sentence BLEU, of one: Papineni et al. 2002, mteval-13a's tokens, exponential smoothing."""
    # The library's sum of logarithms may be above by a rounding.
    return min(1.0, float(_BLEU.sentence_score(text, [reference]).score) / 100)


def gleu(text: str, reference: str) -> float:
    """Of runs of 1 to 4 tokens: the smaller of precision and recall. Wu et al. 2016 (arXiv:1609.08144), section 4.5.

    mteval-13a's tokens, as BLEU has them. Nothing on either side: 0.
    """
    found, wanted = _runs(text), _runs(reference)
    most = max(found.total(), wanted.total())
    return (found & wanted).total() / most if most else 0.0


def tokens(text: str) -> list[str]:
    """mteval-13a's tokens."""
    split: list[str] = _TOKENIZER(text).split()
    return split


def _runs(text: str) -> Counter[tuple[str, ...]]:
    split = tokens(text)
    runs: Counter[tuple[str, ...]] = Counter()
    for n in range(1, _MAX_N + 1):
        runs += ngrams(split, n)
    return runs
