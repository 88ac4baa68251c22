"""Losses, metrics and gradients of preferences beside TRL's on the same model and the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

pytest.importorskip("trl", reason="TRL is the oracle (the extra dev)")

from graft.training.batch.answers import AnswerBatch
from graft.training.objective.policy import reference_logprobs
from graft.training.objective.preference.kto import JudgedBatch, KtoObjective
from graft.training.objective.preference.pair_losses import PAIR_LOSSES
from graft.training.objective.preference.pairs import METRICS, PairBatch, PairObjective
from graft.training.objective.preference.reward import RewardObjective
from graft.training.objective.preference.scores import Strength
from graft.training.parallel.layout import Work
from tests.training.objective.preference.peers import PAD, Padded, adapted, drawn, trainer

NUM = 5


def found(objective: Any, model: Any, batch: Any) -> tuple[float, dict[str, float], dict[str, Tensor]]:
    """The loss of a step of one micro-batch, its means and the gradients."""
    work = Work(objective=objective, model=model, batches=[batch], counts=objective.counts(batch))
    loss, means = work.loss(batch)
    return loss.item(), {name: float(one) for name, one in means.items()}, gradients(loss, model)


def gradients(loss: Tensor, model: Any) -> dict[str, Tensor]:
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    given = torch.autograd.grad(loss, list(trained.values()))
    return dict(zip(trained, given, strict=True))


def assert_same_gradients(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    largest = max(float(each.abs().max()) for each in other.values())
    assert largest > 1e-6
    for name in other:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5 * max(1.0, largest))


def told(peer: Any) -> dict[str, float]:
    return {name: values[-1] for name, values in peer._metrics["train"].items()}


def pairs(loss_type: str, *, packing: bool = True) -> PairBatch:
    answers = drawn(NUM)
    if PAIR_LOSSES[loss_type].learns_prompts:
        answers = [one.whole() if number < NUM else one for number, one in enumerate(answers)]
    return PairBatch(answers=AnswerBatch.of(answers, packing=packing, pad_id=PAD))


@pytest.mark.parametrize("is_precomputed", [False, True])
@pytest.mark.parametrize(
    "loss_type", ["sigmoid", "hinge", "ipo", "robust", "sigmoid_norm", "apo_zero", "apo_down"]
)  # fmt: skip
def test_losses_with_a_reference(
    loss_type: str, is_precomputed: bool, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = adapted()
    smoothing = 0.2 if loss_type == "robust" else 0.0
    peer = trainer("dpo", model, tokenizer, tmp_path, loss_type=[loss_type], beta=0.3, label_smoothing=smoothing)
    model.train()
    expected = peer._compute_loss(model, vars(Padded.of(drawn(NUM))), False)

    strength = Strength(beta=0.3, label_smoothing=smoothing)
    batch = pairs(loss_type)
    if is_precomputed:
        alone = AnswerBatch.of(drawn(NUM), packing=False, pad_id=PAD)
        batch = PairBatch(answers=batch.answers, reference_S=reference_logprobs(model, alone))
    loss, means, given = found(PairObjective(loss=PAIR_LOSSES[loss_type], strength=strength), model, batch)
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    for name in METRICS:
        assert means[name] == pytest.approx(told(peer)[name], abs=2e-5)
    assert_same_gradients(given, gradients(expected, model))


@pytest.mark.parametrize(
    ("loss_type", "alpha", "smoothing"), [("cpo", 1.0, 0.1), ("simpo", 0.0, 0.0), ("simpo", 0.5, 0.1)]
)
def test_losses_without_a_reference(
    loss_type: str, alpha: float, smoothing: float, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = adapted()
    named = {"cpo": "sigmoid"}.get(loss_type, loss_type)
    options = {"loss_type": named, "beta": 1.5, "simpo_gamma": 0.7, "cpo_alpha": alpha, "label_smoothing": smoothing}
    peer = trainer("cpo", model, tokenizer, tmp_path, **options)
    model.train()
    padded = Padded.of(drawn(NUM))
    batch = padded.part(slice(NUM), prefix="chosen") | padded.part(slice(NUM, None), prefix="rejected")
    expected, peer_told = peer.get_batch_loss_metrics(model, batch)

    strength = Strength(beta=1.5, simpo_gamma=0.7, label_smoothing=smoothing)
    objective = PairObjective(loss=PAIR_LOSSES[loss_type], strength=strength, nll_weight=alpha)
    loss, means, given = found(objective, model, pairs(loss_type))
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    if alpha:
        assert means["nll"] == pytest.approx(peer_told["nll_loss"], abs=1e-5)
    for name in METRICS:
        assert means[name] == pytest.approx(peer_told[name], abs=2e-5)
    assert_same_gradients(given, gradients(expected, model))


def test_orpo(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = adapted()
    peer = trainer("orpo", model, tokenizer, tmp_path, beta=0.4)
    model.train()
    padded = Padded.of(drawn(NUM))
    batch = padded.part(slice(NUM), prefix="chosen") | padded.part(slice(NUM, None), prefix="rejected")
    expected, peer_told = peer.get_batch_loss_metrics(model, batch)
    objective = PairObjective(loss=PAIR_LOSSES["orpo"], strength=Strength(beta=0.4), nll_weight=1.0)
    loss, means, given = found(objective, model, pairs("orpo"))
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    assert means["nll"] == pytest.approx(peer_told["nll_loss"], abs=1e-5)
    for name in METRICS:
        assert means[name] == pytest.approx(peer_told[name], abs=2e-5)
    assert_same_gradients(given, gradients(expected, model))


@pytest.mark.parametrize("loss_type", ["kto", "apo_zero_unpaired"])
def test_losses_of_single_answers(loss_type: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = adapted()
    options = {"beta": 0.4, "desirable_weight": 1.3, "undesirable_weight": 0.8}
    peer = trainer("kto", model, tokenizer, tmp_path, loss_type=loss_type, **options)
    model.train()
    answers = drawn(3)
    is_desirable = torch.tensor([True, False, False, True, True, False])
    moved = [answers[number - 1].behind(one) for number, one in enumerate(answers)]
    padded = vars(Padded.of(answers)) | {f"KL_{name}": one for name, one in vars(Padded.of(moved)).items()}
    expected = peer._compute_loss(model, {**padded, "label": is_desirable}, False)

    batch = JudgedBatch(
        answers=AnswerBatch.of(answers, packing=True, pad_id=PAD),
        mismatched=AnswerBatch.of(moved, packing=True, pad_id=PAD) if loss_type == "kto" else None,
        is_desirable_S=is_desirable,
    )
    loss, means, given = found(KtoObjective(**options), model, batch)
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    for name in ("kl", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"):
        assert means[name] == pytest.approx(told(peer)[name], abs=2e-5)
    assert (means["kl"] > 0) == (loss_type == "kto"), "else the estimate was not seen"
    assert_same_gradients(given, gradients(expected, model))


@pytest.mark.parametrize("has_margin", [False, True])
@pytest.mark.parametrize("coefficient", [None, 0.05])
def test_rewards(
    has_margin: bool, coefficient: float | None, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = adapted(scores=True)
    peer = trainer("reward", model, tokenizer, tmp_path, center_rewards_coefficient=coefficient)
    model.train()
    answers, padded = drawn(NUM), Padded.of(drawn(NUM))
    margin_P = torch.rand(NUM) if has_margin else None
    inputs = {"input_ids": padded.input_ids, "attention_mask": padded.attention_mask}
    expected = peer.compute_loss(model, inputs | ({} if margin_P is None else {"margin": margin_P}))

    batch = PairBatch(answers=AnswerBatch.of(answers, packing=True, pad_id=PAD), margin_P=margin_P)
    loss, means, given = found(RewardObjective(center_rewards_coefficient=coefficient), model, batch)
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    for name in ("accuracy", "margin", "mean_reward"):
        assert means[name] == pytest.approx(told(peer)[name], abs=2e-5)
    assert any("score" in name for name in given)
    assert_same_gradients(given, gradients(expected, model))
