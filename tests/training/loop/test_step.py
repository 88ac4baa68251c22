"""A training by steps alone: batches that are made as it goes, a loss of the caller's own, weights read in between."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from graft.training.batch.packing import Encoded, PackedBatch, batch_of_rows
from graft.training.loop.optim import adamw
from graft.training.loop.step import Step
from graft.training.objective.causal import CausalObjective
from tests.training.objective.vocabularies import DECODER, FIRST_WORD, PAD, SIZE

PROMPT, WANTED = 20, 40


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Answers of one token to the same prompt, and what each was worth."""

    token_B: Tensor
    advantage_B: Tensor

    @property
    def num_tokens(self) -> int:
        return 2 * len(self.token_B)


@dataclass(frozen=True, kw_only=True)
class PolicyGradient:
    """REINFORCE (Williams 1992, §4), and the entropy of what is said as a metric."""

    weights: Mapping[str, float] = field(default_factory=lambda: {"policy": 1.0})

    def counts(self, batch: Sampled) -> Mapping[str, int]:
        return {"policy": len(batch.token_B), "entropy": len(batch.token_B)}

    def sums(self, model: nn.Module, batch: Sampled) -> Mapping[str, Tensor]:
        log_p_BV = said(model, len(batch.token_B))
        chosen_B = log_p_BV.gather(1, batch.token_B[:, None])[:, 0]
        return {
            "policy": -(batch.advantage_B * chosen_B).sum(),
            "entropy": -(log_p_BV.exp() * log_p_BV).sum(),
        }


def said(model: nn.Module, num: int = 1) -> Tensor:
    """Log-probabilities of the answer, as often as it is asked for."""
    logits_BV: Tensor = model(input_ids=torch.full((num, 1), PROMPT)).logits[:, -1]
    return logits_BV.float().log_softmax(-1)


def policy() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**DECODER)).to(torch.bfloat16)


def step_of(model: nn.Module) -> Step:
    return Step(model, objective=PolicyGradient(), optimizers=adamw(weight_decay=0.0))


def sampled(model: nn.Module, num: int) -> Sampled:
    """From the weights as they are now."""
    with torch.no_grad():
        token_B = said(model)[0].exp().multinomial(num, replacement=True)
    reward_B = (token_B >= WANTED).float()
    return Sampled(token_B=token_B, advantage_B=reward_B - reward_B.mean())


def test_a_policy_learns_from_what_it_says_itself() -> None:
    model = policy()
    step = step_of(model)
    before = float(said(model).detach()[0, WANTED:].exp().sum())
    entropies = []
    for number in range(12):
        metrics = step.forward_backward([sampled(model, 32), sampled(model, 32)])
        metrics |= step.optimizer_step(lr=1e-2)
        entropies.append(metrics["entropy"])
        assert metrics.keys() == {"loss", "entropy", "tokens", "supervised_tokens", "gradient_norm"}
        assert step.number == number + 1
    assert float(said(model).detach()[0, WANTED:].exp().sum()) > max(0.9, before + 0.1)
    assert entropies[0] == pytest.approx(math.log(SIZE), abs=0.1)  # a mean, whatever is accumulated
    assert entropies[-1] < entropies[0]


def test_between_steps_the_model_computes_with_the_weights_after_the_last() -> None:
    model = policy()
    step = step_of(model)
    for _ in range(3):
        before = {name: one.detach().clone() for name, one in model.named_parameters()}
        step.forward_backward([sampled(model, 8)])
        assert all(torch.equal(one, before[name]) for name, one in model.named_parameters())
        step.optimizer_step(lr=1e-2)
        assert not torch.equal(model.lm_head.weight, before["lm_head.weight"])
        for name, one in model.named_parameters():
            assert torch.equal(one, step.state.masters[name].to(torch.bfloat16)), name


def test_calls_before_a_step_add_up() -> None:
    """Each is a loss of its own: of two, the gradient is the sum."""
    batch = sampled(policy(), 16)

    def norm(num_calls: int) -> float:
        step = step_of(policy().float())
        for _ in range(num_calls):
            step.forward_backward([batch])
        return step.optimizer_step(lr=1e-3)["gradient_norm"]

    assert norm(2) == pytest.approx(2 * norm(1), rel=1e-5)


def test_what_fails_half_way_leaves_no_gradient_to_the_next() -> None:
    batch = sampled(policy(), 16)
    step, other = step_of(policy().float()), step_of(policy().float())
    with pytest.raises(RuntimeError, match="out of bounds"):
        step.forward_backward([batch, Sampled(token_B=torch.tensor([SIZE]), advantage_B=torch.ones(1))])
    for one in (step, other):
        one.forward_backward([batch])
    assert step.optimizer_step(lr=1e-3) == other.optimizer_step(lr=1e-3)


@pytest.mark.parametrize("advantage", [math.nan, math.inf])
def test_what_is_no_number_moves_nothing(advantage: float) -> None:
    step = step_of(policy())
    before = {name: one.detach().clone() for name, one in step.state.masters.items()}
    bad = Sampled(token_B=torch.tensor([FIRST_WORD]), advantage_B=torch.tensor([advantage]))
    step.forward_backward([bad])
    assert not math.isfinite(step.optimizer_step(lr=1e-2)["gradient_norm"])
    assert all(torch.equal(one, before[name]) for name, one in step.state.masters.items())
    step.forward_backward([sampled(step.model, 8)])  # nothing of it is left
    assert math.isfinite(step.optimizer_step(lr=1e-2)["gradient_norm"])


def test_what_a_caller_does_not_accept_moves_nothing() -> None:
    step = step_of(policy())
    before = step.state.masters["lm_head.weight"].detach().clone()
    heard: list[float] = []

    def refuse(norm: float) -> bool:
        heard.append(norm)
        return False

    step.forward_backward([sampled(step.model, 8)])
    found = step.optimizer_step(lr=1e-2, accept=refuse)
    assert heard == [found["gradient_norm"]] and heard[0] > 0
    assert torch.equal(step.state.masters["lm_head.weight"], before) and step.number == 1


def test_where_nothing_is_asked_the_weights_stay() -> None:
    model = policy()
    step = Step(model, objective=CausalObjective(), optimizers=adamw())
    row = Encoded(input_ids=[FIRST_WORD, FIRST_WORD + 1], supervised=[True, True])
    silent: PackedBatch = batch_of_rows([[row]], length=8, pad_id=PAD).silent()
    before = step.state.masters["lm_head.weight"].detach().clone()
    metrics = step.forward_backward([silent])
    assert math.isnan(metrics["loss"]) and metrics["supervised_tokens"] == 0 and metrics["tokens"] == 2
    assert step.optimizer_step(lr=1e-2) == {"gradient_norm": 0.0}
    assert torch.equal(step.state.masters["lm_head.weight"], before)
