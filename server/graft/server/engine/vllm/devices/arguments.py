"""All that vLLM's engine is asked for, on any kind of device."""

from __future__ import annotations

from typing import Any

from graft.adapters.form import ServingForm
from graft.server.engine.vllm.devices.device import Device
from graft.server.engine.vllm.environment import EngineSettings
from graft.server.engine.vllm.inside import plugin

_FORMS: dict[ServingForm, dict[str, str]] = {
    ServingForm.NF4: {"dtype": "bfloat16", "quantization": "bitsandbytes"},
    ServingForm.LLM_INT8: {"dtype": "bfloat16", "quantization": "bitsandbytes"},
    # What the folder's config.json says: packed by `graft quantize`.
    ServingForm.INT8: {"dtype": "bfloat16", "quantization": "compressed-tensors"},
    ServingForm.INT4: {"dtype": "bfloat16", "quantization": "compressed-tensors"},
    ServingForm.BF16: {"dtype": "bfloat16"},
    ServingForm.FP32: {"dtype": "float32"},
}


def engine_arguments(settings: EngineSettings, device: Device) -> dict[str, Any]:
    """Keyword arguments of `AsyncEngineArgs` on this kind of device."""
    return {
        "model": str(settings.base_path),
        "served_model_name": settings.base_name,
        # -1: the base's own, or what of it the memory for the KV cache holds.
        "max_model_len": -1 if settings.max_model_tokens is None else settings.max_model_tokens,
        # Else as many as the memory holds that was found or said.
        "num_gpu_blocks_override": settings.num_cache_blocks,
        "max_num_seqs": settings.max_running,
        "max_num_batched_tokens": settings.max_step_tokens,
        **(_adapter_arguments(settings) if settings.num_slots else {}),
        "worker_extension_cls": f"{plugin.__name__}.{plugin.WorkerReport.__qualname__}",
        "enable_prefix_caching": True,
        "generation_config": "vllm",
        "seed": 0,
        **_FORMS[settings.form],
        **device.arguments(settings),
    }


def _adapter_arguments(settings: EngineSettings) -> dict[str, Any]:
    return {
        "enable_prompt_embeds": settings.soft_prompts,
        "enable_lora": True,
        "max_loras": settings.num_slots,
        "max_cpu_loras": settings.num_slots,
        "max_lora_rank": settings.rank_step,
    }
