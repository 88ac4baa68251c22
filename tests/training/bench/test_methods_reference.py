"""What served answers are held against, on the shipped base in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedModel

from graft.adapters.base.base import find_base
from graft.bench.training.methods import bases
from graft.bench.training.methods.reference import answers, to_the_end
from graft.bench.training.methods.said import Said

BASE = find_base(bases.SHIPPED)
PROMPTS = ["big -> BIG\nlamp ->", "12 + 30 ="]


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    found: PreTrainedModel = LlamaForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    return found


@torch.no_grad()
def test_biases_of_zero_change_nothing(model: PreTrainedModel, tmp_path: Path) -> None:
    (tmp_path / "bases").mkdir()
    other = LlamaForCausalLM.from_pretrained(bases.with_biases(tmp_path), dtype=torch.float32).eval()
    biases = [one for name, one in other.named_parameters() if name.endswith("bias")]
    assert len(biases) == 5 * 7 and not any(one.any() for one in biases)
    ids = torch.arange(5, 300)[None]
    assert torch.equal(model(input_ids=ids).logits, other(input_ids=ids).logits)


@torch.no_grad()
def test_the_distance_of_an_answer_is_that_of_its_worst_token(model: PreTrainedModel) -> None:
    """Against one token after another; what is greedy stands nowhere below the first."""
    own, _ = answers(model, BASE, PROMPTS)
    again, below = answers(model, BASE, PROMPTS, own)
    assert again == own and max(below) == 0.0
    ends, tokenizer = [2, 4], AutoTokenizer.from_pretrained(BASE)
    other = Said(ids=[list(reversed(to_the_end(ids, ends)[:-1])) or [9] for ids in own.ids], texts=own.texts)
    expected = []
    for prompt, ids in zip(PROMPTS, other.ids, strict=True):
        before, worst = tokenizer(prompt, add_special_tokens=False)["input_ids"], 0.0
        for one in ids:
            logprobs = model(input_ids=torch.tensor([before])).logits[0, -1].log_softmax(-1)
            worst = max(worst, float(logprobs.max() - logprobs[one]))
            before = [*before, one]
        expected.append(worst)
    assert min(expected) > 0.5
    found, below = answers(model, BASE, PROMPTS, other)
    assert below == pytest.approx(expected, abs=1e-3)
    assert found == own, "a wrong guess is no answer"
    cut = Said(ids=[ids[:2] for ids in own.ids], texts=own.texts)
    assert answers(model, BASE, PROMPTS, cut)[0] == own, "nor is half of one"


def test_an_answer_goes_to_its_end() -> None:
    assert to_the_end([7, 8, 2, 9], [2, 4]) == [7, 8, 2]
    assert to_the_end([7, 8], [2, 4]) == [7, 8] and to_the_end([], [2]) == []
