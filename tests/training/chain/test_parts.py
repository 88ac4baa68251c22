"""A chain's rows, settings and stages; and what its reward model finds, which Hugging Face's class finds, too."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from graft.adapters.base.base import Base
from graft.adapters.errors import InvalidReference
from graft.training.batch.answers import Answer
from graft.training.chain.rows import HELD_OUT, PAIRS, PROMPTS, SUPERVISED, Rows
from graft.training.chain.settings import ChainSettings
from graft.training.chain.stage import Stage
from graft.training.commands import align
from graft.training.errors import ConfigurationError, DataError, OtherRun
from graft.training.preference.job import Align
from graft.training.preference.judging import RewardModel
from graft.training.preference.settings import AlignSettings

CHAT = {
    "prompt": [{"role": "user", "content": "hello"}],
    "chosen": [{"role": "assistant", "content": "good day"}],
    "rejected": [{"role": "assistant", "content": "no"}],
}


def pairs(folder: Path, *others: dict[str, Any], num: int = 20) -> Path:
    rows = [{"prompt": f"{word} ", "chosen": f"{word}!", "rejected": "no"} for word in map(str, range(num))]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *others]))
    return folder / "pairs.jsonl"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_held_out_is_seen_by_no_stage(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    long = {"prompt": "word " * 200, "chosen": "a", "rejected": "b"}
    path = pairs(tmp_path, CHAT, long)
    found = [Rows.read(path, tokenizer, max_tokens=64, held_out=0.25, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] and found[0].held_out != found[2].held_out
    rows = found[0]
    assert (len(rows.learned), len(rows.held_out), rows.num_long) == (16, 5, 1)
    rows.write(tmp_path / "rows")
    seen = [lines(tmp_path / "rows" / name) for name in (PAIRS, SUPERVISED, PROMPTS)]
    assert [len(one) for one in seen] == [16, 16, 16]
    for row in lines(tmp_path / "rows" / HELD_OUT):
        assert all(row != other for other in seen[2])
    chats = [row for name in (PROMPTS, HELD_OUT) for row in lines(tmp_path / "rows" / name) if "messages" in row]
    assert chats == [{"messages": CHAT["prompt"]}]


def test_a_prompt_is_learned_or_held_out_and_never_both(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Files of preferences have several pairs of answers to a prompt."""
    more = [{"prompt": f"{number} ", "chosen": f"more {by}", "rejected": "no"} for number in range(20) for by in "abc"]
    rows = Rows.read(pairs(tmp_path, *more), tokenizer, max_tokens=64, held_out=0.25, seed=0)
    learned, held_out = ({row["prompt"] for row in part} for part in (rows.learned, rows.held_out))
    assert not learned & held_out and (len(learned), len(held_out)) == (15, 5)
    assert (len(rows.learned), len(rows.held_out)) == (60, 20)


def test_a_prompt_that_no_base_reads_is_named_by_its_line(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    wrong = {**CHAT, "prompt": [{"role": "user", "content": 7}]}
    with pytest.raises(DataError, match="line 21"):
        Rows.read(pairs(tmp_path, wrong), tokenizer, max_tokens=64, held_out=0.25, seed=0)


@pytest.mark.parametrize("flags", [["--plan"], ["--ray", "2"], ["--ray-address", "here:1"], ["--resume"]])
def test_flags_that_no_chain_has_are_refused(flags: list[str], tmp_path: Path) -> None:
    said = ["--chain", "--name", "a", "--data", str(tmp_path / "rows.jsonl"), "--output", str(tmp_path / "out"), *flags]
    parser = argparse.ArgumentParser()
    align.configure(parser)
    with pytest.raises(ConfigurationError, match=f"--chain takes no {flags[0]}"):
        align.run(parser.parse_args(said))
    assert not (tmp_path / "out").exists()


def test_a_chain_has_a_name_that_an_adapter_may_have(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    align.configure(parser)
    with pytest.raises(InvalidReference, match="adapter"):
        align.run(parser.parse_args(["--chain", "--name", "../x", "--data", str(tmp_path / "rows.jsonl")]))


def test_rows_of_other_kinds_are_refused_together(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = pairs(tmp_path, {"prompt": "a"}, {"prompt": "a", "chosen": "b", "rejected": CHAT["rejected"]})
    with pytest.raises(DataError, match=r"(?s)line 21.*line 22"):
        Rows.read(path, tokenizer, max_tokens=64, held_out=0.25, seed=0)
    with pytest.raises(DataError, match="need 2 or more"):
        Rows.read(pairs(tmp_path, num=3), tokenizer, max_tokens=64, held_out=0.25, seed=0)


def test_stages_that_are_other_than_their_names_are_refused_together() -> None:
    said = {
        "supervised": {"method": "lora"},
        "reward": {"loss_type": "sigmoid"},
        "ppo": {"loss_type": "dapo", "kl_target": None},
        "held_out": 1.0,
        "max_kl": 0,
    }
    with pytest.raises(ConfigurationError) as caught:
        ChainSettings.from_mapping(said)
    for part in ("supervised: method is lora", "reward: loss_type", "ppo: loss_type", "held_out is 1.0", "max_kl is 0"):
        assert part in str(caught.value)
    with pytest.raises(ConfigurationError, match="no section sft"):
        ChainSettings.from_mapping({"sft": {}})
    assert ChainSettings.from_mapping({"ppo": {"num_rounds": 3}}).ppo.num_rounds == 3


def test_a_stage_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    trained: list[bool] = []

    def train(resume: bool) -> Path:
        trained.append(resume)
        (tmp_path / "one" / "adapter").mkdir(parents=True, exist_ok=True)
        if len(trained) == 1:
            (tmp_path / "one" / "job.json").write_text("{}")
            raise KeyboardInterrupt
        return tmp_path / "one" / "adapter"

    stage = Stage(folder=tmp_path / "one", inputs={"rows": "a"})
    with pytest.raises(KeyboardInterrupt):
        stage.done(train)
    assert stage.done(train) == stage.done(train) == tmp_path / "one" / "adapter"
    assert trained == [False, True]
    with pytest.raises(OtherRun, match="of other settings, rows or stages before it"):
        Stage(folder=tmp_path / "one", inputs={"rows": "b"}).done(train)


def test_rewards_are_those_of_hugging_faces_class(tiny_base: Path, tmp_path: Path) -> None:
    base, settings = Base.from_folder(tiny_base), AlignSettings(loss_type="reward", load_in_4bit=False, max_steps=2)
    adapter = Align(base=base, data=pairs(tmp_path), settings=settings, work=tmp_path / "run").execute()
    judge = RewardModel.read(base, settings, adapter)
    answers = [Answer.of([5, 9, 13][: 1 + number], [40, 41, 9, 77][number:]) for number in range(3)]
    plain = AutoModelForSequenceClassification.from_pretrained(tiny_base, num_labels=1, dtype=torch.bfloat16)
    loaded = PeftModel.from_pretrained(plain, adapter).eval()
    with torch.no_grad():
        expected = [float(loaded(input_ids=torch.tensor([one.input_ids])).logits) for one in answers]
    assert max(expected) - min(expected) > 0.05
    assert judge.rewards(answers) == pytest.approx(expected, abs=0.02)
