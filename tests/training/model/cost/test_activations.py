"""What cannot be traced is told with its reason, and what can be is not estimated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from graft.training.model.cost import activations as of_activations
from graft.training.model.cost.activations import Activations, activations, told
from tests.training.objective.tiny_models import tiny

UNTRACED = {
    "bloom": "ValueError: too many values to unpack",
    "dbrx": "NotImplementedError: The register_meta function for torch.nonzero",
    "jetmoe": "NotImplementedError: Cannot copy out of meta tensor",
    "mamba": "RuntimeError: Attempting to broadcast",
    "xlm": "RuntimeError: Tensor.item",
}
"""Of each kind of reason one."""
TRACED = ("afmoe", "doge", "llama", "llama4_text", "opt", "phimoe")


def found(model_type: str) -> tuple[PreTrainedModel, Activations]:
    model = tiny(model_type).to("meta")
    return model, activations(model, rows=2, length=40, dtype=torch.bfloat16)


@pytest.mark.parametrize("model_type", TRACED)
def test_what_can_be_traced_is_counted(model_type: str) -> None:
    _, counted = found(model_type)
    assert counted.obstacle is None and told(counted) == []
    assert all(kept > given > 0 for kept, given in zip(counted.blocks, counted.inputs, strict=True))


@pytest.mark.parametrize("model_type", UNTRACED)
def test_what_cannot_is_said_with_its_reason(model_type: str) -> None:
    model, guessed = found(model_type)
    (line,) = told(guessed)
    assert line.startswith("activations by formula: 34 bytes in 16 bits for each token, layer and unit of width")
    assert f"because {type(model).__name__} cannot be traced ({UNTRACED[model_type]}" in line
    assert guessed.blocks == (17 * 2 * 2 * 40 * model.config.get_text_config().hidden_size,) * len(guessed.blocks)


def test_what_is_a_fault_of_ours_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*args: Any) -> Activations:
        raise AttributeError("'tuple' object has no attribute 'nbytes'")

    monkeypatch.setattr(of_activations, "_traced", faulty)
    with pytest.raises(AttributeError, match="nbytes"):
        found("llama")
