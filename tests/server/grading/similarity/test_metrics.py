"""Likeness of texts, beside what the field's libraries say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.grading.similarity.metrics import METRICS
from graft.server.grading.similarity.porter import stem
from graft.server.grading.similarity.subsequence import common_length

# NLTK 3.9.2 (sentence_bleu, sentence_gleu; single_meteor_score with its Porter stemmer, and no synonyms),
# rouge_score 0.1.2, rapidfuzz 3.14.1 (fuzz.ratio / 100).
ROWS: list[tuple[str, str, dict[str, float]]] = [
    (
        "the cat sat on the mat",
        "the cat sat on the mat",
        {
            "fuzzy_match": 1.0,
            "gleu": 1.0,
            "meteor": 0.997685185,
            "rouge_1": 1.0,
            "rouge_2": 1.0,
            "rouge_3": 1.0,
            "rouge_4": 1.0,
            "rouge_5": 1.0,
            "rouge_l": 1.0,
            "bleu": 1.0,
        },
    ),
    (
        "the the the the the the the",
        "the cat is on the mat",
        {
            "fuzzy_match": 0.541666667,
            "gleu": 0.090909091,
            "meteor": 0.163934426,
            "rouge_1": 0.307692308,
            "rouge_2": 0.0,
            "rouge_3": 0.0,
            "rouge_4": 0.0,
            "rouge_5": 0.0,
            "rouge_l": 0.307692308,
        },
    ),
    (
        "on the mat sat the cat",
        "the cat sat on the mat",
        {
            "fuzzy_match": 0.772727273,
            "gleu": 0.555555556,
            "meteor": 0.5,
            "rouge_1": 1.0,
            "rouge_2": 0.6,
            "rouge_3": 0.25,
            "rouge_4": 0.0,
            "rouge_5": 0.0,
            "rouge_l": 0.5,
        },
    ),
    (
        "It is a guide to action which ensures that the military always obeys the commands of the party",
        "It is a guide to action that ensures that the military will forever heed Party commands",
        {
            "fuzzy_match": 0.751381215,
            "gleu": 0.439393939,
            "meteor": 0.694444444,
            "rouge_1": 0.705882353,
            "rouge_2": 0.5,
            "rouge_3": 0.4,
            "rouge_4": 0.285714286,
            "rouge_5": 0.153846154,
            "rouge_l": 0.647058824,
            "bleu": 0.411803764,
        },
    ),
    (
        "police kill the gunman",
        "police killed the gunman",
        {
            "fuzzy_match": 0.956521739,
            "gleu": 0.4,
            "meteor": 0.9921875,
            "rouge_1": 0.75,
            "rouge_2": 0.333333333,
            "rouge_3": 0.0,
            "rouge_4": 0.0,
            "rouge_5": 0.0,
            "rouge_l": 0.75,
        },
    ),
    (
        "gunmen killed the police running",
        "the gunman kill police and they ran",
        {
            "fuzzy_match": 0.597014925,
            "gleu": 0.090909091,
            "meteor": 0.220588235,
            "rouge_1": 0.333333333,
            "rouge_2": 0.0,
            "rouge_3": 0.0,
            "rouge_4": 0.0,
            "rouge_5": 0.0,
            "rouge_l": 0.333333333,
        },
    ),
    (
        "The quick brown fox jumps over the lazy dog near the river bank",
        "A quick brown fox jumped over the lazy dog near the river bank today",
        {
            "fuzzy_match": 0.900763359,
            "gleu": 0.64,
            "meteor": 0.863059552,
            "rouge_1": 0.814814815,
            "rouge_2": 0.72,
            "rouge_3": 0.608695652,
            "rouge_4": 0.476190476,
            "rouge_5": 0.421052632,
            "rouge_l": 0.814814815,
            "bleu": 0.620710684,
        },
    ),
    (
        "a b c d e f g h",
        "h g f e d c b a",
        {
            "fuzzy_match": 0.466666667,
            "gleu": 0.307692308,
            "meteor": 0.5,
            "rouge_1": 1.0,
            "rouge_2": 0.0,
            "rouge_3": 0.0,
            "rouge_4": 0.0,
            "rouge_5": 0.0,
            "rouge_l": 0.125,
        },
    ),
    (
        "x",
        "y",
        {
            "fuzzy_match": 0.0,
            "gleu": 0.0,
            "meteor": 0.0,
            "rouge_1": 0.0,
            "rouge_2": 0.0,
            "rouge_3": 0.0,
            "rouge_4": 0.0,
            "rouge_5": 0.0,
            "rouge_l": 0.0,
        },
    ),
    (
        "",
        "nothing was said",
        {
            "fuzzy_match": 0.0,
            "gleu": 0.0,
            "meteor": 0.0,
            "rouge_1": 0.0,
            "rouge_2": 0.0,
            "rouge_3": 0.0,
            "rouge_4": 0.0,
            "rouge_5": 0.0,
            "rouge_l": 0.0,
        },
    ),
    (
        "kitten",
        "sitting",
        {
            "fuzzy_match": 0.615384615,
            "gleu": 0.0,
            "meteor": 0.0,
            "rouge_1": 0.0,
            "rouge_2": 0.0,
            "rouge_3": 0.0,
            "rouge_4": 0.0,
            "rouge_5": 0.0,
            "rouge_l": 0.0,
        },
    ),
]
# Porter 1980, the examples of each step.
STEMS = {
    "caresses": "caress", "ponies": "poni", "ties": "ti", "cats": "cat", "feed": "feed", "agreed": "agre",
    "plastered": "plaster", "bled": "bled", "motoring": "motor", "sing": "sing", "conflated": "conflat",
    "troubled": "troubl", "sized": "size", "hopping": "hop", "tanned": "tan", "falling": "fall", "hissing": "hiss",
    "fizzed": "fizz", "failing": "fail", "filing": "file", "happy": "happi", "sky": "sky", "relational": "relat",
    "conditional": "condit", "rational": "ration", "digitizer": "digit", "vietnamization": "vietnam",
    "operator": "oper", "hopefulness": "hope", "sensibiliti": "sensibl", "triplicate": "triplic", "formative": "form",
    "electrical": "electr", "goodness": "good", "revival": "reviv", "allowance": "allow", "inference": "infer",
    "gyroscopic": "gyroscop", "adjustable": "adjust", "irritant": "irrit", "replacement": "replac",
    "adoption": "adopt", "communism": "commun", "bowdlerize": "bowdler", "probate": "probat", "rate": "rate",
    "cease": "ceas", "controll": "control", "roll": "roll", "generously": "gener", "is": "is",
}  # fmt: skip


@pytest.mark.parametrize(("text", "reference", "expected"), ROWS)
def test_as_the_libraries(text: str, reference: str, expected: dict[str, float]) -> None:
    found = {name: METRICS[name](text, reference) for name in expected}
    assert found == pytest.approx(expected, abs=1e-8)


def test_stems() -> None:
    assert {word: stem(word) for word in STEMS} == STEMS


@given(st.text("abc", max_size=30), st.text("abcd", max_size=30))
def test_common_subsequences(left: str, right: str) -> None:
    """As the table of the textbook says."""
    row = [0] * (len(right) + 1)
    for one in left:
        before = row[:]
        for at, other in enumerate(right, start=1):
            row[at] = before[at - 1] + 1 if one == other else max(before[at], row[at - 1])
    assert common_length(left, right) == row[-1]


@given(st.text(max_size=60), st.text(max_size=60))
def test_every_measure_is_a_share(text: str, reference: str) -> None:
    assert all(0 <= measure(text, reference) <= 1 for measure in METRICS.values())


@pytest.mark.parametrize("name", [name for name in METRICS if name != "meteor"])
def test_a_text_is_like_itself(name: str) -> None:
    assert METRICS[name]("one two three four five", "one two three four five") == pytest.approx(1)


def test_other_scripts_have_words() -> None:
    assert METRICS["rouge_1"]("добрый день", "добрый вечер") == pytest.approx(0.5)
