"""What the demo's training is told: sums of two numbers of two digits, answered at once, without steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

METHODS: Final = ("grpo", "rloo", "ppo")
GRADER: Final = {
    "type": "string_check",
    "name": "sum",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
}
NUM_HELD_OUT = 400
_ROUNDS: Mapping[str, int] = {"grpo": 100, "rloo": 100, "ppo": 120}
_OF_METHODS: Mapping[str, Mapping[str, Any]] = {"grpo": {}, "rloo": {}, "ppo": {"vf_coef": 0.1}}


def settings(method: str, *, seed: int, num_rounds: int | None, held_out: str) -> dict[str, Any]:
    """Of `graft reinforce`, by their names."""
    return {
        "loss_type": method,
        "seed": seed,
        "num_rounds": num_rounds or _ROUNDS[method],
        "r": 32,
        "lora_alpha": 64,
        "learning_rate": 3e-4,
        "num_prompts": 64,
        "num_generations": 8,
        "steps_per_round": 4,
        "rounds_ahead": 0,
        "num_streams": 1,
        "max_completion_length": 6,
        "max_length": 64,
        "stop": ["\n"],
        "validation": held_out,
        "eval_steps": 10,
        "target_reward": 0.82,
        **_OF_METHODS[method],
    }
