"""How a base model's weights are held."""

from enum import StrEnum


class ServingForm(StrEnum):
    """The form in which a base is held for serving or training; recorded on every version."""

    NF4 = "nf4"
    INT8 = "int8"
    BF16 = "bf16"
    FP32 = "fp32"
