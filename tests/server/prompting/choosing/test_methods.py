"""Which demonstrations are taken, against slow code for BM25 and for maximal marginal relevance."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.prompting.choosing import methods
from graft.server.prompting.choosing.likeness import MAX_CHARACTERS, Texts, words

CHANCE = random.Random(13)
VOCABULARY = [f"w{number}" for number in range(60)]
TEXTS = [" ".join(CHANCE.choices(VOCABULARY, k=CHANCE.randrange(1, 30))) for _ in range(150)]
QUERY = "w1 w2 w2 w7 unheard w30"


def slow_bm25(texts: list[str], query: str, k1: float = 1.5, b: float = 0.75) -> list[float]:
    """idf = ln(1 + (N - n + 0.5) / (n + 0.5)); each word of the query counts as often as it stands there."""
    bags = [text.split() for text in texts]
    average = sum(map(len, bags)) / len(bags)
    scores = []
    for bag in bags:
        score = 0.0
        for word in query.split():
            n, f = sum(word in each for each in bags), bag.count(word)
            idf = math.log(1 + (len(bags) - n + 0.5) / (n + 0.5))
            score += idf * f / (f + k1 * (1 - b + b * len(bag) / average))
        scores.append(score)
    return scores


def slow_mmr(texts: list[str], query: str, count: int, lambda_: float, candidates: list[int]) -> list[int]:
    rows = [Counter(text.split()) for text in (query, *(texts[index] for index in candidates))]
    vocabulary = sorted({word for row in rows for word in row})
    idf = np.array([math.log(1 + len(rows) / sum(word in row for row in rows)) for word in vocabulary])
    matrix = np.array([[row[word] for word in vocabulary] for row in rows]) * idf
    sim = matrix @ matrix.T / np.outer(*[np.linalg.norm(matrix, axis=1)] * 2)
    taken: list[int] = []
    while len(taken) < count:
        left = [place for place in range(len(candidates)) if place not in taken]
        value = {
            place: (lambda_ * sim[0, place + 1] - (1 - lambda_) * max(sim[place + 1, other + 1] for other in taken))
            if taken
            else sim[0, place + 1]
            for place in left
        }
        taken.append(max(left, key=lambda place: value[place]))
    return [candidates[place] for place in taken]


def test_bm25_is_the_formula() -> None:
    found = Texts(TEXTS).scores(QUERY)
    assert found == pytest.approx(slow_bm25(TEXTS, QUERY), abs=1e-4)


def test_the_nearest_come_first_and_the_earlier_of_equals() -> None:
    texts = Texts(["a b", "c", "a b", "a a b"])
    assert texts.nearest("a b")[:3] == [3, 0, 2]
    assert texts.nearest("nothing of it") == [0, 1, 2, 3]
    assert texts.nearest("") == [0, 1, 2, 3]
    assert Texts(["", " "]).nearest("a") == [0, 1]


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_diverse_is_carbonell_and_goldstein(diversity: float) -> None:
    texts = Texts(TEXTS)
    candidates = texts.nearest(QUERY)[: methods.MAX_CANDIDATES]
    expected = slow_mmr(TEXTS, QUERY, 12, 1 - diversity, candidates)
    assert methods.diverse(texts, QUERY, 12, diversity) == expected


def test_diversity_takes_no_text_twice_over() -> None:
    texts = Texts(["red apple pie", "red apple pie", "red apple pie", "green apple"])
    assert methods.diverse(texts, "red apple", 2, 0.0) == [0, 1]
    assert methods.diverse(texts, "red apple", 2, 0.7) == [0, 3]


def test_signs_and_scripts_without_blanks_are_words() -> None:
    assert words("12+35? Été") == ["12", "+", "35", "?", "été"]
    assert words("東京は雨") == ["東", "京", "は", "雨"]
    assert len(words("a " * MAX_CHARACTERS)) == MAX_CHARACTERS / 2


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(0, 45), st.integers(0, 9))
def test_balanced_classes_differ_by_one_at_most_unless_one_is_used_up(labels: list[str], count: int, seed: int) -> None:
    taken = methods.balanced(labels, count, seed)
    assert len(set(taken)) == len(taken) == min(count, len(labels))
    have, got = Counter(labels), Counter(labels[index] for index in taken)
    most = max(got.values(), default=0)
    assert all(got[label] >= min(have[label], most - 1) for label in have)


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 9))
def test_chance_takes_none_twice_and_the_seed_decides(num_texts: int, count: int, seed: int) -> None:
    taken = methods.at_random(num_texts, count, seed)
    assert len(set(taken)) == len(taken) == min(count, num_texts)
    assert taken == methods.at_random(num_texts, count, seed)


def test_seeds_differ() -> None:
    assert len({tuple(methods.at_random(100, 4, seed)) for seed in range(50)}) == 50
    assert len({tuple(methods.balanced(["a", "b"] * 50, 4, seed)) for seed in range(50)}) > 45
