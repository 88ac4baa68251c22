"""How a base model's weights are held."""

from enum import StrEnum


class ServingForm(StrEnum):
    """The form in which a base is held for serving or training; recorded on every version."""

    NF4 = "nf4"
    LLM_INT8 = "llm-int8"
    INT8 = "int8"
    INT4 = "int4"
    BF16 = "bf16"
    FP32 = "fp32"
