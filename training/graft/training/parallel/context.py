"""Context parallelism: each process has a part of every row, and gathers the keys and values of all.

As in Llama 3 (Dubey et al. 2024, arXiv:2407.21783, §3.3.2): the all-gather takes any mask and any attention kernel. A
row is cut into twice as many chunks as there are processes, and each takes one from the front and one from the back, so
that under a causal mask all have the same work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from graft.training.model.attention import varlen
from graft.training.model.attention.in_blocks import attention

NAME = "graft_context"


def places(length: int, num: int) -> list[Tensor]:
    """The places of a row that each of ``num`` processes takes: chunk i and chunk 2 num − 1 − i."""
    chunks = torch.arange(length).chunk(2 * num)
    return [torch.cat((chunks[index], chunks[2 * num - 1 - index])) for index in range(num)]


class _Gather(torch.autograd.Function):
    """All processes' parts along the third axis; the gradient of a part is the sum of what all found for it."""

    @staticmethod
    def forward(context: Any, part_BHLD: Tensor, group: dist.ProcessGroup) -> Tensor:
        context.group = group
        parts = [torch.empty_like(part_BHLD) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, part_BHLD.contiguous(), group=group)
        return torch.cat(parts, dim=2)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient_BHKD,) = gradients
        total = gradient_BHKD.contiguous()
        dist.all_reduce(total, group=context.group)
        own = total.chunk(dist.get_world_size(context.group), dim=2)[dist.get_rank(context.group)]
        return own.contiguous(), None


_groups: list[dist.ProcessGroup] = []


def _gathering(attend: Callable[..., Any]) -> Callable[..., Any]:
    """An attention to the keys of all processes."""

    def attention_to_all(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> Any:
        group = _groups[-1]
        key, value = _Gather.apply(key, group), _Gather.apply(value, group)
        return attend(module, query, key, value, attention_mask, **options)

    return attention_to_all


def gather_contexts(model: PreTrainedModel, group: dist.ProcessGroup) -> None:
    """From now on the model's attention sees the keys and values of the whole group, by masks or by where documents
    begin, as before.
    """
    ALL_ATTENTION_FUNCTIONS.register(NAME, _gathering(attention))
    ALL_ATTENTION_FUNCTIONS.register(varlen.CONTEXT_NAME, _gathering(varlen.attention))
    _groups.append(group)
    by_documents = model.config._attn_implementation == varlen.NAME
    model.config._attn_implementation = varlen.CONTEXT_NAME if by_documents else NAME
