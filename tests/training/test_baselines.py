"""Counting models: probabilities sum to one, and what was seen often is likely."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.training.baselines import NGrams, measure
from graft.training.corpus.text_rows import PackedText, TextRows
from graft.training.objective.masked import MaskedObjective
from tests.training.objective.vocabularies import PAD, SEP, SIZE, documents, vocabulary


@given(st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=30), min_size=1, max_size=5))
def test_probabilities_sum_to_one(texts: list[list[int]]) -> None:
    ngrams = NGrams(texts, vocab_size=9)
    assert sum(ngrams.unigram(token) for token in range(9)) == pytest.approx(1)
    for before in [(0,), (3,), (0, 1), (5, 5)]:
        assert sum(ngrams.trigram(before, token) for token in range(9)) == pytest.approx(1)


def test_a_text_that_repeats_itself_is_foreseen() -> None:
    ngrams = NGrams([[1, 2, 3, 4] * 50], vocab_size=5)
    assert ngrams.trigram((2, 3), 4) > 0.95 > 0.3 > ngrams.unigram(4)
    assert ngrams.fill(2, 4) == 3 and ngrams.fill(4, 4) == ngrams.commonest


def test_perplexity_of_packed_rows_and_accuracy_of_masks() -> None:
    texts = documents(40, 70, seed=3)
    flat = [[one for sentence in text for one in sentence] for text in texts]
    ngrams = NGrams(flat, vocab_size=SIZE)
    packed = PackedText(
        texts, length=200, end_id=SEP, pad_id=PAD, rows_per_batch=1, batches_per_step=1, seed=0
    ).in_order(1)
    found = measure(ngrams, packed)
    tokens = [*flat[0], SEP, *flat[1], SEP]
    asked = [tokens[1:41], tokens[42:]]
    expected = -sum(math.log(ngrams.unigram(one)) for part in asked for one in part) / 110
    assert found["unigram_perplexity"] == pytest.approx(math.exp(expected))
    assert found["trigram_perplexity"] < found["unigram_perplexity"]
    objective = MaskedObjective(vocabulary=vocabulary(), length=80)
    masked = TextRows(texts, objective.collate, rows_per_batch=2, batches_per_step=1, seed=0).in_order(2)
    accuracies = measure(ngrams, masked)
    assert accuracies["trigram_accuracy"] > accuracies["unigram_accuracy"]
