"""Weight-only int8 on CPU, a vLLM plugin: vLLM 0.32 has kernels for such checkpoints on GPUs only.

vLLM's own `int8_per_channel_weight_only` quantizes expert layers and leaves all other linear layers as they are.
"""

from __future__ import annotations

import torch
from vllm.model_executor.kernels.linear import MPLinearKernel, MPLinearLayerConfig, register_linear_kernel
from vllm.model_executor.layers.quantization.utils.quant_utils import unpack_quantized_values_into_int32
from vllm.platforms import PlatformEnum, current_platform
from vllm.scalar_type import scalar_types

_MANY_ROWS = 8
"""From so many rows on, widening the weights for one large multiplication costs less than the small kernel."""


class Int8WeightOnlyKernel(MPLinearKernel):
    """y = (x @ int8 weights) · scale of each output, x in bfloat16; torch's kernel for few rows."""

    @classmethod
    def get_min_capability(cls) -> int:
        return -1

    @classmethod
    def can_implement(cls, c: MPLinearLayerConfig) -> tuple[bool, str | None]:
        """One scale per output channel, no zero points."""
        one_scale = c.group_size in (-1, c.full_weight_shape[0]) and c.partition_weight_shape == c.full_weight_shape
        fits = c.weight_type == scalar_types.uint8b128 and one_scale and not c.zero_points
        return fits and c.act_type == torch.bfloat16, "8-bit weights with one scale per channel, bfloat16 only"

    def process_weights_after_loading(self, layer: torch.nn.Module) -> None:
        """Unpack to int8 of shape (outputs, inputs)."""
        packed, scale, _ = self._get_weight_params(layer)
        unpacked = unpack_quantized_values_into_int32(packed.data, scalar_types.uint8b128, packed_dim=1)
        self._transform_param(layer, self.w_q_name, lambda _: (unpacked - 128).to(torch.int8).contiguous())
        self._transform_param(layer, self.w_s_name, lambda _: scale.data.flatten().contiguous())

    def apply_weights(self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """`x` has shape (…, inputs)."""
        weight, scale, _ = self._get_weight_params(layer)
        rows = x.reshape(-1, x.shape[-1])
        if rows.shape[0] < _MANY_ROWS:
            out = torch._weight_int8pack_mm(rows.contiguous(), weight, scale)
        else:
            out = torch.nn.functional.linear(rows, weight.to(rows.dtype)).mul_(scale)
        out = out.view(*x.shape[:-1], weight.shape[0])
        return out if bias is None else out + bias


def register() -> None:
    """Let vLLM choose the kernel on CPU. May run several times in a process."""
    from vllm.model_executor.kernels.linear import _POSSIBLE_KERNELS

    if current_platform.is_cpu() and Int8WeightOnlyKernel not in _POSSIBLE_KERNELS[PlatformEnum.CPU]:
        register_linear_kernel(Int8WeightOnlyKernel, PlatformEnum.CPU)
