from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from graft.training.batch.rows import reading
from graft.training.batch.rows.row import Completion, Conversation, Document, Row
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
        ('{"prompt": "a", "chosen": "b", "rejected": "c"}', "train on preferences with graft align"),
        ('{"input": {}, "preferred_output": [], "non_preferred_output": []}', "with graft align"),
        ('{"prompt": "a", "completion": "b", "label": true}', "graft align --loss-type kto"),
        ('{"text": "a", "label": "good"}', "--task text-classification"),
        ('{"tokens": ["a"], "tags": ["O"]}', "--task token-classification"),
        ('{"context": "a", "question": "b", "answers": {}}', "--task question-answering"),
        ('{"prompt": "a", "choices": ["b", "c"], "label": 0}', "--task multiple-choice"),
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


def test_another_kind_of_file_is_told_all_that_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,completion\na,b\n")
    with pytest.raises(DataError, match=r"'\.csv' is no known kind of rows; use \.jsonl, .*\.parquet, .* or \.ipc"):
        read_rows(path)


def test_a_table_of_preferences_says_who_reads_it_and_a_label_beside_a_text_is_unread(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{"prompt": "a", "chosen": "b", "rejected": "c"}]), path)
    with pytest.raises(DataError, match="graft align"):
        read_rows(path)
    parquet.write_table(pyarrow.Table.from_pylist([{"text": "a", "label": 1}]), path)
    assert read_rows(path) == [(1, Document(text="a"))]


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no rows"):
        read_rows(write(tmp_path, "", " "))
