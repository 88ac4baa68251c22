"""Losses of single tokens against their formulas, written out in numpy, and against autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from graft.training.loop.optim import adamw
from graft.training.loop.step import Step
from graft.training.objective.tokens.batch import Datum, TokenBatch, micro_batches
from graft.training.objective.tokens.losses import TOKEN_LOSSES
from graft.training.objective.tokens.objective import TokenObjective

Array = np.ndarray[Any, np.dtype[np.float64]]
Formula = Callable[[Array, Mapping[str, Array], Mapping[str, float]], Array]


def clipped_ppo(logprob: Array, given: Mapping[str, Array], said: Mapping[str, float]) -> Array:
    ratio, advantage = np.exp(logprob - given["logprobs"]), given["advantages"]
    bounded = np.clip(ratio, said["clip_low_threshold"], said["clip_high_threshold"])
    return -np.minimum(ratio * advantage, bounded * advantage)


def weighted_cispo(logprob: Array, given: Mapping[str, Array], said: Mapping[str, float]) -> Array:
    ratio = np.exp(logprob - given["logprobs"])
    return -np.clip(ratio, said["clip_low_threshold"], said["clip_high_threshold"]) * logprob * given["advantages"]


FORMULAS: Mapping[str, tuple[Formula, Mapping[str, float]]] = {
    "cross_entropy": (lambda logprob, given, said: -logprob * given["weights"], {}),
    "importance_sampling": (
        lambda logprob, given, said: -np.exp(logprob - given["logprobs"]) * given["advantages"],
        {},
    ),
    "ppo": (clipped_ppo, {"clip_low_threshold": 0.9, "clip_high_threshold": 1.1}),
    "cispo": (weighted_cispo, {"clip_low_threshold": 0.5, "clip_high_threshold": 1.3}),
    "dro": (
        lambda logprob, given, said: (
            -(logprob * given["advantages"] - 0.5 * said["beta"] * (logprob - given["logprobs"]) ** 2)
        ),
        {"beta": 0.3},
    ),
}


def data(seed: int = 0) -> list[Datum]:
    """Texts of several lengths, whose targets are not their own next tokens."""
    random = np.random.default_rng(seed)
    found = []
    for length in (3, 40, 17, 1):
        found.append(
            Datum(
                input_ids=random.integers(0, 256, length).tolist(),
                target_ids=random.integers(0, 256, length).tolist(),
                given={
                    "weights": random.normal(size=length).tolist(),
                    "logprobs": (-5.5 + 0.5 * random.normal(size=length)).tolist(),
                    "advantages": random.normal(size=length).tolist(),
                },
            )
        )
    return found


def logprobs_of(model: LlamaForCausalLM, one: Datum) -> torch.Tensor:
    """By the model's own logits, a text at a time."""
    logits = model(input_ids=torch.tensor([list(one.input_ids)])).logits[0]
    return logits.log_softmax(-1)[torch.arange(len(one.input_ids)), torch.tensor(list(one.target_ids))]


@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_a_loss_is_its_formula_summed_over_all_tokens(model: LlamaForCausalLM, name: str) -> None:
    (formula, said), loss, given = FORMULAS[name], TOKEN_LOSSES[name], data()
    heard: list[torch.Tensor] = []
    names = sorted({*loss.needs, *loss.options} & {"weights", "logprobs", "advantages"})
    parts = micro_batches([len(one.input_ids) for one in given], tokens=64)
    assert len(parts) > 1
    batches = [TokenBatch.of([given[number] for number in part], names, pad_id=0) for part in parts]
    objective = TokenObjective(
        loss=loss, num_tokens=61, options=said, tell=lambda batch, one: heard.extend(one.split(list(batch.lengths)))
    )
    step = Step(model.train(), objective=objective, optimizers=adamw())
    found = step.forward_backward(batches)["loss"]
    expected, all_logprobs = 0.0, {}
    for number, one in enumerate(given):
        logprob = logprobs_of(model, one).detach().double().numpy()
        values = {key: np.array(value) for key, value in one.given.items()}
        expected += formula(logprob, values, said).sum()
        all_logprobs[number] = logprob
    assert found == pytest.approx(expected, abs=1e-5 * max(1, abs(expected)))
    for number, logprob in zip([number for part in parts for number in part], heard, strict=True):
        np.testing.assert_allclose(logprob.numpy(), all_logprobs[number], atol=1e-5)


@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_the_gradient_of_a_loss_is_that_of_its_formula(name: str) -> None:
    """By central differences of the formula; a weight that CISPO does not learn through is held fixed there."""
    formula, said = FORMULAS[name]
    one = data()[1]
    given = {key: torch.tensor(value) for key, value in one.given.items()}
    logprob = torch.tensor(one.given["logprobs"]) + 0.3 * torch.randn(40, generator=torch.Generator().manual_seed(1))
    logprob.requires_grad_()
    objective = TokenObjective(loss=TOKEN_LOSSES[name], num_tokens=40, options=said)
    batch = TokenBatch.of([one], sorted(one.given), pad_id=0)
    objective.loss_of(logprob, batch).sum().backward()
    assert logprob.grad is not None
    at, values = logprob.detach().double().numpy(), {key: value.double().numpy() for key, value in given.items()}
    if name == "cispo":
        ratio = np.clip(np.exp(at - values["logprobs"]), 0.5, 1.3)
        expected = -ratio * values["advantages"]
    else:
        expected = (formula(at + 1e-6, values, said) - formula(at - 1e-6, values, said)) / 2e-6
    np.testing.assert_allclose(logprob.grad.numpy(), expected, atol=1e-5, rtol=1e-4)
