"""FlashInfer's attention, which is compiled by nvcc when the engine starts, and what computes in its place without.

vLLM 0.32 asks for it first on compute capability 10 (`platforms.cuda._get_backend_priorities`), whatever there is to
compile with: an engine without nvcc ends there. On all other cards it comes behind FlashAttention.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec

from vllm.utils.flashinfer import _flashinfer_nvcc_path

_ASKS_FIRST = 10
_COMPILED_BEFORE = "flashinfer_jit_cache"
WITHOUT = {"full_attention": "FLASH_ATTN", "sliding_window": "FLASH_ATTN", "mla_attention": "TRITON_MLA"}
"""By kind of layer; these come compiled, or by Triton."""


def attention(major: int | None) -> dict[str, str]:
    """Attention kernels by kind of layer on a card whose compute capability begins with `major`, where vLLM's own
    choice could not be compiled here; else empty."""
    return WITHOUT if major == _ASKS_FIRST and not _can_compile() else {}


def _can_compile() -> bool:
    if find_spec(_COMPILED_BEFORE) is not None:
        return True
    return _flashinfer_nvcc_path() is not None and shutil.which("ninja") is not None
