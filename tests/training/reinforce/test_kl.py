"""Estimators of a divergence by sums over a whole vocabulary, and the controller of its price."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graft.training.objective.reinforce.kl import ESTIMATORS
from graft.training.reinforce.kl_control import AdaptiveKl


def logs() -> tuple[Tensor, Tensor]:
    """Of a policy and a reference over nine tokens, in float64."""
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.randn(2, 9, generator=generator, dtype=torch.float64)
    return policy.requires_grad_(), reference.log_softmax(-1)


def test_k1_and_k3_are_the_divergence_on_average_and_k3_is_never_below_0() -> None:
    scores, reference = logs()
    policy = scores.log_softmax(-1)
    exact = (policy.exp() * (policy - reference)).sum()
    for name in ("k1", "k3"):
        assert float((policy.exp() * ESTIMATORS[name](policy, reference)).sum()) == pytest.approx(float(exact))
    assert (ESTIMATORS["k3"](policy, reference) >= 0).all()
    assert (ESTIMATORS["k1"](policy, reference) < 0).any()


def test_gradients_on_average() -> None:
    """Of tokens that the policy sampled: their probabilities are no part of what is differentiated."""
    scores, reference = logs()

    def gradient(of: Tensor) -> Tensor:
        return torch.autograd.grad(of, scores, retain_graph=True)[0]

    policy = scores.log_softmax(-1)
    drawn = policy.exp().detach()
    exact = gradient((policy.exp() * (policy - reference)).sum())
    assert float(exact.abs().max()) > 0.01
    means = {name: gradient((drawn * one(policy, reference)).sum()) for name, one in ESTIMATORS.items()}
    torch.testing.assert_close(means["k1"], torch.zeros_like(exact))
    torch.testing.assert_close(means["k2"], exact)
    ratio = (policy - policy.detach()).exp()  # what `corrects_kl` multiplies with
    torch.testing.assert_close(gradient((drawn * ratio * ESTIMATORS["k3"](policy, reference)).sum()), exact)
    assert not torch.allclose(means["k3"], exact, rtol=0.05)


def test_the_price_follows_the_paper() -> None:
    control = AdaptiveKl(beta=0.2, target=6.0)
    assert control.after(6.0).beta == 0.2
    assert control.after(6.6).beta == pytest.approx(0.2 * (1 + 0.1 * 0.1))
    assert control.after(600.0).beta == pytest.approx(0.2 * 1.02)  # an error of 0.2 at most
    assert control.after(0.0).beta == pytest.approx(0.2 * 0.98)


def test_it_brings_a_policy_to_its_target() -> None:
    """Of a policy whose divergence falls as its price rises."""
    control = AdaptiveKl(beta=5.0, target=3.0)
    for _ in range(500):
        control = control.after(1 / control.beta)
    assert 1 / control.beta == pytest.approx(3.0, rel=0.01)


def test_a_price_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="beta 0"):
        AdaptiveKl(beta=0.0, target=6.0)
