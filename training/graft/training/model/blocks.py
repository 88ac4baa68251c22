"""The blocks of a model, which repeat, and what can be done to each of them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers import PreTrainedModel

RECOMPUTATIONS = ("none", "selective", "full")
"""What a block computes again on the way back: nothing, all but attention and every other product, or everything."""
_IN_A_BLOCK = re.compile(r"(^|\.)\d+\.")
VARIANTS = 64
"""Of one block's code, before torch would go on without compiling: kinds of layers, times learning and measuring, times
shapes of rows."""
_CHOICE = "context_fn"
"""torch's word for it among what a checkpoint is told."""
_PRODUCTS = ("mm", "addmm")
_ATTENTION = (
    *("_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"),
    *("_scaled_dot_product_cudnn_attention", "_scaled_dot_product_flash_attention_for_cpu"),
)


def blocks(model: nn.Module) -> list[nn.Module]:
    """The members of its module lists, outermost only."""
    found: list[nn.Module] = []
    for module in model.children():
        if isinstance(module, nn.ModuleDict):
            found += module.values()
        else:
            found += module if isinstance(module, nn.ModuleList) else blocks(module)
    return found


def is_in_a_block(name: str) -> bool:
    """Of a module's or a parameter's: what stands in a block has its number in its name, whatever the family calls
    blocks.
    """
    return _IN_A_BLOCK.search(name) is not None


def recompute(model: nn.Module, how: str = "full") -> None:
    """One of ``RECOMPUTATIONS``. With ``full`` each block keeps its input only (Chen et al. 2016, arXiv:1604.06174);
    ``selective`` keeps what costs most to compute for its size (Korthikanti et al. 2022, arXiv:2205.05198, §5; the
    choice is torchtitan's: Liang et al. 2024, arXiv:2410.06511, §2.1.2).
    """
    if how == "none":
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if how == "selective":
        options[_CHOICE] = _selective_contexts
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.supports_gradient_checkpointing:
            module.gradient_checkpointing_enable(options)


def compile_blocks(model: nn.Module, *, lengths_vary: bool = False) -> None:
    """Compiles each block by itself, for every shape anew, or for any where rows have other lengths in each batch: all
    of one kind share the code.

    A choice of what to compute again is compiled with its block, as it is made of what is traced. Full recomputation is
    not: compiled, it would have to keep the mesh of split weights, which autograd cannot. Nor is what FSDP does before
    and behind a block (as in torchtitan: Liang et al. 2024, arXiv:2410.06511, §2.1.3). So this comes after both.
    """
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, VARIANTS)
    for block in blocks(model):
        forward: Callable[..., Any] = block.forward
        if _chooses(block):
            forward = functools.partial(_recomputed, block._gradient_checkpointing_func, forward)
            block.gradient_checkpointing = False
        block.forward = torch.compile(forward, dynamic=None if lengths_vary else False)


def _chooses(block: nn.Module) -> bool:
    """Whether it computes a part of itself again."""
    checkpoint: Any = getattr(block, "_gradient_checkpointing_func", None)
    return bool(getattr(block, "gradient_checkpointing", False)) and _CHOICE in checkpoint.keywords


def _recomputed(checkpoint: Callable[..., Any], forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return checkpoint(functools.partial(forward, **kwargs), *args)


def _selective_contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """For one call of one block: the first, third, … product is kept."""
    kept = {operation for name in _ATTENTION for operation in _overloads(name)}
    kept |= set(_overloads("_varlen_attn", torch.ops.torch_attn))
    products = {operation for name in _PRODUCTS for operation in _overloads(name)}
    seen = {False: 0, True: 0}

    def policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        if operation in products:
            seen[context.is_recompute] += 1
            is_kept = seen[context.is_recompute] % 2 == 1
        else:
            is_kept = operation in kept
        return CheckpointPolicy.MUST_SAVE if is_kept else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)  # type: ignore[no-any-return]


def _overloads(name: str, space: Any = torch.ops.aten) -> list[Any]:
    """Of an operation of torch, none where this build has it not."""
    packet = getattr(space, name, None)
    return [] if packet is None else [getattr(packet, overload) for overload in packet.overloads()]
