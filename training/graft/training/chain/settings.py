"""What each stage of the chain is told; of the defaults all can be said otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from graft.training.errors import ConfigurationError
from graft.training.finetune.settings import FinetuneSettings
from graft.training.preference.settings import REWARD, AlignSettings
from graft.training.reinforce.settings import PPO, ReinforceSettings
from graft.training.settings.settings import TrainingSettings

SUPERVISED, REWARDING, REINFORCED = "supervised", "reward", "ppo"
"""Names of the stages: sections of the file, and folders."""
_LENGTH: Final = 256
_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    SUPERVISED: {
        "method": "full",
        "learning_rate": 2e-4,
        "num_train_epochs": 2.0,
        "max_length": _LENGTH,
        "long_rows": "drop",
        "train_on_turns": "last",
    },
    REWARDING: {
        "loss_type": REWARD,
        "load_in_4bit": False,
        "learning_rate": 1e-3,
        "num_train_epochs": 2.0,
        "max_length": _LENGTH,
        "long_rows": "drop",
        "center_rewards_coefficient": 0.01,
    },
    REINFORCED: {
        "loss_type": PPO,
        "load_in_4bit": False,
        "learning_rate": 1e-3,
        "num_rounds": 30,
        "num_prompts": 32,
        "num_generations": 4,
        "steps_per_round": 2,
        "max_length": _LENGTH,
        "max_completion_length": 32,
        "beta": 0.05,
        "kl_target": 4.0,
    },
}
_OTHERS = ("seed", "held_out", "num_answers", "max_kl")


@dataclass(frozen=True, kw_only=True)
class ChainSettings:
    """Raises ``ConfigurationError`` where a stage would be another than its name says."""

    supervised: FinetuneSettings = field(default_factory=lambda: FinetuneSettings.from_mapping(_DEFAULTS[SUPERVISED]))
    reward: AlignSettings = field(default_factory=lambda: AlignSettings.from_mapping(_DEFAULTS[REWARDING]))
    ppo: ReinforceSettings = field(default_factory=lambda: ReinforceSettings.from_mapping(_DEFAULTS[REINFORCED]))
    seed: int = 0
    """Of what is held out, and of the intervals."""
    held_out: float = 0.2
    """Share of the rows."""
    num_answers: int = 4
    """Of each model to each held-out prompt."""
    max_kl: float = 8.0
    """Nats an answer that the policy may be from the supervised model."""

    def __post_init__(self) -> None:
        wrong = []
        if self.supervised.method != "full":
            wrong.append(
                f"supervised: method is {self.supervised.method}, and the stages behind it begin from a whole model: "
                "take full"
            )
        if self.reward.loss_type != REWARD:
            wrong.append(f"reward: loss_type is {self.reward.loss_type}; leave it out, it is {REWARD}")
        if self.ppo.loss_type != PPO:
            wrong.append(f"ppo: loss_type is {self.ppo.loss_type}; leave it out, it is {PPO}")
        if not 0 < self.held_out < 1:
            wrong.append(f"held_out is {self.held_out}: it must lie between 0 and 1")
        if self.num_answers < 1:
            wrong.append(f"num_answers is {self.num_answers}: it must be 1 or more")
        if self.max_kl <= 0:
            wrong.append(f"max_kl is {self.max_kl}: it must be above 0")
        if wrong:
            raise ConfigurationError(f"{'; '.join(wrong)}.")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Sections ``supervised``, ``reward`` and ``ppo`` with settings of theirs, and ``seed``, ``held_out``,
        ``num_answers`` and ``max_kl``. Raises ``ConfigurationError``.
        """
        stages: Mapping[str, type[TrainingSettings]] = {
            SUPERVISED: FinetuneSettings,
            REWARDING: AlignSettings,
            REINFORCED: ReinforceSettings,
        }
        if unknown := sorted(set(values) - set(stages) - set(_OTHERS)):
            known = ", ".join((*stages, *_OTHERS))
            raise ConfigurationError(f"a chain has no section {', '.join(unknown)}; it has {known}.")
        made: dict[str, Any] = {}
        for name, kind in stages.items():
            section = values.get(name, {})
            if not isinstance(section, Mapping):
                raise ConfigurationError(f"section {name} is {section!r}; write settings below it.")
            made[name] = kind.from_mapping({**_DEFAULTS[name], **section})
        for name in _OTHERS:
            if name in values:
                value, whole = values[name], name in ("seed", "num_answers")
                if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                    raise ConfigurationError(f"{name} is {value!r}; it must be a {'whole ' if whole else ''}number.")
                made[name] = value
        return cls(**made)
