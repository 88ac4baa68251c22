"""What learning from preferences can be told, under TRL's names."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from graft.training.adapt.settings import AdaptSettings
from graft.training.errors import ConfigurationError
from graft.training.finetune.choices import DROP, REFUSE
from graft.training.finetune.positions import DEFAULT_LENGTH
from graft.training.objective.preference.pair_losses import PAIR_LOSSES
from graft.training.objective.preference.scores import Strength
from graft.training.settings.limits import EPOCHS, MAX_LENGTH, NOT_NEGATIVE, POSITIVE, Limit, between, one_of
from graft.training.settings.settings import setting

REWARD: Final = "reward"
KTO: Final = "kto"
JUDGED: Final = (KTO, "apo_zero_unpaired")
"""What learns from single answers with labels."""
LOSSES = (*PAIR_LOSSES, *JUDGED, REWARD)
_SWITCHED_OFF = frozenset(
    ("lora", "rslora", "dora", "lora+", "adalora", "loha", "lokr", "vera", "ia3", "oft", "trainable_tokens")
)
"""Methods whose adapters can be switched off, and then the base is as it was."""
_WITH_A_HEAD = ("lora", "rslora", "lora+", "dora")
_PROMPTS = frozenset(("prefix_tuning", "prompt_tuning", "p_tuning", "multitask_prompt_tuning"))
_SMOOTHING = Limit(holds=lambda share: 0 <= share < 0.5, text="from 0 to below 0.5")


@dataclass(frozen=True, kw_only=True)
class AlignSettings(AdaptSettings):
    """Settings of one training on preferences."""

    learning_rate: float = setting(2e-4, "peak; take 5e-6 for billions of parameters", POSITIVE)
    num_train_epochs: float = setting(1.0, "times that all rows are seen", EPOCHS)
    per_device_train_batch_size: int = setting(
        8, "pairs, or answers with labels, per forward pass", between(1, 1 << 16)
    )
    max_length: int = setting(
        DEFAULT_LENGTH, "tokens of a prompt and its answer; no more than the base has positions", between(1, MAX_LENGTH)
    )
    long_rows: str = setting(REFUSE, f"what becomes of longer ones: {REFUSE} or {DROP}", one_of(REFUSE, DROP))
    packing: bool = setting(True, "several answers in one line of the batch")
    loss_type: str = setting("sigmoid", f"what is learned: {', '.join(LOSSES)}", one_of(*LOSSES))
    beta: float = setting(0.1, "how strongly an answer's probability counts; SimPO takes 2 to 2.5", POSITIVE)
    label_smoothing: float = setting(0.0, "share of pairs that are taken to be the wrong way round", _SMOOTHING)
    simpo_gamma: float = setting(0.5, "the margin that SimPO wants", NOT_NEGATIVE)
    cpo_alpha: float | None = setting(
        None, "factor of the chosen answers' cross-entropy; default: 1 for cpo, 0 for simpo", NOT_NEGATIVE
    )
    desirable_weight: float = setting(1.0, "factor of good answers in KTO", POSITIVE)
    undesirable_weight: float = setting(1.0, "factor of bad answers in KTO", POSITIVE)
    center_rewards_coefficient: float | None = setting(
        None, "how strongly a reward model's rewards are drawn to 0; 0.01 is usual", POSITIVE
    )
    precompute_ref_log_probs: bool | None = setting(
        None, "ask the reference about every row before the training; default: where rows are seen more than once"
    )
    disable_dropout: bool = setting(True, "the base drops nothing out, so that policy and reference are alike at first")

    def __post_init__(self) -> None:
        super().__post_init__()
        used = self._used
        reasons = [
            f"setting {name!r} has no part in loss_type {self.loss_type}: leave it out"
            for name in _OF_LOSSES
            if name not in used and getattr(self, name) != _DEFAULTS[name]
        ]
        if self.loss_type == KTO and self.per_device_train_batch_size < 2:
            reasons.append(
                "kto estimates how far the policy has gone from answers behind one another's prompts: "
                "per_device_train_batch_size must be 2 or more"
            )
        if self.loss_type == REWARD and self.method not in _WITH_A_HEAD:
            reasons.append(f"a reward model learns by {', '.join(_WITH_A_HEAD)}, not by {self.method}")
        if self.method in _PROMPTS:
            reasons.append(f"method {self.method} puts vectors before the prompts, which no preference is learned with")
        if self.has_reference and self.method not in _SWITCHED_OFF and self.precompute_ref_log_probs is False:
            reasons.append(
                f"method {self.method} leaves no base behind that could be the reference: it must be asked before the "
                "training (precompute_ref_log_probs true)"
            )
        if reasons:
            raise ConfigurationError(f"{'; '.join(reasons)}.")

    @property
    def packs(self) -> bool:
        return self.packing

    @property
    def has_reference(self) -> bool:
        loss = PAIR_LOSSES.get(self.loss_type)
        return self.loss_type in JUDGED if loss is None else loss.has_reference

    @property
    def precomputes(self) -> bool:
        """Whether the reference is asked before the training."""
        asked = self.precompute_ref_log_probs
        if asked is None:
            asked = self.num_train_epochs > 1 or self.method not in _SWITCHED_OFF
        return self.has_reference and asked

    @property
    def strength(self) -> Strength:
        return Strength(beta=self.beta, label_smoothing=self.label_smoothing, simpo_gamma=self.simpo_gamma)

    @property
    def nll_weight(self) -> float:
        """Factor of the chosen answers' cross-entropy."""
        default = {"cpo": 1.0, "orpo": 1.0}.get(self.loss_type, 0.0)
        return default if self.cpo_alpha is None else self.cpo_alpha

    @property
    def _used(self) -> frozenset[str]:
        """Of the settings of losses those that this one looks at."""
        if self.loss_type == REWARD:
            return frozenset(("center_rewards_coefficient",))
        if self.loss_type in JUDGED:
            return frozenset(("beta", "desirable_weight", "undesirable_weight", "precompute_ref_log_probs"))
        loss = PAIR_LOSSES[self.loss_type]
        more = {"precompute_ref_log_probs"} if loss.has_reference else set()
        return loss.uses | more | ({"cpo_alpha"} if self.loss_type in ("cpo", "simpo") else set())


_OF_LOSSES = (
    *("beta", "label_smoothing", "simpo_gamma", "cpo_alpha", "desirable_weight", "undesirable_weight"),
    *("center_rewards_coefficient", "precompute_ref_log_probs"),
)
_DEFAULTS = {field.name: field.default for field in fields(AlignSettings)}
