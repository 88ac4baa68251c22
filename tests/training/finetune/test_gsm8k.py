"""Rows that think before they answer: the loss lies on the reasoning and the number behind it, and falls on held-out
questions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn

from graft.adapters.base.base import Base, find_base
from graft.adapters.form import ServingForm
from graft.cli.main import main
from graft.training.loop.progress import read_metrics
from graft.training.model.loading import load_base, load_tokenizer

MAX_CHARACTERS, NUM_LEARNED, NUM_HELD_OUT = 350, 384, 60
"""The shipped base spells characters, so that short rows are what two cores can learn in minutes."""
PARTS = ("question", "reasoning", "number")


@dataclass(frozen=True, kw_only=True)
class Losses:
    """−log p of a row's tokens, summed by the part that they stand in."""

    sums: dict[str, float]
    counts: dict[str, int]


def losses(model: nn.Module, tokenizer: Any, rows: Sequence[dict[str, str]], end: int) -> list[Losses]:
    """Row by row, with transformers alone."""
    found = []
    for row in rows:
        steps, mark, number = row["answer"].partition("#### ")
        pieces = [
            tokenizer(one, add_special_tokens=False)["input_ids"] for one in (row["question"], steps + mark, number)
        ]
        pieces[2] = [*pieces[2], end]
        ids_L = torch.tensor([id for piece in pieces for id in piece])
        with torch.no_grad():
            logits_LV = model(input_ids=ids_L[None]).logits[0].float()
        loss_T = nn.functional.cross_entropy(logits_LV[:-1], ids_L[1:], reduction="none")
        sizes = [len(pieces[0]) - 1, len(pieces[1]), len(pieces[2])]  # nothing stands before the first token
        sums = [float(part.sum()) for part in loss_T.split(sizes)]
        found.append(Losses(sums=dict(zip(PARTS, sums, strict=True)), counts=dict(zip(PARTS, sizes, strict=True))))
    return found


def mean(found: Sequence[Losses], *parts: str) -> float:
    num = sum(one.counts[part] for one in found for part in parts)
    return sum(one.sums[part] for one in found for part in parts) / num


def interval(before: Sequence[Losses], after: Sequence[Losses], *parts: str) -> tuple[float, float]:
    """95 % of what the mean fell by, by drawing questions anew (Efron 1979)."""
    rng, falls = Random(0), []
    for _ in range(1000):
        drawn = rng.choices(range(len(before)), k=len(before))
        falls.append(mean([before[at] for at in drawn], *parts) - mean([after[at] for at in drawn], *parts))
    falls.sort()
    return falls[25], falls[974]


def short(path: Path, num: int) -> list[dict[str, str]]:
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    return [row for row in rows if sum(map(len, row.values())) <= MAX_CHARACTERS][:num]


@pytest.mark.slow
def test_reasoning_is_learned(
    data_path: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = short(data_path("gsm8k/test.jsonl"), NUM_HELD_OUT)
    for name, rows in (("learned", short(data_path("gsm8k/train.jsonl"), NUM_LEARNED)), ("held-out", held_out)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    named = ["--data", str(tmp_path / "learned.jsonl"), "--validation", str(tmp_path / "held-out.jsonl")]
    named += ["--columns", "prompt=question,completion=answer", "--name", "sums", "--output", str(tmp_path / "run")]
    options = ["--num-train-epochs", "1", "--per-device-train-batch-size", "16", "--learning-rate", "2e-3"]
    assert main(["finetune", *named, *options, "--report-examples", "0"]) == 0
    base = Base.from_folder(find_base("rootstock-5m"))
    tokenizer = load_tokenizer(base.path)
    before = losses(load_base(base.path, ServingForm.NF4), tokenizer, held_out, tokenizer.eos_token_id)
    adapted = PeftModel.from_pretrained(load_base(base.path, ServingForm.NF4), tmp_path / "run/adapter").eval()
    after = losses(adapted, tokenizer, held_out, tokenizer.eos_token_id)
    measured = read_metrics(tmp_path / "run")[-1]["validation_loss"]
    with capsys.disabled():
        for parts in (("question",), ("reasoning",), ("number",), ("reasoning", "number")):
            low, high = interval(before, after, *parts)
            told = f"{mean(before, *parts):.3f} → {mean(after, *parts):.3f}, by {low:.3f} to {high:.3f}"
            print(f"\nheld-out loss of {' and '.join(parts)}: {told}", end="")
        print(f"; measured {measured:.3f}")
    assert measured == pytest.approx(mean(after, "reasoning", "number"), abs=0.005)  # of these tokens and no others
    assert interval(before, after, "reasoning")[0] > 0.2 and interval(before, after, "number")[0] > 0.2
