"""Whole rounds on a tiny model that samples itself: rewards rise, by every way to learn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from graft.training.loop.optim import adamw
from graft.training.loop.step import Step
from graft.training.objective.objective import Objective
from graft.training.objective.reinforce.correction import Correction
from graft.training.objective.reinforce.policy import MISMATCH, PolicyObjective
from graft.training.objective.reinforce.policy_losses import POLICY_LOSSES, Clip
from graft.training.objective.reinforce.ppo import PpoObjective
from graft.training.objective.reinforce.values import WithValues
from graft.training.reinforce.advantages import ESTIMATORS
from graft.training.reinforce.asking.sampler import Prompt
from graft.training.reinforce.batches import Laying
from graft.training.reinforce.choosing import Choosing
from graft.training.reinforce.kl_control import AdaptiveKl
from graft.training.reinforce.lesson import Lesson, of_groups, of_values, penalised
from graft.training.reinforce.rollout import Group, Rollout
from graft.training.reinforce.rounds import Plan, Rounds
from tests.training.reinforce.local import LocalSampler

VOCABULARY = 13
PLAN = Plan(num_groups=4, num_steps=2, recalls=True, asks_reference=True)
Lessons = Callable[[Sequence[Group], float], list[Lesson]]


def policy() -> Any:
    """A Llama with LoRA that does nothing yet."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=0,
    )
    base = LlamaForCausalLM(config)
    with torch.no_grad():
        base.lm_head.weight.normal_(std=0.5)  # else no states make a token likely
    return get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))


def prompts(draw: int) -> list[Prompt]:
    return [Prompt(row=row, ids=[2 + row, 3, 4]) for row in range(4)]


def share_of_fives(answers: Sequence[tuple[int, Rollout]]) -> list[float]:
    return [sum(token == 5 for token in one.answer_ids) / len(one.answer_ids) for _, one in answers]


def rounds(objective: Objective[Any], lessons: Lessons, *, plan: Plan = PLAN, model: Any = None, **more: Any) -> Rounds:
    model = model or policy()
    step = Step(model, objective=objective, optimizers=adamw(weight_decay=0.0))
    sampler = LocalSampler(getattr(model, "policy", model), num_answers=6, max_tokens=4)
    return Rounds(
        plan=plan,
        step=step,
        sampler=sampler,
        prompts=prompts,
        grade=share_of_fives,
        lessons=lessons,
        laying=Laying(pad_id=0, tokens=96),
        files=lambda model: {"adapter_model.safetensors": b"new"},
        **more,
    )


def by_groups(loss_type: str, estimator: str, **options: Any) -> tuple[Objective[Any], Lessons]:
    objective = PolicyObjective(loss=POLICY_LOSSES[loss_type], correction=Correction(), **options)
    return objective, lambda groups, beta: of_groups(groups, ESTIMATORS[estimator])


def penalised_lessons(groups: Sequence[Group], beta: float) -> list[Lesson]:
    return of_groups(penalised(groups, beta=beta), ESTIMATORS["rloo"])


def valued_lessons(groups: Sequence[Group], beta: float) -> list[Lesson]:
    return of_values(groups, beta=beta)


@pytest.mark.parametrize(
    ("name", "num_rounds"),
    [
        ("rloo", 8),
        pytest.param("grpo", 12, marks=pytest.mark.slow),
        pytest.param("dapo", 12, marks=pytest.mark.slow),
        pytest.param("ppo", 24, marks=pytest.mark.slow),  # its values have to be learned first
    ],
)
def test_rewards_rise(name: str, num_rounds: int) -> None:
    kl = AdaptiveKl(beta=0.01, target=12.0)
    if name == "rloo":
        objective, _ = by_groups("rloo", "rloo")
        going = rounds(objective, penalised_lessons, kl=kl)
    elif name == "ppo":
        model, choosing = WithValues.of(policy()), Choosing(drops_flat=False)
        going = rounds(PpoObjective(), valued_lessons, model=model, choosing=choosing, kl=kl)
    else:
        options = {"clip": Clip(high=0.28)} if name == "dapo" else {"beta": 0.01}
        going = rounds(*by_groups(name, "grpo", **options))
    told = [going.take(number, 0.03) for number in range(num_rounds)]
    assert told[0]["reward"] < 0.25
    assert told[-1]["reward"] > 0.6
    assert all(one[MISMATCH] < 1e-4 for one in told)
    assert told[0]["kl_per_answer"] == pytest.approx(0, abs=1e-4) and told[-1]["kl_per_answer"] > 0.5
    if going.kl is not None:
        assert told[0]["kl_price"] == 0.01 and told[1]["kl_price"] == pytest.approx(0.01 * 0.98)
    sampler: Any = going.sampler
    assert sampler.published == list(range(0, 2 * num_rounds + 1, 2))


def test_a_round_without_a_direction_changes_nothing() -> None:
    going = rounds(*by_groups("grpo", "grpo"))
    going.grade = lambda answers: [1.0] * len(answers)
    told = going.take(0, 0.03)
    assert told["dropped/flat"] == 1 and told["reward_std"] == 0 and "loss" not in told
    assert going.step.number == 0 and going.sampler.published == [0]


def test_prompts_are_drawn_again_until_groups_suffice() -> None:
    seen = []

    def draw(number: int) -> list[Prompt]:
        seen.append(number)
        return prompts(number)

    going = rounds(*by_groups("grpo", "grpo"), plan=replace(PLAN, num_groups=6, max_draws=4))
    going.prompts = draw
    going.grade = lambda answers: [
        one if row < 3 else 0.0 for (row, _), one in zip(answers, share_of_fives(answers), strict=True)
    ]
    going.take(1, 0.03)
    assert seen[0] == 4 and 2 <= len(seen) <= 4


def test_what_is_too_old_is_left_out() -> None:
    """The sampler's version stays behind where nothing is published to it."""
    going = rounds(*by_groups("grpo", "grpo"), choosing=Choosing(max_age=3))
    sampler: Any = going.sampler
    sampler.publish = lambda write, step: "nobody hears"
    told = [going.take(number, 0.03) for number in range(4)]
    assert [one["dropped/old"] for one in told] == [0, 0, 1, 1]
    assert all(one[MISMATCH] < 1e-4 for one in told[:2]), "old answers are scored anew"
    assert going.step.number == 4


def test_several_steps_need_a_memory() -> None:
    with pytest.raises(ValueError, match="has to recall"):
        Plan(num_groups=1, num_steps=2)


def test_a_price_needs_a_reference() -> None:
    with pytest.raises(ValueError, match="the reference is not asked"):
        rounds(*by_groups("grpo", "grpo"), plan=Plan(num_groups=1), kl=AdaptiveKl(beta=0.1, target=6.0))
