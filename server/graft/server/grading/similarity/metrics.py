"""The measures by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from graft.server.grading.similarity.bleu import bleu, gleu
from graft.server.grading.similarity.fuzzy import fuzzy_match
from graft.server.grading.similarity.meteor import meteor
from graft.server.grading.similarity.rouge import rouge_l, rouge_n

MAX_CHARACTERS = 32_768
"""Of a text that is compared: some measures grow with the product of both lengths (half a second at most)."""

METRICS: dict[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    "meteor": meteor,
    **{f"rouge_{n}": partial(rouge_n, n=n) for n in range(1, 6)},
    "rouge_l": rouge_l,
}
"""From a text and its reference to a number from 0 to 1."""

UNAVAILABLE: dict[str, str] = {
    "cosine": "cosine compares embeddings, and this server has no embedding engine: take another metric",
}
"""Names that OpenAI has and this server refuses, with the reason."""
