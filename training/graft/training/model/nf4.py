"""NF4, the four-bit form of QLoRA (Dettmers et al. 2023, arXiv:2305.14314, section 3), by bitsandbytes."""

import functools
import logging
from types import ModuleType

import torch
from torch import Tensor
from transformers import BitsAndBytesConfig

from graft.training.model.int8_products import make_products_exact

BLOCK = 64
"""Weights per scale, the default of bitsandbytes and of its vLLM plugin."""


@functools.cache
def bitsandbytes_functional() -> ModuleType:
    """Imports bitsandbytes without its warnings: an optional kernel package is absent, 8-bit layers compute in fp16."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import bitsandbytes.functional

    make_products_exact()
    module: ModuleType = bitsandbytes.functional
    return module


def nf4_round_trip(weight: Tensor) -> Tensor:
    """What a bfloat16 weight becomes when it is quantised to NF4 and computed with; twice is the same as once."""
    functional = bitsandbytes_functional()
    packed, state = functional.quantize_4bit(weight.contiguous(), blocksize=BLOCK, quant_type="nf4")
    restored: Tensor = functional.dequantize_4bit(packed, state)
    return restored


def nf4_tensors(path: str, weight: Tensor) -> dict[str, Tensor]:
    """The tensors that stand for ``path.weight``, with its scales quantised too, as transformers writes them."""
    functional = bitsandbytes_functional()
    packed, state = functional.quantize_4bit(
        weight.contiguous(), blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
    )
    parts = {f"{path}.weight.{name}": one for name, one in state.as_dict(packed=True).items()}
    return {f"{path}.weight": packed, **parts}


def nf4_config(*, double_quantization: bool = False, storage: torch.dtype = torch.uint8) -> BitsAndBytesConfig:
    """NF4 computing in bfloat16; with plain scales it is what vLLM's plugin does in flight.

    ``storage`` is the type in whose numbers the bits lie: FSDP shards bfloat16, the values are the same.
    """
    bitsandbytes_functional()
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double_quantization,
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_quant_storage=storage,
    )
