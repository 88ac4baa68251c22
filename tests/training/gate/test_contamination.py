"""Held-out rows that were trained on are found; what merely looks alike is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.training.errors import DataError
from graft.training.gate.contamination import MAX_ROWS, NUM_WORDS, contamination
from graft.training.gate.rows import Row, read_learned, read_rows

FILE = "the gate's held-out rows"


def row(line: int, question: str, answer: str | None = "yes") -> Row:
    turns = ({"role": "system", "content": "Answer in one word."}, {"role": "user", "content": question})
    return Row(line=line, prompt=turns, answer=answer)


def test_the_same_question_is_found_whatever_its_answer_case_and_punctuation() -> None:
    learned = [row(1, "Is grass blue?"), row(2, "Is  the SKY blue", "no")]
    assert contamination([row(1, "is the sky, blue?", "yes")], learned, what=FILE) == [
        "line 1 of the gate's held-out rows asks what line 2 of the training file asks"
    ]
    assert contamination([row(1, "Is the sea blue?")], learned, what=FILE) == []


@pytest.mark.parametrize("question", ["3 - 4 =", "3-4", "3 * 4 =", "3 < 4"])
def test_another_sign_makes_another_question(question: str) -> None:
    assert contamination([row(1, question)], [row(1, "3 + 4 ="), row(2, "3 4 ?")], what=FILE) == []
    assert contamination([row(1, question)], [row(1, question.replace(" ", ""))], what=FILE)


def test_thirteen_words_in_a_row_are_found_and_twelve_are_not() -> None:
    """The rule of Brown et al. 2020, appendix C."""
    words = [f"w{number}" for number in range(40)]
    learned = [row(7, f"before {' '.join(words[:NUM_WORDS])} after")]
    found = contamination([row(3, f"other {' '.join(words[:NUM_WORDS])} end")], learned, what=FILE)
    assert found == ["line 3 of the gate's held-out rows has 13 words in a row of line 7 of the training file"]
    assert contamination([row(3, f"other {' '.join(words[: NUM_WORDS - 1])} end")], learned, what=FILE) == []


def test_words_of_a_template_and_of_the_instructions_are_no_contamination() -> None:
    template = " ".join(f"t{number}" for number in range(30))
    learned = [row(line, f"{template} {line}") for line in range(1, MAX_ROWS + 2)]
    assert contamination([row(1, f"{template} new")], learned, what=FILE) == []
    assert len(contamination([row(1, f"{template} new")], learned[:MAX_ROWS], what=FILE)) == 1


def test_of_many_ten_are_named() -> None:
    rows = [row(line, f"question {line}") for line in range(1, 16)]
    assert contamination(rows, rows, what=FILE)[-1] == "and 5 more" and len(contamination(rows, rows, what=FILE)) == 11


@settings(max_examples=30)
@given(st.lists(st.text("abcdef ", min_size=1, max_size=60), min_size=1, max_size=20), st.integers(0, 19))
def test_any_row_that_was_learned_is_found(texts: list[str], at: int) -> None:
    learned = [row(line, text) for line, text in enumerate(texts, start=1)]
    assert len(contamination([row(1, texts[at % len(texts)].upper())], learned, what=FILE)) == 1


def test_rows_of_every_method_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    said = [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        {"prompt": "p", "completion": "c"},
        {
            "input": {"messages": [{"role": "user", "content": [{"type": "text", "text": "q2"}]}]},
            "preferred_output": [{"role": "assistant", "content": "good"}],
            "non_preferred_output": [{"role": "assistant", "content": "bad"}],
        },
        {"messages": [{"role": "user", "content": "q3"}], "answer": 4},
        {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
    ]
    path.write_text("\n\n".join(map(json.dumps, said)) + "\n")
    rows = read_rows(path)
    assert [(one.line, one.question, one.answer) for one in rows] == [
        (1, "q", "a"),
        (3, "p", "c"),
        (5, "q2", "good"),
        (7, "q3", None),
    ]
    assert rows[-1].item["answer"] == 4
    path.write_text("[]\n")
    with pytest.raises(DataError, match="line 1"):
        read_rows(path)


def test_a_question_that_was_learned_with_calls_of_tools_is_found(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "sky", "arguments": "{}"}}
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    learned = [
        [
            {"role": "user", "content": "Is the sky blue?"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "blue"},
            {"role": "assistant", "content": "yes"},
        ],
        [{"role": "user", "content": [picture]}, {"role": "assistant", "content": "a picture"}],
    ]
    path = tmp_path / "training.jsonl"
    path.write_text("".join(json.dumps({"messages": one}) + "\n" for one in learned))
    assert contamination([row(1, "Is the sky blue?")], read_learned(path), what=FILE) == [
        "line 1 of the gate's held-out rows asks what line 1 of the training file asks"
    ]
    with pytest.raises(DataError, match="no row of text"):
        read_rows(path)  # none of them can be asked over the wire
