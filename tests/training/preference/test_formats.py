"""Rows of preferences in every format that is read, and what is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from graft.adapters.text.problems import BadLine
from graft.training.adapt.adaptable import Adaptable
from graft.training.batch.encoding import RowEncoder
from graft.training.batch.rows.row import Completion, Conversation
from graft.training.corpus import hh_rlhf
from graft.training.errors import DataError
from graft.training.finetune.rows import RowReader
from graft.training.preference.formats import judged_of, pair_of
from graft.training.preference.reading import EncodedPair, read_judged, read_pairs

ASKED = {"role": "user", "content": "Hi?"}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("Yes.", "No."))
HH = "\n\nHuman: a\n\nAssistant:"
PAIRS: dict[str, dict[str, Any]] = {
    "prompt as text": {"prompt": "Hi?", "chosen": " Yes.", "rejected": " No."},
    "text that both begin with": {"chosen": "Hi? Yes.", "rejected": "Hi? No."},
    "messages": {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
    "messages that both begin with": {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
    "prompt as text beside messages": {"prompt": "Hi?", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
    "OpenAI": {"input": {"messages": [ASKED]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
}


@pytest.mark.parametrize("name", PAIRS)
def test_every_format_is_the_same_pair(name: str) -> None:
    pair = pair_of(PAIRS[name])
    if isinstance(pair.chosen, Completion):
        assert isinstance(pair.rejected, Completion)
        assert {pair.chosen.prompt, pair.rejected.prompt} == {"Hi?"}
        assert [pair.chosen.completion, pair.rejected.completion] == [" Yes.", " No."]
        return
    for row, said in ((pair.chosen, "Yes."), (pair.rejected, "No.")):
        assert isinstance(row, Conversation)
        assert [(turn.role, turn.content) for turn in row.turns] == [("user", "Hi?"), ("assistant", said)]


def test_only_the_last_answer_of_a_conversation_is_learned() -> None:
    pair = pair_of({"prompt": [ASKED, BAD, ASKED], "chosen": [GOOD], "rejected": [BAD]})
    assert isinstance(pair.chosen, Conversation)
    assert [turn.is_learned for turn in pair.chosen.turns] == [False, False, False, True]


def test_texts_part_before_a_word() -> None:
    """TRL parts within it: its prompt would be ``The sky is bl``."""
    pair = pair_of({"chosen": "The sky is blue.", "rejected": "The sky is black."})
    assert isinstance(pair.chosen, Completion)
    assert (pair.chosen.prompt, pair.chosen.completion) == ("The sky is", " blue.")


def test_labels_and_pairs_are_answers_that_were_judged() -> None:
    (one,) = judged_of({"prompt": [ASKED], "completion": [GOOD], "label": True})
    (text,) = judged_of({"prompt": "Hi?", "completion": " No.", "label": False})
    both = judged_of(PAIRS["messages"])
    assert [one.is_desirable, text.is_desirable] == [True, False]
    assert [each.is_desirable for each in both] == [True, False] and both[0].answer == one.answer


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "a", "chosen": "b"}, "rejected is missing"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "equal, so neither is preferred"),
        ({"prompt": [ASKED], "chosen": [GOOD], "rejected": [GOOD]}, "equal, so neither is preferred"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "completion is empty"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "score": 1}, "unknown key 'score'"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "margin": "much"}, "margin is 'much'"),
        ({"chosen": "Hi? Yes.", "rejected": "Hi?"}, "the beginning of the other"),
        ({"prompt": [ASKED], "chosen": [GOOD, ASKED, GOOD], "rejected": [BAD]}, "3 messages of its own"),
        ({"prompt": "a", "completion": "b", "label": True}, "loss_type kto takes labels"),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
            "graft corpus hh-rlhf",
        ),
        ({"input": {"messages": [ASKED]}, "preferred_output": [GOOD]}, "non_preferred_output is missing"),
    ],
)
def test_what_is_no_pair(row: Any, words: str) -> None:
    with pytest.raises(BadLine, match=words):
        pair_of(row)


@pytest.mark.parametrize("label", [1, "true", 0.5])
def test_what_is_no_label(label: Any) -> None:
    with pytest.raises(BadLine, match="must be true"):
        judged_of({"prompt": "a", "completion": "b", "label": label})


def reader(tokenizer: PreTrainedTokenizerFast) -> RowReader:
    """Of a base that holds whatever the tokenizer says."""
    base = Adaptable.__new__(Adaptable)
    for name, value in {"num_embeddings": 1 << 20, "num_positions": None, "has_learned_positions": False}.items():
        object.__setattr__(base, name, value)
    return RowReader(encoder=RowEncoder(tokenizer), base=base, max_length=512)


def written(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_all_bad_rows_are_told_at_once(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    same = {"prompt": "a", "chosen": "b", "rejected": "b"}
    path = written(tmp_path / "rows.jsonl", [PAIRS["messages"], same, {"prompt": "a"}, PAIRS["OpenAI"]])
    with pytest.raises(DataError) as raised:
        read_pairs(path, reader(tokenizer), has_margins=False)
    first, second = str(raised.value).splitlines()
    assert "line 2: chosen and rejected are equal" in first and "line 3: chosen is missing" in second


def test_a_pair_has_the_prompt_that_serving_sends(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (pair,) = read_pairs(
        written(tmp_path / "rows.jsonl", [PAIRS["messages"]]),
        reader(tokenizer),
        has_margins=False,
    ).rows
    sent = tokenizer.apply_chat_template([ASKED], add_generation_prompt=True)["input_ids"]
    for answer in (pair.chosen, pair.rejected):
        assert answer.input_ids[: answer.num_prompt] == sent
        assert answer.supervised == [place >= len(sent) for place in range(len(answer.input_ids))]


def test_margins_are_for_all_rows_or_for_none(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    def read(rows: Sequence[Any], *, has_margins: bool = True) -> list[EncodedPair]:
        path = written(tmp_path / "rows.jsonl", rows)
        return read_pairs(path, reader(tokenizer), has_margins=has_margins).rows

    with_margin = {**PAIRS["prompt as text"], "margin": 2}
    assert [pair.margin for pair in read([with_margin])] == [2.0]
    with pytest.raises(DataError, match="line 2: margin is missing"):
        read([with_margin, PAIRS["prompt as text"]])
    with pytest.raises(DataError, match="only loss_type reward looks at"):
        read([with_margin], has_margins=False)


def test_one_class_alone_teaches_nothing(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": one, "label": True} for one in "bc"]
    with pytest.raises(DataError, match="every label is true"):
        read_judged(written(tmp_path / "rows.jsonl", rows), reader(tokenizer))


def test_hh_rlhf_becomes_messages(tmp_path: Path) -> None:
    asked = "\n\nHuman: Hi?\n\nAssistant: What?\n\nHuman: Well?\n\nAssistant:"
    rows = [
        {"chosen": f"{asked} Yes.\n\nReally.", "rejected": f"{asked} No."},
        {"chosen": f"{asked} Yes.", "rejected": f"{asked} Yes."},
        {"chosen": f"{asked} Yes.", "rejected": f"{asked}"},
        {"chosen": f"{asked} Yes.", "rejected": "\n\nHuman: Who?\n\nAssistant: No."},
    ]
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    converted = hh_rlhf.read(path)
    (row,) = converted.rows
    assert [turn["content"] for turn in row["prompt"]] == ["Hi?", "What?", "Well?"]
    assert row["chosen"] == [{"role": "assistant", "content": "Yes.\n\nReally."}]
    assert converted.dropped == {
        "both are equal": 1,
        "a turn is empty": 1,
        "they differ before the last turn": 1,
    }
    pair = pair_of(row)
    assert isinstance(pair.rejected, Conversation) and pair.rejected.turns[-1].content == "No."
