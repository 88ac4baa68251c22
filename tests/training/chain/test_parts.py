"""A chain's rows, settings, and what is asked of the server."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from graft.adapters.errors import InvalidReference
from graft.server.grading.reading import Allowed, read_grader
from graft.server.jobs.job import Method
from graft.server.jobs.training_rows.kinds import problems_of
from graft.server.runtime.violations import Violations
from graft.training.batch.encoding import RowEncoder
from graft.training.chain.plan import Stage, grader_of, stages_of
from graft.training.chain.rows import Rows
from graft.training.chain.settings import ChainSettings
from graft.training.commands import align
from graft.training.errors import ConfigurationError, DataError

CHAT = {
    "prompt": [{"role": "user", "content": "hello"}],
    "chosen": [{"role": "assistant", "content": "good day"}],
    "rejected": [{"role": "assistant", "content": "no"}],
}
LONGER = {
    **CHAT,
    "prompt": [*CHAT["prompt"], {"role": "assistant", "content": "hm"}, {"role": "user", "content": "so"}],
}


@pytest.fixture
def encoder(tokenizer: PreTrainedTokenizerFast) -> RowEncoder:
    return RowEncoder(tokenizer)


def pairs(folder: Path, *others: dict[str, Any], num: int = 20) -> Path:
    rows = [{"prompt": f"{word} ", "chosen": f"{word}!", "rejected": "no"} for word in map(str, range(num))]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *others]))
    return folder / "pairs.jsonl"


def read(path: Path, encoder: RowEncoder, *, seed: int = 0, max_tokens: int = 96) -> Rows:
    return Rows.read(path, encoder, max_tokens=max_tokens, max_answer=8, held_out=0.25, seed=seed)


def lines(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


def asked(rows: Rows, **said: Any) -> list[Stage]:
    return stages_of("polite", rows, ChainSettings.from_mapping(said), base="sha256:b")


def test_what_is_held_out_is_learned_by_no_stage(encoder: RowEncoder, tmp_path: Path) -> None:
    long = {"prompt": "word " * 200, "chosen": "a", "rejected": "b"}
    answered_long = {"prompt": "word", "chosen": "a", "rejected": "word " * 200}
    path = pairs(tmp_path, CHAT, LONGER, long, answered_long)
    found = [read(path, encoder, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] and found[0].held_out != found[2].held_out
    rows = found[0]
    assert (len(rows.learned), len(rows.held_out), rows.num_long) == (16, 6, 2)
    for stage in asked(rows):
        learned, held_out = lines(stage.training), lines(stage.validation)
        assert (len(learned), len(held_out)) == (16, 6)
        assert not [row for row in held_out if row in learned]


def test_rows_are_what_jobs_take(encoder: RowEncoder, tmp_path: Path) -> None:
    rows = read(pairs(tmp_path, CHAT, LONGER), encoder)
    for stage in asked(rows):
        for row in lines(stage.training) + lines(stage.validation):
            assert not list(problems_of(row, Method(stage.method))), row
    every = [row for content in (asked(rows)[0].training, asked(rows)[0].validation) for row in lines(content)]
    longer = next(row["messages"] for row in every if len(row["messages"]) == 4)
    assert [one.get("weight") for one in longer] == [None, 0, None, None], "its last answer alone is learned"


def test_a_prompt_is_learned_or_held_out_and_never_both(encoder: RowEncoder, tmp_path: Path) -> None:
    """Files of preferences have several pairs of answers to a prompt."""
    more = [{"prompt": f"{number} ", "chosen": f"more {by}", "rejected": "no"} for number in range(20) for by in "abc"]
    rows = read(pairs(tmp_path, *more), encoder)
    learned, held_out = ({row.prompt for row in part} for part in (rows.learned, rows.held_out))
    assert not learned & held_out and (len(learned), len(held_out)) == (15, 5)
    assert (len(rows.learned), len(rows.held_out)) == (60, 20)


def test_rows_of_other_kinds_are_refused_together(encoder: RowEncoder, tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"prompt": "a"},
        {"prompt": "a", "chosen": "b", "rejected": CHAT["rejected"]},
        {**CHAT, "prompt": [{"role": "user", "content": 7}]},
        {**CHAT, "prompt": CHAT["chosen"]},
    ]
    with pytest.raises(DataError, match=r"(?s)line 21.*line 22.*line 23.*line 24"):
        read(pairs(tmp_path, *wrong), encoder)
    with pytest.raises(DataError, match="need 2 or more"):
        read(pairs(tmp_path, num=3), encoder)


def test_the_same_is_asked_once_and_a_later_stage_changes_no_earlier_one(encoder: RowEncoder, tmp_path: Path) -> None:
    rows = read(pairs(tmp_path), encoder)
    first, same, other = asked(rows), asked(rows), asked(rows, ppo={"n_epochs": 7})
    assert first == same
    assert [one.metadata == its.metadata for one, its in zip(first, other, strict=True)] == [True, True, False]
    rewarded = asked(rows, reward={"n_epochs": 7})
    assert [one.metadata == its.metadata for one, its in zip(first, rewarded, strict=True)] == [True, False, False]
    assert not [one for one in asked(rows, seed=1) if one.metadata in [its.metadata for its in first]]
    assert [one.adapter for one in first] == ["polite-supervised", "polite-reward", "polite"]


def test_rewards_are_brought_to_mean_0_and_deviation_1() -> None:
    """By a formula that the server reads."""
    for rewards in ([3.0, 5.0, -2.0], [-1e-7, 2e-7], [1.0, 1.0]):
        violations = Violations()
        grader: Any = read_grader(grader_of("worth", rewards), Allowed(no_python=None), violations)
        violations.raise_any()
        mean = sum(rewards) / len(rewards)
        assert grader.formula.value({"reward": mean}) == pytest.approx(0, abs=1e-5)
        if rewards[0] == 3.0:
            deviation = (sum((one - mean) ** 2 for one in rewards) / len(rewards)) ** 0.5
            assert grader.formula.value({"reward": mean + deviation}) == pytest.approx(1, abs=1e-5)


def refused(folder: Path, *flags: str, name: str = "a") -> str:
    said = ["--name", name, "--data", str(pairs(folder)), "--output", str(folder / "out"), *flags]
    parser = argparse.ArgumentParser()
    align.configure(parser)
    with pytest.raises((ConfigurationError, InvalidReference)) as caught:
        align.run(parser.parse_args(said))
    assert not (folder / "out").exists()
    return str(caught.value)


@pytest.mark.parametrize("flags", [["--plan"], ["--ray", "2"], ["--ray-address", "here:1"], ["--resume"]])
def test_flags_that_no_chain_has_are_refused(flags: list[str], tmp_path: Path) -> None:
    assert f"--chain takes no {flags[0]}" in refused(tmp_path, "--chain", *flags)


def test_a_chain_has_a_name_that_an_adapter_may_have(tmp_path: Path) -> None:
    assert "adapter" in refused(tmp_path, "--chain", name="../x")
    assert "is no HOST:PORT" in refused(tmp_path, "--chain", "--server", "nowhere")
    assert "--server carries out a --chain" in refused(tmp_path, "--server", "localhost:8470")


def test_settings_that_cannot_be_meant_are_refused_together() -> None:
    said = {"supervised": 7, "ppo": {"loss_type": "dapo"}, "held_out": 1.0, "max_kl": 0}
    with pytest.raises(ConfigurationError) as caught:
        ChainSettings.from_mapping(said)
    for part in ("section supervised is 7", "ppo: loss_type is dapo", "held_out is 1.0", "max_kl is 0"):
        assert part in str(caught.value)
    with pytest.raises(ConfigurationError, match="no section sft"):
        ChainSettings.from_mapping({"sft": {}})
    for length, tokens in ((0, 256), ("auto", 256), (64, 64)):
        with pytest.raises(ConfigurationError, match="max_completion_length"):
            ChainSettings.from_mapping({"ppo": {"max_completion_length": length}, "max_tokens": tokens})
    assert ChainSettings.from_mapping({"ppo": {"n_epochs": 7}}).ppo["n_epochs"] == 7
