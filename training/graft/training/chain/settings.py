"""What the jobs of a chain are told; of the defaults all can be said otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from graft.training.errors import ConfigurationError

SUPERVISED, REWARD, PPO = "supervised", "reward", "ppo"
"""Names of the stages, and of their sections."""
Hyperparameters = Mapping[str, int | float | str]
DEFAULTS: Final[Mapping[str, Hyperparameters]] = {
    SUPERVISED: {"n_epochs": 2, "batch_size": 8},
    REWARD: {"n_epochs": 2, "batch_size": 8},
    PPO: {
        "loss_type": PPO,
        "n_epochs": 3,
        "batch_size": 32,
        "learning_rate_multiplier": 2,
        "compute_multiplier": 0.25,
        "beta": 0.15,
        "kl_target": 4.0,
        "max_completion_length": 32,
    },
}
"""As jobs take them. Whether a name and its value are good is for the server to say, before anything is trained."""
_LENGTH = "max_completion_length"
_OTHERS: Final = ("seed", "held_out", "max_tokens", "num_answers", "max_kl")


@dataclass(frozen=True, kw_only=True)
class ChainSettings:
    """Of three jobs, and of what is measured behind them."""

    supervised: Hyperparameters = field(default_factory=lambda: DEFAULTS[SUPERVISED])
    reward: Hyperparameters = field(default_factory=lambda: DEFAULTS[REWARD])
    ppo: Hyperparameters = field(default_factory=lambda: DEFAULTS[PPO])
    seed: int = 0
    """Of the jobs, of what is held out, and of the intervals."""
    held_out: float = 0.2
    """Share of the prompts."""
    max_tokens: int = 256
    """Of a row; longer ones are left out."""
    num_answers: int = 4
    """Of each model to each held-out prompt."""
    max_kl: float = 8.0
    """Nats an answer that the policy may be from the supervised model."""

    def __post_init__(self) -> None:
        wrong = _wrong(vars(self))
        length = self.ppo.get(_LENGTH)
        if type(length) is not int or length < 1:
            wrong.append(f"ppo: {_LENGTH} is {length!r}: it must be a whole number from 1 on")
        elif not wrong and length >= self.max_tokens:
            wrong.append(f"ppo: {_LENGTH} is {length}: of max_tokens {self.max_tokens} no token is left for a prompt")
        if wrong:
            raise ConfigurationError(f"{'; '.join(wrong)}.")

    @property
    def max_answer(self) -> int:
        """Tokens that a policy answers at most."""
        return int(self.ppo[_LENGTH])

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Sections ``supervised``, ``reward`` and ``ppo`` with hyperparameters of those jobs, and ``seed``,
        ``held_out``, ``max_tokens``, ``num_answers`` and ``max_kl``. Raises ``ConfigurationError``.
        """
        known = (*DEFAULTS, *_OTHERS)
        if unknown := sorted(set(values) - set(known)):
            raise ConfigurationError(f"a chain has no section {', '.join(unknown)}; it has {', '.join(known)}.")
        sections = {name: values.get(name, {}) for name in DEFAULTS}
        wrong = [
            f"section {name} is {section!r}; write hyperparameters below it"
            for name, section in sections.items()
            if not isinstance(section, Mapping)
        ]
        if isinstance(sections[PPO], Mapping) and (loss := sections[PPO].get("loss_type", PPO)) != PPO:
            wrong.append(f"ppo: loss_type is {loss}; leave it out, it is {PPO} in a chain")
        others = {name: values[name] for name in _OTHERS if name in values}
        if wrong := [*wrong, *_wrong(others)]:
            raise ConfigurationError(f"{'; '.join(wrong)}.")
        made: dict[str, Any] = {name: {**DEFAULTS[name], **sections[name]} for name in DEFAULTS}
        return cls(**made, **others)


def _wrong(values: Mapping[str, Any]) -> list[str]:
    """What of the numbers cannot be meant."""
    limits: Mapping[str, tuple[Callable[[Any], bool], str]] = {
        "seed": (lambda value: type(value) is int and value >= 0, "must be a whole number from 0 on"),
        "held_out": (lambda value: _is_number(value) and 0 < value < 1, "must lie between 0 and 1"),
        "max_tokens": (lambda value: type(value) is int and value >= 2, "must be a whole number from 2 on"),
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
