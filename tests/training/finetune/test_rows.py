"""What is learned of files of rows, what is left out, and that it is told."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from graft.adapters.base.base import Base
from graft.training.adapt.adaptable import Adaptable
from graft.training.errors import ConfigurationError, DataError
from graft.training.finetune.data import Learning
from graft.training.finetune.ready import Ready, reader_of
from graft.training.finetune.rows import LearnedFile, RowReader
from graft.training.finetune.settings import FinetuneSettings
from graft.training.job.lineage import data_digest
from graft.training.job.sources import Source, Sources
from graft.training.model.loading import load_tokenizer
from graft.training.report.masks import pieces_of


@pytest.fixture(scope="module")
def base(tiny_base: Path) -> Adaptable:
    return Adaptable.of(Base.from_folder(tiny_base))


def reader(base: Adaptable, **settings: Any) -> RowReader:
    return reader_of(base, FinetuneSettings.from_mapping(settings))


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pair(prompt: str, completion: str) -> dict[str, str]:
    return {"prompt": prompt, "completion": completion}


LONG = "abcdefghijklmnopqrstuvwxyz" * 2


@pytest.mark.parametrize(
    ("how", "kept"),
    [("drop", []), ("keep_start", [LONG[:10]]), ("keep_end", [LONG[-9:] + "<|eos|>"])],
)
def test_long_rows_are_cut_or_dropped_as_it_was_said(
    how: str, kept: list[str], base: Adaptable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "rows.jsonl", pair("a", "b"), {"text": LONG}, pair(LONG, "b"))
    settings = {"max_length": 10, "long_rows": how}
    found = LearnedFile.read(path, reader(base, **settings))
    tokenizer = load_tokenizer(base.path)
    texts = [tokenizer.decode(one.input_ids) for one in found.examples()]
    assert texts[0] == "ab<|eos|>" and texts[1 : 1 + len(kept)] == kept
    left_out = [number for number, _ in found.dropped]
    assert left_out == {"drop": [2, 3], "keep_start": [3], "keep_end": []}[how]  # of the third the answer was cut off
    assert len(found.cut) == 2 - len(left_out)
    assert "rows are dropped, the first in line" in caplog.text or how == "keep_end"
    with pytest.raises(DataError, match=r"line 2: \d+ tokens, max_length is 10; shorten the row or raise max_length"):
        LearnedFile.read(path, reader(base, max_length=10)).examples()


def test_a_long_text_goes_on_in_other_examples(base: Adaptable, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", {"text": LONG}, pair("a", "b"))
    whole = LearnedFile.read(path, reader(base)).numbered[0][1]
    parts = [
        one
        for number, one in LearnedFile.read(path, reader(base, max_length=9, long_rows="split")).numbered
        if number == 1
    ]
    assert all(len(one.input_ids) <= 9 for one in parts)
    assert [id for one in parts for id in one.input_ids[1:]] == list(whole.input_ids[1:])  # each token once
    assert all(one.input_ids[0] == before.input_ids[-1] for before, one in pairwise(parts))
    write(path, pair(LONG, "b"))
    with pytest.raises(DataError, match="line 1"):
        LearnedFile.read(path, reader(base, max_length=9, long_rows="split")).examples()


def test_wrong_rows_of_all_files_are_told_at_once(base: Adaptable, tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", pair("a", ""), *[{"text": ""}] * 200)
    second = write(tmp_path / "b.jsonl", {"messages": []})
    with pytest.raises(DataError) as caught:
        Learning.read(Sources.parse([str(first), str(second)]), reader(base))
    told = str(caught.value)
    assert "a.jsonl, line 1: " in told and "b.jsonl, line 1: " in told
    assert "191 more bad lines" in told and told.count(",") < 60  # not the number of every line


def test_a_split_is_disjoint_by_content_and_the_same_again(base: Adaptable, tmp_path: Path) -> None:
    rows = [pair(f"{number} -> ", "x") for number in range(40)]
    path = write(tmp_path / "rows.jsonl", *rows, *rows[:20], *[pair(f"{number} -> ", "y") for number in range(5)])
    made = [Learning.read(Sources.of(path), reader(base), split=0.1, seed=seed) for seed in (0, 0, 1)]
    out, learned = ({tuple(one.input_ids) for one in rows} for rows in (made[0].held_out, made[0].examples))
    assert len(out) == round(0.1 * 45) and not out & learned and len(out | learned) == 45
    assert made[0].held_out == made[1].held_out and made[0].held_out != made[2].held_out
    assert len(made[0].examples) + len(made[0].held_out) == 65
    moved = Learning.read(Sources.of(write(path, *reversed(rows))), reader(base), split=0.1)
    assert len({tuple(one.input_ids) for one in moved.held_out} & out) >= 3  # the order of rows decides nothing


def test_files_and_weights(tmp_path: Path) -> None:
    odd = tmp_path / "rows:0.5"
    assert Source.parse("a.jsonl:0.3") == Source(path=Path("a.jsonl"), weight=0.3)
    assert Source.parse("c:rows.jsonl") == Source(path=Path("c:rows.jsonl"))
    assert Source.parse(str(odd)).weight == 0.5
    odd.touch()
    assert Source.parse(str(odd)) == Source(path=odd)
    both = Sources.parse(["a.jsonl", {"path": "b.parquet", "weight": 0.2}])
    assert both.weights == (None, 0.2)
    for wrong, told in (
        (["a", "b:1.5"], "must be below 1"),
        (["a", "a:0.5"], "a twice"),
        ([{"path": "a", "share": 1}], "share"),
        (["a:-1"], "above 0"),
        (3, "has the value 3"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            Sources.parse(wrong)


def test_each_file_and_weight_stands_in_the_digest(tmp_path: Path) -> None:
    first, second = (write(tmp_path / name, pair(name, "x")) for name in ("a.jsonl", "b.jsonl"))
    assert Sources.of(first).digest == data_digest(first)
    digests = {
        Sources.parse(given).digest
        for given in ([str(first)], [str(first), str(second)], [str(first), f"{second}:0.3"], [str(second), str(first)])
    }
    assert len(digests) == 4


def test_gsm8k_is_learned_with_its_reasoning(base: Adaptable, tmp_path: Path, data_path: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(data_path("gsm8k/train.jsonl").open().readlines()[:500]))
    settings = {"columns": "prompt=question,completion=answer", "max_length": 4096}
    found = LearnedFile.read(path, reader(base, **settings))
    examples = found.examples()
    assert len(examples) == 500 and not found.dropped and not found.cut
    tokenizer = load_tokenizer(base.path)
    for row, example in zip(map(json.loads, path.open()), examples, strict=True):
        learned = [id for id, is_learned in zip(example.input_ids, example.supervised, strict=True) if is_learned]
        assert tokenizer.decode(learned) == row["answer"] + "<|eos|>" and "####" in row["answer"]
        assert tokenizer.decode(example.input_ids) == row["question"] + row["answer"] + "<|eos|>"


def test_names_of_columns_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="must be key=name"):
        FinetuneSettings.from_mapping({"columns": "prompt"})


@pytest.mark.parametrize(
    ("how", "weight", "learned"),
    [("all", 1, ["b<|im_end|>", "d<|im_end|>"]), ("last", 1, ["d<|im_end|>"]), ("last", 0, ["b<|im_end|>"])],
)
def test_the_last_answer_of_a_conversation_alone_may_be_learned(
    how: str, weight: int, learned: list[str], base: Adaptable, tmp_path: Path
) -> None:
    turns = [("user", "a?"), ("assistant", "b"), ("user", "c?"), ("assistant", "d")]
    row: dict[str, Any] = {"messages": [{"role": role, "content": content} for role, content in turns]}
    row["messages"][-1]["weight"] = weight
    found = LearnedFile.read(write(tmp_path / "rows.jsonl", row), reader(base, train_on_turns=how))
    (example,) = found.examples()
    tokenizer = load_tokenizer(base.path)
    assert [text for text, is_learned in pieces_of(example, tokenizer) if is_learned] == learned


def test_measuring_on_nothing_is_said(tiny_base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base, data = Base.from_folder(tiny_base), write(tmp_path / "rows.jsonl", pair("a", "b"), pair("c", "d"))
    for options, is_idle in (({"validation_split": 0.5}, False), ({}, True)):
        settings = FinetuneSettings.from_mapping({"eval_steps": 5, **options})
        Ready.of(base, settings.form, data, settings, settings.mesh(1), num_processes=1)
        assert ("eval_steps has no effect: nothing is held out; add --validation FILE" in caplog.text) == is_idle
