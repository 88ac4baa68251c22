"""The forms that bitsandbytes makes: NF4, the four bits of QLoRA (Dettmers et al. 2023, arXiv:2305.14314, section 3),
and LLM.int8() (Dettmers et al. 2022, arXiv:2208.07339), 8-bit multiplication with outlying inputs in 16 bits.
"""

import functools
import logging
from types import ModuleType

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig

from graft.training.model.int8_inputs import forget_inputs
from graft.training.model.int8_products import make_products_exact

BLOCK = 64
"""Of NF4: weights per scale, the default of bitsandbytes and of its vLLM plugin."""
THRESHOLD = 6.0
"""Of LLM.int8(): inputs of a larger magnitude stay in 16 bits (section 3.2)."""
_ROW_MAJOR = torch.tensor(0, dtype=torch.uint8)
"""How the bytes lie, in bitsandbytes' numbering."""


@functools.cache
def bitsandbytes_functional() -> ModuleType:
    """Imports bitsandbytes without its warnings: an optional kernel package is absent, 8-bit layers compute in fp16."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import bitsandbytes.functional

    make_products_exact()
    forget_inputs()
    module: ModuleType = bitsandbytes.functional
    return module


def nf4_round_trip(weight: Tensor) -> Tensor:
    """What a bfloat16 weight becomes when it is quantised to NF4 and computed with; twice is the same as once."""
    functional = bitsandbytes_functional()
    packed, state = functional.quantize_4bit(weight.contiguous(), blocksize=BLOCK, quant_type="nf4")
    restored: Tensor = functional.dequantize_4bit(packed, state)
    return restored


def keep_laid_out(model: nn.Module) -> None:
    """Of a model in evaluation that will be trained on: on CPUs bitsandbytes would lay NF4 out anew for a kernel that
    has no gradient. Its layers do the same in training otherwise.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.train()


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


def llm_int8_config() -> BitsAndBytesConfig:
    return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=THRESHOLD)


def llm_int8_tensors(path: str, weight: Tensor) -> dict[str, Tensor]:
    """The tensors that stand for ``path.weight``, as transformers writes them; one scale per output."""
    codes, scales, _ = bitsandbytes_functional().int8_vectorwise_quant(weight.half())
    return {f"{path}.weight": codes, f"{path}.SCB": scales, f"{path}.weight_format": _ROW_MAJOR.clone()}
