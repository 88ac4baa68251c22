"""Loading what was saved: a base in the form it is trained on and served in, its tokenizer, a model to train on."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CompressedTensorsConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar

from graft.adapters.base import files as base_files
from graft.adapters.form import ServingForm
from graft.training.errors import ConfigurationError, first_line
from graft.training.model.quantized import bitsandbytes_functional, llm_int8_config, nf4_config
from graft.training.model.soft_caps import keep_soft_caps

CPU = torch.device("cpu")
PLAIN_FORMS = (ServingForm.NF4, ServingForm.LLM_INT8, ServingForm.BF16, ServingForm.FP32)
"""What plain weights can be brought into while they are loaded; the others are made by ``graft quantize``."""


def load_base(
    path: Path, form: ServingForm, *, storage: torch.dtype = torch.uint8, device: torch.device = CPU
) -> PreTrainedModel:
    """Loads a base for evaluation or adaptation onto a device, where it is quantized, too; its parameters are frozen.

    int8 and int4 are computed with as the bfloat16 numbers that the integers stand for, which is also what the engine
    multiplies by. ``storage`` is where the bits of NF4 lie.

    Raises:
        ConfigurationError: the folder's weights are not in this form and cannot be brought into it.
        InvalidBase: the folder is no base.
    """
    found = base_files.read(path).form
    _require_form(path, found, form)
    disable_progress_bar()
    if form in (ServingForm.NF4, ServingForm.LLM_INT8):
        bitsandbytes_functional()
    dtype = torch.float32 if form is ServingForm.FP32 else torch.bfloat16
    with warnings.catch_warnings():
        # That we pass how to load what the folder holds is meant.
        warnings.filterwarnings("ignore", "You passed `quantization_config`")
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, local_files_only=True, device_map={"": device}, **_quantization(found, form, storage)
        )
    _keep_odd_sizes_unpacked(model)
    keep_soft_caps(model)
    model.requires_grad_(False)
    model.eval()
    return model


def _keep_odd_sizes_unpacked(model: PreTrainedModel) -> None:
    """On CPUs with AVX-512 bitsandbytes packs 4-bit layers anew when they are first evaluated, and can do so only for
    whole blocks of 64 inputs and 32 outputs.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu") and (module.out_features % 32 or module.in_features % 64):
            module.support_avx512bf16_for_cpu = False


def _require_form(path: Path, found: ServingForm | None, form: ServingForm) -> None:
    if found is not None and found is not form:
        raise ConfigurationError(
            f"the weights in {path} are {found} already and cannot become {form}; take the plain base."
        )
    if found is None and form not in PLAIN_FORMS:
        raise ConfigurationError(
            f"the weights in {path} are plain and become {form} only by `graft quantize --form {form}`; "
            f"take the folder that it writes, or one of {', '.join(PLAIN_FORMS)}."
        )


def _quantization(found: ServingForm | None, form: ServingForm, storage: torch.dtype) -> dict[str, Any]:
    """Keyword arguments: what to do to the weights on their way in."""
    if found in (ServingForm.INT8, ServingForm.INT4):
        return {"quantization_config": CompressedTensorsConfig(dequantize=True)}
    if found is None and form is ServingForm.NF4:
        return {"quantization_config": nf4_config(storage=storage)}
    if found is None and form is ServingForm.LLM_INT8:
        return {"quantization_config": llm_int8_config()}
    return {}


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Raises ``ConfigurationError`` where the folder's tokenizer cannot be read."""
    try:
        tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise ConfigurationError(f"{path} holds no tokenizer that can be read: {first_line(error)}") from None
    return tokenizer


def load(folder: Path, model_class: Any) -> PreTrainedModel:
    """One in float32, with the heads of a class, to go on training it. Raises ``ConfigurationError``."""
    try:
        model: PreTrainedModel = model_class.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigurationError(f"the weights in {folder} cannot be loaded: {first_line(error)}") from None
    keep_soft_caps(model)
    return model


def parts(model: nn.Module) -> Mapping[str, PreTrainedModel]:
    """What of a model is saved, by subfolder: a plain one itself, of a composite one its models."""
    if isinstance(model, PreTrainedModel):
        return {"": model}
    found: Mapping[str, PreTrainedModel] = model.parts
    return found
