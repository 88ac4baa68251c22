"""What each stage of the chain is told; of the defaults all can be said otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
_FIXED: Final = {SUPERVISED: ("method", "full"), REWARDING: ("loss_type", REWARD), REINFORCED: ("loss_type", PPO)}
_OTHERS = ("seed", "held_out", "num_answers", "max_kl")


@dataclass(frozen=True, kw_only=True)
class ChainSettings:
    """Of three trainings, and of what is measured behind them."""

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
        if wrong := _wrong(vars(self)):
            raise ConfigurationError(f"{'; '.join(wrong)}.")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Sections ``supervised``, ``reward`` and ``ppo`` with settings of theirs, and ``seed``, ``held_out``,
        ``num_answers`` and ``max_kl``. Raises ``ConfigurationError``.
        """
        if unknown := sorted(set(values) - {*_KINDS, *_OTHERS}):
            known = ", ".join((*_KINDS, *_OTHERS))
            raise ConfigurationError(f"a chain has no section {', '.join(unknown)}; it has {known}.")
        sections = {name: values.get(name, {}) for name in _KINDS}
        wrong = [
            f"section {name} is {section!r}; write settings below it"
            for name, section in sections.items()
            if not isinstance(section, Mapping)
        ]
        for name, (key, value) in _FIXED.items():
            if isinstance(sections[name], Mapping) and sections[name].get(key, value) != value:
                wrong.append(f"{name}: {key} is {sections[name][key]}; leave it out, it is {value} in a chain")
        others = {name: values[name] for name in _OTHERS if name in values}
        if wrong := [*wrong, *_wrong(others)]:
            raise ConfigurationError(f"{'; '.join(wrong)}.")
        made: dict[str, Any] = {
            name: kind.from_mapping({**_DEFAULTS[name], **sections[name]}) for name, kind in _KINDS.items()
        }
        return cls(**made, **others)


_KINDS: Final[Mapping[str, type[TrainingSettings]]] = {
    SUPERVISED: FinetuneSettings,
    REWARDING: AlignSettings,
    REINFORCED: ReinforceSettings,
}


def _wrong(values: Mapping[str, Any]) -> list[str]:
    """What of the numbers cannot be meant."""
    limits: Mapping[str, tuple[Callable[[Any], bool], str]] = {
        "seed": (lambda value: type(value) is int, "must be a whole number"),
        "held_out": (lambda value: _is_number(value) and 0 < value < 1, "must lie between 0 and 1"),
        "num_answers": (lambda value: type(value) is int and value >= 1, "must be a whole number from 1 on"),
        "max_kl": (lambda value: _is_number(value) and value > 0, "must be above 0"),
    }
    return [
        f"{name} is {values[name]!r}: it {text}"
        for name, (holds, text) in limits.items()
        if name in values and not holds(values[name])
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
