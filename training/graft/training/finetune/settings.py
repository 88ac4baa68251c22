"""What a fine-tuning can be told."""

from __future__ import annotations

from dataclasses import dataclass

from graft.training.settings.limits import BELOW_1, EPOCHS, MAX_LENGTH, POSITIVE, Limit, between, one_of
from graft.training.settings.settings import TrainingSettings, setting

MAX_RANK = 512
_RANK = Limit(holds=lambda rank: 1 <= rank <= MAX_RANK, text=f"from 1 to {MAX_RANK}, the largest rank of the engine")


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings(TrainingSettings):
    """Settings of one QLoRA training."""

    learning_rate: float = setting(2e-3, "peak; take 2e-4 for billions of parameters", POSITIVE)
    num_train_epochs: float = setting(3.0, "times that all rows are seen", EPOCHS)
    max_length: int = setting(512, "tokens of a row; a longer one is an error, not cut", between(1, MAX_LENGTH))
    packing: bool = setting(True, "several rows in one line of the batch")
    assistant_only_loss: bool = setting(True, "learn answers only")
    r: int = setting(16, "rank", _RANK)
    lora_alpha: float = setting(32.0, "scale of the adapter, divided by the rank", POSITIVE)
    lora_dropout: float = setting(0.0, "share of an adapter's inputs left out in training", BELOW_1)
    target_modules: tuple[str, ...] | None = setting(None, "default: every linear layer of the blocks")
    use_rslora: bool = setting(False, "divide lora_alpha by the rank's root")
    load_in_4bit: bool = setting(True, "NF4, as the base is served by default; false trains on bfloat16")
    load_in_8bit: bool = setting(False, "LLM.int8 instead of NF4")
    bnb_4bit_quant_type: str = setting("nf4", "the form of 4-bit numbers", one_of("nf4"))
    bnb_4bit_use_double_quant: bool = setting(False, "quantize the quantization's scales", one_of(False))
    bnb_4bit_compute_dtype: str = setting("bfloat16", "what 4-bit weights are multiplied in", one_of("bfloat16"))
