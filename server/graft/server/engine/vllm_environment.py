"""The environment that the engine's processes must run in, and the engine's arguments."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.adapters.errors import GraftError
from graft.adapters.form import ServingForm
from graft.adapters.session_folder import SessionFolder
from graft.server.engine.engine import EngineError
from graft.server.engine.lora_cpu import choice, plugin

LORA_KERNELS = ("auto", "compiled", "torch")

RANK_STEPS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM takes as `max_lora_rank`."""

_FORMS: dict[ServingForm, dict[str, str]] = {
    ServingForm.NF4: {"dtype": "bfloat16", "quantization": "bitsandbytes"},
    ServingForm.LLM_INT8: {"dtype": "bfloat16", "quantization": "bitsandbytes"},
    # What the folder's config.json says: packed by `graft quantize`.
    ServingForm.INT8: {"dtype": "bfloat16", "quantization": "compressed-tensors"},
    ServingForm.INT4: {"dtype": "bfloat16", "quantization": "compressed-tensors"},
    ServingForm.BF16: {"dtype": "bfloat16"},
    ServingForm.FP32: {"dtype": "float32"},
}


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What the engine is started with.

    `num_slots` adapters sit in the engine at once, of rank `max_rank` at most (one of `RANK_STEPS`, rounded up); with
    0 the engine serves no adapters. `max_running` requests run in one batch; `kv_cache_bytes` bounds the paged KV cache
    (CPU: whole GiB, rounded up). `lora_kernel` computes adapters on CPU: `compiled`, `torch`, or `auto`, which is
    `compiled` where that can be had. Beside the slots, at most `host_bytes` of adapters are kept ready in
    `host_folder` (default: a temporary one).
    """

    base_path: Path
    base_name: str
    form: ServingForm = ServingForm.NF4
    num_slots: int = 8
    max_rank: int = 64
    max_model_tokens: int | None = None
    kv_cache_bytes: int = 2**30
    max_running: int = 64
    lora_kernel: str = "auto"
    host_folder: Path | None = None
    host_bytes: int = 2**29
    plugins: tuple[str, ...] = ("bitsandbytes", "graft_int8_cpu", plugin.NAME)

    @property
    def rank_step(self) -> int:
        """Raises `ValueError` where no step reaches `max_rank`."""
        for step in RANK_STEPS:
            if step >= self.max_rank:
                return step
        raise ValueError(f"max_rank {self.max_rank} is above the engine's limit {RANK_STEPS[-1]}")


def prepare_environment(settings: EngineSettings) -> None:
    """Set what vLLM reads from the environment. An inherited `VLLM_PLUGINS` could leave our plugin out.

    Raises `BuildFailed` where a compiled kernel is demanded and cannot be had.
    """
    choice.prepare(settings.lora_kernel)
    os.environ["VLLM_PLUGINS"] = ",".join(settings.plugins)
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, math.ceil(settings.kv_cache_bytes / 2**30)))
    os.environ.pop("VLLM_ALLOW_RUNTIME_LORA_UPDATING", None)
    for name, value in {
        # OpenMP threads spin while they wait for each other, which is costly beside anything else on the cores.
        "OMP_WAIT_POLICY": "PASSIVE",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "TOKENIZERS_PARALLELISM": "false",
    }.items():
        os.environ.setdefault(name, value)
    if settings.base_path.is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


_SOCKETS = "VLLM_RPC_BASE_PATH"
_MAX_SOCKET_PATH, _SOCKET_NAME = 107, 37  # sun_path; a slash and a UUID


@contextlib.contextmanager
def sockets_in_a_folder() -> Iterator[SessionFolder]:
    """A folder of its own for the sockets of the engine that is started meanwhile: vLLM makes seven and removes none.

    It lies where `VLLM_RPC_BASE_PATH` says, else among temporary files, and is the caller's once the block has ended
    well; one that a killed process left is removed. Raises `EngineError`.
    """
    before = os.environ.get(_SOCKETS)
    place = Path(before or tempfile.gettempdir())
    remedy = f"let {_SOCKETS} or TMPDIR name a folder that can be written and has a short path"
    try:
        root = place / f"graft-{os.getuid()}"
        root.mkdir(mode=0o700, exist_ok=True)
        folder = SessionFolder(root)
    except (OSError, GraftError) as error:
        raise EngineError(f"there is no place for the engine's sockets in {place}: {error}; {remedy}") from None
    os.environ[_SOCKETS] = str(folder.path)
    try:
        if len(str(folder.path)) + _SOCKET_NAME > _MAX_SOCKET_PATH:
            raise EngineError(f"the path of sockets in {place} is longer than {_MAX_SOCKET_PATH} characters; {remedy}")
        yield folder
    except BaseException:
        folder.close()
        raise
    finally:
        # Whatever this process starts later must not look for a folder that is gone.
        if before is None:
            del os.environ[_SOCKETS]
        else:
            os.environ[_SOCKETS] = before


def engine_arguments(settings: EngineSettings) -> dict[str, Any]:
    """Keyword arguments of `AsyncEngineArgs`."""
    return {
        "model": str(settings.base_path),
        "served_model_name": settings.base_name,
        "max_model_len": settings.max_model_tokens,
        "max_num_seqs": settings.max_running,
        **(_lora_arguments(settings) if settings.num_slots else {}),
        "enable_prefix_caching": True,
        # Compiling on CPU took 107 s at load and gained nothing.
        "enforce_eager": True,
        "generation_config": "vllm",
        "seed": 0,
        **_FORMS[settings.form],
    }


def _lora_arguments(settings: EngineSettings) -> dict[str, Any]:
    return {
        "enable_lora": True,
        "max_loras": settings.num_slots,
        "max_cpu_loras": settings.num_slots,
        "max_lora_rank": settings.rank_step,
        "worker_extension_cls": f"{plugin.__name__}.{plugin.WorkerReport.__qualname__}",
    }
