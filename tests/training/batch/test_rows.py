from pathlib import Path

import pytest

from graft.training.batch.rows import reading
from graft.training.batch.rows.row import Completion, Conversation, Row
from graft.training.errors import DataError

GOOD = '{"prompt": "a", "completion": "b"}'


def write(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return path


def read_rows(path: Path) -> list[tuple[int, Row]]:
    return reading.read_rows(path, lambda row: row).usable()


def test_both_kinds_of_rows(tmp_path: Path) -> None:
    chat = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}, '
    chat += '{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}'
    (_, first), (number, second) = read_rows(write(tmp_path, GOOD, "", chat))
    assert first == Completion(prompt="a", completion="b")
    assert number == 3
    assert isinstance(second, Conversation)
    assert [turn.is_learned for turn in second.turns] == [False, False, False, True]


@pytest.mark.parametrize(
    "line, wrong",
    [
        ('{"prompt": "a", "completion": ', "broken JSON at column"),
        (b'{"prompt": "\xff", "completion": "b"}', "not UTF-8"),
        ("[1]", "must be a JSON object, not a list"),
        ("{}", "needs messages, or prompt and completion, instruction"),
        ('{"prompt": "a"}', "completion is missing"),
        ('{"prompt": "a", "completion": ""}', "completion is empty"),
        ('{"prompt": 1, "completion": "b"}', "prompt must be a string, not a number"),
        ('{"prompt": "a\\u0000", "completion": "b"}', "NUL character at position 2"),
        ('{"prompt": "\\ud800", "completion": "b"}', "surrogate"),
        ('{"prompt": "a", "completion": "b", "lable": 1}', "unknown key 'lable'"),
        ('{"messages": []}', "at least one message"),
        ('{"messages": "hi"}', "not a string"),
        ('{"messages": [{"role": "user", "content": "q"}]}', "no assistant message"),
        ('{"messages": [{"role": "robot", "content": "q"}]}', "role 'robot'"),
        ('{"messages": [{"role": "assistant", "content": " "}]}', "content is empty"),
        ('{"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]}', "weight 0.5"),
        ('{"messages": [{"role": "user", "content": "q", "weight": 1}]}', "unknown key 'weight'"),
        ('{"messages": ["hi"]}', "message 1 must be an object"),
        ("[" * 100000, "nested too deeply"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, line: str | bytes, wrong: str) -> None:
    path = write(tmp_path, GOOD, "", line, GOOD)
    with pytest.raises(DataError) as caught:
        read_rows(path)
    assert f"{path}, line 3: " in str(caught.value)
    assert wrong in str(caught.value)


def test_all_bad_rows_up_to_ten_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(write(tmp_path, *["{}"] * 12))
    assert str(caught.value).count(", line ") == 10
    assert "2 more bad lines" in str(caught.value) and str(caught.value).endswith("in lines 11, 12")


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no rows"):
        read_rows(write(tmp_path, "", " "))
