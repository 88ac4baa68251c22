"""LLM.int8() (Dettmers et al. 2022, arXiv:2208.07339): 8-bit multiplication with outlying inputs in 16 bits."""

import torch
from torch import Tensor
from transformers import BitsAndBytesConfig

from graft.training.model.nf4 import bitsandbytes_functional

THRESHOLD = 6.0
"""Inputs of a larger magnitude stay in 16 bits (section 3.2)."""
_ROW_MAJOR = torch.tensor(0, dtype=torch.uint8)
"""How the bytes lie, in bitsandbytes' numbering."""


def llm_int8_config() -> BitsAndBytesConfig:
    return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=THRESHOLD)


def llm_int8_tensors(path: str, weight: Tensor) -> dict[str, Tensor]:
    """The tensors that stand for ``path.weight``, as transformers writes them; one scale per output."""
    codes, scales, _ = bitsandbytes_functional().int8_vectorwise_quant(weight.half())
    return {f"{path}.weight": codes, f"{path}.SCB": scales, f"{path}.weight_format": _ROW_MAJOR.clone()}
