"""What learning from rewards can be told, under TRL's names where it has one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from graft.training.adapt.settings import AdaptSettings
from graft.training.errors import ConfigurationError
from graft.training.objective.reinforce.policy_losses import POLICY_LOSSES
from graft.training.reinforce.asking.grader_faults import DEFAULT_MAX_SHARE
from graft.training.settings.limits import (
    MAX_LENGTH,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Limit,
    at_least,
    between,
    one_of,
)
from graft.training.settings.settings import setting

PPO: Final = "ppo"
RLOO: Final = "rloo"
PRICED: Final = (PPO, RLOO)
"""Where divergence is a part of the rewards; elsewhere it is a term of the loss."""
OF_DAPO = 0.28
_CLIPS = Limit(holds=lambda value: 0 < value < 1, text="above 0 and below 1")
_LOW_RANK = ("lora", "rslora", "lora+")
"""What the server takes as it is, and what can be switched off to be the reference."""


@dataclass(frozen=True, kw_only=True)
class ReinforceSettings(AdaptSettings):
    """Settings of one training on rewards. Answers are sampled at temperature 1 from all tokens, and that is no
    setting: only so the server's log-probabilities are those of what is sampled.
    """

    learning_rate: float = setting(3e-4, "peak; take 1e-6 to 1e-5 for billions of parameters", POSITIVE)
    num_train_epochs: float = setting(1.0, "times that all prompts are asked", POSITIVE)
    max_length: int = setting(1024, "tokens of a prompt and its answer", between(2, MAX_LENGTH))
    lr_scheduler_type: str = setting(
        "constant", "cosine, linear, constant or wsd, over the rounds", one_of("cosine", "linear", "constant", "wsd")
    )
    spike_sigmas: float = setting(0.0, "has no part here: only what is no number is left out", one_of(0.0))
    loss_type: str = setting("dapo", f"what is learned: {', '.join(POLICY_LOSSES)}", one_of(*POLICY_LOSSES))
    num_rounds: int | None = setting(None, "rounds, in place of --num-train-epochs", at_least(1))
    num_prompts: int = setting(64, "prompts that a round learns from", between(1, 1 << 16))
    num_generations: int = setting(8, "answers to each prompt", between(1, 1 << 10))
    steps_per_round: int = setting(2, "optimizer steps that share a round's answers", between(1, 1 << 10))
    rounds_ahead: int = setting(
        0,
        "rounds that are sampled while others are learned from, by policies that are as many rounds old",
        between(0, 16),
    )
    max_draws: int = setting(1, "draw prompts so often until enough groups differ in their rewards", between(1, 64))
    eval_samples: int = setting(1, "answers to each held-out prompt", between(1, 1 << 10))
    target_reward: float | None = setting(None, "end once what is held out is worth so much")
    max_completion_length: int = setting(256, "tokens of an answer", between(1, MAX_LENGTH))
    stop: tuple[str, ...] = setting((), "texts that end an answer")
    mask_truncated_completions: bool = setting(False, "do not learn from answers that were cut off")
    tokens_per_batch: int = setting(4096, "tokens of a forward pass", between(16, MAX_LENGTH))
    num_streams: int = setting(4, "prompts that the server answers at once", between(1, 256))
    epsilon: float = setting(0.2, "how far a ratio may fall below 1", _CLIPS)
    epsilon_high: float | None = setting(
        None, f"how far it may rise above 1; default: epsilon, in dapo {OF_DAPO}", POSITIVE
    )
    beta: float = setting(
        0.0, "what divergence from the base costs: in the loss; in ppo and rloo in rewards", NOT_NEGATIVE
    )
    kl_target: float | None = setting(None, "ppo, rloo: nats an answer that beta is led to, round by round", POSITIVE)
    importance_cap: float = setting(2.0, "largest weight of a token that another policy sampled", at_least(1))
    max_grader_error_share: float = setting(
        DEFAULT_MAX_SHARE, "end the training where graders fail on a larger share of a round's answers", SHARE
    )
    vf_coef: float = setting(0.1, "ppo: weight of the values' loss", POSITIVE)
    cliprange_value: float = setting(0.2, "ppo: how far a round moves a value", POSITIVE)
    gamma: float = setting(1.0, "ppo: what a reward a token later is worth", SHARE)
    lam: float = setting(0.95, "ppo: λ of the advantages (GAE)", SHARE)

    def __post_init__(self) -> None:
        super().__post_init__()
        if reasons := self._reasons():
            raise ConfigurationError(f"{'; '.join(reasons)}.")

    def _reasons(self) -> list[str]:
        """All that cannot be meant."""
        found = [
            f"setting {name!r} has no part in reinforcement: {remedy}"
            for name, remedy in _ELSEWHERE.items()
            if getattr(self, name) != _DEFAULTS[name]
        ]
        found += [
            f"setting {name!r} is for {' and '.join(kinds)}, not for loss_type {self.loss_type}: leave it out"
            for name, kinds in _OF_LOSSES.items()
            if self.loss_type not in kinds and getattr(self, name) != _DEFAULTS[name]
        ]
        if self.method not in _LOW_RANK:
            found.append(
                f"a policy learns by {', '.join(_LOW_RANK)}, whose versions the server swaps, not by {self.method}"
            )
        if self.lora_dropout:
            found.append("lora_dropout must be 0, else what is learned has other log-probabilities than what sampled")
        if self.num_generations < 2 and self.loss_type != PPO:
            found.append("num_generations must be 2 or more: an answer is compared with others to its prompt")
        if self.max_completion_length >= self.max_length:
            found.append(
                f"max_completion_length is {self.max_completion_length}, and max_length {self.max_length} leaves no "
                "room for a prompt: raise it"
            )
        if self.target_reward is not None and self.validation is None:
            found.append("target_reward is of what is held out: add validation")
        if self.kl_target is not None and not self.beta:
            found.append("kl_target leads beta, which is 0 and would stay so: give beta a value to begin with")
        if self.mesh(1).size != 1:
            found.append("rounds are learned by one process: leave pp, dp_replicate, dp_shard, cp and tp at 1")
        return found

    @property
    def prices(self) -> bool:
        """Whether divergence costs rewards."""
        return self.loss_type in PRICED and self.beta > 0

    @property
    def high(self) -> float:
        """How far a ratio may rise above 1."""
        if self.epsilon_high is not None:
            return self.epsilon_high
        return OF_DAPO if self.loss_type == "dapo" else self.epsilon

    @property
    def room(self) -> int:
        """Tokens of a prompt."""
        return self.max_length - self.max_completion_length


_ELSEWHERE = {
    "max_steps": "say num_rounds",
    "per_device_train_batch_size": "say num_prompts, num_generations and tokens_per_batch",
    "gradient_accumulation_steps": "say tokens_per_batch",
}
_OF_LOSSES = {
    "kl_target": PRICED,
    "vf_coef": (PPO,),
    "cliprange_value": (PPO,),
    "gamma": (PPO,),
    "lam": (PPO,),
}
_DEFAULTS = {field.name: field.default for field in fields(ReinforceSettings)}
