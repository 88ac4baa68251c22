"""What every training on a base can be told: by which method it learns, and in which form the base is held."""

from __future__ import annotations

from dataclasses import dataclass

from graft.adapters.form import ServingForm
from graft.training.settings.limits import BELOW_1, POSITIVE, Limit, between, one_of
from graft.training.settings.settings import TrainingSettings, setting

MAX_RANK = 512
_RANK = Limit(holds=lambda rank: 1 <= rank <= MAX_RANK, text=f"from 1 to {MAX_RANK}, the largest rank of the engine")


@dataclass(frozen=True, kw_only=True)
class AdaptSettings(TrainingSettings):
    """Settings of one training on a base."""

    method: str = setting("lora", "how the base learns", one_of("lora"))
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
    report_examples: int = setting(3, "answers before and after in report.html", between(0, 20))

    @property
    def form(self) -> ServingForm:
        """In which plain weights are held."""
        if self.load_in_8bit:
            return ServingForm.LLM_INT8
        return ServingForm.NF4 if self.load_in_4bit else ServingForm.BF16
