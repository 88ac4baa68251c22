"""Loading a base in the form it is trained on and served in."""

from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar

from graft.adapters.form import ServingForm
from graft.training.adapt.nf4 import nf4_config
from graft.training.errors import ConfigurationError

FORMS = (ServingForm.NF4, ServingForm.BF16, ServingForm.FP32)


def load_base(path: Path, form: ServingForm) -> PreTrainedModel:
    """Loads a base for evaluation or adaptation; its parameters are frozen.

    Raises:
        ConfigurationError: the form cannot be trained on.
    """
    if form not in FORMS:
        raise ConfigurationError(f"form {form.value!r} cannot be trained on; choose {', '.join(FORMS)}.")
    disable_progress_bar()
    quantization = nf4_config() if form is ServingForm.NF4 else None
    dtype = torch.float32 if form is ServingForm.FP32 else torch.bfloat16
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        path, dtype=dtype, quantization_config=quantization, local_files_only=True
    )
    model.requires_grad_(False)
    model.eval()
    return model


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(path, local_files_only=True)
    return tokenizer
