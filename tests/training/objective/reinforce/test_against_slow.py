"""Losses against what the papers say, written out answer by answer and token by token on whole logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from graft.training.objective.reinforce.batch import RolloutBatch
from graft.training.objective.reinforce.correction import Correction
from graft.training.objective.reinforce.policy import MISMATCH, PolicyObjective
from graft.training.objective.reinforce.policy_losses import POLICY_LOSSES, Clip
from graft.training.objective.reinforce.ppo import PpoObjective
from graft.training.objective.reinforce.values import WithValues
from tests.training.objective.preference.peers import adapted
from tests.training.objective.reinforce.sampled import ADVANTAGES, answers, found, sampled

LOW, HIGH, LONGEST = 0.1, 0.15, 20.0
CLIP = Clip(low=LOW, high=HIGH)


def written_out(loss_type: str, model: Any, batch: RolloutBatch, logprobs: Callable[[Any], list[Tensor]]) -> Tensor:
    """As the papers' equations have it, with sums as loops."""
    assert batch.old_N is not None
    old = batch.answers.apart(batch.old_N)
    answer_losses, num_tokens = [], 0
    for number, one in enumerate(logprobs(model)):
        advantage, length = ADVANTAGES[number], len(one)
        num_tokens += length
        total = torch.zeros(())
        mean_log_ratio = sum(one[t] - old[number][t] for t in range(length)) / length
        for t in range(length):
            ratio = torch.exp(one[t] - old[number][t])
            if loss_type == "gspo":
                ratio = torch.exp(mean_log_ratio)
            if loss_type == "rloo":
                ratio = torch.exp(mean_log_ratio * length)
            bounded = min(max(ratio, torch.tensor(1 - LOW)), torch.tensor(1 + HIGH), key=_number)
            if loss_type == "reinforce":
                total = total - advantage * one[t]
            elif loss_type == "cispo":
                total = total - float(bounded) * advantage * one[t]
            else:
                total = total - min(ratio * advantage, bounded * advantage, key=_number)
        answer_losses.append((total, length))
    if loss_type in ("dapo", "cispo", "ppo"):
        return torch.stack([total for total, _ in answer_losses]).sum() / num_tokens
    if loss_type in ("dr_grpo", "reinforce"):
        constant = LONGEST if loss_type == "dr_grpo" else 1.0
        return torch.stack([total / constant for total, _ in answer_losses]).mean()
    return torch.stack([total / length for total, length in answer_losses]).mean()


def _number(value: Tensor) -> float:
    return float(value.detach())


def logprobs_of(model: Any) -> list[Tensor]:
    """Each answer read alone, its logits whole."""
    made = []
    for one in answers():
        ids = torch.tensor([one.input_ids])
        logs = model(input_ids=ids).logits[0].log_softmax(-1)
        made.append(logs[one.num_prompt - 1 : -1].gather(1, ids[0, one.num_prompt :, None])[:, 0])
    return made


def assert_same(gradients: dict[str, Tensor], expected: Tensor, model: Any) -> None:
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    given = torch.autograd.grad(expected, list(trained.values()))
    largest = max(float(one.abs().max()) for one in given)
    assert largest > 1e-4
    for name, one in zip(trained, given, strict=True):
        torch.testing.assert_close(gradients[name], one, rtol=1e-4, atol=1e-5 * max(1.0, largest))


@pytest.mark.parametrize("loss_type", sorted(POLICY_LOSSES))
def test_losses_and_gradients(loss_type: str) -> None:
    model = adapted().train()
    batch = sampled(model)
    objective = PolicyObjective(
        loss=POLICY_LOSSES[loss_type], clip=CLIP, answer_tokens=LONGEST if loss_type == "dr_grpo" else 1.0
    )
    loss, _, gradients = found(objective, model, [batch])
    expected = written_out(loss_type, model, batch, logprobs_of)
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    assert_same(gradients, expected, model)


def test_the_clip_bites_on_both_sides() -> None:
    """Else the comparisons above would show nothing of it."""
    model = adapted().train()
    _, means, _ = found(PolicyObjective(loss=POLICY_LOSSES["grpo"], clip=CLIP), model, [sampled(model)])
    assert means["clip_ratio/low_mean"] > 0.05 and means["clip_ratio/high_mean"] > 0.05
    assert means["clip_ratio/region_mean"] == pytest.approx(
        means["clip_ratio/low_mean"] + means["clip_ratio/high_mean"]
    )


def test_without_an_old_policy_the_gradient_is_that_of_reinforce() -> None:
    """At a ratio of 1 nothing is clipped, and ∇ratio = ∇log π."""
    model = adapted().train()
    batch = replace(sampled(model), old_N=None)
    _, told, of_rloo = found(PolicyObjective(loss=POLICY_LOSSES["dapo"]), model, [batch])
    per_token = replace(POLICY_LOSSES["reinforce"], mean=POLICY_LOSSES["dapo"].mean)
    _, _, of_reinforce = found(PolicyObjective(loss=per_token), model, [batch])
    for name, one in of_rloo.items():
        torch.testing.assert_close(one, of_reinforce[name], rtol=1e-4, atol=1e-6)
    assert told["clip_ratio/region_mean"] == 0


@pytest.mark.parametrize("loss_type", sorted(POLICY_LOSSES))
def test_a_step_is_the_same_packed_padded_and_in_parts(loss_type: str) -> None:
    model = adapted().train()
    objective = PolicyObjective(
        loss=POLICY_LOSSES[loss_type], clip=CLIP, beta=0.1, correction=Correction(most=1.2), answer_tokens=9.0
    )
    loss, means, gradients = found(objective, model, [sampled(model)])
    own = sampled(model, packing=False)
    for batches in ([own], [sampled(model), own], [own, own.silent(), own]):
        other, told, given = found(objective, model, batches)
        assert other == pytest.approx(loss, abs=1e-5)
        assert told == pytest.approx(means, abs=1e-5)
        for name, one in given.items():
            torch.testing.assert_close(one, gradients[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("corrects", [False, True])
@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_the_divergence_is_a_term_and_a_metric(estimator: Any, corrects: bool) -> None:
    model = adapted().train()
    batch = sampled(model)
    assert batch.reference_N is not None and batch.old_N is not None
    objective = PolicyObjective(
        loss=POLICY_LOSSES["dapo"], clip=CLIP, beta=0.7, kl_estimator=estimator, corrects_kl=corrects
    )
    own, reference = torch.cat(logprobs_of(model)), batch.answers.apart(batch.reference_N)
    its = torch.tensor([value for each in reference for value in each])
    old = torch.tensor([value for each in batch.answers.apart(batch.old_N) for value in each])
    k3 = (its - own).exp() - 1 - (its - own)
    each = k3 if estimator == "k3" else (own - its) ** 2 / 2
    penalty = (each * (own - old).exp() if corrects else each).mean()
    expected = written_out("dapo", model, batch, logprobs_of) + 0.7 * penalty
    for given in (batch, replace(batch, reference_N=None)):  # asked of the same model, without its adapter
        loss, means, gradients = found(objective, model, [given])
        assert loss == pytest.approx(expected.item(), abs=1e-5)
        assert means["kl"] == pytest.approx(k3.mean().item(), abs=1e-5)
    assert_same(gradients, expected, model)


def test_what_is_told_of_tokens() -> None:
    model = adapted().train()
    batch = sampled(model)
    fresh = torch.zeros_like(batch.is_fresh_N)
    fresh[:5] = True
    batch = replace(batch, is_fresh_N=fresh)
    assert batch.old_N is not None
    _, means, _ = found(PolicyObjective(loss=POLICY_LOSSES["grpo"], correction=Correction()), model, [batch])
    own = torch.cat(logprobs_of(model))
    assert means["entropy"] == pytest.approx(-own.mean().item(), abs=1e-5)
    difference = (batch.old_N - batch.sampled_N)[:5].abs().mean().item()
    assert means[MISMATCH] == pytest.approx(difference, abs=1e-6)
    weights = [min(2.0, math.exp(a - b)) for a, b in zip(batch.old_N, batch.sampled_N, strict=True)]
    assert means["importance_weight"] == pytest.approx(sum(weights) / len(weights), abs=1e-5)


def test_an_answer_of_a_product_that_overflows_weighs_what_the_bound_says() -> None:
    batch = sampled(adapted().train())
    old_N = torch.zeros_like(batch.sampled_N)
    level = POLICY_LOSSES["rloo"].level
    weights_N = Correction(level=level, most=3.0).weights(old_N, old_N - 100, batch.answers)
    torch.testing.assert_close(weights_N, torch.full_like(old_N, 3.0))
    assert not Correction(level=level, most=3.0, masks=True).weights(old_N, old_N - 100, batch.answers).any()


def test_ppo_with_its_values() -> None:
    torch.manual_seed(1)
    model = WithValues.of(adapted()).train()
    with torch.no_grad():
        model.value.weight.normal_(std=0.05)
    batch = sampled(model.policy)
    assert batch.old_N is not None
    near = [value.detach() for value in values_of(model)]
    before, returns = [one + 0.1 * torch.randn_like(one) for one in near], [torch.randn_like(one) for one in near]
    laid = batch.answers.laid
    batch = replace(
        batch, value_N=laid([one.tolist() for one in before]), return_N=laid([one.tolist() for one in returns])
    )
    policy = PolicyObjective(loss=POLICY_LOSSES["ppo"], clip=CLIP)
    loss, means, gradients = found(PpoObjective(policy=policy, vf_coef=0.3, value_clip=0.05), model, [batch])

    squares = []
    for own, old, wanted in zip(values_of(model), before, returns, strict=True):
        for t in range(len(own)):
            bounded = min(max(own[t], old[t] - 0.05), old[t] + 0.05, key=_number)
            squares.append(max((own[t] - wanted[t]) ** 2, (bounded - wanted[t]) ** 2, key=_number) / 2)
    value_loss = torch.stack(squares).mean()
    expected = written_out("ppo", model.policy, batch, logprobs_of) + 0.3 * value_loss
    assert means["value"] == pytest.approx(value_loss.item(), abs=1e-5)
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    assert 0 < means["value_clip_ratio"] < 1
    assert_same(gradients, expected, model)


def values_of(model: WithValues) -> list[Tensor]:
    """At the state before each token of each answer, read alone."""
    made = []
    for one in answers():
        states = model.policy(input_ids=torch.tensor([one.input_ids]), output_hidden_states=True).hidden_states[-1][0]
        made.append(model.value(states[one.num_prompt - 1 : -1])[:, 0])
    return made


def test_a_new_value_head_expects_nothing() -> None:
    model = WithValues.of(adapted())
    logprob_N, value_N = model.logprobs_and_values(sampled(model.policy).answers)
    assert logprob_N.shape == value_N.shape and not value_N.any()
