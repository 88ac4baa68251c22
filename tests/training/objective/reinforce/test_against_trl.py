"""Losses, metrics and gradients of sampled answers beside TRL's on the same model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

pytest.importorskip("trl", reason="TRL is the oracle (the extra dev)")

from graft.training.objective.reinforce.batch import RolloutBatch
from graft.training.objective.reinforce.correction import Correction
from graft.training.objective.reinforce.policy import PolicyObjective
from graft.training.objective.reinforce.policy_losses import POLICY_LOSSES, Clip
from graft.training.objective.reinforce.ratio import Level
from tests.training.objective.preference.peers import PAD, adapted, trainer
from tests.training.objective.reinforce.sampled import ADVANTAGES, answers, found, sampled

LONGEST = 20
CLIP = Clip(low=0.1, high=0.15)


def padded(rows: Sequence[Sequence[float]], *, left: bool = False, fill: float = 0.0) -> Tensor:
    """Shape: (S, L)."""
    length = max(len(row) for row in rows)
    more = [[fill] * (length - len(row)) for row in rows]
    return torch.tensor([[*gap, *row] if left else [*row, *gap] for row, gap in zip(rows, more, strict=True)])


def inputs(batch: RolloutBatch) -> dict[str, Tensor]:
    """As TRL's trainers make them of what was generated and scored."""
    prompts = [list(one.input_ids[: one.num_prompt]) for one in answers()]
    completions = [list(one.input_ids[one.num_prompt :]) for one in answers()]
    apart = batch.answers.apart
    assert batch.old_N is not None and batch.reference_N is not None
    return {
        "prompt_ids": padded(prompts, left=True, fill=PAD).long(),
        "prompt_mask": padded([[1] * len(one) for one in prompts], left=True).long(),
        "completion_ids": padded(completions, fill=PAD).long(),
        "completion_mask": padded([[1] * len(one) for one in completions]).long(),
        "advantages": torch.tensor(ADVANTAGES),
        "old_per_token_logps": padded(apart(batch.old_N)),
        "old_logps": torch.tensor([sum(each) for each in apart(batch.old_N)]),
        "ref_per_token_logps": padded(apart(batch.reference_N)),
        "num_items_in_batch": torch.tensor(float(batch.num_learned)),
    }


def told(peer: Any) -> dict[str, float]:
    return {name: values[-1] for name, values in peer._metrics["train"].items()}


def assert_same(objective: PolicyObjective, model: Any, batch: RolloutBatch, expected: Tensor, peer: Any) -> None:
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    given = dict(zip(trained, torch.autograd.grad(expected, list(trained.values())), strict=True))
    loss, means, gradients = found(objective, model, [batch])
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    for name in ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean"):
        if objective.loss.has_clip and name in told(peer):
            assert means[name] == pytest.approx(told(peer)[name], abs=1e-6)
    largest = max(float(one.abs().max()) for one in given.values())
    assert largest > 1e-4
    for name in given:
        torch.testing.assert_close(gradients[name], given[name], rtol=1e-4, atol=1e-5 * max(1.0, largest))


@pytest.mark.parametrize(
    ("loss_type", "beta", "corrects"),
    [
        ("grpo", 0.0, True),
        ("grpo", 0.3, False),
        ("dr_grpo", 0.3, True),
        ("dapo", 0.3, True),
        ("gspo", 0.3, True),
        ("cispo", 0.3, False),
    ],
)
def test_losses_of_groups(
    loss_type: str, beta: float, corrects: bool, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = adapted()
    is_cispo = loss_type == "cispo"  # TRL has its upper bound whole, and no lower one
    options = {
        "loss_type": "grpo" if loss_type == "gspo" else loss_type,
        "importance_sampling_level": "sequence" if loss_type == "gspo" else "token",
        "epsilon": CLIP.low,
        "epsilon_high": 1 + CLIP.high if is_cispo else CLIP.high,
        "beta": beta,
        "use_bias_correction_kl": corrects,
        "max_completion_length": LONGEST,
        "num_generations": 2,
    }
    peer = trainer("grpo", model, tokenizer, tmp_path, **options)
    peer.current_gradient_accumulation_steps = 1
    model.train()
    batch = sampled(model)
    expected = peer._compute_loss(model, inputs(batch))
    objective = PolicyObjective(
        loss=POLICY_LOSSES[loss_type],
        clip=Clip(low=1.0, high=CLIP.high) if is_cispo else CLIP,
        beta=beta,
        corrects_kl=corrects,
        answer_tokens=LONGEST if loss_type == "dr_grpo" else 1.0,
    )
    assert_same(objective, model, batch, expected, peer)
    if beta and not corrects:  # TRL tells the weighted one else
        _, means, _ = found(objective, model, [batch])
        assert means["kl"] == pytest.approx(told(peer)["kl"], abs=1e-5)


@pytest.mark.parametrize("mode", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"])
def test_corrections_of_what_an_engine_sampled(mode: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = adapted()
    level, _, beyond = mode.partition("_")
    correction = Correction(
        level=Level.ANSWER if level == "sequence" else Level.TOKEN, most=1.3, least=0.8, masks=beyond == "mask"
    )
    peer = trainer("grpo", model, tokenizer, tmp_path, loss_type="grpo", num_generations=2)
    peer.current_gradient_accumulation_steps = 1
    peer.use_vllm = peer.vllm_importance_sampling_correction = True
    model.train()
    batch = sampled(model)
    assert batch.old_N is not None
    # The lines of `_generate_and_score_completions`, which samples and cannot be called by itself.
    old, served = (padded(batch.answers.apart(one)) for one in (batch.old_N, batch.sampled_N))
    difference = old - served
    ratio = torch.exp(difference.sum(-1, keepdim=True) if level == "sequence" else difference)
    bounded = ratio.clamp(0.8, 1.3)
    if beyond == "mask":
        bounded = ratio.masked_fill((ratio < 0.8) | (ratio > 1.3), 0.0)
    assert len(bounded.unique()) > 2
    expected = peer._compute_loss(model, {**inputs(batch), "importance_sampling_ratio": bounded})
    objective = PolicyObjective(loss=POLICY_LOSSES["grpo"], correction=correction)
    assert_same(objective, model, batch, expected, peer)


def test_a_ratio_of_whole_answers(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = adapted()
    peer = trainer("rloo", model, tokenizer, tmp_path, epsilon=0.1, epsilon_high=0.15, num_generations=2)
    model.train()
    batch = sampled(model)
    expected = peer._compute_loss(model, inputs(batch))
    assert_same(PolicyObjective(loss=POLICY_LOSSES["rloo"], clip=CLIP), model, batch, expected, peer)
