"""Models that were saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel

from graft.training.errors import ConfigurationError


def load(folder: Path, model_class: Any) -> PreTrainedModel:
    """One in float32, with the heads of a class, to go on training it. Raises ``ConfigurationError``."""
    try:
        model: PreTrainedModel = model_class.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        told = (str(error).strip().splitlines() or [repr(error)])[0]
        raise ConfigurationError(f"the weights in {folder} cannot be loaded: {told[:300]}") from None
    return model


def parts(model: nn.Module) -> Mapping[str, PreTrainedModel]:
    """What of a model is saved, by subfolder: a plain one itself, of a composite one its models."""
    if isinstance(model, PreTrainedModel):
        return {"": model}
    found: Mapping[str, PreTrainedModel] = model.parts
    return found
