"""What `graft bench forms` reads and prints; the measuring itself needs engines."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from graft.adapters.base.base import Base, shipped_bases
from graft.adapters.form import ServingForm
from graft.bench.serving.figures.figures import RATIO, Figure
from graft.bench.serving.forms.held_out import perplexity, read_texts, windows_of
from graft.bench.serving.forms.table import speed, table
from graft.bench.serving.processes import BenchFailed
from graft.bench.serving.usage import proportional_mb, resident_mb
from graft.server.engine.engine import ContinuationScore, TokenLogprob


class UniformEngine:
    """Finds every one of `choices` tokens equally likely."""

    def __init__(self, choices: int) -> None:
        self.choices, self.scored = choices, 0

    async def score(
        self, prompt_token_ids: Sequence[int], continuation_token_ids: Sequence[int], **keywords: object
    ) -> ContinuationScore:
        assert len(prompt_token_ids) == 1
        self.scored += len(continuation_token_ids)
        token = TokenLogprob(token_id=0, token="", logprob=-math.log(self.choices))
        return ContinuationScore(tokens=(token,) * len(continuation_token_ids), is_greedy=False)


async def test_the_perplexity_of_a_uniform_guess_is_the_number_of_choices() -> None:
    engine = UniformEngine(choices=17)
    windows = windows_of(["abcdefgh", "a", "", "abc"], lambda text: [ord(one) for one in text], length=3)
    assert [len(window) for window in windows] == [3, 3, 2, 3]
    assert await perplexity(engine, windows) == pytest.approx(17)  # type: ignore[arg-type]
    assert engine.scored == 2 + 2 + 1 + 2


async def test_no_text_is_no_perplexity() -> None:
    with pytest.raises(BenchFailed, match="no two tokens"):
        await perplexity(UniformEngine(2), [])  # type: ignore[arg-type]


def test_texts_are_read_from_both_kinds_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "one"}) + "\n\n" + json.dumps({"text": "two"}) + "\n")
    assert read_texts(tmp_path / "a.txt") == ["one\ntwo\n"]
    assert read_texts(tmp_path / "a.jsonl") == ["one", "two"]
    (tmp_path / "b.jsonl").write_text("{}")
    with pytest.raises(BenchFailed, match='an object with "text"'):
        read_texts(tmp_path / "b.jsonl")


def test_the_table_has_a_row_per_form_and_a_dash_for_what_is_missing() -> None:
    base = Base.from_folder(shipped_bases()["rootstock-5m"])
    name = speed(ServingForm.INT8, 32, 8)
    figures = {
        "int8_size_mb": Figure(value=4.25, unit="MB", runs=(4.25,)),
        name: Figure(value=2791.3, unit="tokens/s", runs=(2791.3,)),
        f"{name}_over_bf16": Figure(value=0.849, unit=RATIO, runs=(0.849,)),
    }
    header, _, bf16, int8 = table(base, (ServingForm.BF16, ServingForm.INT8), figures).splitlines()
    assert header.count("|") == bf16.count("|") == int8.count("|") == 9
    assert bf16 == "| bf16 |" + " – |" * 7
    assert int8 == "| int8 | 4.2 | – | – | – | – | – | 2791 (0.85) |"


def test_shared_pages_count_once() -> None:
    import os

    assert 0 < proportional_mb(os.getpid()) <= 1.01 * resident_mb(os.getpid())
