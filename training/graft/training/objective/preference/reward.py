"""Learning rewards from pairs: Bradley & Terry's model (1952), as in Ouyang et al. 2022 (arXiv:2203.02155, eq. 1).

Legend: P pairs, S = 2P answers, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from graft.training.batch.answers import AnswerBatch
from graft.training.objective.masks import attention_inputs, decoder_of
from graft.training.objective.preference.pairs import PairBatch

_METRICS = ("accuracy", "margin", "mean_reward")


def bradley_terry(chosen_P: Tensor, rejected_P: Tensor, margin_P: Tensor | None = None) -> Tensor:
    """−log σ(r_chosen − r_rejected − margin), with the margin as in Llama 2 (arXiv:2307.09288, eq. 2). Shape: (P,)."""
    away_P = chosen_P - rejected_P
    return -logsigmoid(away_P if margin_P is None else away_P - margin_P)


@dataclass(frozen=True, kw_only=True)
class RewardObjective:
    """The mean over all pairs of a step, and that of (r_chosen + r_rejected)², which keeps rewards around 0 (Eisenstein
    et al. 2023, arXiv:2312.09244, eq. 2).
    """

    center_rewards_coefficient: float | None = None

    @property
    def weights(self) -> Mapping[str, float]:
        coefficient = self.center_rewards_coefficient
        return {"preference": 1.0, **({} if coefficient is None else {"center": coefficient})}

    def counts(self, batch: PairBatch) -> Mapping[str, int]:
        return dict.fromkeys((*self.weights, *_METRICS), batch.num_pairs)

    def sums(self, model: nn.Module, batch: PairBatch) -> Mapping[str, Tensor]:
        reward_S = rewards(model, batch.answers)
        chosen_P, rejected_P = reward_S[: batch.num_pairs], reward_S[batch.num_pairs :]
        terms = {"preference": bradley_terry(chosen_P, rejected_P, batch.margin_P).sum()}
        if self.center_rewards_coefficient is not None:
            terms["center"] = (chosen_P + rejected_P).square().sum()
        chosen_P, rejected_P = chosen_P.detach(), rejected_P.detach()
        told = (chosen_P > rejected_P, chosen_P - rejected_P, (chosen_P + rejected_P) / 2)
        return {**terms, **{name: one.float().sum() for name, one in zip(_METRICS, told, strict=True)}}


def rewards(model: nn.Module, answers: AnswerBatch) -> Tensor:
    """What a decoder with a scalar head (Hugging Face's classes for sequence classification) finds at each answer's
    last token, in float32. Shape: (S,).
    """
    packed = answers.packed
    found: list[Tensor] = []
    # The class itself looks at one token of a line, and a line holds several answers.
    heard = decoder_of(model).score.register_forward_hook(lambda module, inputs, output: found.append(output))
    try:
        model(
            input_ids=packed.input_ids_BL,
            position_ids=packed.position_ids_BL,
            use_cache=False,
            **attention_inputs(model, packed),
        )
    finally:
        heard.remove()
    (reward_BL1,) = found
    return reward_BL1.flatten().index_select(0, answers.end_S).float()
