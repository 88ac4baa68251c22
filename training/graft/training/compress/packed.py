"""Integer weights in the `pack-quantized` format of compressed-tensors, which vLLM and transformers read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme, QuantizationStatus
from torch import Tensor

from graft.training.compress.rounding import IntegerWeight


def packed_tensors(path: str, weight: IntegerWeight) -> dict[str, Tensor]:
    """The tensors that stand for ``path.weight``: eight 4-bit or four 8-bit inputs to an int32."""
    return {
        f"{path}.weight_packed": pack_to_int32(weight.codes_OI, weight.bits),
        f"{path}.weight_scale": weight.scales_OG.contiguous(),
        f"{path}.weight_shape": torch.tensor(weight.codes_OI.shape),
    }


def packed_config(*, bits: int, group_size: int | None, plain: Iterable[str]) -> dict[str, Any]:
    """``quantization_config`` of config.json; ``plain`` are the linear layers left alone.

    Without a group size there is one scale per output channel.
    """
    strategy = "channel" if group_size is None else "group"
    weights = QuantizationArgs(num_bits=bits, type="int", symmetric=True, strategy=strategy, group_size=group_size)
    config = QuantizationConfig(
        config_groups={"group_0": QuantizationScheme(targets=["Linear"], weights=weights)},
        format="pack-quantized",
        quantization_status=QuantizationStatus.COMPRESSED,
        ignore=sorted(plain),
    )
    body: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    return body | {"quant_method": "compressed-tensors"}
