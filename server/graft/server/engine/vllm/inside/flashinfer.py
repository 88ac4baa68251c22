"""FlashInfer's attention, which is compiled by nvcc when the engine starts, is passed over where it cannot be.

vLLM 0.32 asks for it first on compute capability 10 (`platforms.cuda._get_backend_priorities`), and behind others on
other cards, whatever there is to compile with: an engine without nvcc ends there. Of kernels that cannot be imported
it takes the next that can compute the base.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from typing import Any

from vllm.utils.flashinfer import _flashinfer_nvcc_path

_COMPILED_BEFORE = "flashinfer_jit_cache"
_ABSENT = f"{__name__}.NotCompiled"
_PREFILL = ("FLASHINFER", "TRTLLM_RAGGED")


def pass_over_uncompiled() -> None:
    """Where FlashInfer's kernels cannot be had, none of its classes can be imported by vLLM's name for it."""
    from vllm.v1.attention.backends.mla.prefill.registry import MLAPrefillBackendEnum, register_mla_prefill_backend
    from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend

    if _can_compile():
        return
    for backend in AttentionBackendEnum:
        if "FLASHINFER" in backend.name:
            register_backend(backend, _ABSENT)
    for name in _PREFILL:
        register_mla_prefill_backend(MLAPrefillBackendEnum[name], _ABSENT)


def _can_compile() -> bool:
    if find_spec(_COMPILED_BEFORE) is not None:
        return True
    return _flashinfer_nvcc_path() is not None and shutil.which("ninja") is not None


def __getattr__(name: str) -> Any:
    if f"{__name__}.{name}" == _ABSENT:
        raise ImportError("FlashInfer's kernels are compiled by nvcc and ninja, and one of the two is not here")
    raise AttributeError(f"this module has no {name}")
