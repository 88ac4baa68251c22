"""Small pretrainings, and what came out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from graft.training.launch.processes import Processes
from graft.training.pretrain.job import PretrainText
from graft.training.pretrain.settings import PretrainSettings

ALONE = Processes(num=1, device="cpu")


def job(folder: Path, text_file: Path, /, **settings: Any) -> PretrainText:
    small: dict[str, Any] = {
        "text": (str(text_file),),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 384,
        "max_length": 32,
        "per_device_train_batch_size": 4,
        "max_steps": 6,
    }
    return PretrainText(settings=PretrainSettings(**small | settings), work=folder / "work", output=folder / "base")


def weights(folder: Path, kind: Any = AutoModelForCausalLM) -> dict[str, torch.Tensor]:
    return dict(kind.from_pretrained(folder, dtype="auto").named_parameters())
