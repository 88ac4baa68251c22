"""Proximal policy optimisation with a value head (Schulman et al. 2017, arXiv:1707.06347, eqs. 7 and 9), as language
models are aligned with it (Ouyang et al. 2022, arXiv:2203.02155, §3.5 and appendix C.4): the divergence from the
reference is a part of the rewards, and no term here.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from graft.training.objective.reinforce.batch import RolloutBatch
from graft.training.objective.reinforce.policy import PolicyObjective
from graft.training.objective.reinforce.policy_losses import POLICY_LOSSES
from graft.training.objective.reinforce.values import WithValues, value_losses

VALUE = "value"
"""The second term."""
_CLIPPED = "value_clip_ratio"


@dataclass(frozen=True, kw_only=True)
class PpoObjective:
    """Of a model ``WithValues``, over batches that say what its values were and are to be. Means are over tokens."""

    policy: PolicyObjective = field(default_factory=lambda: PolicyObjective(loss=POLICY_LOSSES["ppo"]))
    vf_coef: float = 0.1
    value_clip: float = 0.2

    @property
    def weights(self) -> Mapping[str, float]:
        return {**self.policy.weights, VALUE: self.vf_coef}

    def counts(self, batch: RolloutBatch) -> Mapping[str, int]:
        return {**self.policy.counts(batch), **dict.fromkeys((VALUE, _CLIPPED), batch.num_learned)}

    def sums(self, model: nn.Module, batch: RolloutBatch) -> Mapping[str, Tensor]:
        sums: Mapping[str, Tensor] = model(functools.partial(self._sums, batch))
        return sums

    def _sums(self, batch: RolloutBatch, model: WithValues) -> Mapping[str, Tensor]:
        before_N, return_N = batch.value_N, batch.return_N
        if before_N is None or return_N is None:
            raise ValueError("the batch says nothing of values: it was not made for PPO")
        logprob_N, value_N = model.logprobs_and_values(batch.answers)
        losses_N = value_losses(value_N, before_N, return_N, clip=self.value_clip)
        told = {_CLIPPED: ((value_N - before_N).abs() > self.value_clip).float().sum()}
        return {**self.policy.sums_of(logprob_N, batch.reference_N, batch), VALUE: losses_N.sum(), **told}
