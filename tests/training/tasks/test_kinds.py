"""What is asked of a row's tokens, beside Hugging Face's own tools for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig

from graft.training.batch.packing import IGNORED
from graft.training.errors import DataError
from graft.training.tasks.data import TaskData
from graft.training.tasks.kinds.catalog import KINDS
from graft.training.tasks.ready import setup_of
from graft.training.tasks.rows.reading import read_rows
from graft.training.tasks.settings import TaskSettings
from graft.training.tasks.task import Task
from tests.training.tasks.bases import tokenizer_of, with_frame, write_rows
from tests.training.tokenizers_of import make_tokenizer

WORDS = ["Anna", "Bobson-Smith", "lives", "in", "Paris"]
TAGS = ["B-PER", "I-PER", "O", "O", "B-LOC"]
CONTEXT = "Anna lives in Paris and Bob lives in Rome. She was very good; he was bad, and awful."


def made(
    folder: Path, task: str, rows: list[dict[str, Any]], kind: str = "bert", tokenizer: Any = None, **settings: Any
) -> tuple[Task, TaskData]:
    checked = TaskSettings.from_mapping({"task": task, "max_length": 64, **settings})
    tokenizer = tokenizer or with_frame(tokenizer_of(), "<s> $A </s>", "<s> $A </s> $B:1 </s>:1")
    setup = setup_of(checked, AutoConfig.for_model(kind), tokenizer)
    path = write_rows(folder / "rows.jsonl", rows)
    numbered = read_rows(path, KINDS[task].parse)
    found = KINDS[task].of(path, numbered, setup)
    return found, TaskData.of(path, numbered, found, num_positions=None, num_embeddings=10_000)


@pytest.mark.parametrize("kind", ["word piece", "metaspace always", "unigram"])
def test_the_first_token_of_a_word_has_its_tag(tmp_path: Path, kind: str) -> None:
    tokenizer = make_tokenizer(kind, pair="<s> $A </s>", pad="</s>")
    tokenizer.pad_token = "<unk>"
    row = {"tokens": WORDS, "tags": TAGS}
    task, data = made(tmp_path, "token-classification", [row], tokenizer=tokenizer)
    their = tokenizer(WORDS, is_split_into_words=True)
    example = data.examples[0]
    assert list(example.ids) == their["input_ids"]
    names = sorted(set(TAGS))
    before, expected = None, []
    for word in their.word_ids():
        expected.append(IGNORED if word is None or word == before else names.index(TAGS[word]))
        before = word
    assert example.asked["tags"] == expected
    assert task.head.options["id2label"] == dict(enumerate(names))


def test_words_that_have_no_room_are_cut_or_refused(tmp_path: Path) -> None:
    rows = [{"tokens": WORDS * 6, "tags": TAGS * 6}, {"tokens": WORDS[2:], "tags": TAGS[2:]}]
    with pytest.raises(DataError, match=r"line 1: \d+ tokens, max_length is 20"):
        made(tmp_path, "token-classification", rows, max_length=20)
    _, dropped = made(tmp_path, "token-classification", rows, max_length=20, long_rows="drop")
    assert [example.row for example in dropped.examples] == [1]
    _, cut = made(tmp_path, "token-classification", rows, max_length=20, long_rows="cut")
    assert len(cut.examples) == 2 and len(cut.examples[0].ids) <= 20


@pytest.mark.parametrize("stride", [0, 7])
def test_windows_are_those_of_hugging_face(tmp_path: Path, stride: int) -> None:
    tokenizer = with_frame(tokenizer_of(), "<s> $A </s>", "<s> $A </s> $B:1 </s>:1")
    answer = {"text": ["Rome"], "answer_start": [CONTEXT.index("Rome")]}
    row = {"context": CONTEXT, "question": "where lives Bob", "answers": answer}
    settings = {"max_length": 40, "doc_stride": stride}
    _, data = made(tmp_path, "question-answering", [row], tokenizer=tokenizer, **settings)
    their = tokenizer(
        row["question"], CONTEXT, truncation="only_second", max_length=40, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    assert [list(example.ids) for example in data.examples] == their["input_ids"] and len(data.examples) > 1
    for at, example in enumerate(data.examples):
        start, end = example.asked["start"], example.asked["end"]
        text = CONTEXT[their["offset_mapping"][at][start][0] : their["offset_mapping"][at][end][1]]
        is_here = "Rome" in CONTEXT[slice(*_bounds(their, at))]
        assert (text.strip() == "Rome") if is_here else (start, end) == (0, 0)


def _bounds(their: Any, at: int) -> tuple[int, int]:
    own = [place for place, kind in zip(their["offset_mapping"][at], their.sequence_ids(at), strict=True) if kind == 1]
    return own[0][0], own[-1][1]


def test_the_likeliest_span_of_all_windows_is_the_answer(tmp_path: Path) -> None:
    """Beside a slow search of every span of every window; and no answer where that is likelier."""
    begin = CONTEXT.index("Rome")
    rows = [
        {"context": CONTEXT, "question": "where", "answers": {"text": ["Rome"], "answer_start": [begin]}},
        {"context": CONTEXT, "question": "who", "answers": {"text": [], "answer_start": []}},
    ]
    task, data = made(tmp_path, "question-answering", rows, max_length=30, doc_stride=4, max_answer_length=5)
    rng = np.random.default_rng(0)
    said = [tuple(rng.normal(size=(2, 32))) for _ in data.examples]
    found = task.found(data.rows, data.examples, said)  # type: ignore[attr-defined]
    for row in range(2):
        best, none = (-np.inf, ""), np.inf
        for example, (start, end) in zip(data.examples, said, strict=True):
            if example.row != row:
                continue
            none = min(none, start[0] + end[0])
            first, places = example.first, example.places  # type: ignore[attr-defined]
            for one in range(len(places)):
                for other in range(one, min(one + 5, len(places))):
                    score = start[first + one] + end[first + other]
                    best = max(best, (score, CONTEXT[places[one][0] : places[other][1]].strip()))
        assert found[row] == ("" if none > best[0] else best[1])


@pytest.mark.parametrize(
    "rows, wrong",
    [
        ([{"text": "a", "label": "x"}, {"text": "b", "label": "x"}], "one label only, 'x', in all rows"),
        ([{"text": "a", "label": 0}, {"text": "b", "label": 2}], "no row of the label '1'"),
        ([{"text": "a", "label": -1}, {"text": "b", "label": 2}], "has the label -1: number classes from 0"),
        ([{"text": "a", "label": "x"}, {"text": "b", "label": 2}], "labels that are names and labels that are numbers"),
        ([{"text": "a", "label": ["x"]}, {"text": "b", "label": "y"}], "line 2: its label is no list"),
        ([{"text": "a", "label": 0.5}, {"text": "b", "label": 0.5}], "label 0.5 in all rows"),
        ([{"text": "a", "label": 0.5}, {"text": "b", "label": "y"}], "line 2: label must be a number, not 'y'"),
        ([{"text": "a", "text_pair": "b", "label": 0}, {"text": "b", "label": 1}], "line 2: it is one text"),
    ],
)
def test_labels_that_cannot_be_learned(tmp_path: Path, rows: list[dict[str, Any]], wrong: str) -> None:
    with pytest.raises(DataError) as caught:
        made(tmp_path, "text-classification", rows)
    assert wrong in str(caught.value) and "\n" not in str(caught.value)
    assert str(tmp_path / "rows.jsonl") in str(caught.value)


def test_declared_labels(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    _, data = made(tmp_path, "text-classification", rows, label_names="y,x")
    assert [example.asked["label"] for example in data.examples] == [1, 0]
    with pytest.raises(DataError, match="no row of the label 'z', which --label-names has"):
        made(tmp_path, "text-classification", rows, label_names="x,y,z")
    with pytest.raises(DataError, match=r"line 2: label 'y' is none of the 2 labels x, z"):
        made(tmp_path, "text-classification", rows, label_names="x,z")


def test_pairs_are_cut_at_the_longer_text(tmp_path: Path) -> None:
    """Hugging Face's ``longest_first``."""
    tokenizer = with_frame(tokenizer_of(), "<s> $A </s>", "<s> $A </s> $B:1 </s>:1")
    rows = [{"text": CONTEXT, "text_pair": "Bob was", "label": 0}, {"text": "a", "text_pair": CONTEXT, "label": 1}]
    _, data = made(tmp_path, "text-classification", rows, tokenizer=tokenizer, max_length=20, long_rows="cut")
    for row, example in zip(rows, data.examples, strict=True):
        their = tokenizer(row["text"], row["text_pair"], truncation="longest_first", max_length=20)
        assert list(example.ids) == their["input_ids"] and list(example.types) == their["token_type_ids"]


def test_a_choice_that_is_not_there_is_never_said(tmp_path: Path) -> None:
    rows = [
        {"prompt": "She", "choices": ["was", "is", "lives"], "label": 2},
        {"prompt": "He", "choices": ["was", "is"], "label": 0},
    ]
    task, data = made(tmp_path, "multiple-choice", rows)
    batch = task.batch(data.examples)
    assert batch.inputs["input_ids"].shape[:2] == (2, 3)
    assert batch.inputs["is_there"].tolist() == [[True, True, True], [True, True, False]]
    with pytest.raises(DataError, match="label 0 in all rows"):
        made(tmp_path, "multiple-choice", [{**row, "label": 0} for row in rows])


def test_a_question_that_leaves_no_room(tmp_path: Path) -> None:
    answer = {"text": ["Rome"], "answer_start": [CONTEXT.index("Rome")]}
    row = {"context": CONTEXT, "question": "where " * 20, "answers": answer}
    with pytest.raises(DataError, match=r"line 1: its question leaves \d+ of max_length 30"):
        made(tmp_path, "question-answering", [row], max_length=30, doc_stride=4)


def test_several_classes_and_numbers_are_measured_by_their_own(tmp_path: Path) -> None:
    several = [{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": []}, {"text": "c", "label": ["y"]}]
    task, data = made(tmp_path, "text-classification", several)
    assert task.batch(data.examples).labels["label"].tolist() == [[1, 1], [0, 0], [0, 1]]
    found = task.metrics(data.rows, data.examples, [[2.0, 1.0], [-1.0, 0.5], [-3.0, 0.1]])
    assert found["accuracy"] == pytest.approx(2 / 3) and found["micro_f1"] == pytest.approx(2 * 3 / (2 * 3 + 1))
    assert task.head.options["problem_type"] == "multi_label_classification"

    numbers = [{"text": "a", "label": 1}, {"text": "b", "label": 2.5}, {"text": "c", "label": 4.0}]
    task, data = made(tmp_path, "text-classification", numbers)
    assert task.batch(data.examples).inputs["target"].tolist() == [1.0, 2.5, 4.0]
    found = task.metrics(data.rows, data.examples, [[2.0], [3.5], [5.0]])
    assert found == {"pearson": pytest.approx(1.0), "spearmanr": pytest.approx(1.0), "mse": pytest.approx(1.0)}
    assert task.head.options == {"num_labels": 1, "problem_type": "regression"}
