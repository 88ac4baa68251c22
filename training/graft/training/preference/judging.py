"""A finished reward model, asked what answers are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from graft.adapters.base.base import Base
from graft.adapters.digest import sha256_of_file
from graft.training.adapt.adaptable import Adaptable
from graft.training.adapt.methods.catalog import method_of
from graft.training.adapt.methods.through_peft import FILES, PeftMethod
from graft.training.batch.answers import Answer, AnswerBatch
from graft.training.objective.preference.reward import rewards
from graft.training.parallel.layout import Alone
from graft.training.preference.reward_model import reward_model
from graft.training.preference.settings import AlignSettings

_ANSWERS = 32
"""Of a forward pass."""


@dataclass(frozen=True, kw_only=True)
class RewardModel:
    """Rewards are (r − mean) / scale."""

    model: nn.Module
    digest: str
    """SHA-256 of its weights."""
    mean: float = 0.0
    scale: float = 1.0

    @classmethod
    def read(cls, base: Base, settings: AlignSettings, folder: Path) -> Self:
        """What ``Align`` has left in ``folder``, by the same settings on the same base. Raises ``InvalidBase``."""
        method = method_of(settings)
        assert isinstance(method, PeftMethod)  # settings of reward models take no other
        model = reward_model(Adaptable.of(base), base.form or settings.form, method, settings, Alone())
        set_peft_model_state_dict(model, load_file(folder / FILES[1]))
        return cls(model=model.eval(), digest=sha256_of_file(folder / FILES[1]))

    def rewards(self, answers: Sequence[Answer]) -> list[float]:
        """Of each answer behind its prompt."""
        order = sorted(range(len(answers)), key=lambda number: len(answers[number].input_ids))
        found = [0.0] * len(answers)
        for begin in range(0, len(order), _ANSWERS):
            numbers = order[begin : begin + _ANSWERS]
            batch = AnswerBatch.of([answers[number] for number in numbers], packing=True, pad_id=0)
            with torch.no_grad():
                reward_S = (rewards(self.model, batch) - self.mean) / self.scale
            for number, reward in zip(numbers, reward_S.tolist(), strict=True):
                found[number] = reward
        return found
