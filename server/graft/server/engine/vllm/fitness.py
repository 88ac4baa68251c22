"""Whether the engine can serve a base as it is asked to: asked of vLLM before a process is started."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from vllm.config import LoadConfig, ModelConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.model_executor.kernels.linear import MPLinearLayerConfig, choose_mp_linear_kernel
from vllm.model_executor.layers.quantization.compressed_tensors.schemes.compressed_tensors_wNa16 import (
    WNA16_SUPPORTED_TYPES_MAP,
    WNA16_ZP_SUPPORTED_TYPES_MAP,
)
from vllm.model_executor.model_loader.weight_utils import get_quant_config
from vllm.model_executor.models.interfaces import supports_lora
from vllm.platforms import current_platform
from vllm.utils.import_utils import resolve_obj_by_qualname
from vllm.v1.attention.selector import AttentionSelectorConfig

from graft.adapters.base import files as base_files
from graft.adapters.base.linear_modules import Shape
from graft.adapters.base.output_head import own_head
from graft.adapters.errors import InvalidBase, Reason
from graft.adapters.form import ServingForm
from graft.server.engine.engine import EngineError
from graft.server.engine.lora_cpu.choice import KernelUnavailable
from graft.server.engine.vllm.devices.arguments import engine_arguments
from graft.server.engine.vllm.devices.device import device_of
from graft.server.engine.vllm.devices.splitting import split_reasons
from graft.server.engine.vllm.environment import (
    EngineSettings,
    environment,
    prepare_environment,
)

_PLAIN = (ServingForm.BF16, ServingForm.FP32)
_DECODERS = "LlamaForCausalLM, MistralForCausalLM, Qwen3ForCausalLM, Olmo2ForCausalLM, GPTNeoXForCausalLM and the like"


def check_fitness(settings: EngineSettings, architecture: str) -> None:
    """Raises InvalidBase with every reason why the engine cannot serve the base so, EngineError where it cannot tell.

    `architecture` is what the base's config.json names.
    """
    prepare_environment(settings)
    if current_platform.is_unspecified():
        raise EngineError(
            "the engine is vLLM's build for GPUs, and finds none that it can use here: graft doctor says what is "
            "missing; on CPUs the engine is another one (in a clone of Graft: make setup)"
        )
    try:
        variables = device_of(current_platform).variables(settings)
    except KernelUnavailable as error:
        raise EngineError(str(error)) from error
    with environment(variables):  # vLLM looks at some models in a process of its own
        reasons = _reasons(settings, architecture)
    if reasons:
        raise InvalidBase(f"the base {settings.base_name} cannot be served as it was asked", reasons)


def _reasons(settings: EngineSettings, architecture: str) -> list[Reason]:
    try:
        config = AsyncEngineArgs(**engine_arguments(settings, device_of(current_platform))).create_model_config()
    except Exception as error:  # each architecture's configuration has checks and errors of its own
        return [_configuration_reason(error, settings, architecture)]
    if not _generates(config, architecture):
        return [_no_decoder(architecture)]
    model: Any
    model, _ = config.registry.resolve_model_cls(config.architectures, model_config=config)
    return [
        *_folder_reasons(settings.base_path, config),
        *_dtype_reasons(current_platform, config.dtype),
        *_form_reasons(settings.form, architecture, _forms(model, config)),
        *device_of(current_platform).reasons(settings, quantized_before=_is_bitsandbytes(config)),
        *split_reasons(settings, config, current_platform),
        *_adapter_reasons(settings.num_slots, architecture, takes_adapters=bool(supports_lora(model))),
        *_head_size_reasons(config),
        *_tied_head_reasons(settings, config),
    ]


def _configuration_reason(error: Exception, settings: EngineSettings, architecture: str) -> Reason:
    if "are not supported" in str(error):
        return _no_decoder(architecture)
    longest = re.search(r"max_model_len=(\d+)|max_position_embeddings=(\d+)", str(error))
    if settings.max_model_tokens is not None and longest is not None:
        made_for = next(filter(None, longest.groups()))
        problem = f"is {settings.max_model_tokens}, but the base was made for {made_for} tokens"
        return Reason(field="max_model_tokens", problem=problem, remedy=f"ask for at most {made_for}")
    return Reason(field="config.json", problem=f"makes no model: {_first_words(error)}")


def _generates(config: ModelConfig, architecture: str) -> bool:
    """vLLM would run encoders through transformers as if they were decoders."""
    native = config.architecture == architecture
    is_decoder = architecture in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    return config.runner_type == "generate" and (native or is_decoder)


def _forms(model: Any, config: ModelConfig) -> tuple[ServingForm, ...]:
    """Quantized layers need the model's word on what it fuses; experts have no quantized kernels on CPUs."""
    quantized = hasattr(model, "packed_modules_mapping") and not (config.is_moe and current_platform.is_cpu())
    return tuple(ServingForm) if quantized else _PLAIN


def _no_decoder(architecture: str) -> Reason:
    problem = f"{architecture} is none that the engine writes text with"
    return Reason(field="config.json:architectures", problem=problem, remedy=f"serve a decoder: {_DECODERS}")


def _form_reasons(form: ServingForm, architecture: str, fitting: tuple[ServingForm, ...]) -> Iterator[Reason]:
    if form not in fitting:
        problem = f"{architecture} cannot be held as {form}; it can be as {', '.join(fitting)}"
        remedy = f"serve the plain weights with --quantization {fitting[0]}"
        yield Reason(field="quantization", problem=problem, remedy=remedy)


def _dtype_reasons(platform: Any, dtype: Any) -> Iterator[Reason]:
    """Cards before Ampere have no bfloat16. vLLM would say so in the engine's process, whose words are in the log."""
    if platform.is_cuda() and dtype == torch.bfloat16 and not platform.has_device_capability(80):
        problem = f"{platform.get_device_name()} has no bfloat16, in which every form but fp32 is computed"
        remedy = "serve on a card of compute capability 8.0 or newer (A100, L4, H100 and the like)"
        yield Reason(field="GPU", problem=problem, remedy=remedy)


def _folder_reasons(folder: Path, config: ModelConfig) -> Iterator[Reason]:
    """Of a folder that was quantized elsewhere: bits or scales that lie where the engine's kernels do not look."""
    if getattr(config.hf_config, "quantization_config", None) is None:
        return
    try:
        quantization: Any = get_quant_config(config, LoadConfig())
        if config.quantization == "compressed-tensors":
            _require_kernels(quantization, base_files.read(folder).packed.values(), config.dtype)
    except ValueError as error:
        remedy = "take the plain weights and quantize them with graft quantize"
        yield Reason(field="config.json:quantization_config", problem=_first_words(error), remedy=remedy)


def _require_kernels(quantization: Any, shapes: Iterable[Shape], dtype: Any) -> None:
    """Raises ValueError where vLLM has no kernel for packed weights of these options and shapes.

    Layers are fused later, which adds up their outputs: their own number is rounded up to what all kernels take.
    """
    for scheme in quantization.target_scheme_map.values():
        weights = scheme["weights"]
        types = WNA16_SUPPORTED_TYPES_MAP if weights.symmetric else WNA16_ZP_SUPPORTED_TYPES_MAP
        for outputs, inputs in sorted(set(shapes)):
            shape = (inputs, outputs + -outputs % 128)
            layer = MPLinearLayerConfig(
                full_weight_shape=shape,
                partition_weight_shape=shape,
                weight_type=types[weights.num_bits],
                act_type=dtype,
                group_size=weights.group_size or -1,
                zero_points=not weights.symmetric,
            )
            try:
                choose_mp_linear_kernel(layer)
            except ValueError:
                zeros = "" if weights.symmetric else ", with zero points"
                groups = f"groups of {weights.group_size}" if weights.group_size else "one group"
                raise ValueError(
                    f"{weights.num_bits}-bit weights in {groups}{zeros} have no kernel here for {inputs} inputs"
                ) from None


def _is_bitsandbytes(config: ModelConfig) -> bool:
    described = getattr(config.hf_config, "quantization_config", None) or {}
    return bool(described.get("quant_method") == "bitsandbytes")


def _adapter_reasons(num_slots: int, architecture: str, *, takes_adapters: bool) -> Iterator[Reason]:
    if num_slots and not takes_adapters:
        problem = f"is {num_slots}, but the engine takes no adapters on {architecture}"
        yield Reason(field="num_slots", problem=problem, remedy="serve the base alone with --num-slots 0")


def _head_size_reasons(config: ModelConfig) -> Iterator[Reason]:
    """vLLM chooses its CPU kernel without looking at the size, and the kernel fails at the first request."""
    if not current_platform.is_cpu() or config.use_mla:
        return
    head_size = config.get_head_size()
    asked = AttentionSelectorConfig(head_size=head_size, dtype=config.dtype, kv_cache_dtype=None, block_size=None)
    backend: Any = resolve_obj_by_qualname(current_platform.get_attn_backend_cls(None, asked))
    if not backend.supports_head_size(head_size):
        sizes = ", ".join(map(str, backend.get_supported_head_sizes()))
        problem = f"attention heads of {head_size}; the engine's kernel for CPUs takes {sizes}"
        remedy = "train the base with fewer or wider heads"
        yield Reason(field="config.json:num_attention_heads", problem=problem, remedy=remedy)


def _tied_head_reasons(settings: EngineSettings, config: ModelConfig) -> Iterator[Reason]:
    if not getattr(config.hf_text_config, "tie_word_embeddings", False):
        return
    head = own_head(settings.base_path)
    if head is not None:
        problem = f"is true, but {head} is another matrix than the embedding, which the engine would use in its place"
        yield Reason(
            field="config.json:tie_word_embeddings", problem=problem, remedy=f"set it to false, or remove {head}"
        )


def _first_words(error: Exception) -> str:
    """Of what may be pages of pydantic's."""
    lines = [line.strip() for line in str(error.__cause__ or error).splitlines()]
    said = next((line for line in lines if line.startswith("Value error, ")), lines[0] if lines else "no reason given")
    return said.removeprefix("Value error, ").partition(" [type=")[0][:300]
