"""Which rows tasks take, and what is said of the others: by file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graft.training.errors import DataError
from graft.training.tasks.kinds.catalog import KINDS
from graft.training.tasks.rows.labelled import Labelled
from graft.training.tasks.rows.reading import read_rows
from tests.training.tasks.bases import write_rows

A = {"text": ["Rome"], "answer_start": [8]}


def rows_of(task: str, path: Path, *rows: dict[str, Any]) -> list[Any]:
    return [row for _, row in read_rows(write_rows(path, rows), KINDS[task].parse)]


@pytest.mark.parametrize(
    "names",
    [
        ("text", "text_pair"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question", "sentence"),
        ("question1", "question2"), ("question", "passage"),
    ],
)  # fmt: skip
def test_pairs_by_glues_names(tmp_path: Path, names: tuple[str, str]) -> None:
    row = {names[0]: "one", names[1]: "two", "label": 1, "idx": 7}
    assert rows_of("text-classification", tmp_path / "a.jsonl", row) == [Labelled(text="one", pair="two", label=1)]


@pytest.mark.parametrize(
    "label, read", [("a", "a"), (2, 2), (True, "true"), (0.5, 0.5), (["a", "b"], ("a", "b")), ([], ())]
)
def test_labels(tmp_path: Path, label: Any, read: Any) -> None:
    (row,) = rows_of("text-classification", tmp_path / "a.jsonl", {"sentence": "one", "label": label})
    assert row.label == read


def test_tabs_with_and_without_names(tmp_path: Path) -> None:
    parse = KINDS["text-classification"].parse
    bare, named = tmp_path / "bare.tsv", tmp_path / "named.tsv"
    bare.write_text("a good film\t1\na\tbad one\t0\n")
    named.write_text("sentence1\tsentence2\tlabel\none\ttwo\t3.5\n")
    assert [row for _, row in read_rows(bare, parse)] == [
        Labelled(text="a good film", pair=None, label=1),
        Labelled(text="a\tbad one", pair=None, label=0),
    ]
    assert read_rows(named, parse) == [(2, Labelled(text="one", pair="two", label=3.5))]
    named.write_text("sentence\tlabel\none\ttwo\t3\n")
    with pytest.raises(DataError, match=r"named.tsv, line 2: 3 fields, and the first line names 2"):
        read_rows(named, parse)


def test_columns(tmp_path: Path) -> None:
    """Parquet, as a hub has it: classes by number, tags in lists."""
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    columns = {"tokens": [["Anna", "is"], ["in", "Rome"]], "ner_tags": [[1, 0], [0, 2]], "id": ["0", "1"]}
    parquet.write_table(pyarrow.table(columns), path)
    rows = [row for _, row in read_rows(path, KINDS["token-classification"].parse)]
    assert [(row.words, row.tags) for row in rows] == [(("Anna", "is"), (1, 0)), (("in", "Rome"), (0, 2))]
    parquet.write_table(pyarrow.table({**columns, "ner_tags": [[1, 0], [0]]}), path)
    with pytest.raises(DataError, match=r"rows.parquet, row 2: 2 tokens and 1 ner_tags"):
        read_rows(path, KINDS["token-classification"].parse)


def test_choices_by_swags_names(tmp_path: Path) -> None:
    swag = {"startphrase": "She", "sent1": "x", "sent2": "y", "ending0": "runs", "ending1": "sits", "label": 1}
    own = {"prompt": "She", "choices": ["runs", "sits"], "label": 1}
    first, second = rows_of("multiple-choice", tmp_path / "a.jsonl", swag, own)
    assert first == second and first.choices == ("runs", "sits")


@pytest.mark.parametrize(
    "names", [("source", "target"), ("prompt", "completion"), ("document", "summary"), ("question", "answer")]
)
def test_texts_to_write(tmp_path: Path, names: tuple[str, str]) -> None:
    (row,) = rows_of("text2text-generation", tmp_path / "a.jsonl", {names[0]: " in ", names[1]: "out"})
    assert (row.source, row.target) == ("in", "out")


def test_instructions(tmp_path: Path) -> None:
    rows = [{"instruction": "Say", "input": "it", "output": "x"}, {"instruction": "Say", "input": "", "output": "x"}]
    found = rows_of("text2text-generation", tmp_path / "a.jsonl", *rows)
    assert [row.source for row in found] == ["Say\nit", "Say"]


@pytest.mark.parametrize(
    "task, row, wrong",
    [
        ("text-classification", {"text": "a"}, "label is missing"),
        ("text-classification", {"label": 1}, "it has none of them"),
        ("text-classification", {"text": "a", "premise": "b", "label": 1}, "it has premise, text"),
        ("text-classification", {"text": " ", "label": 1}, "text is empty"),
        ("text-classification", {"text": 3, "label": 1}, "text must be a string, not 3"),
        ("text-classification", {"text": "a", "label": {}}, "label must be a name, a number or a list"),
        ("token-classification", {"tokens": ["a", "b"], "tags": ["O"]}, "2 tokens and 1 tags"),
        ("token-classification", {"tokens": ["a b"], "tags": ["O"]}, "a token holds a blank"),
        ("token-classification", {"tokens": [], "tags": []}, "tokens must be a list"),
        ("question-answering", {"context": "He is in Rome", "question": "q", "answers": A}, "answer_start 8 is wrong"),
        ("question-answering", {"context": "a", "question": "q", "answers": []}, "answers must be an object"),
        ("multiple-choice", {"prompt": "a", "choices": ["b"], "label": 0}, "there is one choice"),
        ("multiple-choice", {"prompt": "a", "choices": ["b", "c"], "label": 2}, "from 0 to 1, not 2"),
        ("text2text-generation", {"source": "a", "target": ""}, "target is empty"),
        ("text2text-generation", {"source": "a", "completion": "b"}, "it has completion, source"),
    ],
)
def test_a_bad_row_is_told_with_its_line(tmp_path: Path, task: str, row: dict[str, Any], wrong: str) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(DataError) as caught:
        rows_of(task, path, row)
    told = str(caught.value)
    assert told.startswith(f"{path}, line 1: ") and wrong in told and "\n" not in told


def test_all_bad_rows_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        rows_of("text-classification", tmp_path / "a.jsonl", {"text": "a"}, {"text": "a", "label": 1}, {"label": 1})
    assert [line.split(", ")[1].split(":")[0] for line in str(caught.value).splitlines()] == ["line 1", "line 3"]
