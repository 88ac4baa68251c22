"""A policy that learns from answers that it, or one close to it, sampled. Legend: S answers, N tokens of answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from graft.training.batch.answers import AnswerBatch
from graft.training.objective.policy import as_reference, token_logprobs
from graft.training.objective.reinforce.batch import RolloutBatch
from graft.training.objective.reinforce.correction import Correction
from graft.training.objective.reinforce.kl import ESTIMATORS, Learnable, k3
from graft.training.objective.reinforce.policy_losses import Clip, Mean, PolicyLoss, Tokens
from graft.training.objective.reinforce.ratio import Level

POLICY, KL_PENALTY = "policy", "kl_penalty"
"""The terms."""
MISMATCH = "logprob_mismatch"
"""Mean |Δ log p| of fresh tokens, between trained policy and server. Where no token is fresh it says nothing, and
rounds ask for scores."""
_CLIPPED = ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean")


@dataclass(frozen=True, kw_only=True)
class PolicyObjective:
    """A ``loss_type``. What is told beside it has TRL's names, but for ``logprob_mismatch`` and ``entropy``, which is
    estimated: −log p of the tokens that were sampled, on average.
    """

    loss: PolicyLoss
    clip: Clip = field(default_factory=Clip)
    beta: float = 0.0
    """The factor of the divergence from the reference (GRPO, eq. 3)."""
    kl_estimator: Learnable = "k3"
    corrects_kl: bool = True
    """Whether the divergence is weighted with the loss's ratio, which makes the gradient of k3 the divergence's own
    (DeepSeek-V3.2: arXiv:2512.02556), as in TRL; False has it as in GRPO's paper."""
    correction: Correction | None = None
    """None takes the sampled answers as they are."""
    answer_tokens: float = 1.0
    """What the sums of ``Mean.SUMS`` are divided by; Dr. GRPO's is the most tokens that an answer may have."""

    @property
    def weights(self) -> Mapping[str, float]:
        return {POLICY: 1.0, **({KL_PENALTY: self.beta} if self.beta else {})}

    def counts(self, batch: RolloutBatch) -> Mapping[str, int]:
        tokens, answers = batch.num_learned, batch.answers.num
        terms = dict.fromkeys(self.weights, tokens if self.loss.mean is Mean.TOKENS else answers)
        told = {"entropy": tokens, MISMATCH: batch.num_fresh}
        if self.beta or batch.reference_N is not None:
            told["kl"] = tokens
        if self.correction is not None:
            told["importance_weight"] = tokens
        if self.loss.has_clip:
            told |= dict.fromkeys(_CLIPPED, tokens if self.loss.level is Level.TOKEN else answers)
        return {**terms, **told}

    def sums(self, model: nn.Module, batch: RolloutBatch) -> Mapping[str, Tensor]:
        reference_N = batch.reference_N
        if self.beta and reference_N is None:
            with as_reference(model):
                reference_N = token_logprobs(model, batch.answers).detach()
        return self.sums_of(token_logprobs(model, batch.answers), reference_N, batch)

    def sums_of(self, logprob_N: Tensor, reference_N: Tensor | None, batch: RolloutBatch) -> Mapping[str, Tensor]:
        """Of what the policy, with a gradient, and the reference find of each token. Shapes: (N,)."""
        now_N = logprob_N.detach()
        old_N = now_N if batch.old_N is None else batch.old_N
        log_ratio_N = self.loss.level.of(logprob_N - old_N, batch.answers)
        tokens = Tokens(logprob_N=logprob_N, ratio_N=log_ratio_N.exp(), advantage_N=batch.advantage_N)
        loss_N, told = self.loss.losses(tokens, self.clip), {"entropy": -now_N.sum()}
        told[MISMATCH] = (old_N - batch.sampled_N).abs().where(batch.is_fresh_N, 0.0).sum()
        if self.correction is not None:
            weight_N = self.correction.weights(old_N, batch.sampled_N, batch.answers)
            loss_N = loss_N * weight_N
            told["importance_weight"] = weight_N.sum()
        terms = {POLICY: self._sum(loss_N, batch.answers)}
        if reference_N is not None:
            told["kl"] = k3(now_N, reference_N).sum()
            if self.beta:
                penalty_N = ESTIMATORS[self.kl_estimator](logprob_N, reference_N)
                penalty_N = penalty_N * tokens.ratio_N if self.corrects_kl else penalty_N
                terms[KL_PENALTY] = self._sum(penalty_N, batch.answers)
        if self.loss.has_clip:
            told |= self._clipped(tokens, batch.answers)
        return {**terms, **told}

    def _sum(self, value_N: Tensor, answers: AnswerBatch) -> Tensor:
        """What divided by a term's count is its mean."""
        if self.loss.mean is Mean.TOKENS:
            return value_N.sum()
        if self.loss.mean is Mean.SUMS:
            return value_N.sum() / self.answer_tokens
        return _means(value_N, answers).sum()

    def _clipped(self, tokens: Tokens, answers: AnswerBatch) -> dict[str, Tensor]:
        low_N, high_N = self.clip.is_low(tokens), self.clip.is_high(tokens)
        found = {}
        for name, is_clipped_N in zip(_CLIPPED, (low_N, high_N, low_N | high_N), strict=True):
            value_N = is_clipped_N.float()
            found[name] = (value_N if self.loss.level is Level.TOKEN else _means(value_N, answers)).sum()
        return found


def _means(value_N: Tensor, answers: AnswerBatch) -> Tensor:
    """Over each answer's tokens. Shape: (S,)."""
    sum_S, _ = answers.sums(value_N)
    return sum_S / answers.length_S.clamp(min=1)
