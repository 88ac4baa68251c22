"""Models that drop nothing out of what they compute, wherever they would."""

from __future__ import annotations

from torch import nn

_RATES = ("dropout", "attention_dropout", "activation_dropout", "hidden_dropout", "layerdrop")
"""Of Hugging Face's modules that call ``functional.dropout`` by a number of their own."""


def without_dropout(model: nn.Module) -> None:
    """An adapter's own dropout stays: it was asked for."""
    for path, module in model.named_modules():
        if "lora_dropout" in path:
            continue
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in _RATES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
