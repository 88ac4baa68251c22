"""From settings to what a round learns: its objective, its lessons, its rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from graft.training.objective.objective import Objective
from graft.training.objective.reinforce.correction import Correction
from graft.training.objective.reinforce.policy import PolicyObjective
from graft.training.objective.reinforce.policy_losses import POLICY_LOSSES, Clip
from graft.training.objective.reinforce.ppo import PpoObjective
from graft.training.objective.reinforce.values import WithValues
from graft.training.reinforce.advantages import ESTIMATORS
from graft.training.reinforce.choosing import Choosing
from graft.training.reinforce.kl_control import AdaptiveKl
from graft.training.reinforce.lesson import Lesson, of_groups, of_values, penalised
from graft.training.reinforce.rollout import Group
from graft.training.reinforce.rounds import Plan
from graft.training.reinforce.settings import PPO, RLOO, ReinforceSettings

_ESTIMATORS: Mapping[str, str] = {"dr_grpo": "dr_grpo", "rloo": "rloo", "reinforce": "rloo"}
"""Of the advantages, by ``loss_type``; GRPO's for all others. REINFORCE has a baseline, too: the group's others."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """A ``loss_type`` with its numbers."""

    settings: ReinforceSettings

    @property
    def has_values(self) -> bool:
        return self.settings.loss_type == PPO

    @property
    def asks_reference(self) -> bool:
        """Before a round: PPO's rewards hold the divergence, if only to tell it."""
        return self.has_values or self.settings.prices

    def model(self, policy: nn.Module) -> nn.Module:
        """What a step learns."""
        return WithValues.of(policy) if self.has_values else policy

    @property
    def objective(self) -> Objective[Any]:
        said = self.settings
        policy = PolicyObjective(
            loss=POLICY_LOSSES[said.loss_type],
            clip=Clip(low=said.epsilon, high=said.high),
            beta=0.0 if said.loss_type in (PPO, RLOO) else said.beta,
            correction=Correction(most=said.importance_cap),
            answer_tokens=float(said.max_completion_length),
        )
        if not self.has_values:
            return policy
        return PpoObjective(policy=policy, vf_coef=said.vf_coef, value_clip=said.cliprange_value)

    def plan(self, num_rounds: int) -> Plan:
        said = self.settings
        return Plan(
            num_groups=said.num_prompts,
            num_rounds=num_rounds,
            num_steps=said.steps_per_round,
            ahead=said.rounds_ahead,
            max_draws=said.max_draws,
            recalls=said.steps_per_round > 1 or said.rounds_ahead > 0 or self.has_values,
            asks_reference=self.asks_reference,
            seed=said.seed,
        )

    @property
    def choosing(self) -> Choosing:
        """A round that is sampled ahead may be as many rounds old."""
        said = self.settings
        return Choosing(max_age=said.rounds_ahead * said.steps_per_round, drops_flat=not self.has_values)

    @property
    def kl(self) -> AdaptiveKl | None:
        said = self.settings
        if not said.prices:
            return None
        target = said.kl_target or 1.0
        return AdaptiveKl(beta=said.beta, target=target, gain=0.1 if said.kl_target else 0.0)

    def lessons(self, groups: Sequence[Group], price: float) -> list[Lesson]:
        said = self.settings
        if self.has_values:
            return of_values(groups, beta=price, gamma=said.gamma, lam=said.lam)
        if said.prices:
            groups = penalised(groups, beta=price)
        estimator = ESTIMATORS[_ESTIMATORS.get(said.loss_type, "grpo")]
        return of_groups(groups, estimator, drops_cut=said.mask_truncated_completions)
