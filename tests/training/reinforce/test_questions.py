"""Rows become prompts, and answers rewards."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from graft.adapters.base.base import Base
from graft.training.errors import ConfigurationError, DataError
from graft.training.model.loading import load_tokenizer
from graft.training.reinforce.asking.grading import by_function, load_reward, read_grader
from graft.training.reinforce.asking.questions import Questions
from tests.training.reinforce.made import rollout


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def questions(path: Path, base: Base, *, max_tokens: int = 64) -> Questions:
    return Questions.read(path, load_tokenizer(base.path), max_tokens=max_tokens)


def test_texts_and_chats_are_read_as_the_base_reads_them(tmp_path: Path, base: Base) -> None:
    chat = {"messages": [{"role": "user", "content": "Hello"}], "answer": 3}
    found = questions(written(tmp_path, {"prompt": "1+2=", "answer": "3"}, chat), base)
    tokenizer = load_tokenizer(base.path)
    assert tokenizer.decode(found.prompts[0].ids) == "1+2="
    assert tokenizer.decode(found.prompts[1].ids) == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert found.items[1] == chat


def test_every_row_that_is_no_question_is_told(tmp_path: Path, base: Base) -> None:
    ended = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    path = written(tmp_path, {"answer": "3"}, ended, {"prompt": "1" * 65}, {"messages": [{"role": "user"}]})
    with pytest.raises(DataError) as refused:
        questions(path, base)
    lines = str(refused.value).splitlines()
    assert ["line 1" in lines[0], "line 2" in lines[1], "line 3" in lines[2], "line 4" in lines[3]] == [True] * 4
    assert "no messages and no prompt" in lines[0] and "65 tokens" in lines[2]


def test_every_row_is_asked_as_often_as_the_others_and_draws_are_functions_of_their_number(
    tmp_path: Path, base: Base
) -> None:
    found = questions(written(tmp_path, *({"prompt": f"{n}="} for n in range(10))), base)
    draws = [[one.row for one in found.drawn(draw, num=4, seed=7)] for draw in range(5)]
    assert Counter(row for draw in draws for row in draw) == dict.fromkeys(range(10), 2)
    assert draws[3] == [one.row for one in found.drawn(3, num=4, seed=7)]
    assert draws[0] != [one.row for one in found.drawn(0, num=4, seed=8)]


def test_a_function_of_a_file_grades(tmp_path: Path) -> None:
    path = tmp_path / "worth.py"
    path.write_text("def length(item, text):\n    return None if item['skip'] else len(text)\n")
    grade = by_function(load_reward(f"{path}:length"), [{"skip": False}, {"skip": True}])
    assert grade([(0, rollout()), (1, rollout())]) == [0.0, None]


@pytest.mark.parametrize("named", ["nothing", "no_such_module:reward", "nowhere.py:reward", "json:nothing"])
def test_what_names_no_function_is_refused(named: str) -> None:
    with pytest.raises(ConfigurationError, match="--reward"):
        load_reward(named)


@pytest.mark.parametrize("worth", [float("nan"), float("inf"), "good"])
def test_what_is_no_reward_is_refused(worth: Any) -> None:
    with pytest.raises(ConfigurationError, match="finite number"):
        by_function(lambda item, text: worth, [{}])([(0, rollout())])


def test_a_grader_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "grader.json"
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_grader(path)
    path.write_text("[]")
    with pytest.raises(ConfigurationError, match="no object"):
        read_grader(path)
