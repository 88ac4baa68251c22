"""DPO on people's own preferences: what it learns holds for pairs that it never saw."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from peft import PeftModel

from graft.adapters.base.base import Base, find_base
from graft.adapters.base.files import stop_ids
from graft.adapters.form import ServingForm
from graft.training.adapt.adaptable import Adaptable
from graft.training.batch.encoding import RowEncoder
from graft.training.corpus import hh_rlhf
from graft.training.finetune.rows import RowReader
from graft.training.loop.progress import read_metrics
from graft.training.model.loading import load_base, load_tokenizer
from graft.training.objective.policy import answer_logprobs, reference_logprobs
from graft.training.preference.batches import Laying, Pairs
from graft.training.preference.job import Align
from graft.training.preference.reading import read_pairs
from graft.training.preference.settings import AlignSettings

MAX_CHARACTERS, NUM_LEARNED = 380, 400
"""The shipped base spells characters, so that short pairs are what two cores can learn in minutes."""


def interval(right: list[bool], *, num: int = 2000) -> tuple[float, float]:
    """95 % of the share that is right, by drawing pairs anew (Efron 1979)."""
    rng = Random(0)
    shares = sorted(sum(rng.choices(right, k=len(right))) / len(right) for _ in range(num))
    return shares[round(0.025 * num)], shares[round(0.975 * num)]


def margins(base: Base, adapter: Path, rows: Path) -> list[float]:
    """What the policy prefers of each pair, beside its reference: in nats."""
    encoder = RowEncoder(load_tokenizer(base.path), stop_ids=stop_ids(base.path))
    reader = RowReader(encoder=encoder, base=Adaptable.of(base), max_length=1024)
    pairs = Pairs(rows=read_pairs(rows, reader, has_margins=False).rows, laying=Laying(packing=True, pad_id=0))
    model = PeftModel.from_pretrained(load_base(base.path, ServingForm.NF4), adapter).eval()
    found: list[float] = []
    with torch.no_grad():
        for start in range(0, len(pairs.rows), 8):
            answers = pairs.batch(range(start, min(start + 8, len(pairs.rows)))).answers
            ratio_S = answer_logprobs(model, answers)[0] - reference_logprobs(model, answers)
            chosen_P, rejected_P = ratio_S.chunk(2)
            found += (chosen_P - rejected_P).tolist()
    return found


@pytest.mark.slow
def test_held_out_pairs_are_told_apart_better_than_by_chance(
    data_path: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    converted = hh_rlhf.read(data_path("hh-rlhf/harmless-base-test.jsonl.gz"))
    short = [row for row in converted.rows if sum(len(one["content"]) for one in longest(row)) < MAX_CHARACTERS]
    Random(0).shuffle(short)
    parts = {"learned": short[:NUM_LEARNED], "held out": short[NUM_LEARNED:]}
    for name, part in parts.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    base = Base.from_folder(find_base("rootstock-5m"))
    settings = AlignSettings(num_train_epochs=2, learning_rate=1e-3, per_device_train_batch_size=16, beta=0.1)
    job = Align(base=base, data=tmp_path / "learned.jsonl", settings=settings, work=tmp_path / "run")
    adapter = job.execute()
    right = [margin > 0 for margin in margins(base, adapter, tmp_path / "held out.jsonl")]
    low, high = interval(right)
    with capsys.disabled():
        losses = [row["loss"] for row in read_metrics(job.work)]
        print(f"\n{len(parts['learned'])} pairs learned, loss {losses[0]:.3f} to {losses[-1]:.3f};", end=" ")
        print(f"of {len(right)} held out {sum(right) / len(right):.1%} told apart [{low:.1%}, {high:.1%}]")
    assert low > 0.5


def longest(row: dict[str, list[dict[str, str]]]) -> list[dict[str, str]]:
    """The conversation with the longer of its two answers."""
    answers = max((row["chosen"], row["rejected"]), key=lambda answer: len(answer[0]["content"]))
    return [*row["prompt"], *answers]
