"""What a fine-tuning can be told."""

from __future__ import annotations

from dataclasses import dataclass

from graft.training.adapt.settings import AdaptSettings
from graft.training.settings.limits import EPOCHS, MAX_LENGTH, POSITIVE, between
from graft.training.settings.settings import setting


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(AdaptSettings):
    """Settings of one supervised training."""

    learning_rate: float = setting(2e-3, "peak; take 2e-4 for billions of parameters", POSITIVE)
    num_train_epochs: float = setting(3.0, "times that all rows are seen", EPOCHS)
    max_length: int = setting(512, "tokens of a row; a longer one is an error, not cut", between(1, MAX_LENGTH))
    packing: bool = setting(True, "several rows in one line of the batch")
    assistant_only_loss: bool = setting(True, "learn answers only")
