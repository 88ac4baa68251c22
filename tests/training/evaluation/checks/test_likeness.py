"""Likeness of texts: against slow code, and against examples that the papers and libraries give."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.training.evaluation.checks.likeness import LIKENESSES, bleu, common, fuzzy_match, gleu, rouge, rouge_l

WORDS = st.text("ab c", max_size=12)


@given(st.text("abc", max_size=9), st.text("abc", max_size=9))
def test_the_longest_common_subsequence(left: str, right: str) -> None:
    @cache
    def slow(i: int, j: int) -> int:
        if i == len(left) or j == len(right):
            return 0
        return slow(i + 1, j + 1) + 1 if left[i] == right[j] else max(slow(i + 1, j), slow(i, j + 1))

    assert common(left, right) == slow(0, 0)


@given(WORDS, WORDS)
def test_every_likeness_lies_between_0_and_1_and_is_1_of_itself(left: str, right: str) -> None:
    for name, likeness in LIKENESSES.items():
        assert 0 <= likeness(left, right) <= 1
        order = int(name[-1]) if name[-1].isdigit() else 4 if name == "bleu" else 1
        if len(left.split()) >= order:
            assert likeness(left, left) == pytest.approx(1)


def test_figures_from_outside() -> None:
    # rapidfuzz' own example of fuzz.ratio
    assert fuzzy_match("this is a test", "this is a test!") == pytest.approx(0.9655172, abs=1e-6)
    # Lin 2004, section 3: "police kill the gunman" has ROUGE-L 3/4 and "the gunman kill police" 2/4
    assert rouge_l("police kill the gunman", "police killed the gunman") == pytest.approx(3 / 4)
    assert rouge_l("the gunman kill police", "police killed the gunman") == pytest.approx(2 / 4)
    assert rouge(2, "police kill the gunman", "police killed the gunman") == pytest.approx(1 / 3)
    # Papineni et al. 2002, section 2.1: clipped counts, here all four orders of one sentence
    said, right = "the cat sat on the mat", "the cat sat on the red mat"
    expected = (6 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25 * 2.718281828 ** (1 - 7 / 6)
    assert bleu(said, right) == pytest.approx(expected, rel=1e-6)
    # nltk.translate.gleu_score on the same pair: 15 common runs of 22
    assert gleu(said, right) == pytest.approx(15 / 22)


def test_long_texts_are_quick() -> None:
    assert fuzzy_match("ab" * 50_000, "ba" * 50_000) > 0.99
