"""Measures of tasks with heads, beside formulas written out and beside other libraries."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from torchmetrics.functional.text import squad

from graft.training.evaluation.metrics.classes import of_one, of_several
from graft.training.evaluation.metrics.entities import entities_of, of_tags
from graft.training.evaluation.metrics.numbers import of_numbers
from graft.training.evaluation.metrics.spoken_answers import of_answers
from graft.training.evaluation.metrics.written_texts import of_texts


def test_two_classes_by_their_formulas() -> None:
    said, right = [1, 1, 0, 0, 1, 0, 1, 0, 1, 1], [1, 0, 0, 1, 1, 0, 1, 0, 0, 1]
    pairs = list(zip(said, right, strict=True))
    tp, tn, fp, fn = (pairs.count(one) for one in ((1, 1), (0, 0), (1, 0), (0, 1)))
    found = of_one(said, right, num_classes=2)
    assert found["accuracy"] == (tp + tn) / 10
    assert found["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert found["macro_f1"] == pytest.approx((2 * tp / (2 * tp + fp + fn) + 2 * tn / (2 * tn + fp + fn)) / 2)
    matthews = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert found["matthews_correlation"] == pytest.approx(matthews)


def test_a_class_that_is_never_said_counts_in_the_mean() -> None:
    found = of_one([0, 0, 0, 0], [0, 0, 1, 2], num_classes=4)
    assert found["macro_f1"] == pytest.approx((2 * 2 / (2 * 2 + 2)) / 4)
    assert found["matthews_correlation"] == 0.0 and "f1" not in found


def test_several_classes_of_a_row() -> None:
    found = of_several(np.array([[1, 0, 1], [0, 1, 0]]), np.array([[1, 0, 1], [1, 1, 0]]))
    assert found["accuracy"] == 0.5
    assert found["micro_f1"] == pytest.approx(2 * 3 / (2 * 3 + 0 + 1))
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1 + 1) / 3)


def test_correlations_by_their_formulas() -> None:
    said, right = [0.5, 2.0, 1.0, 4.0, 3.5], [1.0, 2.5, 2.0, 10.0, 3.0]

    def pearson(one: list[float], other: list[float]) -> float:
        first, second = sum(one) / len(one), sum(other) / len(other)
        shared = sum((a - first) * (b - second) for a, b in zip(one, other, strict=True))
        return shared / math.sqrt(sum((a - first) ** 2 for a in one) * sum((b - second) ** 2 for b in other))

    def ranks(values: list[float]) -> list[float]:
        return [float(sorted(values).index(value)) for value in values]

    found = of_numbers(said, right)
    assert found["pearson"] == pytest.approx(pearson(said, right))
    assert found["spearmanr"] == pytest.approx(pearson(ranks(said), ranks(right)))
    assert found["mse"] == pytest.approx(sum((a - b) ** 2 for a, b in zip(said, right, strict=True)) / 5)
    assert of_numbers([1.0, 1.0], [0.0, 1.0])["pearson"] == 0.0


@pytest.mark.parametrize(
    "tags, expected",
    [
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("I-PER I-PER I-LOC O I-LOC", [("PER", 0, 2), ("LOC", 2, 3), ("LOC", 4, 5)]),  # IOB1, and a lost beginning
        ("B-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
        ("S-LOC B-PER I-PER E-PER S-PER", [("LOC", 0, 1), ("PER", 1, 4), ("PER", 4, 5)]),
        ("U-LOC B-PER L-PER I-PER", [("LOC", 0, 1), ("PER", 1, 3), ("PER", 3, 4)]),
        ("O O", []),
    ],
)
def test_entities_are_those_of_conlleval(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert entities_of(tags.split()) == expected


def test_entities_count_whole() -> None:
    right = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-ORG"]]
    said = [["B-PER", "O", "O", "B-LOC"], ["B-ORG", "B-ORG"]]
    found = of_tags(said, right)
    # Right ones: PER 0-2, LOC 3-4, ORG 1-2; said: PER 0-1, LOC 3-4, ORG 0-1, ORG 1-2; in both: LOC and one ORG.
    assert found["precision"] == 2 / 4 and found["recall"] == 2 / 3
    assert found["f1"] == pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3)) and found["accuracy"] == 4 / 6


def test_words_without_entities() -> None:
    found = of_tags([["NOUN", "VERB"], ["NOUN"]], [["NOUN", "NOUN"], ["VERB"]])
    assert found == {"accuracy": 1 / 3, "macro_f1": pytest.approx((2 / 4 + 0) / 2)}


def test_answers_in_words_are_torchmetrics_own() -> None:
    draw = random.Random(0)
    words = ["the", "Eiffel", "tower,", "in", "a", "Paris!", "1889", "of", "Steel's", "An"]
    right = [
        [" ".join(draw.choices(words, k=draw.randint(1, 5))) for _ in range(draw.randint(1, 3))] for _ in range(200)
    ]
    said = [draw.choice(one) if draw.random() < 0.3 else " ".join(draw.choices(words, k=3)) for one in right]
    their = squad(
        [{"prediction_text": one, "id": str(at)} for at, one in enumerate(said)],
        [{"answers": {"answer_start": [0] * len(one), "text": one}, "id": str(at)} for at, one in enumerate(right)],
    )
    found = of_answers(said, right)
    assert 100 * found["exact_match"] == pytest.approx(float(their["exact_match"]), abs=1e-4)
    assert 100 * found["f1"] == pytest.approx(float(their["f1"]), abs=1e-4)


def test_no_answer_is_right_where_there_is_none() -> None:
    assert of_answers(["", "Paris", ""], [[], [], ["Paris"]]) == {"exact_match": 1 / 3, "f1": 1 / 3}


def test_texts() -> None:
    said, right = ["the cat sat on the mat", "hello there"], ["the cat lay on the mat", "hello there"]
    found = of_texts(said, right)
    assert found["rouge1"] == pytest.approx((5 / 6 + 1) / 2) and found["rouge2"] == pytest.approx((3 / 5 + 1) / 2)
    assert found["rougeL"] == pytest.approx((5 / 6 + 1) / 2) and found["exact_match"] == 0.5
    # Papineni et al. 2002: matched n-grams over all n-grams of the corpus, and both sides are as long.
    precisions = [7 / 8, 4 / 6, 1 / 4, 1 / (2 * 3)]  # none of three 4-grams: sacrebleu's smoothing
    assert found["bleu"] == pytest.approx(100 * math.exp(sum(map(math.log, precisions)) / 4))
