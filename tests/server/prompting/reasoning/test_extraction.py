"""An answer is read from what a model said, or what is missing is said."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.errors import NoAnswer
from graft.server.prompting.patterns import Pattern
from graft.server.prompting.program.program import Extraction
from graft.server.prompting.reasoning.extraction import extract, last_line
from graft.training.rootstock.corpus import arithmetic

CHOICES = ("entailment", "not entailment", "contradiction")


def answer(text: str, *, choices: tuple[str, ...] = (), **extraction: str) -> str:
    return extract(text, Extraction.model_validate(extraction), choices=choices).answer


@pytest.mark.parametrize(
    ("said", "number"),
    [
        # Wei et al. 2022 (arXiv:2201.11903), figure 1.
        (
            "Roger started with 5 balls. 2 cans of 3 tennis balls each is 6. 5 + 6 = 11. The answer is 11.",
            "11",
        ),
        # Kojima et al. 2022 (arXiv:2205.11916), figure 1 and table 21's cleansing of commas.
        ("Therefore, the answer (arabic numerals) is 4.", "4"),
        ("She earned $1,234.50 in all.", "1234.50"),
        ("that is 1,000,000", "1000000"),
        ("from 5 to -3", "-3"),
        ("from 5 to \u22123 degrees", "-3"),
        ("it is 10-3", "3"),
        ("(8)-2", "2"),
        ("pages 1,23", "23"),
        ("version 2.", "2"),
    ],
)
def test_the_last_number(said: str, number: str) -> None:
    assert answer(said, method="last_number") == number


@given(st.integers(), st.text("abc ,.:;", max_size=8).map(lambda text: f" {text}"))
def test_a_number_is_read_as_it_was_written(number: int, behind: str) -> None:
    assert answer(f"first 7 then {number}{behind}", method="last_number") == str(number)
    assert answer(f"first 7 then {number:,}{behind}", method="last_number") == str(number)


def test_worked_sums_of_the_shipped_base_are_read_after_their_last_semicolon() -> None:
    """As `rootstock/evaluation.py` reads them."""
    rng = Random(1)
    for _ in range(200):
        a, b = arithmetic.operands(rng, rng.choice((1, 2, 3)))
        said = arithmetic.worked(a, b).split("?", 1)[1]
        found = extract(said, Extraction(method="after", marker=";"))
        assert found.answer == str(a + b)
        assert said[: found.begin].strip() == arithmetic.steps(a, b)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("So the answer is 11.", "11"),
        ("the answer is no, the answer is yes.\nQ: and now?", "yes"),
        ("the answer is\n\n  (a)  \nmore", "(a)"),
        ("the answer is the U.S.", "the U.S."),
        ("the answer is 3.5.", "3.5"),
        ("the answer is B.", "B"),
    ],
)
def test_after_a_marker(said: str, expected: str) -> None:
    assert answer(said, method="after", marker="the answer is") == expected


def test_lines() -> None:
    assert answer("\n\n merci \nthanks -> ", method="first_line") == "merci"
    assert answer(" merci\n", method="whole") == "merci"
    assert answer("", method="whole") == ""
    found = last_line("2+9+0=11;1+3+1=5;\n51\n\n")
    assert (found.answer, found.begin) == ("51", 18)


def test_a_pattern_gives_its_first_group_at_its_last_match() -> None:
    assert answer("x=1, y=2, x=3", method="regex", pattern=r"x=(\d)") == "3"
    assert answer("ab12cd345", method="regex", pattern=r"\d+") == "345"
    assert answer("été: 1 été: 22", method="regex", pattern=r"é: (\d+)") == "22"
    long = "é" * 50_000 + "x=5 "
    found = extract(long, Extraction(method="regex", pattern=r"x=(\d)"))
    assert (found.answer, found.begin) == ("5", 50_000)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", "missing )"),
        (r"(a)\1", "invalid escape"),
        ("(?=a)", "invalid perl operator"),
        ("(?:a{1000}){1000}", "invalid repetition size"),
        (r"(\pL{100}|\w{100}){8}", "too large"),
        ("a" * 2001, "at most 2000"),
    ],
)
def test_a_pattern_that_cannot_be_is_refused_with_the_reason(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"RE2|characters") as refusal:
        Pattern(pattern)
    assert reason in str(refusal.value)


def test_a_catastrophic_pattern_is_only_a_pattern() -> None:
    """Backtracking would take 2 to the power of the text's length."""
    with pytest.raises(NoAnswer, match="the pattern"):
        answer("a" * 10_000 + "!", method="regex", pattern="^(a+)+$")


def test_a_field_of_the_last_object_that_has_it() -> None:
    said = 'I think {"answer": "a"} no: ```json\n{"answer": {"x": [1, true]}}\n``` {"other": 1} {broken'
    assert json.loads(answer(said, method="json", field="answer")) == {"x": [1, True]}
    assert json.loads(answer(said, method="json")) == {"other": 1}
    assert answer('{"answer": "é{}"}', method="json", field="answer") == "é{}"
    assert answer('{"n": 4}', method="json", field="n") == "4"


@pytest.mark.parametrize("said", ["", "{" * 100_000, '{"a":' * 100_000, '{"answer": 1', "[1]", '{"other": 1}'])
def test_no_object_is_said(said: str) -> None:
    with pytest.raises(NoAnswer, match='JSON object with the field "answer"'):
        answer(said, method="json", field="answer")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("entailment", "entailment"),
        ("Entailment.", "entailment"),
        ("It is not entailment, as nobody said so", "not entailment"),
        ("the answer: CONTRADICTION!", "contradiction"),
    ],
)
def test_the_choice_that_is_named(said: str, expected: str) -> None:
    assert answer(said, choices=CHOICES, method="choice") == expected


def test_letters_are_told_apart_by_case_first() -> None:
    assert answer("a word that is B", choices=("A", "B"), method="choice") == "B"
    assert answer("a", choices=("a", "A"), method="choice") == "a"
    assert answer("no one knows, but yes", choices=("yes", "nobody"), method="choice") == "yes"


@pytest.mark.parametrize("said", ["", "perhaps", "entailment or contradiction", "entailments"])
def test_none_or_two_named_choices_are_no_answer(said: str) -> None:
    with pytest.raises(NoAnswer, match="choice"):
        answer(said, choices=CHOICES, method="choice")


@given(st.text(), st.sampled_from(["first_line", "after", "last_number", "regex", "json", "choice"]))
def test_any_text_has_an_answer_or_a_reason(text: str, method: str) -> None:
    extraction = Extraction.model_validate({"method": method, "marker": ":", "pattern": ".", "field": "a"})
    try:
        found = extract(text, extraction, choices=CHOICES)
    except NoAnswer as error:
        assert str(error)
    else:
        assert 0 <= found.begin <= len(text)
