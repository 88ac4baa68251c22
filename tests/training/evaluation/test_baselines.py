"""Counting models: probabilities sum to one, and what was seen often is likely."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graft.training.batch.text_rows import PackedText, TextRows
from graft.training.corpus.lines import overlap, sketch_of
from graft.training.evaluation import baselines
from graft.training.evaluation.baselines import NONE, NGrams, measure
from graft.training.objective.masked import MaskedObjective
from tests.training.objective.vocabularies import PAD, SEP, SIZE, documents, vocabulary


def unigram(ngrams: NGrams, token: int) -> float:
    return float(ngrams.unigrams(torch.tensor([token])))


def trigram(ngrams: NGrams, before: tuple[int, ...], token: int) -> float:
    """p(token | the one or two tokens before it)."""
    left = NONE if len(before) < 2 else before[0]
    return float(ngrams.trigrams(*(torch.tensor([one]) for one in (left, before[-1], token))))


@given(st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=30), min_size=1, max_size=5))
def test_probabilities_sum_to_one(texts: list[list[int]]) -> None:
    ngrams = NGrams(texts, vocab_size=9)
    assert sum(unigram(ngrams, token) for token in range(9)) == pytest.approx(1)
    for before in [(0,), (3,), (0, 1), (5, 5)]:
        assert sum(trigram(ngrams, before, token) for token in range(9)) == pytest.approx(1)


def test_a_text_that_repeats_itself_is_foreseen() -> None:
    ngrams = NGrams([[1, 2, 3, 4] * 50], vocab_size=5)
    assert trigram(ngrams, (2, 3), 4) > 0.95 > 0.3 > unigram(ngrams, 4)
    assert ngrams.fill(2, 4) == 3 and ngrams.fill(4, 4) == ngrams.commonest


def slow_trigram(texts: list[list[int]], before: tuple[int, ...], token: int, vocab_size: int) -> float:
    """Chen & Goodman 1999, eq. 20 to 23, written out with dictionaries."""
    triples = Counter(tuple(text[at : at + 3]) for text in texts for at in range(len(text) - 2))
    pairs = Counter(triple[1:] for triple in triples)
    singles = Counter(pair[1:] for pair in pairs)

    def mixed(counts: Counter[tuple[int, ...]], context: tuple[int, ...], lower: float) -> float:
        once, twice = (list(counts.values()).count(number) for number in (1, 2))
        discount = once / (once + 2 * twice) if once else 0.5
        seen = {ngram: count for ngram, count in counts.items() if ngram[:-1] == context}
        if not seen:
            return lower
        own = max(seen.get((*context, token), 0) - discount, 0)
        return (own + discount * len(seen) * lower) / sum(seen.values())

    lower = (singles[token,] + 1) / (sum(singles.values()) + vocab_size)
    pair = mixed(pairs, before[-1:], lower)
    return pair if len(before) < 2 else mixed(triples, before, pair)


@given(st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=8), st.integers(1, 30))
def test_all_of_a_text_is_counted_however_many_tokens_are_sorted_at_a_time(texts: list[list[int]], chunk: int) -> None:
    """Reading 23: a baseline that counts a part only flatters the model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "CHUNK_TOKENS", chunk)
        ngrams = NGrams(texts, vocab_size=5)
    flat = [one for text in texts for one in text]
    for token in range(5):
        assert unigram(ngrams, token) == pytest.approx((flat.count(token) + 1) / (len(flat) + 5))
        for before in [(0,), (3,), (0, 1), (2, 2), (4, 0)]:
            assert trigram(ngrams, before, token) == pytest.approx(slow_trigram(texts, before, token, 5))
    between = Counter((text[at], text[at + 2], text[at + 1]) for text in texts for at in range(len(text) - 2))
    for left, right in [(0, 0), (1, 3), (4, 2)]:
        best = max((between[left, right, one] for one in range(5)), default=0)
        filled = ngrams.fill(left, right)
        assert between[left, right, filled] == best if best else flat.count(filled) == max(map(flat.count, range(5)))


@pytest.mark.parametrize(("known", "share"), [(0, 0.0), (1, 1 / 3), (3, 1.0)])
def test_what_was_trained_on_is_found_in_a_held_out_text(known: int, share: float) -> None:
    lines = [f"a line of exactly {number} words and letters" for number in range(10, 13)]
    seen = ["\n".join(["  " + line for line in lines[:known]] + ["other lines of text that stand here", "short"])]
    assert overlap([sketch_of(seen)], ["\n".join([*lines, "short"])]) == pytest.approx(share)


SUMS = [f"{number}+35={number + 35}" for number in range(10, 20)]
CHINESE = ["第一句话很短。\n第二句也短。", "今天下雨，我们不去公园了。\n明天再说。"]


@pytest.mark.parametrize(
    ("seen", "held_out", "share"),
    [
        (SUMS, SUMS, 1.0),
        (SUMS[:3], SUMS, 0.3),
        (["\n".join(SUMS)], ["\n".join(SUMS[5:])], 1.0),
        ([*SUMS, "a line of prose that is longer than all sums are"], SUMS[:2], 1.0),
        (SUMS[5:], SUMS[:5], 0.0),
        (CHINESE, CHINESE, 1.0),
        (CHINESE[:1], CHINESE, 13 / 26),
        (["今天下雨，我们不去公园了。\n另一句话。"], ["今天下雨，我们不去公园了。\n明天再说。"], 1.0),
        (["\n \n"], ["", " \n"], 0.0),
    ],
)
def test_short_lines_count_where_a_document_is_made_of_them(seen: list[str], held_out: list[str], share: float) -> None:
    assert overlap([sketch_of(seen)], held_out) == pytest.approx(share)


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
    expected = -sum(math.log(unigram(ngrams, one)) for part in asked for one in part) / 110
    assert found["unigram_perplexity"] == pytest.approx(math.exp(expected))
    assert found["trigram_perplexity"] < found["unigram_perplexity"]
    objective = MaskedObjective(vocabulary=vocabulary(), length=80)
    masked = TextRows([texts], objective.collate, rows_per_batch=2, batches_per_step=1, seed=0).in_order(2)
    accuracies = measure(ngrams, masked)
    assert accuracies["trigram_accuracy"] > accuracies["unigram_accuracy"]
