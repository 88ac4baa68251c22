"""The class that vLLM's CPU worker calls for every LoRA layer, in place of its own `PunicaWrapperCPU`."""

from __future__ import annotations

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from graft.server.engine.lora_cpu import grouped
from graft.server.engine.lora_cpu.segments import Segment, group_by_slot


class GroupedPunicaWrapper(PunicaWrapperCPU):
    """Multi-LoRA on CPU by grouped matrix products. The step's grouping is made once, in `update_metadata`."""

    def __init__(self, max_num_batched_tokens: int, max_batches: int, device: torch.device | str, **kwargs: Any):
        super().__init__(max_num_batched_tokens, max_batches, device, **kwargs)
        self._token_segments: tuple[Segment, ...] = ()

    def update_metadata(
        self, mapping: Any, lora_index_to_id: list[int | None], max_loras: int, vocab_size: int, **kwargs: Any
    ) -> None:
        super().update_metadata(mapping, lora_index_to_id, max_loras, vocab_size, **kwargs)
        self._token_segments = group_by_slot(self.token_lora_indices.tolist())

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[torch.Tensor, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        grouped.add_lora(
            y.view(-1, y.shape[-1]),
            x.view(-1, x.shape[-1]),
            lora_a_stacked,
            lora_b_stacked,
            scale,
            output_slices,
            self._token_segments,
        )

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        *,
        buffer: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        """Leave the logits alone: adapters of the output head are refused when they are registered.

        vLLM also calls this for a prompt's log-probabilities, one request at a time, with rows that belong to no
        mapping of the step; indexing them by it ends the engine.
        """

    def add_lora_embedding(
        self, y: torch.Tensor, x: torch.Tensor, lora_b_stacked: torch.Tensor, add_inputs: bool = True, **kwargs: Any
    ) -> None:
        grouped.add_expand(y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1]), lora_b_stacked, self._token_segments)

    def _apply_shrink(self, y: torch.Tensor, x: torch.Tensor, w_t_all: torch.Tensor, scale: float) -> None:
        raise RuntimeError("ungrouped LoRA path: it answers rows of the base with an adapter and must not be used")

    def _apply_expand(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        w_t_all: torch.Tensor,
        y_offset: int,
        y_slice_size: int,
        add_inputs: bool = True,
    ) -> None:
        raise RuntimeError("ungrouped LoRA path: it answers rows of the base with an adapter and must not be used")
