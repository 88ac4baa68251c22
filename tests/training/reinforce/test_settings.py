"""What cannot be meant is refused before anything is asked of a server, all at once."""

from __future__ import annotations

from typing import Any

import pytest

from graft.training.errors import ConfigurationError
from graft.training.reinforce.choosing import Choosing
from graft.training.reinforce.learning import Learning
from graft.training.reinforce.settings import ReinforceSettings


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"temperature": 0.7}, "unknown setting 'temperature'"),
        ({"loss_type": "grpo2"}, "loss_type"),
        ({"lora_dropout": 0.1}, "lora_dropout must be 0"),
        ({"num_generations": 1}, "num_generations must be 2 or more"),
        ({"method": "dora"}, "not by dora"),
        ({"max_steps": 3}, "say num_rounds"),
        ({"gradient_accumulation_steps": 2}, "say tokens_per_batch"),
        ({"max_completion_length": 1024}, "leaves no room for a prompt"),
        ({"lam": 0.9}, "is for ppo, not for loss_type dapo"),
        ({"loss_type": "ppo", "kl_target": 3.0}, "give beta a value"),
        ({"tp": 2}, "one process"),
        ({"target_reward": 0.5}, "add validation"),
        ({"spike_sigmas": 6.0}, "spike_sigmas"),
    ],
)
def test_what_has_no_meaning_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ReinforceSettings.from_mapping(values)


def test_all_reasons_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as refused:
        ReinforceSettings.from_mapping({"lora_dropout": 0.1, "num_generations": 1, "lam": 0.9})
    assert all(word in str(refused.value) for word in ("lora_dropout", "num_generations", "'lam'"))


def test_dapo_clips_higher_than_it_clips_low() -> None:
    """Yu et al. 2025, arXiv:2503.14476, §4.1: 0.2 and 0.28."""
    said = ReinforceSettings.from_mapping({"loss_type": "dapo"})
    assert (said.epsilon, said.high) == (0.2, 0.28)
    assert ReinforceSettings.from_mapping({"loss_type": "grpo"}).high == 0.2
    assert ReinforceSettings.from_mapping({"loss_type": "grpo", "epsilon_high": 0.3}).high == 0.3


def test_rounds_ahead_bound_the_age_and_are_recalled() -> None:
    said = {"rounds_ahead": 2, "steps_per_round": 3}
    learning = Learning(settings=ReinforceSettings.from_mapping(said))
    assert learning.choosing == Choosing(max_age=6)
    plan = learning.plan(10)
    assert (plan.ahead, plan.recalls, plan.asks_reference) == (2, True, False)
    single = Learning(settings=ReinforceSettings.from_mapping({"steps_per_round": 1})).plan(10)
    assert not single.recalls


def test_divergence_costs_rewards_in_ppo_and_rloo_and_loss_elsewhere() -> None:
    for loss_type in ("ppo", "rloo"):
        learning = Learning(settings=ReinforceSettings.from_mapping({"loss_type": loss_type, "beta": 0.1}))
        assert learning.kl is not None and learning.kl.beta == 0.1 and learning.kl.after(5.0).beta == 0.1
        assert "kl_penalty" not in learning.objective.weights
        assert learning.asks_reference
    grpo = Learning(settings=ReinforceSettings.from_mapping({"loss_type": "grpo", "beta": 0.1}))
    assert grpo.kl is None and grpo.objective.weights["kl_penalty"] == 0.1
