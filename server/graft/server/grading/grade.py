"""What a grader says of one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

# OpenAI's flags (openai/types/fine_tuning/alpha/grader_run_response.py), without their `_error`.
Kind = Literal[
    "formula_parse",
    "invalid_variable",
    "model_grader_parse",
    "model_grader_refusal",
    "model_grader_server",
    "other",
    "python_grader_runtime",
    "python_grader_server",
    "sample_parse",
    "truncated_observation",
    "unresponsive_reward",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why a grader gave no reward: whose name it bears, of what kind it is, and in words."""

    grader: str
    kind: Kind
    details: str


@dataclass(frozen=True, kw_only=True)
class Grade:
    """`reward` is 0 where there are faults: whoever asked decides what becomes of the answer.

    `sub_rewards` are those of a multi grader's parts, by their names in the formula. `tokens_by_model` were read and
    written by models for it.
    """

    reward: float
    sub_rewards: Mapping[str, float] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    tokens_by_model: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return bool(self.faults)
