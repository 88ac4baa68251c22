"""Attention in bfloat16 on CPUs, as products of matrices: twice as fast, forward and backward, as torch's fused kernel.

Queries are taken some at a time, with the keys that any of them sees: of a causal row half of the work is left out.
What costs is memory, as the probabilities are kept for the backward pass. Scores are rounded to bfloat16, as in Hugging
Face's ``eager`` attention, but of keys without their mean: it adds the same to all scores of a query, which changes no
probability and would take most of the digits. To torch's kernel go longer rows, attention's dropout, position biases
(T5), compiled blocks, and what is only measured. Vaswani et al. 2017 (arXiv:1706.03762), eq. 1.

Legend: B rows, H heads, L queries, K keys, D width of a head, N rows × heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from graft.training.model.cpu_products import multiplies_well

NAME = "graft_blocks"
PLAIN_NAME = "graft_sdpa"
"""Torch's fused kernel where it was asked for by name: no block takes its place."""
BLOCK = 64
"""Queries at a time: the fastest of 32, 64, 128 and 256."""
LONGEST = 1024
"""Keys; the probabilities of longer rows would take more memory than all else."""


def attend_in_blocks(model: nn.Module) -> None:
    """From now on the models in it attend so where they can, and as before where not."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)
    for one in model.modules():
        if isinstance(one, PreTrainedModel) and one.config._attn_implementation == "sdpa":
            one.config._attn_implementation = NAME


def register_plain() -> None:
    """Makes ``PLAIN_NAME`` known to transformers."""
    ALL_ATTENTION_FUNCTIONS.register(PLAIN_NAME, ALL_ATTENTION_FUNCTIONS["sdpa"])
    ALL_MASK_ATTENTION_FUNCTIONS.register(PLAIN_NAME, sdpa_mask)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Hugging Face's interface. Shapes: (B, H, L, D) and, of keys and values, (B, ≤ H, K, D); returns (B, L, H, D)."""
    if dropout or options.get("position_bias") is not None or not _fits(query, key, value, attention_mask):
        found: tuple[Tensor, None] = ALL_ATTENTION_FUNCTIONS["sdpa"](
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            is_causal=is_causal,
            **options,
        )
        return found
    if (shared := query.shape[1] // key.shape[1]) > 1:
        key, value = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)
    if attention_mask is not None:
        hidden = attention_mask.logical_not()
    elif query.shape[2] > 1 and (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        hidden = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).triu(1)[None, None]
    else:
        hidden = None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _Attention.apply(query, key, value, hidden, scale), None


def _fits(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    is_plain = type(query) is Tensor and query.dtype == torch.bfloat16 and query.device.type == "cpu"
    return (
        is_plain
        and multiplies_well()
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and query.shape[-1] == value.shape[-1]
        and key.shape[2] <= LONGEST
        and (mask is None or (mask.dtype == torch.bool and mask.shape[-2:] == (query.shape[2], key.shape[2])))
    )


def _blocks(num_queries: int, num_keys: int, hidden: Tensor | None) -> Iterator[tuple[slice, slice]]:
    """Some queries, and the keys from the first to the last that one of them sees."""
    for start in range(0, num_queries, BLOCK):
        queries = slice(start, min(start + BLOCK, num_queries))
        if hidden is None:
            yield queries, slice(0, num_keys)
            continue
        seen = hidden[:, :, queries].all(2).flatten(0, -2).all(0).logical_not().nonzero()
        yield queries, slice(int(seen[0]), int(seen[-1]) + 1) if len(seen) else slice(0, num_keys)


class _Attention(torch.autograd.Function):
    """softmax(Q Kᵀ · scale) V, and its gradients."""

    @staticmethod
    def forward(
        context: Any, query_BHLD: Tensor, key_BHKD: Tensor, value_BHKD: Tensor, hidden: Tensor | None, scale: float
    ) -> Tensor:
        num, heads, length, width = query_BHLD.shape
        query_NLD, key_NKD, value_NKD = (one.flatten(0, 1) for one in (query_BHLD, key_BHKD, value_BHKD))
        key_NKD = (key_NKD - key_NKD.mean(1, keepdim=True, dtype=torch.float32)).to(key_NKD.dtype)
        output_BLHD = query_BHLD.new_empty(num, length, heads, width)
        blocks = list(_blocks(length, key_NKD.shape[1], hidden))
        blind = None if hidden is None else hidden.all(-1, keepdim=True)  # padding, in front of a row
        kept = []
        for rows, keys in blocks:
            scores = _product(query_NLD[:, rows], key_NKD[:, keys].mT, scale).unflatten(0, (num, heads))
            if hidden is not None:
                scores.masked_fill_(hidden[:, :, rows, keys], torch.finfo(scores.dtype).min)
            probabilities = scores.softmax(-1)
            if blind is not None and blind[:, :, rows].any():
                probabilities.masked_fill_(blind[:, :, rows], 0.0)
            probabilities = probabilities.flatten(0, 1)
            output_BLHD[:, rows] = (probabilities @ value_NKD[:, keys]).unflatten(0, (num, heads)).transpose(1, 2)
            kept.append(probabilities)
        context.save_for_backward(query_NLD, key_NKD, value_NKD, *kept)
        context.blocks, context.scale = blocks, scale
        return output_BLHD

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query_NLD, key_NKD, value_NKD, *kept = context.saved_tensors
        (output_BLHD,) = gradients
        num, heads, scale = output_BLHD.shape[0], output_BLHD.shape[2], context.scale
        output_NLD = output_BLHD.transpose(1, 2).flatten(0, 1)
        query_grad, key_grad, value_grad = (torch.zeros_like(one) for one in (query_NLD, key_NKD, value_NKD))
        for (rows, keys), probabilities in zip(context.blocks, kept, strict=True):
            asked = output_NLD[:, rows]
            value_grad[:, keys].baddbmm_(probabilities.mT, asked)
            scores_grad = torch._softmax_backward_data(
                asked @ value_NKD[:, keys].mT, probabilities, -1, probabilities.dtype
            )
            query_grad[:, rows] = _product(scores_grad, key_NKD[:, keys], scale)
            key_grad[:, keys].baddbmm_(scores_grad.mT, query_NLD[:, rows], alpha=scale)
        found = (one.unflatten(0, (num, heads)) for one in (query_grad, key_grad, value_grad))
        return (*found, None, None)


def _product(left: Tensor, right: Tensor, scale: float) -> Tensor:
    """Scaled before it is rounded."""
    ignored = left.new_empty(())
    return torch.baddbmm(ignored, left, right, beta=0, alpha=scale)
