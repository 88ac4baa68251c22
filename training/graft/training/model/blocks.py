"""The blocks of a model, which repeat, and what can be done to each of them."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def blocks(model: nn.Module) -> list[nn.Module]:
    """The members of its module lists, outermost only."""
    found: list[nn.Module] = []
    for module in model.children():
        if isinstance(module, nn.ModuleDict):
            found += module.values()
        else:
            found += module if isinstance(module, nn.ModuleList) else blocks(module)
    return found


def keep_no_activations(model: nn.Module) -> None:
    """Each block keeps its input only, and is computed again on the way back (Chen et al. 2016, arXiv:1604.06174)."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.supports_gradient_checkpointing:
            module.gradient_checkpointing_enable({"use_reentrant": False})


def compile_blocks(model: nn.Module) -> None:
    """Compiles each block by itself: all of one kind share the code."""
    for block in blocks(model):
        block.compile()
