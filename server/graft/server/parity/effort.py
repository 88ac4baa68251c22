"""How a foreign adapter's reference is computed on a base, and how long that takes: known before anybody waits."""

from __future__ import annotations

from dataclasses import dataclass

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm

WHOLE_PARAMETERS = 250_000_000
"""Up to so many parameters peft holds the whole base, stays for the next adapter, and draws its own tokens."""
WHOLE_QUANTIZED_PARAMETERS = 2_000_000_000
"""Of a folder whose weights are quantized already, which cannot be read in layers."""

# Parameters a second and thread in one pass over 16 tokens, of which NF4's are quantized on the way: measured on AMD
# EPYC with the files in memory, 34 million and 1.5 billion; from a disk half a gigabyte a second.
_SPEED = {ServingForm.NF4: 30e6, ServingForm.BF16: 250e6, ServingForm.FP32: 250e6}
_TOKENS = 16


@dataclass(frozen=True, kw_only=True)
class Effort:
    """`in_layers`: the base is read module by module, and the engine draws the tokens. `seconds`: expected of one
    adapter with `_TOKENS` tokens, on `threads` idle processors; what `PeftProcess` measured goes before it.
    """

    in_layers: bool
    seconds: float
    threads: int = 1


def effort_of(base: Base, form: ServingForm, *, num_tokens: int, num_processors: int) -> Effort:
    """Of `num_processors`, of which a quarter is used. `form` is one of `PEFT_FORMS`."""
    limit = WHOLE_PARAMETERS if base.form is None else WHOLE_QUANTIZED_PARAMETERS
    if base.num_parameters <= limit:
        return Effort(in_layers=False, seconds=0.0)
    threads = max(1, num_processors // 4)
    passes = max(1.0, num_tokens / _TOKENS)
    return Effort(in_layers=True, seconds=base.num_parameters * passes / (_SPEED[form] * threads), threads=threads)
